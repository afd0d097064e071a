"""Checkpoints: atomic writing, and validated reading, including checkpoints of version 0.1."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import flush_to_disk

if TYPE_CHECKING:
    from fexgan_lit.systems.base import ExpressionSystem


#: Key of Lightning's optimizer step counter.
_COUNTED = "epoch_loop.manual_optimization.optim_step_progress"


class WholeCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically: no reader ever sees a half-written file.

    Lightning writes through the system's temporary folder. A killed run leaves its file there, and a move between file
    systems is not atomic. This class writes the file beside its target, flushes it to disk and renames it. torch stores
    a CRC-32 of every part of the file; `read_checkpoint` compares them.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; the previous one stays until the new one is on disk.

        Raises:
            UserError: the disk is full or the folder is not writable.
        """
        path = Path(path)
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            flush_to_disk(path.parent)  # the new name is on disk only after the folder is flushed
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            partial.unlink(missing_ok=True)
            kept = f"{path} still holds the previous checkpoint" if path.exists() else "no checkpoint was saved"
            raise UserError(f"cannot write the checkpoint {path}: {error}; {kept}") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Call `read_checkpoint`; the file cannot run code, whatever the arguments."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint as plain tensors and numbers, on the CPU.

    Raises:
        UserError: the file is missing, damaged or not a training checkpoint.
    """
    try:
        check_not_empty(path)
        with zipfile.ZipFile(path) as parts:
            if damaged := parts.testzip():
                raise UserError(f"its part {damaged} is damaged: the checksum differs")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not {"state_dict", "iteration"} <= set(checkpoint):
            raise UserError("the weights or the iteration count are missing")
        counts = [checkpoint["iteration"]]
        if "loops" in checkpoint:
            counts.append(checkpoint["loops"]["fit_loop"][_COUNTED]["total"]["completed"])
        if any(type(count) is not int or count < 0 for count in counts):
            raise UserError(f"its iteration count is {counts[0]!r}, expected a whole number of 0 or more")
        if len(set(counts)) > 1:
            raise UserError(f"its iteration count is {counts[0]}, expected Lightning's count of {counts[1]}")
    except Exception as error:  # torch.load raises many kinds of exceptions for a damaged file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not a training checkpoint: {first}") from error
    return checkpoint


def check_not_empty(path: Path) -> None:
    """Raise a UserError if the file at `path` is empty, which its readers would describe as another format."""
    if not path.stat().st_size:
        raise UserError("it is empty (0 bytes); the disk may have been full when it was written")


def check_fits(checkpoint: Mapping[str, Any], system: ExpressionSystem, *, resume: bool) -> None:
    """Check that a checkpoint matches the networks and, with `resume`, the optimizers of `system`.

    Raises:
        UserError: the checkpoint does not match.
    """
    trainer = system.attached_trainer
    path = (trainer.ckpt_path if trainer is not None else None) or "the checkpoint"
    ours = class_path(type(system))
    if checkpoint.get("system", ours).rpartition(".")[2] != ours.rpartition(".")[2]:
        raise UserError(f"{path} was written by the system {checkpoint['system']}; expected {ours}")
    given, wanted = checkpoint["state_dict"], system.state_dict()
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unexpected:
        raise UserError(f"{path} belongs to other networks: missing {missing[:3]}, unexpected {unexpected[:3]}")
    for name, value in wanted.items():
        if given[name].shape != value.shape:
            raise UserError(
                f"{path} belongs to networks of another size: {name} has the shape {tuple(given[name].shape)}, "
                f"expected {tuple(value.shape)}"
            )
    check_numbers(given, wanted, path)
    if resume:
        check_optimizers(checkpoint, system, path)


def check_numbers(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], path: Any) -> None:
    """Check that weights are finite and have the same kind of dtype (float or integer) as those in `wanted`.

    A buffer that is NaN in a new network, such as action-unit prototypes that were never learned, may be NaN.

    Raises:
        UserError: a weight is not finite or has another kind of dtype; the error names the first.
    """
    for name, value in found.items():
        if name in wanted and value.is_floating_point() != wanted[name].is_floating_point():
            raise UserError(f"{path}: {name} is of type {value.dtype}, expected {wanted[name].dtype}; damaged?")
        optional = name in wanted and not bool(wanted[name].isfinite().all())
        if value.is_floating_point() and not optional and not bool(value.isfinite().all()):
            raise UserError(
                f"{path}: {name} holds numbers that are not finite; the training diverged, or the file is damaged. "
                "Take an earlier checkpoint, or train again"
            )


def check_optimizers(checkpoint: Mapping[str, Any], system: ExpressionSystem, path: Any) -> None:
    """Check that the optimizer states of a checkpoint match the optimizers of `system`.

    Raises:
        UserError: a number of optimizers, a number of parameters or a shape differs.
    """
    configured: Any = system.configure_optimizers()
    optimizers = configured[0] if isinstance(configured, tuple) else configured
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    states = checkpoint.get("optimizer_states") or []
    if len(states) != len(optimizers):
        raise UserError(
            f"{path} holds the states of {len(states)} optimizers, expected {len(optimizers)}; cannot resume"
        )
    for number, (state, optimizer) in enumerate(zip(states, optimizers, strict=True)):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        numbers = [n for group in state["param_groups"] for n in group["params"]]
        kept = state["state"]  # empty before the first step of the optimizer
        if len(numbers) != len(parameters) or (kept and set(kept) != set(numbers)):
            raise UserError(
                f"{path}: the state of optimizer {number} has {len(kept or numbers)} parameters, expected "
                f"{len(parameters)}; the file was changed or belongs to other networks"
            )
        for key, parameter in zip(numbers, parameters, strict=True):
            shapes = {v.shape for v in kept.get(key, {}).values() if torch.is_tensor(v) and v.ndim}
            if shapes - {parameter.shape}:
                raise UserError(f"{path}: the moments of optimizer {number} do not have the shapes of the weights")


def add_loops(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Add the states of Lightning's loops and of the schedulers, which checkpoints of version 0.1 lack."""
    if "loops" in checkpoint:
        return
    done = int(checkpoint["iteration"])
    state: dict[str, Any] = trainer.fit_loop.state_dict()
    # the values that Lightning saves in `on_train_batch_end`; the next batch follows from the iteration alone
    state["epoch_loop.state_dict"]["_batches_that_stepped"] = max(0, done - 1)
    state[_COUNTED]["total"] = {"ready": done, "completed": done}
    batches = state["epoch_loop.batch_progress"]
    batches["total"] |= {"ready": done, "started": done, "processed": done, "completed": max(0, done - 1)}
    batches["current"] |= {"ready": 1, "started": 1, "processed": 1, "completed": 0}
    for kind in ("total", "current"):
        state["epoch_progress"][kind] |= {"ready": 1, "started": 1}
    checkpoint["loops"] = {"fit_loop": state}
    checkpoint["lr_schedulers"] = [
        {"last_epoch": done - 1, "lr_lambdas": [None]} for _ in checkpoint["optimizer_states"]
    ]


def class_path(cls: type) -> str:
    """Return module and name of a class in the form of a `_target_`."""
    return f"{cls.__module__}.{cls.__qualname__}"
