"""AttGAN (He et al. 2019, arXiv 1711.10678): an autoencoder whose code is told the attributes; here they are affects.

The paper of LGP-GAN compares with it. Unlike StarGAN it has no cycle: an image is reconstructed with its own affect,
and with another one it only has to convince the critic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.systems.layers import TORCH_LEAKY_SLOPE, WIDTH, scaled, tiled
from fexgan_lit.systems.losses import absolute_difference, categorical_cross_entropy
from fexgan_lit.systems.wgan import AffectTranslation
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch


@dataclass
class AttGANSettings(Options):
    """Network options.

    Attributes:
        name: name of the system.
        image_size: edge length of the square images in pixels, a power of two from 32 to 512.
        width: factor on every channel count; 1 is the published size.
        affect_scale: the affects are -1/2 and 1/2 times this number for the decoder; above 1 they are exaggerated.
    """

    section = "model"

    name: str = "attgan"
    image_size: int = option(128, choices=IMAGE_SIZES)
    width: float = option(1.0, **WIDTH)
    affect_scale: float = option(1.0, above=0, at_most=10)


@dataclass
class AttGANLossSettings(Options):
    """Weights of the losses.

    Attributes:
        adversarial: of the Wasserstein terms, in both losses.
        lambda_class: of the cross-entropy of the affects of real images, for the critic.
        lambda_edit: of the cross-entropy of the affects of generated images, for the generator.
        lambda_gp: of the gradient penalty.
        lambda_reconstruction: of the mean L1 distance between the source and its image with its own affect.
    """

    section = "loss"

    adversarial: float = option(1.0, at_least=0)
    lambda_class: float = option(1.0, at_least=0)
    lambda_edit: float = option(10.0, at_least=0)
    lambda_gp: float = option(10.0, at_least=0)
    lambda_reconstruction: float = option(100.0, at_least=0)


def channel_counts(settings: AttGANSettings) -> list[int]:
    """Return 64 to 1024 channels, one per convolution that halves the image; it ends with at least 4 x 4 pixels."""
    return [scaled(64 * 2**n, settings.width) for n in range(min(5, int(math.log2(settings.image_size)) - 2))]


class Generator(nn.Module):
    """Encode an image, append the affects to its code, and decode both; one skip joins the innermost scales."""

    def __init__(self, settings: AttGANSettings, affects: int) -> None:
        super().__init__()
        self.scale = settings.affect_scale
        widths = channel_counts(settings)
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(TORCH_LEAKY_SLOPE),
            )
            for inputs, outputs in zip([3, *widths], widths, strict=False)
        )
        self.decoder = nn.ModuleList()
        inputs = widths[-1] + affects
        for n, outputs in enumerate(widths[:0:-1]):
            outputs = widths[-1] if n == 0 else outputs
            self.decoder.append(nn.Sequential(
                nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ))  # fmt: skip
            inputs = outputs + (widths[-2] if n == 0 else 0)
        self.to_rgb = nn.ConvTranspose2d(inputs, 3, 4, stride=2, padding=1)

    def forward(self, image: Tensor, affect: Tensor) -> Tensor:
        """Map `image` (B, 3, S, S) in [-1, 1] and `affect` (B, K) weights to an image (B, 3, S, S) in [-1, 1]."""
        codes = []
        features = image
        for block in self.encoder:
            features = block(features)  # (B, 64, S/2, S/2), ..., (B, 1024, S/32, S/32)
            codes.append(features)
        features = tiled(features, self.scale * (affect - 0.5))  # (B, 1024 + K, S/32, S/32)
        for n, block in enumerate(self.decoder):
            features = block(features)
            if n == 0:
                features = torch.cat((features, codes[-2]), dim=1)  # (B, 1024 + 512, S/16, S/16)
        return self.to_rgb(features).float().tanh()


class Critic(nn.Module):
    """Five convolutions with instance norm and two heads of two linear layers: realness and affects."""

    def __init__(self, settings: AttGANSettings, affects: int) -> None:
        super().__init__()
        widths = channel_counts(settings)
        layers: list[nn.Module] = []
        for inputs, outputs in zip([3, *widths], widths, strict=False):
            layers += [
                nn.Conv2d(inputs, outputs, 4, stride=2, padding=1),
                nn.InstanceNorm2d(outputs, affine=True),
                nn.LeakyReLU(TORCH_LEAKY_SLOPE),
            ]
        self.blocks = nn.Sequential(*layers, nn.Flatten())
        flat, hidden = widths[-1] * (settings.image_size >> len(widths)) ** 2, scaled(1024, settings.width)
        self.realness, self.answers = (
            nn.Sequential(nn.Linear(flat, hidden), nn.LeakyReLU(TORCH_LEAKY_SLOPE), nn.Linear(hidden, outputs))
            for outputs in (1, affects)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map `image` (B, 3, S, S) in [-1, 1] to an unbounded score (B, 1, 1) and affect logits (B, K)."""
        features = self.blocks(image)
        return self.realness(features).unsqueeze(2), self.answers(features)

    def scores(self, image: Tensor) -> Tensor:
        """Return the score (B, 1, 1) alone."""
        return self.realness(self.blocks(image)).unsqueeze(2)


class AttGAN(AffectTranslation):
    """Editing between the affects of a data set by reconstruction and classification.

    Args:
        model: network options.
        loss: loss weights.
        optimizer: Adam and n_critic.
        affects: class names in index order.
        seed: seed of the random numbers in training; torch's global generator initialises the weights.
    """

    settings_class = AttGANSettings
    loss_class = AttGANLossSettings

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        K = len(self.affects)
        self.adopt(Generator(self.settings, K), Critic(self.settings, K))

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

        # Generator: the target's affect, and the source again with its own
        if self.generator_is_due:
            fake, named = self.critic(made)
            parts = {
                "adversarial": -fake.float().mean(),
                "class": categorical_cross_entropy(named, batch.target_affect),
                "reconstruction": absolute_difference(self.generator(source, shown), source),
            }
            loss_g = (
                w.adversarial * parts["adversarial"]
                + w.lambda_edit * parts["class"] + w.lambda_reconstruction * parts["reconstruction"]
            )  # fmt: skip
            self.update(self.generator, loss_g, counted=False)
            self.update_average(len(batch))
            self.keep({"generator": loss_g, **parts})
        return self.report(loss_d, parts_d)
