"""What every adversarial system does besides its losses: keep a moving average, and step its networks together."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fexgan_lit.systems.base import ExpressionSystem
from fexgan_lit.systems.ema import ema_decay, update_ema
from fexgan_lit.systems.optimisers import DualOptimizerSettings

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch


class AveragedSystem(ExpressionSystem):
    """A generator with a moving average, and discriminators; the generator's optimizer is the first.

    Attributes:
        generator: what is trained.
        average: its moving average, which all public methods use.
        optimizer_settings: rates, clipping, and how far the average looks back.
    """

    generator: nn.Module
    average: nn.Module
    optimizer_settings: DualOptimizerSettings
    supports_cuda_graphs = True
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

    def train(self, mode: bool = True) -> AveragedSystem:
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
