"""The base of systems whose generator is averaged over iterations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from fexgan_lit.systems.base import ExpressionSystem
from fexgan_lit.systems.optimizers import DualOptimizerSettings

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch


Network = TypeVar("Network", bound=nn.Module)


#: Numbers of a tensor up to which a kernel of its own costs a GPU more than the work.
SMALL = 1 << 16


def frozen_copy(network: Network) -> Network:
    """A copy of `network` in evaluation mode that takes no gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def ema_decay(batch: int, half_life_images: float, images_seen: int, ramp_up: float = 0.05) -> float:
    """Share of the old average that one update keeps.

    Args:
        batch: images in this update.
        half_life_images: images after which an old weight counts half; 0 keeps nothing (the average is the network).
        images_seen: images before this update; the half-life never exceeds `ramp_up` times this.
        ramp_up: see `images_seen`; 0 turns the ramp off.
    """
    if ramp_up > 0:
        half_life_images = min(half_life_images, images_seen * ramp_up)
    return 0.5 ** (batch / half_life_images) if half_life_images > 0 else 0.0


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float | Tensor) -> None:
    """Move the parameters of `average` towards `network`; buffers (batch-norm statistics) are taken over.

    Args:
        average: keeps `decay` of itself.
        network: what is trained.
        decay: a number, or a tensor () on the networks' device, which a recorded iteration reads.
    """
    if isinstance(decay, Tensor):
        lerp_by(list(zip(average.parameters(), network.parameters(), strict=True)), 1.0 - decay)
    else:
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - decay)
    buffers = list(zip(average.buffers(), network.buffers(), strict=True))
    for kind in {old.dtype for old, _ in buffers}:  # one kernel copies them all if they are of one kind
        olds, latest = apart([pair for pair in buffers if pair[0].dtype == kind])
        torch._foreach_copy_(olds, latest)


def lerp_by(pairs: list[tuple[Tensor, Tensor]], weight: Tensor) -> None:
    """Move the first of each pair towards the second by `weight` (), which lies on their device.

    torch has no call that does so for many tensors at once. A kernel each takes a microsecond of a GPU however small
    the tensor is, so the small ones share three.
    """
    for old, new in pairs:
        if old.numel() > SMALL:
            old.lerp_(new, weight)
    if small := [pair for pair in pairs if pair[0].numel() <= SMALL]:
        olds, latest = apart(small)
        steps = torch._foreach_sub(latest, olds)
        torch._foreach_mul_(steps, weight)
        torch._foreach_add_(olds, steps)


def apart(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """The first of every pair, and the second."""
    return [first for first, _ in pairs], [second for _, second in pairs]


class GANSystem(ExpressionSystem):
    """A generator with a moving average, and discriminators; the generator's optimizer is the first.

    Attributes:
        generator: what is trained.
        average: its moving average, which all public methods use.
        optimizer_settings: rates, clipping, and how far the average looks back.
    """

    generator: nn.Module
    average: nn.Module
    optimizer_settings: DualOptimizerSettings
    #: share of the old average that the iteration to come keeps, (), on the device; None where no graph is captured
    _kept: Tensor | None = None

    def graph_key(self) -> tuple[Hashable, ...]:
        """See the base class."""
        return (self.generator_is_due,)

    def update_graph_inputs(self, images: int) -> None:
        """See the base class."""
        if self._kept is None:
            self._kept = torch.zeros((), device=self.device)
        self._kept.fill_(self._decay(images))

    @property
    def generator_is_due(self) -> bool:
        """Whether the generator moves in this iteration."""
        return (self.iteration + 1) % self.optimizer_settings.n_critic == 0

    def train(self, mode: bool = True) -> GANSystem:
        """As in torch, but the moving average always stays in evaluation mode."""
        super().train(mode)
        self.average.eval()
        return self

    def compilable_networks(self) -> dict[str, nn.Module]:
        """The generator; a discriminator's graph serves its own loss and the generator's."""
        return {"generator": self.generator}

    def accumulate(
        self, batch: PairBatch, gradients: Callable[[PairBatch, float], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Work off a batch in parts of at most `micro_batch` pairs before any optimizer steps.

        Losses that are means over their pairs give the gradient of the whole batch that way. Batch norm takes its
        statistics from a part alone, and dropout and noise are drawn part by part.

        Args:
            batch: B pairs.
            gradients: adds the gradients of a part, times its share of the batch, and gives the losses of that part.

        Returns:
            the losses of the batch: the means of those of its parts, weighted by their pairs.
        """
        parts = batch.parts(self.micro_batch)
        if len(parts) == 1:
            return gradients(batch, 1.0)
        means: dict[str, Tensor] = {}
        for part in parts:
            share = len(part) / len(batch)
            for name, loss in gradients(part, share).items():
                means[name] = means.get(name, torch.zeros_like(loss)) + share * loss
        return means

    def backward_into(self, network: nn.Module, loss: Tensor, retain_graph: bool = False) -> None:
        """Add the gradient of `loss` to the weights of `network` alone."""
        name = next((name for name, child in self.named_children() if child is network), type(network).__name__)
        with self.timed(f"{name} backward"):
            self.manual_backward(loss, inputs=list(network.parameters()), retain_graph=retain_graph)

    def step_together(self, update_generator: bool, images: int) -> None:
        """Step the networks, the generator where it is due with its average after it; the last step is counted."""
        last = len(self.trainer.optimizers) - 1
        for number in range(0 if update_generator else 1, last + 1):
            self.step(number, counted=number == last)
        if update_generator:
            self.update_average(images)

    def update_average(self, images: int) -> None:
        """Let the moving average follow the generator by a batch, `images` of it seen by this process."""
        kept = self._kept if self.capturing else None
        with self.timed("moving average"):
            update_ema(self.average, self.generator, self._decay(images) if kept is None else kept)

    def _decay(self, images: int) -> float:
        """Share of the old average that the iteration at hand keeps, `images` of it seen by this process."""
        images *= self.noise.share.world
        return ema_decay(images, self.optimizer_settings.ema_half_life_images, self.iteration * images)
