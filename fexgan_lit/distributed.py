"""One run on several processes: who they are, how they share a batch, average gradients and end together."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from fexgan_lit.data.pairs import Share
from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch.plugins.environments import ClusterEnvironment

    from fexgan_lit.config import TrainerSettings

#: How long processes wait for the last one to come, and for rank 0 while it packs, trains a judge or draws.
ARRIVAL, PATIENCE = timedelta(minutes=10), timedelta(days=7)
#: Seconds that the main thread of rank 0 gets to end by itself once another process died.
_GRACE_S = 10.0


# ---------------------------------------------------------------------- sharing a batch


class BatchNoise:
    """Draws one row of random numbers a pair of the batch.

    One process draws from torch's own generator. Of several, each draws the numbers of the whole batch from a
    generator that all seed alike, and keeps the rows of its own pairs; so the noise of a pair does not depend on the
    number of processes. Dropout draws from torch's own generator, which every process seeds differently.

    Attributes:
        share: which rows are this process's.
    """

    def __init__(self) -> None:
        self.share = Share()
        self._generator: torch.Generator | None = None

    @property
    def together(self) -> bool:
        """Whether several processes share the batch."""
        return self.share.world > 1

    def seed(self, seed: int, device: torch.device) -> None:
        """Begin an iteration; `seed` is the same on all processes."""
        if self.together:
            if self._generator is None or self._generator.device != device:
                self._generator = torch.Generator(device)
            self._generator.manual_seed(seed)

    def normal(self, rows: int, *shape: int, device: torch.device) -> Tensor:
        """(rows, *shape) from N(0, 1)."""
        return self._mine(torch.randn(rows * self.share.world, *shape, generator=self._generator, device=device), rows)

    def uniform(self, rows: int, *shape: int, device: torch.device) -> Tensor:
        """(rows, *shape) from 0 to 1."""
        return self._mine(torch.rand(rows * self.share.world, *shape, generator=self._generator, device=device), rows)

    def shuffled(self, values: Tensor) -> Tensor:
        """The rows of the whole batch in random order, this process's part of them; `values` (B, ...) are its own."""
        rows, everyone = len(values), values
        if self.together:
            parts = [torch.empty_like(values) for _ in range(self.share.world)]
            dist.all_gather(parts, values.contiguous())
            everyone = torch.cat(parts)
        order = torch.randperm(len(everyone), generator=self._generator, device=values.device)
        return everyone[self._mine(order, rows)]

    def _mine(self, values: Tensor, rows: int) -> Tensor:
        return values[self.share.rank * rows : (self.share.rank + 1) * rows]


# ---------------------------------------------------------------------- averaging


class AveragingDDPStrategy(DDPStrategy):
    """Lightning's DDP, in which an optimizer's finished gradients are averaged before it steps.

    The networks are not wrapped in DistributedDataParallel, which counts on one backward pass that reaches every
    weight: two optimizers make several passes, each reaching its own network, and a gradient penalty goes past a
    network's `forward`. Here the gradients of one optimizer travel in one message once they are complete, whatever the
    number of passes before.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(timeout=PATIENCE, **kwargs)
        self._averaged: set[int] = set()

    @torch.no_grad()
    def configure_ddp(self) -> None:
        """In place of wrapping the networks: begin with the weights and buffers of rank 0."""
        networks: Any = self.lightning_module
        for value in (*networks.parameters(), *networks.buffers()):
            whole = value.detach().contiguous()
            dist.broadcast(whole, 0)
            value.copy_(whole)

    def average(self, optimizer: Optimizer) -> None:
        """Replace the gradients of an optimizer by their mean over the processes, once a step.

        Called by whoever needs them first: clipping by norm, or the step itself.
        """
        if id(optimizer) not in self._averaged:
            self._averaged.add(id(optimizer))
            average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> Any:  # fmt: skip
        """Average, then step."""
        self.average(optimizer)
        self._averaged.discard(id(optimizer))
        return super().optimizer_step(optimizer, closure, model, **kwargs)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes, in place; one message for each type of number."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            kinds.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in kinds.values():
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        parts = flat.split([gradient.numel() for gradient in gradients])
        shaped = [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]
        torch._foreach_copy_(gradients, shaped)


@torch.no_grad()
def average_losses(losses: dict[str, Tensor], device: torch.device) -> None:
    """Replace the losses of a process's part of the batch by those of the whole batch, in place."""
    names = sorted(losses)
    values = torch.stack([losses[name].detach().to(device).float() for name in names])
    dist.all_reduce(values)
    values /= dist.get_world_size()
    losses |= dict(zip(names, values.unbind(), strict=True))


def agreed(*flags: bool) -> list[bool]:
    """For each flag whether any process raises it; travels between the CPUs, so no GPU is waited for."""
    said = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return [bool(flag) for flag in said]


# ---------------------------------------------------------------------- the processes


class RankLostError(UserError):
    """Another process of the run died or failed."""


def find_environment() -> ClusterEnvironment | None:
    """What tells this process its rank, where torchrun, SLURM's srun or rank 0 started several; else None.

    Raises:
        UserError: the variables that should say so are incomplete or no numbers.
    """
    env = os.environ
    try:
        if "RANK" in env and "WORLD_SIZE" in env:
            found: ClusterEnvironment = TorchElasticEnvironment()
            found.local_rank(), found.main_address, found.main_port
        elif int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in env:
            found = SLURMEnvironment(auto_requeue=False)  # exit code 75 asks the job script to queue it again
        elif "LOCAL_RANK" in env and "WORLD_SIZE" in env:  # `Processes.start`
            found = LightningEnvironment()
            found.set_world_size(int(env["WORLD_SIZE"]))
            found.set_global_rank(int(env["LOCAL_RANK"]))
        else:
            return None
        return found if found.world_size() > 1 and found.global_rank() >= 0 else None
    except (KeyError, ValueError, RuntimeError) as error:  # Lightning wants --ntasks-per-node of SLURM
        raise UserError(
            f"the environment of a run on several devices cannot be read: {type(error).__name__} {error}; expected "
            "RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT as torchrun sets them, or those of srun"
        ) from error


class Processes:
    """The processes that train one run, seen from rank 0, which tells the others what to train.

    Args:
        settings: the group `trainer`.
        environment: of processes that torchrun or SLURM started; None where `start` will.

    Attributes:
        on_loss: called with the reason before this process ends because another one died.
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
        """Start the others on this machine, where nobody did, and meet them."""
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
        """Let the others begin with `task`, or go home without one."""
        dist.broadcast_object_list([task], 0)

    def reason_of(self, error: BaseException) -> str | None:
        """Why the run cannot go on, where `error` tells of another process's end; None where it is this one's own."""
        words = ("Connection closed", "Connection reset", "Broken pipe", "gloo", "NCCL")
        if not isinstance(error, dist.DistError) and not any(word in str(error) for word in words):
            return None
        until = time.monotonic() + _GRACE_S / 2
        while self._lost is None and self.children and time.monotonic() < until:
            time.sleep(0.1)
        return self._lost or f"another process of the run ended ({str(error).splitlines()[0]})"

    def end(self) -> None:
        """Leave the group and wait for the processes that this one started; those that take too long are killed."""
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
        """End this process where another died and the main thread waits for it in a collective call (NCCL)."""
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
    """Make the process group: gloo between CPUs, NCCL between GPUs.

    Raises:
        UserError: rank 0 cannot be reached.
    """
    rank, world = environment.global_rank(), environment.world_size()
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    try:
        store, rank, world = next(dist.rendezvous("env://", rank, world, timeout=ARRIVAL))
    except (RuntimeError, dist.DistError) as error:
        raise UserError(
            f"rank {rank} of {world} cannot meet the others at {environment.main_address}:{environment.main_port} "
            f"({str(error).splitlines()[0]}). Set MASTER_ADDR to a name of the first machine that all others can "
            "reach, and MASTER_PORT to a port that is free there"
        ) from error
    store.set_timeout(PATIENCE)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)


def disconnect() -> None:
    """Leave the process group, if there is one; from here on every process works alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def check_started(environment: ClusterEnvironment, settings: TrainerSettings, sweep: bool) -> None:
    """Raise a UserError if torchrun or SLURM started other processes than `settings` ask for."""
    starter = "torchrun" if isinstance(environment, TorchElasticEnvironment) else "SLURM"
    world, wanted = environment.world_size(), settings.devices * settings.num_nodes
    if world != wanted:
        raise UserError(
            f"{starter} started {world} processes, but trainer.devices={settings.devices} and trainer.num_nodes="
            f"{settings.num_nodes} ask for {wanted}; expected as many as the options say"
        )
    if sweep:
        raise UserError(
            f"{starter} started {world} processes: a sweep (-m) cannot be worked off like that; expected to be started "
            f"without {starter}, every run then starts its own processes on this machine"
        )


@contextlib.contextmanager
def several(settings: TrainerSettings, sweep: bool) -> Iterator[Processes | None]:
    """The processes of a run for as long as it trains; None where one is enough.

    Raises:
        UserError: other processes are there than the configuration asks for.
    """
    environment = find_environment() if dist.is_initialized() else None
    if environment is not None:
        check_started(environment, settings, sweep)
    elif settings.devices * settings.num_nodes == 1:
        yield None
        return
    elif settings.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={settings.num_nodes}: processes on other machines are started by torchrun or SLURM, "
            "and neither started this one; expected torchrun --nnodes or srun (docs/distributed.md)"
        )
    processes = Processes(settings, environment)
    try:
        yield processes
    finally:
        processes.end()


def follow(environment: ClusterEnvironment) -> None:
    """The part of every rank but 0: hear what to train, train its share of every batch, write and print nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; rank 0 answers it
    connect(environment)
    told: list[Any] = [None]
    try:
        dist.broadcast_object_list(told, 0)
        if told[0] is not None:
            train_along(environment, **told[0])
    except (RuntimeError, dist.DistError) as error:
        if isinstance(error, dist.DistError) or "Connection" in str(error):
            os._exit(1)  # rank 0 ended, and says why
        raise
    disconnect()


def train_along(
    environment: ClusterEnvironment, config: str, run: str, checkpoint: str | None, pruning: bool
) -> None:  # fmt: skip
    """Train this process's share of every batch.

    Raises:
        UserError: this machine does not see what rank 0 sees.
    """
    from omegaconf import OmegaConf
    from rich.console import Console

    from fexgan_lit.checkpoints import read_checkpoint
    from fexgan_lit.config import foreign_packages, train_settings, trust
    from fexgan_lit.result import Clock
    from fexgan_lit.runfolder import RunFolder
    from fexgan_lit.systems import build_system
    from fexgan_lit.train import check_same_data, make_callbacks, open_data, prepare_trainer
    from fexgan_lit.trainer import check_trainer

    folder, start = RunFolder(Path(run)), Path(checkpoint) if checkpoint else None
    if not (start or folder.config).is_file():
        raise UserError(
            f"{socket.gethostname()} does not see {start or folder.config}; expected the run folder on a disk that "
            "all machines share"
        )
    kept: Any = OmegaConf.create(config)
    trust(foreign_packages(OmegaConf.to_container(kept)))  # rank 0 does
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
