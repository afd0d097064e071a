"""What an iteration of a run consists of, and the ranges that tell its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, Trainer
from torch import nn

from fexgan_lit.profiling.ranges import Ranges, Wrapped

if TYPE_CHECKING:
    from fexgan_lit.systems.base import ExpressionSystem

DATA, TRANSFER = "data", "data to the device"
STEP = "losses, penalties and the rest of the step"
OPTIMIZERS, AVERAGE, CALLBACKS = "optimizers", "moving average", "logging and callbacks"


def networks(system: ExpressionSystem) -> dict[str, nn.Module]:
    """What a training step calls, by name: the networks of a system without the moving average of one."""
    return {
        name: child
        for name, child in system.named_children()
        if name != "average" and any(True for _ in child.parameters())
    }


def watch_parts(ranges: Ranges, trainer: Trainer, system: ExpressionSystem) -> Wrapped:
    """Put a range around every part of an iteration.

    Args:
        ranges: the clock.
        trainer: its loader, strategy and callbacks.
        system: its networks, its updates and its step; one that updates its networks by ways of its own has that in
            the rest of the step.

    Returns:
        what takes the ranges away again.
    """
    wrapped = Wrapped(ranges)
    named = networks(system)
    names = {id(network): name for name, network in named.items()}
    for name, network in named.items():
        wrapped.calls(network, f"{name} forward")
        wrapped.method(network, "scores", f"{name} forward")  # a critic's way past its answers, for the penalty

    def backward(network: nn.Module, *_: Any) -> str:
        return f"{names.get(id(network), 'networks')} backward"

    wrapped.method(trainer.train_dataloader, "batch", DATA)
    wrapped.method(trainer.strategy, "batch_to_device", TRANSFER)
    wrapped.method(trainer.strategy, "training_step", STEP)
    wrapped.method(system, "backward_into", backward)
    wrapped.method(system, "step", OPTIMIZERS)
    wrapped.method(system, "update_average", AVERAGE)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for hook in ("on_train_batch_start", "on_train_batch_end"):
            if getattr(type(callback), hook) is not getattr(Callback, hook):
                wrapped.method(callback, hook, CALLBACKS)
    return wrapped


def part_names(system: ExpressionSystem) -> list[str]:
    """All parts in the order of an iteration."""
    passes = [f"{name} {way}" for name in networks(system) for way in ("forward", "backward")]
    return [DATA, TRANSFER, *passes, STEP, OPTIMIZERS, AVERAGE, CALLBACKS]
