"""Callbacks of a training run: schedules, checks of the losses, checkpoints, figures, progress, signals."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, RichProgressBar, Timer
from torch import Tensor

from fexgan_lit.training.loggers.build import log_picture
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hardware import cores

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.runs.result import Clock

#: Exit code of a run that a signal stopped after its checkpoint was written (EX_TEMPFAIL): it can be resumed.
STOPPED = 75


class TrainingDivergedError(UserError):
    """The loss is not finite."""


# ---------------------------------------------------------------------- schedules


class AdversarialCut(Callback):
    """Lower the weight of the binary adversarial loss after an epoch of the data (FExGAN, section 4).

    Args:
        epoch: first epoch (counted from 0) with the lower weight; None means never.
        to: the lower weight.
    """

    def __init__(self, epoch: int | None = 50, to: float = 0.1) -> None:
        if (epoch is not None and epoch < 0) or not to >= 0:
            raise UserError(f"epoch={epoch}, to={to}: expected an epoch from 0 or null, and a weight, 0 or more")
        self.epoch = epoch
        self.to = to

    def on_train_batch_start(self, trainer: Trainer, system: LightningModule, batch: Any, batch_idx: int) -> None:
        """Compute the weight from the iteration alone, so that it need not be in checkpoints."""
        if self.epoch is None:
            return
        if not hasattr(system, "adversarial_binary"):
            raise UserError(
                f"callbacks.adversarial_cut.epoch={self.epoch}: {type(system).__name__} has no binary adversarial "
                "weight to cut; set callbacks.adversarial_cut.epoch=null"
            )
        cut = trainer.global_step // trainer.num_training_batches >= self.epoch
        system.adversarial_binary = self.to if cut else system.loss_weights.adversarial_binary  # type: ignore[union-attr, assignment]


class LinearDecay(Callback):
    """Decay the learning rate of every optimizer linearly to zero over the last part of the run.

    The system adds a `LambdaLR` to each of its optimizers (`ExpressionSystem.with_schedule`).

    Args:
        start: fraction of the run after which the decay starts, in [0, 1); None keeps the rate constant (the FExGAN
            papers). A run that is extended later uses the rate of its new length.
    """

    def __init__(self, start: float | None = None) -> None:
        if start is not None and not 0 <= start < 1:
            raise UserError(f"start={start}: expected null or a share in [0, 1)")
        self.start = start

    def setup(self, trainer: Trainer, system: LightningModule, stage: str) -> None:
        """Set `decay_start` of the system before it configures its optimizers."""
        system.decay_start = self.start  # type: ignore[assignment]


# ---------------------------------------------------------------------- losses


class LossMonitor(Callback):
    """Stop the run if a loss is not finite, log the speed, and warn of known problems of the system.

    Args:
        run: the run folder, which contains the last good checkpoint.
        console: the console for warnings.
        patience: number of consecutive logging intervals with a problem before the warning; the first iterations are
            not representative.

    Attributes:
        problem: the problem in the last logged losses, or None.
    """

    def __init__(self, run: RunFolder, console: Console, patience: int = 5) -> None:
        self.run = run
        self.console = console
        self.patience = patience
        self.problem: str | None = None
        self._consecutive = 0
        self._warned = False
        self._since, self._at = time.perf_counter(), 0

    def on_train_start(self, trainer: Trainer, system: LightningModule) -> None:
        """Start the clock."""
        self._since, self._at = time.perf_counter(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the losses; on a GPU only at logging intervals, because reading them synchronises the device."""
        iteration = trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        due = every > 0 and iteration % every == 0
        if due or system.device.type == "cpu":
            self.check(outputs, iteration)
        if not due:
            return
        now = time.perf_counter()
        seconds, done = now - self._since, max(1, iteration - self._at)
        self._since, self._at = now, iteration
        speed = {"speed/iterations_per_s": done / seconds}
        if (take_wait := getattr(trainer.train_dataloader, "take_wait", None)) is not None:
            speed["speed/data_wait_share"] = take_wait() / seconds
        system.log_dict(speed)
        self.problem = system.diagnose({name: float(value) for name, value in outputs.items()})  # type: ignore[operator]
        self._consecutive = self._consecutive + 1 if self.problem else 0
        if self._consecutive >= self.patience and not self._warned:
            self._warned = True
            self.console.print(f"  iteration {iteration}: {self.problem}", style="yellow", markup=False)

    def check(self, outputs: dict[str, Tensor], iteration: int) -> None:
        """Check the losses that `training_step` returned.

        Raises:
            UserError: there is none, or one is not a scalar tensor.
            TrainingDivergedError: a loss is NaN or infinite. The error contains the iteration, the losses and the last
                good checkpoint.
        """
        wrong = [name for name, value in outputs.items() if not (isinstance(value, Tensor) and value.numel() == 1)]
        if wrong or not outputs:
            found = f"{wrong[0]}={outputs[wrong[0]]!r:.80}" if wrong else "no loss"
            raise UserError(f"training_step returned {found}; expected a mapping of names to scalar tensors")
        if all(math.isfinite(value) for value in outputs.values()):
            return
        parts = ", ".join(f"{name}={float(value):.4g}" for name, value in outputs.items())
        good = f"the last good checkpoint is {self.run.last}" if self.run.last.exists() else "no checkpoint was written"
        raise TrainingDivergedError(
            f"the loss is not finite at iteration {iteration}: {parts}. {good}. A lower optimizer.lr, "
            "optimizer.clip_norm=1 or trainer.precision=float32 usually helps."
        )


class AverageLosses(Callback):
    """Replace the losses of this process by those of the whole batch; it precedes callbacks that read losses."""

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average the losses over all processes."""
        from fexgan_lit.training.strategy import average_losses

        average_losses(outputs, system.device)


# ---------------------------------------------------------------------- checkpoints


class LastCheckpoint(Checkpoint):
    """Write checkpoints/last.ckpt at regular intervals and at the end, only if the losses are finite.

    `ModelCheckpoint(save_last=True)` omits the last iterations of a run whose length is not a multiple of its
    interval, and does not check the losses.

    Args:
        every: iterations between two checkpoints.
        path: the file to write.
        monitor: checks the losses.
    """

    def __init__(self, every: int, path: Any, monitor: LossMonitor) -> None:
        self.every = every
        self.path = path
        self.monitor = monitor
        self._saved = -1

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the checkpoint at the interval, at the last iteration, and when the training is stopped."""
        iteration = trainer.global_step
        last = 0 < trainer.max_steps <= iteration
        if iteration % self.every == 0 or last or trainer.should_stop:
            self.monitor.check(outputs, iteration)
            self._save(trainer)
        if trainer.should_stop:  # Lightning would validate again, but the final metrics follow anyway
            trainer.limit_val_batches = 0

    def on_train_end(self, trainer: Trainer, system: LightningModule) -> None:
        """Write the checkpoint if a validation ended the training (early stopping, pruning)."""
        if self._saved != trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved = trainer.global_step


class BestCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint` for checkpoints/best.ckpt; it keeps the best score if the run folder is moved.

    Args:
        run: the run folder.
        monitor: the metric to compare, `val/...`.
        mode: `min` or `max`.
    """

    def __init__(self, run: RunFolder, monitor: str, mode: str) -> None:
        super().__init__(
            dirpath=run.best.parent, filename=run.best.stem, monitor=monitor, mode=mode, enable_version_counter=False,
            save_on_train_epoch_end=False,
        )  # fmt: skip

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the metric if it was computed."""
        if self.monitor in trainer.callback_metrics:
            super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score with the current path; Lightning discards it if the path has changed."""
        path = str(self.format_checkpoint_name({}))
        best = state_dict["best_k_models"]
        moved = {"dirpath": self.dirpath, "best_model_path": path, "kth_best_model_path": path}
        super().load_state_dict(
            {**state_dict, **moved, "best_k_models": dict.fromkeys([path] * len(best), *best.values())}
        )


class KeepTime(Callback):
    """Save the duration of a run in its checkpoints, so that a resumed run adds to it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far."""
        return {"seconds": self.clock.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seconds up to the checkpoint."""
        self.clock.before = float(state_dict["seconds"])


# ---------------------------------------------------------------------- stopping


class TimeLimit(Timer):
    """Lightning's `Timer` without saved state: a resumed run again has `max_minutes`."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignore the saved state."""

    @property
    def is_over(self) -> bool:
        """Whether the time limit was reached."""
        left = self.time_remaining()
        return left is not None and left <= 0


class StopOnSignal(Callback):
    """Stop the training cleanly at SIGTERM or SIGUSR1, which SLURM sends before it ends a job.

    If one of several processes receives a signal, all stop after the same iteration; Lightning 2.6 deadlocks if SIGTERM
    reaches several processes.

    Args:
        together: whether several processes train together.

    Attributes:
        stopped: whether a signal ended the training.
    """

    def __init__(self, together: bool) -> None:
        self.together = together
        self.stopped = False
        self._caught = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, system: LightningModule) -> None:
        """Install the signal handlers, which only the main thread can do."""
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
            self._before = {number: signal.signal(number, self._catch) for number in numbers}

    def _catch(self, number: int, frame: Any) -> None:
        self._caught = True

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if any process received a signal or wants to stop."""
        caught, stop = self._caught, trainer.should_stop
        if self.together:
            from fexgan_lit.training.strategy import agreed

            caught, stop = agreed(caught, stop)
        self.stopped = self.stopped or caught
        trainer.should_stop = caught or stop

    def on_train_end(self, trainer: Trainer, system: LightningModule) -> None:
        """Restore the previous signal handlers."""
        self._let_go()

    def on_exception(self, trainer: Trainer, system: LightningModule, exception: BaseException) -> None:
        """Restore the previous signal handlers."""
        self._let_go()

    def _let_go(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


# ---------------------------------------------------------------------- figures and progress


class Grids(Callback):
    """Save a figure at regular intervals to the run folder and to the loggers that support images.

    Args:
        every: iterations between two figures.
        run: the run folder.
        draw: returns the figure.
        labelled: whether it is the grid of affects, or else a figure of this system.
    """

    def __init__(self, every: int, run: RunFolder, draw: Callable[[], Image.Image], labelled: bool = True) -> None:
        self.every = every
        self.run = run
        self.draw = draw
        self.name = "affects" if labelled else "sheet"

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the figure if it is due."""
        iteration = trainer.global_step
        if iteration % self.every == 0 and trainer.is_global_zero:  # other processes wait
            picture = self.draw()
            folder = self.run.figures / "progress"
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{self.name}_{iteration:06d}.png")
            log_picture(trainer.loggers, f"progress/{self.name}", picture, iteration, f"iteration {iteration}")


def duration(seconds: float) -> str:
    """Format a duration for people.

    >>> duration(40), duration(500), duration(9000)
    ('40 s', '8 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


class RunProgressBar(RichProgressBar):
    """Lightning's Rich bar over all iterations of the run instead of an epoch; without a terminal it prints lines.

    Args:
        console: the terminal, or a file.
        line_s: seconds between two lines if there is no terminal.
        pace_s: seconds after which the duration of the training is estimated.
    """

    #: the losses to show if a system has them, and their labels; otherwise the first four are shown
    SHOWN = {"generator": "G", "discriminator": "D", "reconstruction": "L1", "kl": "KL"}  # noqa: RUF012

    def __init__(self, console: Console, line_s: float = 15.0, pace_s: float = 10.0) -> None:
        super().__init__(refresh_rate=2)
        self.console = console
        self.line_s = line_s
        self.pace_s: float | None = pace_s
        self._due = 0.0
        self._started, self._warm = (0.0, 0), False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Enable the bar only during `fit`; it would remove the status line of the final metrics."""
        if stage == "fit" and self.console.is_terminal:
            self.enable()
        else:
            self.disable()
        super().setup(trainer, pl_module, stage)

    @property
    def total_train_batches(self) -> int | float:
        """The iterations of the run if it has `max_steps`, else those of Lightning."""
        return self.trainer.max_steps if self.trainer.max_steps > 0 else super().total_train_batches

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock at the current iteration."""
        super().on_train_start(trainer, pl_module)
        self._started, self._warm = (time.perf_counter(), trainer.global_step), False
        self._due = self._started[0]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the bar of the first epoch."""
        if self.train_progress_bar_id is None:
            super().on_train_epoch_start(trainer, pl_module)
            self._update(self.train_progress_bar_id, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the bar or print a line, at most twice per second, because reading losses synchronises a GPU."""
        now, iteration = time.perf_counter(), trainer.global_step
        self.estimate(trainer, now)
        if now < self._due and iteration < self.total_train_batches:
            return
        names = [name for name in self.SHOWN if name in outputs] or list(outputs)[:4]
        losses = {self.SHOWN.get(name, name): float(outputs[name]) for name in names}
        if self.is_enabled:
            self._due = now + 0.5
            self._losses = losses
            super().on_train_batch_end(trainer, pl_module, outputs, batch, iteration - 1)
            return
        self._due = now + self.line_s
        shown = "  ".join(f"{word} {value:.3g}" for word, value in losses.items())
        total = self.total_train_batches
        rate = (iteration - self._started[1]) / max(1e-9, now - self._started[0])
        speed = f"  {rate:.2g} it/s" if rate > 0 else ""
        if rate > 0 and iteration < total:
            speed += f", {duration((total - iteration) / rate)} left"
        self.console.print(f"  training {iteration}/{total}{speed}  {shown}", highlight=False)

    def estimate(self, trainer: Any, now: float) -> None:
        """Print once how long the training will take, and whether `trainer.max_minutes` will end it earlier."""
        if not self._warm:  # the first iteration compiles and fills caches
            self._warm, self._started = True, (now, trainer.global_step)
        done = trainer.global_step - self._started[1]
        if self.pace_s is None or not done or now - self._started[0] < self.pace_s:
            return
        self.pace_s = None
        rate, total = done / (now - self._started[0]), self.total_train_batches
        text = (
            f"{rate:.2g} iterations per second: {duration((total - trainer.global_step) / rate)} to iteration {total}"
        )
        limit = next((one.time_remaining("train") for one in trainer.callbacks if isinstance(one, TimeLimit)), None)
        if limit is not None and limit < (total - trainer.global_step) / rate:
            text += (
                f"; trainer.max_minutes ends it in {duration(max(0.0, limit))}, near iteration "
                f"{trainer.global_step + max(0, int(limit * rate))}"
            )
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        if load > 2 * cores():
            text += f"; other processes keep the machine busy (load {load:.0f} on {cores()} cores)"
        self.console.print(f"  pace       {text}", markup=False)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the main losses of the iteration."""
        return dict(getattr(self, "_losses", {}))

    def _get_train_description(self, current_epoch: int) -> str:
        return "  training"
