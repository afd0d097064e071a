"""The part of rank 0: have the other processes come, and let them go, whatever happens to the run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.distributed.callbacks import STOPPED
from fexgan_lit.distributed.place import Place
from fexgan_lit.distributed.team import Team, found_team, join_team
from fexgan_lit.errors import UserError
from fexgan_lit.result import one_line
from fexgan_lit.sweeps.job import is_sweep_job

if TYPE_CHECKING:
    from fexgan_lit.config import TrainerSettings

#: The team of processes that torchrun or SLURM started, this one being rank 0.
_joined: Team | None = None


@contextlib.contextmanager
def joined(place: Place) -> Iterator[None]:
    """Meet the processes that torchrun or SLURM started, for as long as the door is open."""
    global _joined
    with closing(join_team(place)) as _joined:
        yield
    _joined = None


@contextlib.contextmanager
def leading(settings: TrainerSettings) -> Iterator[Team | None]:
    """The team that trains a run; None where one process is enough.

    Raises:
        UserError: other processes are there than the configuration asks for.
    """
    world = settings.devices * settings.num_nodes
    if _joined is not None:
        check_started(_joined.place, settings)
        yield _joined
    elif world == 1:
        yield None
    elif settings.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={settings.num_nodes}: processes on other machines are started by torchrun or SLURM, "
            "and neither started this one; expected torchrun --nnodes or srun (docs/distributed.md)"
        )
    else:
        with closing(found_team(world)) as team:
            yield team


def check_started(place: Place, settings: TrainerSettings) -> None:
    """Raise a UserError if torchrun or SLURM started other processes than `settings` ask for."""
    found = f"{place.starter} started {place.world} processes, {place.local_world} on this machine"
    if (place.world, place.local_world) != (settings.devices * settings.num_nodes, settings.devices):
        nodes = place.world // place.local_world
        raise UserError(
            f"{found}, but trainer.devices={settings.devices} and trainer.num_nodes={settings.num_nodes}; expected "
            f"trainer.devices={place.local_world} trainer.num_nodes={nodes}, or as many tasks as the options say"
        )
    if is_sweep_job():
        raise UserError(
            f"{found}: a sweep (-m) cannot be worked off like that; expected to be started without {place.starter}, "
            "every run then starts its own processes on this machine"
        )


@contextlib.contextmanager
def closing(team: Team) -> Iterator[Team]:
    """Part from the team in peace, or tell it why this process ends."""
    try:
        yield team
    except SystemExit as end:
        if end.code in (None, 0, STOPPED):
            team.leave()
        else:
            team.abandon(f"ended with exit code {end.code}")
        raise
    except BaseException as error:
        team.abandon(one_line(error))
        raise
    team.leave()


def call_team(team: Team, config: DictConfig, run: Path, checkpoint: Path | None) -> None:
    """Tell the others what to train, once everything that only one may make is there."""
    task = {
        "config": OmegaConf.to_yaml(config, resolve=True),
        "run": str(run.resolve()),
        "checkpoint": str(checkpoint.resolve()) if checkpoint else None,
    }
    team.tell("run", json.dumps(task))
