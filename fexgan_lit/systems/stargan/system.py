"""StarGAN: one generator for all affects, a WGAN-GP critic that classifies affects, and a cycle loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fexgan_lit.systems.layers import PatchCritic, TranslationTrunk, scaled
from fexgan_lit.systems.losses import absolute_difference, categorical_cross_entropy
from fexgan_lit.systems.wgan import AffectTranslation, TranslationSettings, WassersteinOptimizerSettings
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch


@dataclass
class StarGANSettings(TranslationSettings):
    """The networks; see `TranslationSettings`.

    Attributes:
        add_input: the generator's output is added to its input, as in US-GAN.
    """

    name: str = "stargan"
    add_input: bool = False


@dataclass
class StarGANLossSettings(Options):
    """Weights of the losses.

    Attributes:
        adversarial: of the Wasserstein terms, in both losses.
        lambda_class: of the cross-entropy of the affects, in both losses.
        lambda_gp: of the gradient penalty.
        lambda_cycle: of the mean L1 distance between the source and its way there and back.
        pixel: of the mean L1 distance to the true target, which StarGAN does not have; above 0 only for paired frames.
    """

    section = "loss"

    adversarial: float = option(1.0, at_least=0)
    lambda_class: float = option(1.0, at_least=0)
    lambda_gp: float = option(10.0, at_least=0)
    lambda_cycle: float = option(10.0, at_least=0)
    pixel: float = option(0.0, at_least=0)


class Generator(nn.Module):
    """Translate an image to a target affect."""

    def __init__(self, settings: StarGANSettings, affects: int) -> None:
        super().__init__()
        s = settings
        self.add_input = s.add_input
        self.trunk = TranslationTrunk(3, affects, s.width, s.residual_blocks, s.film)
        self.to_rgb = nn.Conv2d(scaled(64, s.width), 3, 7, padding=3, bias=False)

    def forward(self, image: Tensor, affect: Tensor) -> Tensor:
        """Map `image` (B, 3, S, S) in [-1, 1] and `affect` (B, K) weights to an image (B, 3, S, S) in [-1, 1].

        With `add_input` the image of the training is in [-2, 2]: clamped pixels would have no gradient.
        """
        painted = self.to_rgb(self.trunk(image, affect)).float().tanh()
        if not self.add_input:
            return painted
        return image + painted if self.training else (image + painted).clamp(-1, 1)


class StarGAN(AffectTranslation):
    """Unpaired translation between the affects of a data set.

    Args:
        model: network options.
        loss: loss weights.
        optimizer: Adam and n_critic.
        affects: class names in index order.
        seed: seed of the random numbers in training; torch's global generator initialises the weights.
    """

    settings_class = StarGANSettings
    loss_class = StarGANLossSettings

    def __init__(
        self,
        model: StarGANSettings,
        loss: StarGANLossSettings,
        optimizer: WassersteinOptimizerSettings,
        affects: Sequence[str],
        seed: int = 0,
    ) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        K = len(self.affects)
        self.adopt(Generator(self.settings, K), PatchCritic(self.image_size, K, self.settings.width))

    def training_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Tensor]:
        """Run one iteration: update the critic and, in every n-th iteration, the generator."""
        self.seed_iteration()
        w, K, source = self.loss_weights, len(self.affects), batch.source
        shown, wanted = batch.source_expression(K).affect, batch.target_expression(K).affect
        with torch.set_grad_enabled(self.generator_is_due):
            made = self.generator(source, wanted)

        # Critic: Wasserstein loss, affects of the real images, gradient penalty
        loss_d, parts_d = self.critic_loss(self.critic, source, made, batch.source_affect)
        self.update(self.critic, loss_d, counted=True)

        # Generator: target affects, and back to the source
        if self.generator_is_due:
            fake, named = self.critic(made)
            parts = {
                "adversarial": -fake.float().mean(),
                "class": categorical_cross_entropy(named, batch.target_affect),
                "cycle": absolute_difference(self.generator(made, shown), source),
            }
            loss_g = (
                w.adversarial * parts["adversarial"] + w.lambda_class * parts["class"] + w.lambda_cycle * parts["cycle"]
            )
            if w.pixel:  # without it the target may show anyone
                parts["pixel"] = absolute_difference(made, batch.target)
                loss_g = loss_g + w.pixel * parts["pixel"]
            self.update(self.generator, loss_g, counted=False)
            self.update_average(len(batch))
            self.keep({"generator": loss_g, **parts})
        return self.report(loss_d, parts_d)
