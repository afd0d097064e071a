"""Checkpoints: written whole or not at all, read with every check, those of version 0.1 included."""

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


#: Where Lightning keeps the optimizer steps it counted.
_COUNTED = "epoch_loop.manual_optimization.optim_step_progress"


class WholeCheckpointIO(TorchCheckpointIO):
    """Checkpoints beside whose target nothing half-written is ever taken for one.

    Lightning writes through a file in the system's temporary folder: a killed run leaves it there, and a move from
    another file system is not atomic. Here the file is written beside its target, flushed to the disk and renamed.
    torch keeps a CRC-32 of every part of the file; `read_checkpoint` compares them.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; the one before it stays until the new one is on the disk.

        Raises:
            UserError: the disk is full or the folder cannot be written.
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
            flush_to_disk(path.parent)  # the new name is on the disk once its folder is
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            partial.unlink(missing_ok=True)
            kept = f"{path} still holds the one before" if path.exists() else "nothing was kept"
            raise UserError(f"cannot write the checkpoint {path}: {error}; {kept}") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """See `read_checkpoint`; nothing in the file can run code, whatever is asked for."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training checkpoint as plain tensors and numbers, on the CPU.

    Raises:
        UserError: the file is missing, damaged, or no checkpoint of a training run.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            if damaged := parts.testzip():
                raise UserError(f"its part {damaged} is damaged, the checksum differs")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not {"state_dict", "iteration"} <= set(checkpoint):
            raise UserError("it lacks weights or the count of iterations")
        counts = [checkpoint["iteration"]]
        if "loops" in checkpoint:
            counts.append(checkpoint["loops"]["fit_loop"][_COUNTED]["total"]["completed"])
        if any(type(count) is not int or count < 0 for count in counts):
            raise UserError(f"it counts {counts[0]!r} iterations, expected a whole number of 0 or more")
        if len(set(counts)) > 1:
            raise UserError(f"it counts {counts[0]} iterations, Lightning counted {counts[1]}; expected the same")
    except Exception as error:  # torch.load raises half a dozen kinds for a broken file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is no checkpoint of a training run: {first}") from error
    return checkpoint


def check_fits(checkpoint: Mapping[str, Any], system: ExpressionSystem, *, resume: bool) -> None:
    """Check that a checkpoint is of the networks and, to go on with the training, of the optimizers of `system`.

    Raises:
        UserError: what was found, what was expected.
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
    """Check that weights are finite numbers of the kind that the networks `wanted` hold.

    Raises:
        UserError: the first that is not, and what became of it.
    """
    for name, value in found.items():
        if name in wanted and value.is_floating_point() != wanted[name].is_floating_point():
            raise UserError(f"{path}: {name} is of type {value.dtype}, expected {wanted[name].dtype}; damaged?")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UserError(
                f"{path}: {name} holds numbers that are not finite; the training diverged, or the file is damaged. "
                "Take an earlier checkpoint, or train again"
            )


def check_optimizers(checkpoint: Mapping[str, Any], system: ExpressionSystem, path: Any) -> None:
    """Check that the states of optimizers in a checkpoint are those that `system` goes on with.

    Raises:
        UserError: what was found, what was expected.
    """
    configured: Any = system.configure_optimizers()
    optimizers = configured[0] if isinstance(configured, tuple) else configured
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    states = checkpoint.get("optimizer_states") or []
    if len(states) != len(optimizers):
        raise UserError(
            f"{path} holds the states of {len(states)} optimizers, expected {len(optimizers)}; no training can go on"
        )
    for number, (state, optimizer) in enumerate(zip(states, optimizers, strict=True)):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        numbers = [n for group in state["param_groups"] for n in group["params"]]
        kept = state["state"]  # empty before the first step of the optimizer
        if len(numbers) != len(parameters) or (kept and set(kept) != set(numbers)):
            raise UserError(
                f"{path}: the state of optimizer {number} is of {len(kept or numbers)} parameters, expected "
                f"{len(parameters)}; the file was changed or belongs to other networks"
            )
        for key, parameter in zip(numbers, parameters, strict=True):
            shapes = {v.shape for v in kept.get(key, {}).values() if torch.is_tensor(v) and v.ndim}
            if shapes - {parameter.shape}:
                raise UserError(f"{path}: moments of optimizer {number} have another shape than the weights")


def add_loops(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Give a checkpoint of version 0.1, which held none, the state of Lightning's loops and of the schedules."""
    if "loops" in checkpoint:
        return
    done = int(checkpoint["iteration"])
    state: dict[str, Any] = trainer.fit_loop.state_dict()
    # as Lightning would have saved it in `on_train_batch_end`; which batch is next follows from the iteration alone
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
    """Module and name of a class, as a `_target_` names it."""
    return f"{cls.__module__}.{cls.__qualname__}"
