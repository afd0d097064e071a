"""The base classes of systems with a generator and its moving average, without and with discriminators."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fexgan_lit.systems.base import ExpressionSystem
from fexgan_lit.systems.losses import binary_cross_entropy
from fexgan_lit.systems.optimizers import AdamSettings, DualOptimizerSettings, dual_adam

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.systems.layers import PatchDiscriminator


Network = TypeVar("Network", bound=nn.Module)


#: Largest number of elements for which launching a separate GPU kernel costs more than the work itself.
SMALL = 1 << 16


def frozen_copy(network: Network) -> Network:
    """Return a copy of `network` in evaluation mode without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def ema_decay(batch: int, half_life_images: float, images_seen: int, ramp_up: float = 0.05) -> float:
    """Return the weight of the old average in one update.

    Args:
        batch: number of images in this update.
        half_life_images: number of images after which an old weight counts half; 0 makes the average equal the network.
        images_seen: number of images before this update; the half-life never exceeds `ramp_up` times this number.
        ramp_up: see `images_seen`; 0 disables the ramp.
    """
    if ramp_up > 0:
        half_life_images = min(half_life_images, images_seen * ramp_up)
    return 0.5 ** (batch / half_life_images) if half_life_images > 0 else 0.0


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float | Tensor) -> None:
    """Move the parameters of `average` towards `network`, and copy the buffers (batch-norm statistics).

    Args:
        average: the moving average; it keeps the fraction `decay` of itself.
        network: the trained network.
        decay: a number, or a tensor () on the networks' device that a captured CUDA graph reads.
    """
    if isinstance(decay, Tensor):
        lerp_by(list(zip(average.parameters(), network.parameters(), strict=True)), 1.0 - decay)
    else:
        get_ema_multi_avg_fn(decay)(list(average.parameters()), list(network.parameters()), None)
    buffers = list(zip(average.buffers(), network.buffers(), strict=True))
    for kind in {old.dtype for old, _ in buffers}:  # one kernel copies all buffers of one dtype
        copy_all(*apart([pair for pair in buffers if pair[0].dtype == kind]))


def lerp_by(pairs: list[tuple[Tensor, Tensor]], weight: Tensor) -> None:
    """Interpolate the first tensor of each pair towards the second by `weight` (), a tensor on the same device.

    torch has no such call for many tensors at once. A separate kernel takes a microsecond on a GPU however small the
    tensor is, so all small tensors share three kernels, which are private functions of torch; without them each tensor
    has its own kernel.
    """
    private = all(hasattr(torch, f"_foreach_{name}") for name in ("sub", "mul_", "add_"))
    limit = SMALL if private else -1
    for old, new in pairs:
        if old.numel() > limit:
            old.lerp_(new, weight)
    if small := [pair for pair in pairs if pair[0].numel() <= limit]:
        olds, latest = apart(small)
        steps = torch._foreach_sub(latest, olds)
        torch._foreach_mul_(steps, weight)
        torch._foreach_add_(olds, steps)


def copy_all(olds: list[Tensor], latest: list[Tensor]) -> None:
    """Copy `latest` into `olds`, in one kernel if torch has its private function for that."""
    together = getattr(torch, "_foreach_copy_", None)
    if together is not None:
        together(olds, latest)
        return
    for old, new in zip(olds, latest, strict=True):
        old.copy_(new)


def apart(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Split pairs into the list of first and the list of second tensors."""
    return [first for first, _ in pairs], [second for _, second in pairs]


class MovingAverageSystem(ExpressionSystem):
    """Base class of systems with a generator and its moving average; optimizer 0 is the generator's.

    Attributes:
        generator: the trained generator.
        average: moving average of the generator, which all public methods use.
        optimizer_settings: learning rates, clipping and half-life of the average.
    """

    generator: nn.Module
    average: nn.Module
    optimizer_settings: AdamSettings
    #: weight () of the old average in the next iteration, on the device; None unless a CUDA graph is captured
    _kept: Tensor | None = None

    def graph_key(self) -> tuple[Hashable, ...]:
        """See `GraphCapturable`; nothing that a step reads changes."""
        return ()

    def update_graph_inputs(self, images: int) -> None:
        """See `GraphCapturable`."""
        if self._kept is None:
            self._kept = torch.zeros((), device=self.device)
        self._kept.fill_(self._decay(images))

    def train(self, mode: bool = True) -> MovingAverageSystem:
        """Set the mode as in torch, but keep the moving average in evaluation mode."""
        super().train(mode)
        self.average.eval()
        return self

    def compilable_networks(self) -> dict[str, nn.Module]:
        """Return the generator; a discriminator's graph serves its own loss and the generator's."""
        return {"generator": self.generator}

    def accumulate(
        self, batch: PairBatch, gradients: Callable[[PairBatch, float], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Accumulate the gradients of a batch over parts of at most `micro_batch` pairs.

        The result is the gradient of the whole batch for losses that are means over pairs. Batch norm computes its
        statistics per part, and dropout and noise are drawn per part.

        Args:
            batch: B pairs.
            gradients: adds the gradients of a part, scaled by the part's fraction of the batch, and returns its losses.

        Returns:
            The losses of the batch: the means over the parts, weighted by their numbers of pairs.
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

    def update_average(self, images: int) -> None:
        """Update the moving average after a batch of which this process saw `images` images."""
        kept = self._kept if self.capturing else None
        with self.timed("moving average"):
            update_ema(self.average, self.generator, self._decay(images) if kept is None else kept)

    def _decay(self, images: int) -> float:
        """Return the weight of the old average in this iteration, in which this process sees `images` images."""
        images *= self.noise.share.world
        return ema_decay(images, self.optimizer_settings.ema_half_life_images, self.iteration * images)


class GANSystem(MovingAverageSystem):
    """Base class of systems with a generator, its moving average and discriminators."""

    optimizer_settings: DualOptimizerSettings

    def graph_key(self) -> tuple[Hashable, ...]:
        """See the base class."""
        return (self.generator_is_due,)

    @property
    def generator_is_due(self) -> bool:
        """Return whether the generator is updated in this iteration."""
        return (self.iteration + 1) % self.optimizer_settings.n_critic == 0

    def step_together(self, update_generator: bool, images: int) -> None:
        """Step all optimizers, the generator's only with `update_generator`; the last step is counted."""
        last = len(self.trainer.optimizers) - 1
        for number in range(0 if update_generator else 1, last + 1):
            self.step(number, counted=number == last)
        if update_generator:
            self.update_average(images)


class PatchGAN(GANSystem):
    """A generator and a patch discriminator that learn from pairs, as pix2pix does; a subclass has `_gradients`."""

    discriminator: PatchDiscriminator
    optimizer_class = DualOptimizerSettings
    whole_batch_reason = ""

    def configure_optimizers(self) -> Any:
        """Return Adam for the generator and Adam for the discriminator."""
        fused = self.device.type in ("cpu", "cuda")
        networks = self.generator, self.discriminator
        return self.with_schedule(dual_adam(*networks, self.optimizer_settings, fused, self.adam))

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Run one iteration: one forward pass of the generator, and both gradients before either step."""
        self.seed_iteration()
        losses = self.accumulate(batch, self._gradients)
        self.step_together(self.generator_is_due, len(batch))
        return losses

    @abstractmethod
    def _gradients(self, batch: PairBatch, share: float) -> dict[str, Tensor]:
        """Add the gradients of both losses, scaled by `share`, to the networks; return losses and parts."""

    def backpropagate(
        self, loss_g: Tensor, on_real: Tensor, on_fake: Tensor, parts: dict[str, Tensor], share: float
    ) -> dict[str, Tensor]:  # fmt: skip
        """Add the gradients of both losses, and return the losses with the generator's `parts`.

        Args:
            loss_g: loss of the generator.
            on_real: logits of the discriminator for real images.
            on_fake: logits of the discriminator for generated images.
            parts: parts of `loss_g`, for the log.
            share: factor on the gradients.
        """
        # halved, as in pix2pix, so that the discriminator learns more slowly than the generator
        loss_d = 0.5 * (binary_cross_entropy(on_real, real=True) + binary_cross_entropy(on_fake, real=False))
        if self.generator_is_due:
            self.backward_into(self.generator, share * loss_g, retain_graph=True)
        self.backward_into(self.discriminator, share * loss_d)
        return {name: loss.detach() for name, loss in {"generator": loss_g, "discriminator": loss_d, **parts}.items()}

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the moving average as the generator, and the discriminator."""
        return {"generator": self.average, "discriminator": self.discriminator}
