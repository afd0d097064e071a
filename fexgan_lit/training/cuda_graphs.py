"""`trainer.cuda_graphs`: capture an iteration once as a CUDA graph and replay it.

An iteration of a small network consists of hundreds of short kernels, and the GPU waits for the host to launch them. A
graph launches all of them at once. Values that Python computes during the capture are frozen. Therefore values that
change in every iteration are kept on the device (learning rates, the weight of the moving average, Adam's step counts,
the batch), and each value of those that change rarely (`GraphCapturable.graph_key`) gets its own graph.
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

#: Eager rounds of n_critic before the first capture: optimizers create their state, cuDNN chooses its kernels.
WARM_UP = 3


class Recorder(Protocol):
    """Captures iterations: `CudaRecorder`, or a substitute for tests without a GPU."""

    def eagerly(self, task: Callable[[], Losses]) -> Losses:
        """Run an iteration eagerly on the stream used for captures."""
        ...

    def record(self, task: Callable[[], Losses]) -> tuple[Losses, Callable[[], None]]:
        """Capture an iteration without computing it; return its loss tensors and a function that fills them."""
        ...


class CudaRecorder:
    """Captures CUDA graphs on a separate stream with a shared memory pool."""

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
    """One captured iteration.

    Attributes:
        batch: input tensors; the pairs of each iteration are copied into them.
        losses: output tensors.
        replay: computes the iteration.
    """

    batch: PairBatch
    losses: Losses
    replay: Callable[[], None]

    def feed(self, batch: PairBatch) -> None:
        """Copy the pairs of the next iteration into the input tensors."""
        names = [field.name for field in fields(batch)]
        pairs = [(getattr(self.batch, name), getattr(batch, name)) for name in names]
        for kept, new in pairs:
            if kept is not None:
                kept.copy_(new, non_blocking=True)


class CUDAGraphStrategy(SingleDeviceStrategy):
    """Strategy for one GPU that runs the first iterations, and the first of each kind, eagerly, then captured graphs.

    A replay replaces the step in `optimizer_step`, so that Lightning counts it as one step in `trainer.global_step`.

    Args:
        device: the GPU.
        say: called once with the reason if an iteration cannot be captured; training then continues without graphs.
        recorder: captures iterations; None takes a `CudaRecorder`.
    """

    def __init__(self, device: torch.device, say: Callable[[str], None], recorder: Recorder | None = None) -> None:
        super().__init__(device)
        self.say = say
        self.recorder: Recorder = recorder or CudaRecorder(device)
        self._plain: float | None = None  # eager iterations left
        self._seen: set[Hashable] = set()
        self._recordings: dict[Hashable, Recording] = {}
        self._replaying: Recording | None = None

    def training_step(self, batch: PairBatch, batch_idx: int) -> Losses:
        """Run one iteration on B pairs on the device; the next iteration overwrites the returned losses."""
        system: Any = self.lightning_module

        def step() -> Losses:
            return super(CUDAGraphStrategy, self).training_step(batch, batch_idx)  # type: ignore[return-value]

        if self._plain is None:
            self._plain = WARM_UP * getattr(system.optimizer_settings, "n_critic", 1)
        key = (len(batch), *system.graph_key())
        if self._plain or key not in self._seen:  # first calls compile or choose kernels, which no graph captures
            self._plain = max(0, self._plain - 1)
            self._seen.add(key)
            return self.recorder.eagerly(step)
        if not self._recordings:
            for optimizer in self.optimizers:  # there are no optimizers before the first iteration
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
        (optimizers[0] if isinstance(optimizers, list) else optimizers).step()  # counts; optimizer_step replays
        return recording.losses

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> Any:  # fmt: skip
        """Replay the whole iteration if a recording is pending; else step."""
        if self._replaying is None:
            return super().optimizer_step(optimizer, closure, model, **kwargs)
        recording, self._replaying = self._replaying, None
        return recording.replay()

    def _recording_of(self, key: Hashable, batch: PairBatch, batch_idx: int) -> Recording | None:
        """Return the recording for `key`, captured now if it is new; None if the capture fails."""
        system: Any = self.lightning_module
        if key not in self._recordings:
            try:
                self._recordings[key] = self._record(batch, batch_idx)
            except RuntimeError as error:
                system.zero_grad(set_to_none=True)  # gradients that were captured but never computed
                plain_groups([{"param_groups": optimizer.param_groups} for optimizer in self.optimizers])
                self.say(
                    f"nothing: the iteration cannot be captured ({str(error).splitlines()[0]}); continuing without"
                )
        return self._recordings.get(key)

    def _record(self, batch: PairBatch, batch_idx: int) -> Recording:
        """Capture the present iteration without changing weights or the iteration count."""
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
    """Move an optimizer's learning rates and step counts to `device`, where a graph can read them.

    `LambdaLR` then sets a learning rate by filling its tensor.
    """
    for group in optimizer.param_groups:
        group["capturable"] = device.type == "cuda"
        group["lr"] = torch.tensor(float(group["lr"]), device=device)


def why_not_captured(system: ExpressionSystem, device: torch.device, world: int) -> str | None:
    """Return why the iterations of `system` cannot be captured, or None if they can."""
    if device.type != "cuda":
        return f"CUDA graphs need an NVIDIA GPU, but the device is {device}"
    if world > 1:
        return "the averaging of gradients over several devices cannot be captured"
    if not isinstance(system, GraphCapturable):
        return (
            f"{system.settings.name} lacks graph_key() and update_graph_inputs(), so its iteration cannot be captured"
        )
    return None
