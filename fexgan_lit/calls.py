"""What Lightning calls a training step: an iteration as it is, a recorded one, or several of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, Trainer

from fexgan_lit.replay import CudaRecorder, Losses, Recorder, ReplayedStep, Step, why_not_replayed

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.config import TrainSettings
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.systems.base import ExpressionSystem


class SeveralSteps:
    """Iterations one after the other in one call; schedules are asked before each, all other callbacks after the last.

    Args:
        trainer: whose call it is.
        system: what is trained.
        step: an iteration.
        schedules: callbacks that set weights and rates by the iteration.
    """

    def __init__(self, trainer: Trainer, system: ExpressionSystem, step: Step, schedules: Sequence[Callback]) -> None:
        self.trainer, self.system, self.step, self.schedules = trainer, system, step, schedules

    def training_step(self, batch: list[PairBatch], batch_idx: int) -> Losses:
        """The losses of the last iteration; a loss that is no number once stays so, since the weights are none."""
        losses: Losses = {}
        for number, pairs in enumerate(batch):
            for schedule in self.schedules if number else ():  # Lightning asked them before the first
                schedule.on_train_batch_start(self.trainer, self.system, pairs, batch_idx)
            losses = self.step(pairs, batch_idx)
        return losses


@contextmanager
def called(
    system: ExpressionSystem, trainer: Trainer, settings: TrainSettings, console: Console,
    recorder: Recorder | None = None,
) -> Iterator[None]:  # fmt: skip
    """Meanwhile `system.training_step` is what `trainer.cuda_graphs` and `trainer.iterations_per_call` ask for.

    Args:
        system: what is trained.
        trainer: that will train it.
        settings: of the run.
        console: told where iterations cannot be recorded, and why.
        recorder: in place of CUDA graphs.
    """
    t = settings.trainer
    step: Step = system.training_step  # type: ignore[assignment]

    def say(line: str) -> None:
        console.print(f"  graphs     {line}\n", markup=False)

    if t.cuda_graphs and recorder is None:
        device = trainer.strategy.root_device
        reason = why_not_replayed(system, device, system.noise.share.world)
        said = reason and f"nothing: {reason}; going on without"
        say(said or "an iteration is recorded after a few, then replayed")
        recorder = None if reason else CudaRecorder(device)
    if recorder is not None:
        step = ReplayedStep(system, step, recorder, trainer, say).training_step
    if recorder is None and t.iterations_per_call == 1:
        yield
        return
    vars(system)["training_step"] = step
    if t.iterations_per_call > 1:
        several = SeveralSteps(trainer, system, step, list(settings.callbacks.values()))
        vars(system)["training_step"] = several.training_step
    try:
        yield
    finally:
        del vars(system)["training_step"]
