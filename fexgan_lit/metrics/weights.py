"""Pretrained weights from a file the user has: read without running code, refused where they belong elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fexgan_lit.errors import UserError


@dataclass(frozen=True)
class Unavailable:
    """A metric that cannot be had here, and why; reported as absent, never as a number."""

    reason: str


def read_state(path: Path, option: str, expected: str) -> dict[str, Tensor]:
    """The state dict in `path`: safetensors by its suffix, else a file of torch.save; nothing in it can run code.

    Args:
        path: the file.
        option: what names it in the configuration, for the message.
        expected: what the file should be, for the message.

    Raises:
        UserError: the file is missing, broken, or no dictionary of tensors.
    """
    if not path.is_file():
        raise UserError(f"{option}={path}: there is no such file; expected {expected}")
    try:
        state: Any = _load(path)
    except Exception as error:  # torch.load raises half a dozen kinds for a broken or foreign file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{option}={path} holds no weights: {reason}; expected {expected}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        kind = type(state).__name__
        raise UserError(f"{option}={path} is not a dictionary of tensors but a {kind}; expected {expected}")
    return {str(name): value for name, value in state.items()}


def check_shapes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str, expected: str) -> None:
    """Raise a UserError that names the first difference between the names and shapes of two state dicts.

    Args:
        found: what the file holds.
        wanted: what the network has.
        where: option and path, for the message.
        expected: what the file should be, for the message.
    """
    for name in (*wanted, *sorted(set(found) - set(wanted))):
        if name not in found:
            problem = f"{name} is missing among {', '.join(list(found)[:3]) or 'nothing'}, ..."
        elif name not in wanted:
            problem = f"{name} does not belong to it"
        elif found[name].shape != wanted[name].shape:
            problem = f"{name} is {tuple(found[name].shape)}, expected {tuple(wanted[name].shape)}"
        else:
            continue
        raise UserError(f"{where} holds the weights of another network: {problem}; expected {expected}")


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
