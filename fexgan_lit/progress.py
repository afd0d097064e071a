"""The terminal during training: a live bar where there is a screen, a line now and then where there is none."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Seconds between two refreshes: reading the losses off a GPU waits for it.
_REFRESH_S = 0.5
#: Seconds between two lines where the output is no terminal.
_LINE_S = 15.0


class TrainingBar(Callback):
    """Iterations done and to come, iterations per second, the main losses.

    Args:
        console: where to draw.
        total: iterations of the whole run.
        shown: names of the losses and the words they are shown with.
    """

    def __init__(self, console: Console, total: int, shown: dict[str, str] | None = None) -> None:
        self.console = console
        self.total = total
        self.shown = shown or {"generator": "G", "discriminator": "D", "reconstruction": "L1", "kl": "KL"}
        self.bar: Progress | None = None
        self._due = 0.0
        self._started = (0.0, 0)

    def on_train_start(self, trainer: Trainer, system: LightningModule) -> None:
        """Draw the empty bar."""
        iteration = int(system.iteration)  # type: ignore[arg-type]
        self._started = (time.perf_counter(), iteration)
        self._due = self._started[0]
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("  training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("[dim]{task.fields[losses]}"),
                console=self.console,
            )  # fmt: skip
            self.bar.add_task("training", total=self.total, completed=iteration, rate="", losses="")
            self.bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Refresh, at most twice a second."""
        now = time.perf_counter()
        iteration = int(system.iteration)  # type: ignore[arg-type]
        if now < self._due and iteration < self.total:
            return
        rate = f"{(iteration - self._started[1]) / max(1e-9, now - self._started[0]):.1f} it/s"
        losses = "  ".join(f"{word} {float(outputs[name]):.3g}" for name, word in self.shown.items() if name in outputs)
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=iteration, rate=rate, losses=losses)
            self._due = now + _REFRESH_S
        else:
            self.console.print(f"  training {iteration}/{self.total}  {rate}  {losses}", highlight=False)
            self._due = now + _LINE_S

    def on_train_end(self, trainer: Trainer, system: LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(self, trainer: Trainer, system: LightningModule, exception: BaseException) -> None:
        """Give the terminal back before the message."""
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def stage_bar(console: Console) -> Progress:
    """A bar for a stage that is not training (packing frames, training the judge), gone when it is done."""
    return Progress(
        TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
