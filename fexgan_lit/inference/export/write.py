"""Writing every network of a system in one format, with verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fexgan_lit.inference.export.config import TOLERANCE, Written
from fexgan_lit.inference.export.onnx import (
    open_program,
    open_session,
    run_program,
    run_session,
    write_onnx,
    write_torch,
)
from fexgan_lit.systems.base import ExpressionSystem, exportable
from fexgan_lit.systems.export import Exported
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.inference.loaded_system import LoadedSystem

#: Called with the name of each network before it is written.
Told = Callable[[str], None]


#: Batch sizes that are compared; the file is made with a batch of `EXAMPLE_BATCH`.
BATCHES = (1, 3)


def answers(part: Exported, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the outputs of the network in order."""
    with torch.no_grad():
        found = part.module(**inputs)
    return [found] if isinstance(found, Tensor) else list(found)


def greatest_difference(part: Exported, run: Callable[[Mapping[str, Tensor]], Sequence[Tensor]]) -> float:
    """Return the greatest difference of the outputs from those of `run` over several batch sizes; infinite for NaN."""
    worst = 0.0
    for batch in BATCHES:
        inputs = part.draw(batch, seed=batch)
        for ours, theirs in zip(answers(part, inputs), run(inputs), strict=True):
            off = (ours - theirs).abs().nan_to_num(nan=float("inf"))
            worst = max(worst, float(off.max()))
    return worst


def accept(part: str, difference: float, path: Path) -> None:
    """Remove the file and raise a UserError if the difference exceeds `TOLERANCE`."""
    if difference <= TOLERANCE:
        return
    path.unlink(missing_ok=True)
    raise UserError(
        f"the {part} written to {path.name} differs from PyTorch's by {difference:.2g}; allowed is {TOLERANCE:g}; the "
        "file was removed. Try another opset= or another version of torch or onnxruntime"
    )


def chosen_parts(system: ExpressionSystem, names: list[str] | None) -> dict[str, Exported]:
    """Return the networks to write: all, or `names`.

    Raises:
        UserError: the system cannot be exported, or has no part of that name.
    """
    parts = exportable(system).export_modules()
    unknown = [name for name in names or () if name not in parts]
    if unknown:
        raise UserError(f"parts={unknown[0]}: {system.settings.name} has {', '.join(parts)}")
    return {name: part for name, part in parts.items() if names is None or name in names}


def write_onnx_files(parts: dict[str, Exported], folder: Path, opset: int | None, told: Told) -> list[Written]:
    """Write an ONNX file per network, and compare it with PyTorch by onnxruntime.

    Raises:
        UserError: a file cannot be written, or differs by more than the tolerance.
    """
    written = []
    for name, part in parts.items():
        told(name)
        path = folder / f"{name}.onnx"
        write_onnx(part, path, opset)
        written.append(_checked(name, part, path, partial(run_session, open_session(path))))
    return written


def write_torch_files(parts: dict[str, Exported], folder: Path, told: Told) -> list[Written]:
    """Write a `torch.export` program per network, load it again and compare.

    Raises:
        UserError: a program differs by more than the tolerance.
    """
    written = []
    for name, part in parts.items():
        told(name)
        path = folder / f"{name}.pt2"
        write_torch(part, path)
        written.append(_checked(name, part, path, partial(run_program, open_program(path))))
    return written


def _checked(name: str, part: Exported, path: Path, run: Callable) -> Written:
    difference = greatest_difference(part, run)
    accept(name, difference, path)
    return Written(name, path, difference)


def write_safetensors(
    system: ExpressionSystem, names: list[str] | None, folder: Path, told: Told, half: bool = False
) -> list[Written]:
    """Write the weights of each part as safetensors, load them again and compare.

    Raises:
        UserError: there is no part of that name, or the folder cannot be written.
    """
    from fexgan_lit.runs.weights import save_weights

    states = system.saved_modules()
    unknown = [name for name in names or () if name not in states]
    if unknown:
        raise UserError(f"parts={unknown[0]}: {system.settings.name} has {', '.join(states)}")
    told("weights")
    paths = save_weights(system, folder, torch.float16 if half else torch.float32)
    for path in paths:
        if names is not None and path.stem not in names:
            path.unlink()
    return read_back(system, [path for path in paths if path.exists()])


def write_run(loaded: LoadedSystem, folder: Path, half: bool, faces: bool) -> list[Written]:
    """Write a run folder without checkpoints, load its weights again and compare.

    Raises:
        UserError: see `write_shared`.
    """
    from fexgan_lit.inference.hub import write_shared

    return read_back(loaded.system, write_shared(loaded, folder, half, faces))


def read_back(system: ExpressionSystem, paths: list[Path]) -> list[Written]:
    """Load each weight file and return it with the greatest difference of its values from the system's."""
    from safetensors.torch import load_file

    states, written = system.saved_modules(), []
    for path in paths:
        state, back = states[path.stem].state_dict(), load_file(path)
        differences = [(state[key].cpu() - value).abs().max() for key, value in back.items() if value.numel()]
        written.append(Written(path.stem, path, max((float(d.nan_to_num(0)) for d in differences), default=0.0)))
    return written


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of every tensor in a safetensors file without reading the values."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
