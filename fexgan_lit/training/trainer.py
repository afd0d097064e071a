"""Build the Lightning trainer of a run: its device, precision, length and intervals."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from fexgan_lit.systems.checkpoints import WholeCheckpointIO
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hardware import cores, resolve_precision, root_device

if TYPE_CHECKING:
    from lightning.pytorch.plugins.environments import ClusterEnvironment
    from lightning.pytorch.strategies import Strategy

    from fexgan_lit.runs.config import TrainerSettings


def check_trainer(settings: TrainerSettings) -> None:
    """Raise a UserError if the requested devices do not exist or do not support the settings."""
    accelerator, devices = settings.accelerator, settings.devices
    there = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(accelerator, True):
        raise UserError(
            f"trainer.accelerator={accelerator}, but torch finds no {accelerator.upper()} here; "
            "use trainer.accelerator=cpu or auto"
        )
    gpus = torch.cuda.device_count() if accelerator in ("auto", "gpu") else 0
    if gpus and devices > gpus:
        raise UserError(
            f"trainer.devices={devices}, but torch finds {gpus} GPU here; expected {gpus} or fewer, one process takes "
            "one GPU (trainer.accelerator=cpu puts the processes on the processor)"
        )
    if settings.sync_batchnorm and not gpus:
        raise UserError(
            "trainer.sync_batchnorm=true: torch synchronises batch norm between GPUs only, and there is none here; "
            "expected trainer.sync_batchnorm=false, each process then normalises its own part of the batch"
        )


def training_device(settings: TrainerSettings, environment: ClusterEnvironment | None) -> torch.device:
    """Return the device that this process trains on, as the only process or as one of several."""
    if environment is None:
        return root_device(settings.accelerator)
    if settings.accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda", environment.local_rank())
    return torch.device("cpu")


def build_trainer(
    settings: TrainerSettings, callbacks: list[Callback], loggers: list[Logger], folder: str,
    environment: ClusterEnvironment | None = None, strategy: Strategy | str = "auto",
) -> Trainer:  # fmt: skip
    """Build Lightning's `Trainer` for a run.

    Args:
        settings: the group `trainer`.
        callbacks: the callbacks in the order in which they are called; Lightning moves checkpoints to the end.
        loggers: the loggers; if there are several processes, only rank 0 has loggers.
        folder: the run folder.
        environment: provides the rank of this process among several; None for a single process.
        strategy: the strategy of a single process; several use `AveragingDDPStrategy`.

    Raises:
        UserError: Lightning rejects an argument in `trainer`.
    """
    quiet_lightning()
    threads = settings.threads
    if environment is not None:
        from fexgan_lit.training.strategy import AveragingDDPStrategy

        strategy = AveragingDDPStrategy()
        threads = threads or max(1, cores() // settings.devices)
    if threads:
        torch.set_num_threads(threads)
    # prevents Lightning from reading the number of processes from SLURM
    plugins: list[Any] = [environment or LightningEnvironment(), WholeCheckpointIO()]
    options: dict[str, Any] = {
        "accelerator": settings.accelerator, "strategy": strategy, "sync_batchnorm": settings.sync_batchnorm,
        "devices": settings.devices if environment else 1, "num_nodes": settings.num_nodes if environment else 1,
        "precision": resolve_precision(settings.precision, settings.accelerator),
        "max_steps": settings.max_steps, "max_epochs": -1, "log_every_n_steps": settings.log_every,
        "val_check_interval": settings.val_every or settings.max_steps, "check_val_every_n_epoch": None,
        "limit_val_batches": 1.0 if settings.val_every else 0, "num_sanity_val_steps": 0,
        "deterministic": settings.deterministic or None, "benchmark": not settings.deterministic,
        "logger": loggers, "callbacks": callbacks, "default_root_dir": folder, "enable_model_summary": False,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }  # fmt: skip
    try:
        given: dict[str, Any] = instantiate(settings.lightning, _convert_="all")
        plugins += given.pop("plugins", None) or []
        return Trainer(**(options | given), plugins=plugins)
    except (MisconfigurationException, HydraException, TypeError, ValueError) as error:
        names = ", ".join(f"trainer.{name}={value}" for name, value in settings.lightning.items())
        raise UserError(f"{names or 'trainer'}: Lightning refuses it: {(error.__cause__ or error)}") from error


def quiet_lightning() -> None:
    """Silence the messages that Lightning prints in every run; errors and other warnings stay."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*", ".*module\\(s\\) in eval mode.*", ".*smaller than the logging interval.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*", ".*GPU available but not used.*",
        ".*Checkpoint directory .* exists and is not empty.*", ".*srun.*",
        ".*callbacks used to create the checkpoint.*", ".*but have no `val_dataloader`.*",
        ".*recommended to use `self.log.*sync_dist=True.*",
        ".*across ranks is zero.*",
    ):  # fmt: skip
        warnings.filterwarnings("ignore", message=message)
