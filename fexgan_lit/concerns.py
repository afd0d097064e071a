"""Known troubles of a system, said while there is still time to change something."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from fexgan_lit.callbacks import LossLog

#: Rows of the log in a row that must show a trouble before it is said: the first iterations are no sign of anything.
_PATIENCE = 5


class Concerns(Callback):
    """Ask the system at every logging interval whether its losses show a trouble it knows, and say so once.

    Args:
        every: iterations between two looks, those of the log.
        losses: has read the losses off the device already; it must come before this callback.
        console: where to say it.
        patience: looks in a row that must find trouble.

    Attributes:
        standing: the trouble at the last look, or None.
    """

    def __init__(self, every: int, losses: LossLog, console: Console, patience: int = _PATIENCE) -> None:
        self.every = every
        self.losses = losses
        self.console = console
        self.patience = patience
        self.standing: str | None = None
        self._looks = 0
        self._said = False

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See the class."""
        iteration = int(system.iteration)  # type: ignore[arg-type]
        if iteration % self.every:
            return
        parts = {name.removeprefix("loss/"): value for name, value in self.losses.latest.items()}
        self.standing = system.concern(parts)  # type: ignore[operator]
        self._looks = self._looks + 1 if self.standing else 0
        if self._looks >= self.patience and not self._said:
            self._said = True
            self.console.print(f"  iteration {iteration}: {self.standing}", style="yellow", markup=False)
