"""The Lightning trainer of a run: device, precision, and the stream of iterations it is fed with."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment

from fexgan_lit.cores import cores
from fexgan_lit.distributed.averaging import GradientAveraging
from fexgan_lit.errors import UserError
from fexgan_lit.memory import keep_freed_memory

if TYPE_CHECKING:
    from fexgan_lit.config import TrainerSettings
    from fexgan_lit.data.pairs import PairBatch, PairLoader
    from fexgan_lit.distributed.place import Place
    from fexgan_lit.systems.base import ExpressionSystem


class OneBatch:
    """A loader whose every batch is the same."""

    def __init__(self, batch: PairBatch) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return 1

    def batch(self, epoch: int, number: int) -> PairBatch:
        """The batch."""
        return self._batch


class IterationStream:
    """The batches from the system's iteration to `stop`, as one Lightning epoch; several at a time where that is asked.

    Iteration k is batch k mod E of data epoch k div E, E batches an epoch, whatever came before: a resumed run goes
    on with the pair it would have had. Counting a run as one Lightning epoch keeps every step axis in iterations and
    costs nothing between the epochs of small data sets.

    Args:
        loader: makes batch b of data epoch e.
        system: what is trained; told how long the run and an epoch are.
        stop: the first iteration that is not run.
        per_call: iterations that Lightning sees as one (`fexgan_lit.calls`); calls end where iterations divide by it.

    Attributes:
        wait_s: seconds spent making batches since `take_wait` was last called.
    """

    def __init__(self, loader: PairLoader, system: ExpressionSystem, stop: int, per_call: int = 1) -> None:
        self.loader = loader
        self.system = system
        system.batches_per_epoch, system.last_iteration = len(loader), stop
        self.start = system.iteration
        self.stop = stop
        self.per_call = per_call
        self.wait_s = 0.0

    def __len__(self) -> int:
        """Calls still to come: iterations, where each is a call of its own."""
        return max(0, -(-self.stop // self.per_call) - self.start // self.per_call) if self.stop > self.start else 0

    def __iter__(self) -> Iterator[PairBatch | list[PairBatch]]:
        first = self.start
        while first < self.stop:
            last = min(self.stop, (first // self.per_call + 1) * self.per_call)
            started = time.perf_counter()
            batches = [self.loader.batch(*divmod(iteration, len(self.loader))) for iteration in range(first, last)]
            self.wait_s += time.perf_counter() - started
            yield batches if self.per_call > 1 else batches[0]
            first = last

    def take_wait(self) -> float:
        """Seconds spent waiting for data since the last call."""
        waited, self.wait_s = self.wait_s, 0.0
        return waited


def resolve_precision(wanted: str, accelerator: str) -> str:
    """Lightning's name of the precision: float32 where it is asked for or where the device has no bf16 of its own."""
    return "bf16-mixed" if wanted != "float32" and native_bf16(accelerator) else "32-true"


def precision_note(wanted: str, accelerator: str) -> str | None:
    """What the user is told where the precision is not the one asked for."""
    if wanted != "bf16" or native_bf16(accelerator):
        return None
    return "trainer.precision=bf16 would be slower than float32 here, the device has it not natively: float32 instead"


def native_bf16(accelerator: str) -> bool:
    """Whether the device computes in bf16 itself; of several that `auto` could mean, the one Lightning takes."""
    device = root_device(accelerator).type
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and native_cpu_bf16()


def root_device(accelerator: str) -> torch.device:
    """The device that Lightning takes first for an accelerator."""
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator in ("auto", "mps", "gpu") and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    return torch.device("cpu")


def native_cpu_bf16() -> bool:
    """Whether this processor multiplies bf16 in hardware (AVX-512 BF16 or AMX)."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def check_trainer(settings: TrainerSettings) -> None:
    """Raise a UserError when the devices asked for are not there, or cannot do what is asked."""
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


def own_device(settings: TrainerSettings, place: Place) -> tuple[str, torch.device]:
    """Accelerator and device of one of several processes."""
    if settings.accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return "gpu", torch.device("cuda", place.local_rank)
    return "cpu", torch.device("cpu")


def training_device(settings: TrainerSettings, place: Place | None) -> torch.device:
    """The device that this process trains on, alone or as one of several."""
    return root_device(settings.accelerator) if place is None else own_device(settings, place)[1]


def make_trainer(
    settings: TrainerSettings, callbacks: list[Callback], loggers: list[Logger], folder: str, place: Place | None = None
) -> Trainer:
    """A trainer for one `IterationStream`, without Lightning's own bar, summary and checkpoints: ours replace them.

    Each of several processes, of which `place` says which this is, gets an ordinary trainer for its one device;
    `GradientAveraging` makes them train one run.
    """
    quiet_lightning()
    accelerator = settings.accelerator
    strategy: str | GradientAveraging = "auto"
    devices: int | list[int] = 1
    threads = settings.threads
    if place is not None:
        accelerator, device = own_device(settings, place)
        devices = [place.local_rank] if accelerator == "gpu" else 1
        strategy = GradientAveraging(device)
        threads = threads or max(1, cores() // place.local_world)
    if threads:
        torch.set_num_threads(threads)
    if root_device(settings.accelerator).type == "cpu":
        keep_freed_memory()
    return Trainer(
        accelerator=accelerator, devices=devices, strategy=strategy,
        plugins=[LightningEnvironment()],  # processes are counted here, not by what SLURM says
        precision=resolve_precision(settings.precision, settings.accelerator),  # type: ignore[arg-type]
        max_epochs=1, logger=loggers, callbacks=callbacks, default_root_dir=folder,
        deterministic=settings.deterministic or None, benchmark=not settings.deterministic,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        limit_val_batches=0, log_every_n_steps=settings.log_every,
    )  # fmt: skip


def quiet_lightning() -> None:
    """Leave out what Lightning says to every run; its errors and other warnings stay."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*", ".*module\\(s\\) in eval mode.*", ".*smaller than the logging interval.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*", ".*GPU available but not used.*",
        ".*Checkpoint directory .* exists and is not empty.*", ".*srun.*",
    ):  # fmt: skip
        warnings.filterwarnings("ignore", message=message)
