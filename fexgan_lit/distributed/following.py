"""The part of every other rank: hear from rank 0 what to train, train its share, write and print nothing."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fexgan_lit.distributed.place import Place
from fexgan_lit.distributed.team import RankLostError, Team, join_team
from fexgan_lit.errors import UserError
from fexgan_lit.result import one_line


def follow(place: Place) -> None:
    """Train what rank 0 says, and end when it does; no configuration is composed and no folder made."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; rank 0 answers it
    team = join_team(place)
    try:
        task = team.hear("run")
        if task is not None:
            train_along(team, json.loads(task))
            team.hear("finished")
        team.leave()
    except Exception as error:
        if isinstance(error, RankLostError) or team.lost or team.reason_of(error):
            os._exit(1)  # rank 0 prints why
        team.abandon(one_line(error))
        raise


def train_along(team: Team, task: dict[str, Any]) -> None:
    """Train this process's share of every batch.

    Raises:
        UserError: this machine does not see what rank 0 sees.
    """
    from rich.console import Console

    from fexgan_lit.config import train_settings
    from fexgan_lit.data.datamodule import FrameData
    from fexgan_lit.feed import open_stream
    from fexgan_lit.runfolder import RunFolder
    from fexgan_lit.systems import build_system
    from fexgan_lit.train import check_same_data, iterate
    from fexgan_lit.trainer import check_trainer
    from fexgan_lit.watch import Watch

    run, checkpoint = RunFolder(Path(task["run"])), Path(task["checkpoint"]) if task["checkpoint"] else None
    if not (checkpoint or run.config).is_file():
        raise UserError(
            f"{socket.gethostname()} does not see {checkpoint or run.config}; expected the run folder on a disk that "
            "all machines share"
        )
    settings = train_settings(OmegaConf.create(task["config"]))
    check_trainer(settings.trainer)
    data = FrameData(settings.dataset, settings.seed, settings.system.pairing, team.place.share)
    data.setup()
    check_same_data(settings, data)
    system = build_system(settings, data.affects)
    system.noise.share = team.place.share
    system.micro_batch = settings.trainer.micro_batch
    if checkpoint is not None:
        from fexgan_lit.hub import read_checkpoint

        system.iteration = int(read_checkpoint(checkpoint)["iteration"])
    stream, _ = open_stream(system, data, settings.trainer, team)
    watch = Watch(system, data, settings, run, [], Console(file=io.StringIO()), team)
    system.prepare(data.train, lambda: watch.judge)
    iterate(watch, stream, checkpoint)
