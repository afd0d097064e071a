"""Which of several processes this one is, from what torchrun, SLURM or our own launcher left in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from fexgan_lit.errors import UserError

#: Set for the processes that we start ourselves.
STARTED = "FEXGAN_LIT_STARTED"
#: First port of those that SLURM jobs choose from, and how many there are.
_PORTS, _PORT_COUNT = 12_000, 18_000


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process takes: `rank` of `world` processes that train together."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that train one run.

    Attributes:
        rank: its number among all, 0 writes and measures.
        world: how many there are.
        local_rank: its number on this machine; it takes the GPU of that number.
        local_world: how many there are on this machine.
        address: of the machine of rank 0.
        port: where rank 0 keeps what the processes tell one another.
        starter: who started it: `torchrun`, `SLURM` or `us`.
        attempt: how often torchrun started all of them anew.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    address: str
    port: int
    starter: str = "us"
    attempt: int = 0

    @property
    def share(self) -> Share:
        """Its part of every batch."""
        return Share(self.rank, self.world)


def place_from_environment(env: Mapping[str, str] = os.environ) -> Place | None:
    """This process among those that torchrun, SLURM's srun or our launcher started; None where it is the only one.

    Raises:
        UserError: the variables that should say so are incomplete or no numbers.
    """
    try:
        place = _torchrun(env) if "RANK" in env and "WORLD_SIZE" in env else _slurm(env)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the environment of a run on several devices cannot be read: {type(error).__name__} {error}; expected "
            "RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun sets them, or those of srun"
        ) from error
    return place if place is not None and place.world > 1 else None


def _torchrun(env: Mapping[str, str]) -> Place:
    """The variables of torchrun, which our own launcher sets, too."""
    world = int(env["WORLD_SIZE"])
    return Place(
        int(env["RANK"]), world, int(env.get("LOCAL_RANK", env["RANK"])), int(env.get("LOCAL_WORLD_SIZE", world)),
        env["MASTER_ADDR"], int(env["MASTER_PORT"]), "us" if STARTED in env else "torchrun",
        int(env.get("TORCHELASTIC_RESTART_COUNT", 0)),
    )  # fmt: skip


def _slurm(env: Mapping[str, str]) -> Place | None:
    """The variables that srun gives to each task of a step; a batch script by itself is no task of a step."""
    if "SLURM_STEP_NUM_TASKS" not in env or "SLURM_PROCID" not in env:
        return None
    address = env.get("MASTER_ADDR") or first_host(env.get("SLURM_STEP_NODELIST") or env["SLURM_NODELIST"])
    job = int(env["SLURM_JOB_ID"]) * 8 + int(env.get("SLURM_STEP_ID", 0)) % 8
    port = int(env.get("MASTER_PORT") or _PORTS + job % _PORT_COUNT)
    world, nodes = int(env["SLURM_STEP_NUM_TASKS"]), int(env.get("SLURM_STEP_NUM_NODES", 1))
    return Place(
        int(env["SLURM_PROCID"]), world, int(env["SLURM_LOCALID"]), max(1, world // nodes), address, port, "SLURM",
        int(env.get("SLURM_RESTART_COUNT", 0)),
    )  # fmt: skip


def first_host(nodes: str) -> str:
    """The first machine of a SLURM list: `gpu[07-09,12]` -> `gpu07`, `a,b` -> `a`."""
    head, bracket, rest = nodes.partition("[")
    if not bracket or "," in head:
        return head.split(",")[0]
    number = rest.split("]")[0].split(",")[0].split("-")[0]
    return head + number + rest.partition("]")[2].split(",")[0]
