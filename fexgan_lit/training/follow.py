"""The ranks above 0: each trains its share of every batch."""

from __future__ import annotations

import io
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from fexgan_lit.training.distributed import connect, disconnect
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch.plugins.environments import ClusterEnvironment


def follow(environment: ClusterEnvironment) -> None:
    """Run a rank above 0: receive the task, train this rank's share of every batch, write and print nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; rank 0 handles it
    connect(environment)
    told: list[Any] = [None]
    try:
        dist.broadcast_object_list(told, 0)
        if told[0] is not None:
            train_along(environment, **told[0])
    except (RuntimeError, dist.DistError) as error:
        if isinstance(error, dist.DistError) or "Connection" in str(error):
            os._exit(1)  # rank 0 ended and prints the reason
        raise
    disconnect()


def train_along(
    environment: ClusterEnvironment, config: str, run: str, checkpoint: str | None, pruning: bool
) -> None:  # fmt: skip
    """Train this process's share of every batch.

    Raises:
        UserError: this machine cannot read the run folder.
    """
    from omegaconf import OmegaConf
    from rich.console import Console

    from fexgan_lit.runs.build import build_system
    from fexgan_lit.runs.config import train_settings
    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.runs.result import Clock
    from fexgan_lit.systems.checkpoints import read_checkpoint
    from fexgan_lit.training.fit import check_same_data, make_callbacks, open_data, prepare_trainer
    from fexgan_lit.training.trainer import check_trainer
    from fexgan_lit.utils.trust import foreign_packages, trust

    folder, start = RunFolder(Path(run)), Path(checkpoint) if checkpoint else None
    if not (start or folder.config).is_file():
        raise UserError(
            f"{socket.gethostname()} cannot read {start or folder.config}; the run folder must be on a disk that all "
            "machines share"
        )
    kept: Any = OmegaConf.create(config)
    trust(foreign_packages(OmegaConf.to_container(kept)))  # rank 0 trusts them already
    settings, console = train_settings(kept), Console(file=io.StringIO())
    check_trainer(settings.trainer)
    data = open_data(settings, console)
    check_same_data(settings, data)
    system = build_system(settings, data.affects)
    if start is not None:
        system.iteration = int(read_checkpoint(start)["iteration"])
    callbacks = make_callbacks(system, data, settings, folder, console, Clock(), pruning, several=True)
    trainer = prepare_trainer(system, data, settings, folder, console, callbacks, [], environment)
    trainer.fit(system, data, ckpt_path=start, weights_only=True)
