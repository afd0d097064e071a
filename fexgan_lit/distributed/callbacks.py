"""What several processes agree on in every iteration, and how a signal from outside ends a run in good order."""

from __future__ import annotations

import signal
import threading
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fexgan_lit.distributed.averaging import agreed, average_losses

#: Exit code of a run that a signal stopped after it wrote its checkpoint (EX_TEMPFAIL): the same command goes on.
STOPPED = 75
#: What SLURM sends before it takes a job off the machine.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class WholeLosses(Callback):
    """Replace the losses of this process's pairs by those of the whole batch; comes before all that reads them."""

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See the class."""
        average_losses(outputs, system.device)


class Ending(Callback):
    """Let all processes end with the same iteration, whoever wants to; comes right before the checkpoint is written.

    SIGTERM and SIGUSR1 end the training after the iteration at hand.

    Args:
        together: whether there are other processes.

    Attributes:
        stopped: whether a signal ended the training.
    """

    def __init__(self, together: bool) -> None:
        self.together = together
        self.stopped = False
        self._caught = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, system: LightningModule) -> None:
        """Listen, where signals can be listened to."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._catch) for number in _SIGNALS}

    def _catch(self, number: int, frame: Any) -> None:
        self._caught = True

    def on_train_batch_end(
        self, trainer: Trainer, system: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See the class."""
        caught, stop = self._caught, trainer.should_stop
        if self.together:
            caught, stop = agreed(caught, stop)
        self.stopped = self.stopped or caught
        trainer.should_stop = caught or stop

    def on_train_end(self, trainer: Trainer, system: LightningModule) -> None:
        """Listen no longer."""
        self._let_go()

    def on_exception(self, trainer: Trainer, system: LightningModule, exception: BaseException) -> None:
        """Listen no longer."""
        self._let_go()

    def _let_go(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
