"""One run on several processes: find or start them, connect them, and end them together."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch.plugins.environments import ClusterEnvironment

    from fexgan_lit.runs.config import TrainerSettings


#: Timeouts: for all processes to connect, and for rank 0 while it packs frames, trains a judge or draws.
ARRIVAL, PATIENCE = timedelta(minutes=10), timedelta(days=7)


#: Seconds that the main thread of rank 0 gets to stop by itself after another process died.
_GRACE_S = 10.0


# ---------------------------------------------------------------------- the processes


class RankLostError(UserError):
    """Raised if another process of the run died or failed."""


def find_environment() -> ClusterEnvironment | None:
    """Return the environment with the rank of this process, if torchrun, srun or rank 0 started several; else None.

    Raises:
        UserError: environment variables are missing or not numbers.
    """
    env = os.environ
    try:
        if "RANK" in env and "WORLD_SIZE" in env:
            found: ClusterEnvironment = TorchElasticEnvironment()
            found.local_rank(), found.main_address, found.main_port
        elif int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in env:
            found = SLURMEnvironment(auto_requeue=False)  # the job script requeues the job on exit code 75
        elif "LOCAL_RANK" in env and "WORLD_SIZE" in env:  # `Processes.start`
            found = LightningEnvironment()
            found.set_world_size(int(env["WORLD_SIZE"]))
            found.set_global_rank(int(env["LOCAL_RANK"]))
        else:
            return None
        return found if found.world_size() > 1 and found.global_rank() >= 0 else None
    except (KeyError, ValueError, RuntimeError) as error:  # Lightning needs SLURM's --ntasks-per-node
        raise UserError(
            f"cannot read the environment variables of a run on several devices: {type(error).__name__} {error}; "
            "expected RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as set by torchrun, or those of srun"
        ) from error


class Processes:
    """The processes that train one run, controlled by rank 0.

    Args:
        settings: the config group `trainer`.
        environment: environment of processes that torchrun or SLURM started; None if `start` shall start them.

    Attributes:
        on_loss: called with the reason before this process exits because another one died.
    """

    def __init__(self, settings: TrainerSettings, environment: ClusterEnvironment | None) -> None:
        self.world = settings.devices * settings.num_nodes
        self.environment = environment
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self.on_loss: Callable[[str], object] = lambda _: None
        self._ended = threading.Event()
        self._lost: str | None = None
        self._before: dict[str, str] = {}

    def start(self) -> ClusterEnvironment:
        """Start the other processes on this machine, unless torchrun or SLURM did, and connect to them."""
        if self.environment is None:
            self._before = dict(os.environ)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            os.environ.update(
                MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(self.world), LOCAL_RANK="0"
            )
            for rank in range(1, self.world):
                self.children[rank] = subprocess.Popen(
                    [sys.executable, "-m", "fexgan_lit.train"], env=os.environ | {"LOCAL_RANK": str(rank)},
                    stdin=subprocess.DEVNULL,
                )  # fmt: skip
            threading.Thread(target=self._watch, name="child-processes", daemon=True).start()
            self.environment = LightningEnvironment()
            self.environment.set_world_size(self.world)
            connect(self.environment)
        return self.environment

    def tell(self, task: dict[str, Any] | None) -> None:
        """Send `task` to the other processes; None lets them exit."""
        dist.broadcast_object_list([task], 0)

    def reason_of(self, error: BaseException) -> str | None:
        """Return why the run cannot continue if `error` comes from the end of another process, else None."""
        words = ("Connection closed", "Connection reset", "Broken pipe", "gloo", "NCCL")
        if not isinstance(error, dist.DistError) and not any(word in str(error) for word in words):
            return None
        until = time.monotonic() + _GRACE_S / 2
        while self._lost is None and self.children and time.monotonic() < until:
            time.sleep(0.1)
        return self._lost or f"another process of the run ended ({str(error).splitlines()[0]})"

    def end(self) -> None:
        """Leave the process group and wait for child processes; those that do not exit in 30 s are killed."""
        self._ended.set()
        disconnect()
        for child in self.children.values():
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self._before:
            for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "LOCAL_RANK"):
                os.environ.pop(name, None)
            os.environ.update(self._before)
            self.children, self._before, self.environment = {}, {}, None

    def _watch(self) -> None:
        """Exit if a child died while the main thread waits for it in a collective call (NCCL)."""
        while not self._ended.wait(0.2):
            for rank, child in self.children.items():
                code = child.poll()
                if code:
                    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
                    self._lost = f"rank {rank} {how}"
                    if self._ended.wait(_GRACE_S):
                        return
                    self.on_loss(self._lost)
                    sys.stderr.write(f"error: {self._lost}\n")
                    for other in self.children.values():
                        other.kill()
                    os._exit(1)


def connect(environment: ClusterEnvironment) -> None:
    """Create the process group: gloo between CPUs, NCCL between GPUs.

    Raises:
        UserError: rank 0 cannot be reached.
    """
    rank, world = environment.global_rank(), environment.world_size()
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    try:
        store, rank, world = next(dist.rendezvous("env://", rank, world, timeout=ARRIVAL))
    except (RuntimeError, dist.DistError) as error:
        raise UserError(
            f"rank {rank} of {world} cannot connect to {environment.main_address}:{environment.main_port} "
            f"({str(error).splitlines()[0]}). Set MASTER_ADDR to a name of the first machine that all others can "
            "reach, and MASTER_PORT to a port that is free there"
        ) from error
    store.set_timeout(PATIENCE)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)


def disconnect() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def check_started(environment: ClusterEnvironment, settings: TrainerSettings, sweep: bool) -> None:
    """Raise a UserError if torchrun or SLURM started other processes than `settings` ask for."""
    starter = "torchrun" if isinstance(environment, TorchElasticEnvironment) else "SLURM"
    world, wanted = environment.world_size(), settings.devices * settings.num_nodes
    if world != wanted:
        raise UserError(
            f"{starter} started {world} processes, but trainer.devices={settings.devices} and trainer.num_nodes="
            f"{settings.num_nodes} ask for {wanted}. Start as many processes, or change these options"
        )
    if sweep:
        raise UserError(
            f"{starter} started {world} processes, but a sweep (-m) must be started without {starter}; each of its "
            "runs then starts its own processes on this machine"
        )


@contextlib.contextmanager
def several(settings: TrainerSettings, sweep: bool) -> Iterator[Processes | None]:
    """Yield the processes of a run, and end them on exit; None for a single process.

    Raises:
        UserError: the number of processes differs from the configuration.
    """
    environment = find_environment() if dist.is_initialized() else None
    if environment is not None:
        check_started(environment, settings, sweep)
    elif settings.devices * settings.num_nodes == 1:
        yield None
        return
    elif settings.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={settings.num_nodes}: this process was started neither by torchrun nor by SLURM, which "
            "start the processes on other machines. Use torchrun --nnodes or srun (docs/distributed.md)"
        )
    processes = Processes(settings, environment)
    try:
        yield processes
    finally:
        processes.end()
