"""`trainer.cuda_graphs`: an iteration captured once as a CUDA graph and replayed, so that the host launches nothing.

An iteration of a small network is hundreds of short kernels, and a GPU waits for the host to launch them. A graph
launches all of them at once. It freezes whatever Python computed while it was captured: numbers that change from
iteration to iteration live on the device instead (learning rates, the moving average's weight, Adam's counts, the
batch), and every value of the few that change now and then (`GraphCapturable.graph_key`) gets a graph of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim import Optimizer

from fexgan_lit.systems.base import GraphCapturable
from fexgan_lit.systems.optimizers import plain_groups

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.systems.base import ExpressionSystem

Losses = dict[str, Tensor]

#: Rounds of n_critic that are run as they are: optimizers make their moments, cuDNN chooses its kernels.
WARM_UP = 3


class Recorder(Protocol):
    """What captures; `CudaRecorder`, or a stand-in where there is no GPU to try it on."""

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


class CUDAGraphStrategy(SingleDeviceStrategy):
    """Runs training steps on one GPU: the first iterations of all and of a kind as they are, then captured graphs.

    A replay is one optimizer step to Lightning: it takes the place of the step in `optimizer_step`, so that
    `trainer.global_step` counts the iteration.

    Args:
        device: the GPU.
        say: called once if an iteration cannot be captured, with the reason; the run then goes on without.
        recorder: captures and runs; `CudaRecorder` where None.
    """

    def __init__(self, device: torch.device, say: Callable[[str], None], recorder: Recorder | None = None) -> None:
        super().__init__(device)
        self.say = say
        self.recorder: Recorder = recorder or CudaRecorder(device)
        self._plain: float | None = None  # iterations that are still run as they are
        self._seen: set[Hashable] = set()
        self._recordings: dict[Hashable, Recording] = {}
        self._replaying: Recording | None = None

    def training_step(self, batch: PairBatch, batch_idx: int) -> Losses:
        """One iteration of B pairs, all on the device; the losses are overwritten by the next."""
        system: Any = self.lightning_module

        def step() -> Losses:
            return super(CUDAGraphStrategy, self).training_step(batch, batch_idx)  # type: ignore[return-value]

        if self._plain is None:
            self._plain = WARM_UP * getattr(system.optimizer_settings, "n_critic", 1)
        key = (len(batch), *system.graph_key())
        if self._plain or key not in self._seen:  # what is compiled or chosen at a first time cannot be captured
            self._plain = max(0, self._plain - 1)
            self._seen.add(key)
            return self.recorder.eagerly(step)
        if not self._recordings:
            for optimizer in self.optimizers:  # there are none before the first iteration
                move_to_device(optimizer, system.device)
        recording = self._recording_of(key, batch, batch_idx)
        if recording is None:
            self._plain = math.inf
            return self.recorder.eagerly(step)
        recording.feed(batch)
        system.seed_iteration()
        system.update_graph_inputs(len(batch))
        self._replaying = recording
        optimizers = system.optimizers()
        (optimizers[0] if isinstance(optimizers, list) else optimizers).step()  # counts, and replays below
        return recording.losses

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> Any:  # fmt: skip
        """Replay the whole iteration, if one is to be replayed; else step."""
        if self._replaying is None:
            return super().optimizer_step(optimizer, closure, model, **kwargs)
        recording, self._replaying = self._replaying, None
        return recording.replay()

    def _recording_of(self, key: Hashable, batch: PairBatch, batch_idx: int) -> Recording | None:
        """The recording of an iteration like the one at hand, made now if need be; None where it cannot be made."""
        system: Any = self.lightning_module
        if key not in self._recordings:
            try:
                self._recordings[key] = self._record(batch, batch_idx)
            except RuntimeError as error:
                system.zero_grad(set_to_none=True)  # of what was begun and never computed
                plain_groups([{"param_groups": optimizer.param_groups} for optimizer in self.optimizers])
                self.say(f"nothing: the iteration cannot be captured ({str(error).splitlines()[0]}); going on without")
        return self._recordings.get(key)

    def _record(self, batch: PairBatch, batch_idx: int) -> Recording:
        """Capture the iteration at hand; nothing moves, neither weights nor the count of iterations."""
        kept, system = batch.copy(), cast(Any, self.lightning_module)
        system.update_graph_inputs(len(batch))
        step = super().training_step
        system.capturing = True
        try:
            losses, replay = self.recorder.record(lambda: step(kept, batch_idx))  # type: ignore[arg-type, return-value]
        finally:
            system.capturing = False
        return Recording(kept, losses, replay)


def move_to_device(optimizer: Optimizer, device: torch.device) -> None:
    """Keep an optimizer's rates and counts of steps on `device`, where a recording can read them.

    `LambdaLR` sets a rate from then on by filling it.
    """
    for group in optimizer.param_groups:
        group["capturable"] = device.type == "cuda"
        group["lr"] = torch.tensor(float(group["lr"]), device=device)


def why_not_captured(system: ExpressionSystem, device: torch.device, world: int) -> str | None:
    """Why the iterations of `system` cannot be captured, or None where they can."""
    if device.type != "cuda":
        return f"CUDA graphs need an NVIDIA GPU, the device is {device}"
    if world > 1:
        return "several devices average their gradients between two steps, which is not captured"
    if not isinstance(system, GraphCapturable):
        return (
            f"{system.settings.name} lacks graph_key() and update_graph_inputs(), so its iteration cannot be captured"
        )
    return None
