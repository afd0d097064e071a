"""The id of the W&B run, kept in every checkpoint so that a resumed run goes on in the same one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

#: Where it stands in a checkpoint.
_KEY = "wandb_run_id"


class KeptRunId(Callback):
    """Write the id of the run's W&B run into its checkpoints.

    A run that goes on without W&B hands on the id it found, so that a later one can still go on in the same W&B run.
    """

    def __init__(self) -> None:
        self.known: str | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember what the checkpoint says."""
        self.known = kept_run_id(checkpoint)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A plain string, which loads without running code."""
        ids = [str(logger.version) for logger in trainer.loggers if logger.name == "wandb"]
        if run_id := next(iter(ids), self.known):
            checkpoint[_KEY] = run_id


def kept_run_id(checkpoint: Mapping[str, Any]) -> str | None:
    """The id that a checkpoint holds; None where its run was never one of W&B."""
    return checkpoint.get(_KEY)
