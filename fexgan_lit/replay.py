"""`trainer.cuda_graphs`: an iteration recorded once as a CUDA graph and replayed, so that the host launches nothing.

An iteration of a small network is hundreds of short kernels, and a GPU waits for the host to launch them. A recording
launches all of them at once. It freezes whatever Python computed while it was made: numbers that change from iteration
to iteration live on the device instead (learning rates, the moving average's weight, Adam's counts, the batch), and of
the few that change now and then (`ExpressionSystem.frozen`) every value gets a recording of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from fexgan_lit.systems.optimisers import plain_groups

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.systems.base import ExpressionSystem

Losses = dict[str, Tensor]
Step = Callable[["PairBatch", int], Losses]

#: Rounds of n_critic that are run as they are: optimizers make their moments, cuDNN chooses its kernels.
WARM_UP = 3


class Recorder(Protocol):
    """What records; `CudaRecorder`, or a stand-in where there is no GPU to try it on."""

    def eagerly(self, task: Callable[[], Losses]) -> Losses:
        """Run an iteration as it is, where recordings will be made."""
        ...

    def record(self, task: Callable[[], Losses]) -> tuple[Losses, Callable[[], None]]:
        """Record an iteration without computing anything: the losses that each call of the second part will fill."""
        ...


class CudaRecorder:
    """CUDA graphs on a stream of their own, which share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def eagerly(self, task: Callable[[], Losses]) -> Losses:
        """See `Recorder`."""
        before = torch.cuda.current_stream()
        self.stream.wait_stream(before)
        with torch.cuda.stream(self.stream):
            losses = task()
        before.wait_stream(self.stream)
        return losses

    def record(self, task: Callable[[], Losses]) -> tuple[Losses, Callable[[], None]]:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            losses = task()
        return losses, graph.replay


@dataclass
class Recording:
    """One recorded iteration.

    Attributes:
        batch: the tensors it reads; the pairs of an iteration are copied into them.
        losses: the tensors it fills.
        replay: computes it.
    """

    batch: PairBatch
    losses: Losses
    replay: Callable[[], None]

    def feed(self, batch: PairBatch) -> None:
        """Copy the pairs of the next iteration to where the recording reads them."""
        names = [field.name for field in fields(batch)]
        pairs = [(getattr(self.batch, name), getattr(batch, name)) for name in names]
        for kept, new in pairs:
            if kept is not None:
                kept.copy_(new, non_blocking=True)


class ReplayedStep:
    """In place of a system's training step: the first iterations of all and of a kind as they are, then recordings.

    Args:
        system: whose step it is.
        step: its training step.
        recorder: records and runs.
        trainer: whose optimizers' rates and counts go to the device.
        say: told once if an iteration cannot be recorded, and why; the run then goes on without.
    """

    def __init__(
        self, system: ExpressionSystem, step: Step, recorder: Recorder, trainer: Trainer, say: Callable[[str], None]
    ) -> None:
        self.system, self.step, self.recorder, self.trainer, self.say = system, step, recorder, trainer, say
        n_critic = getattr(getattr(system, "optimizer_settings", None), "n_critic", 1)
        self._plain: float = WARM_UP * n_critic
        self._seen: set[Hashable] = set()
        self._recordings: dict[Hashable, Recording] = {}

    def training_step(self, batch: PairBatch, batch_idx: int) -> Losses:
        """One iteration of B pairs, all on the device; the losses are overwritten by the next."""
        key = (len(batch), *self.system.frozen())
        if self._plain or key not in self._seen:  # what is compiled or chosen at a first time cannot be recorded
            self._plain = max(0, self._plain - 1)
            self._seen.add(key)
            return self.recorder.eagerly(lambda: self.step(batch, batch_idx))
        if not self._recordings:
            for optimizer in self.trainer.optimizers:  # there are none before the first iteration
                move_to_device(optimizer, self.system.device)
        recording = self._recording_of(key, batch, batch_idx)
        if recording is None:
            self._plain = math.inf
            return self.recorder.eagerly(lambda: self.step(batch, batch_idx))
        recording.feed(batch)
        self.system.seed_iteration()
        self.system.refresh(len(batch))
        recording.replay()
        self.system.iteration += 1
        return recording.losses

    def _recording_of(self, key: Hashable, batch: PairBatch, batch_idx: int) -> Recording | None:
        """The recording of an iteration like the one at hand, made now if need be; None where it cannot be made."""
        if key not in self._recordings:
            try:
                self._recordings[key] = self._record(batch, batch_idx)
            except RuntimeError as error:
                self.system.zero_grad(set_to_none=True)  # of what was begun and never computed
                plain_groups([{"param_groups": optimizer.param_groups} for optimizer in self.trainer.optimizers])
                self.say(f"nothing: the iteration cannot be recorded ({str(error).splitlines()[0]}); going on without")
        return self._recordings.get(key)

    def _record(self, batch: PairBatch, batch_idx: int) -> Recording:
        """Record the iteration at hand; nothing moves, neither weights nor the count of iterations."""
        kept = batch.copy()
        self.system.refresh(len(batch))
        with being_recorded(self.system):
            losses, replay = self.recorder.record(lambda: self.step(kept, batch_idx))
        return Recording(kept, losses, replay)


@contextmanager
def being_recorded(system: ExpressionSystem) -> Iterator[None]:
    """Meanwhile the system seeds nothing, reads from the device what changes every time, and no iteration counts."""
    iteration, system.recorded = system.iteration, True
    try:
        yield
    finally:
        system.recorded, system.iteration = False, iteration


def move_to_device(optimizer: Optimizer, device: torch.device) -> None:
    """Keep an optimizer's rates and counts of steps on `device`, where a recording can read them.

    A rate is set from then on by filling it (`fexgan_lit.callbacks.set_rate`).
    """
    for group in optimizer.param_groups:
        group["capturable"] = device.type == "cuda"
        group["lr"] = torch.tensor(float(group["lr"]), device=device)


def why_not_replayed(system: ExpressionSystem, device: torch.device, world: int) -> str | None:
    """Why the iterations of `system` cannot be recorded, or None where they can."""
    if device.type != "cuda":
        return f"CUDA graphs need an NVIDIA GPU, the device is {device}"
    if world > 1:
        return "several devices average their gradients between two steps, which is not recorded"
    if not system.replayable:
        return f"{system.settings.name} does not say that its iteration can be recorded"
    return None
