"""What happens around the iterations: schedules, the guard over the loss, checkpoints, measurements, grids."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from fexgan_lit.errors import UserError
from fexgan_lit.trackers.send import log_numbers, log_picture

if TYPE_CHECKING:
    from PIL import Image

    from fexgan_lit.result import Clock
    from fexgan_lit.runfolder import RunFolder
    from fexgan_lit.systems.base import ExpressionSystem
    from fexgan_lit.trainer import IterationStream


class TrainingDivergedError(UserError):
    """The loss is no longer a finite number."""


class AdversarialCut(Callback):
    """Lower the weight of the binary adversarial loss after an epoch of the data (FExGAN, section 4).

    Args:
        epoch: first epoch (counted from 0) with the lower weight; None never lowers it.
        to: the weight from then on.
    """

    def __init__(self, epoch: int | None = 50, to: float = 0.1) -> None:
        self.epoch = epoch
        self.to = to

    def on_train_batch_start(self, trainer: Trainer, system: LightningModule, batch: Any, batch_idx: int) -> None:
        """Derive the weight from the epoch alone, so that a resumed run needs no memory of it."""
        if self.epoch is None:
            return
        if not hasattr(system, "adversarial_binary"):
            raise UserError(
                f"callbacks.adversarial_cut.epoch={self.epoch}: {type(system).__name__} has no binary adversarial "
                "weight to cut; set callbacks.adversarial_cut.epoch=null"
            )
        cut = int(system.epoch) >= self.epoch  # type: ignore[arg-type]
        system.adversarial_binary = self.to if cut else system.weights.adversarial_binary  # type: ignore[union-attr, assignment]


class LinearDecay(Callback):
    """Let the learning rate of every optimizer fall linearly to zero over the last part of the run.

    Args:
        start: share of `trainer.max_steps` after which it falls, in [0, 1); None keeps it (the FExGAN papers). A run
            made longer afterwards takes the rate of its new length.
    """

    def __init__(self, start: float | None = None) -> None:
        if start is not None and not 0 <= start < 1:
            raise UserError(f"start={start}: expected null or a share in [0, 1)")
        self.start = start

    def on_train_batch_start(self, trainer: Trainer, system: LightningModule, batch: Any, batch_idx: int) -> None:
        """Derive the rate from the iteration alone, so that a resumed run needs no memory of it."""
        if self.start is None:
            return
        done = int(system.iteration) / int(system.last_iteration)  # type: ignore[arg-type]
        factor = min(1.0, max(0.0, (1 - done) / (1 - self.start)))
        for optimizer in trainer.optimizers:
            set_rate(optimizer, float(optimizer.defaults["lr"]) * factor)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give all weights of an optimizer a learning rate; one that lies on the device for recordings stays there."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class LossLog(Callback):
    """Check that the losses are finite and log them; one transfer from the device a logging interval.

    Args:
        every: iterations between two rows.
        run: where the last good checkpoint lies.
        stream: tells the seconds spent waiting for data.
    """

    def __init__(self, every: int, run: RunFolder, stream: IterationStream) -> None:
        self.every = every
        self.run = run
        self.stream = stream
        self.latest: dict[str, float] = {}
        self._since = time.perf_counter()
        self._last_iteration = 0

    def on_train_start(self, trainer: Trainer, system: LightningModule) -> None:
        """Start the clock."""
        self._since, self._last_iteration = time.perf_counter(), int(system.iteration)  # type: ignore[arg-type]

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See the class."""
        iteration = int(system.iteration)  # type: ignore[arg-type]
        logs = iteration % self.every == 0
        # reading a number off a GPU waits for it, so there only where it is read anyway
        if logs or system.device.type == "cpu":
            self.check(outputs, iteration)
        if logs:
            self.latest = {f"loss/{name}": float(value) for name, value in outputs.items()}
            log_numbers(trainer.loggers, {**self.latest, **self._rates(iteration)}, iteration)

    def _rates(self, iteration: int) -> dict[str, float]:
        now = time.perf_counter()
        seconds, done = now - self._since, max(1, iteration - self._last_iteration)
        self._since, self._last_iteration = now, iteration
        return {"speed/iterations_per_s": done / seconds, "speed/data_wait_share": self.stream.take_wait() / seconds}

    def check(self, outputs: Mapping[str, Tensor], iteration: int) -> None:
        """Stop the run if a loss is NaN or infinite.

        Raises:
            TrainingDivergedError: with the iteration, the parts of the loss and the last good checkpoint.
        """
        if bool(torch.isfinite(outputs["generator"] + outputs["discriminator"])):
            return
        parts = ", ".join(f"{name}={float(value):.4g}" for name, value in outputs.items())
        good = f"the last good checkpoint is {self.run.last}" if self.run.last.exists() else "no checkpoint was written"
        raise TrainingDivergedError(
            f"the loss is not finite at iteration {iteration}: {parts}. {good}. A lower optimizer.lr, "
            "optimizer.clip_norm=1 or trainer.precision=float32 usually helps."
        )


class Checkpoints(Callback):
    """Write checkpoints/last.ckpt every so many iterations and at the end."""

    def __init__(self, every: int, run: RunFolder, guard: LossLog) -> None:
        self.every = every
        self.run = run
        self.guard = guard

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A checkpoint is only written of finite losses, so `last` is always the last good one."""
        iteration = int(system.iteration)  # type: ignore[arg-type]
        if iteration % self.every == 0 or batch_idx + 1 >= trainer.num_training_batches or trainer.should_stop:
            self.guard.check(outputs, iteration)
            save_checkpoint(trainer, self.run.last)


def save_checkpoint(trainer: Trainer, path: Any) -> None:
    """Write a checkpoint whole or not at all; the one before it stays until then.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        trainer.save_checkpoint(partial, weights_only=False)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        partial.unlink(missing_ok=True)
        kept = f"{path} still holds the one before" if path.exists() else "nothing was kept"
        raise UserError(f"cannot write the checkpoint {path}: {error}; {kept}") from error


class KeepTime(Callback):
    """Keep the seconds spent on a run in its checkpoints, so that a resumed run adds to them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"seconds": self.clock.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Seconds until the checkpoint."""
        self.clock.before = float(state_dict["seconds"])


class TimeLimit(Callback):
    """End the training after so many minutes spent in it, counted in this process."""

    def __init__(self, minutes: float) -> None:
        self.seconds = minutes * 60
        self._started = math.inf

    def on_train_start(self, trainer: Trainer, system: LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, system: LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch about to be trained is then the last one; its checkpoint is written."""
        if time.perf_counter() - self._started > self.seconds:
            trainer.should_stop = True


class Validation(Callback):
    """Measure on the validation pairs every so many iterations and keep the best checkpoint.

    Args:
        every: iterations between two measurements; 0 measures only after training.
        measure: gives the numbers of a system on the validation pairs.
        run: where best.ckpt goes.
        score: which of the numbers is compared, and whether lower is better.
    """

    def __init__(
        self, every: int, measure: Callable[[ExpressionSystem], dict[str, float]], run: RunFolder,
        score: tuple[str, bool] = ("fd_judge", True),
    ) -> None:  # fmt: skip
        self.every = every
        self.measure = measure
        self.run = run
        self.score = score
        self.best = math.inf

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See the class; the numbers are logged as `val/...`."""
        iteration = int(system.iteration)  # type: ignore[arg-type]
        if not self.every or iteration % self.every:
            return
        numbers = self.measure(system)  # type: ignore[arg-type]
        log_numbers(trainer.loggers, {f"val/{k}": v for k, v in numbers.items()}, iteration)
        name, lower = self.score
        value = numbers.get(name, math.nan) * (1 if lower else -1)
        if value < self.best:
            self.best = value
            save_checkpoint(trainer, self.run.best)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """A resumed run replaces best.ckpt only by a better one."""
        self.best = float(state_dict["best"])


class Grids(Callback):
    """Draw a picture every so many iterations, into the run folder and to the loggers that show pictures.

    Args:
        every: iterations between two pictures; 0 draws none.
        draw: gives the picture.
        run: where it goes.
        name: of the picture.
    """

    def __init__(
        self, every: int, draw: Callable[[ExpressionSystem], Image.Image], run: RunFolder, name: str = "affects"
    ) -> None:
        self.every = every
        self.draw = draw
        self.run = run
        self.name = name

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See the class."""
        iteration = int(system.iteration)  # type: ignore[arg-type]
        if self.every and iteration % self.every == 0:
            picture = self.draw(system)  # type: ignore[arg-type]
            folder = self.run.figures / "progress"
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{self.name}_{iteration:06d}.png")
            log_picture(trainer.loggers, f"progress/{self.name}", picture, iteration, f"iteration {iteration}")
