"""pix2pix (Isola et al. 2017, arXiv 1611.07004) with an affect: the baseline of every system that trains on pairs.

A U-Net maps the source to the target, a patch discriminator sees both beside the source and the affect, and the pixels
are compared with the true target. The paper has no condition besides the image; here the affect scales and shifts the
features of the decoder (FiLM).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.suite import ValidationOutput
from fexgan_lit.systems.base import full_precision
from fexgan_lit.systems.export import Exported, affect_input, face_input
from fexgan_lit.systems.gan import GANSystem, frozen_copy
from fexgan_lit.systems.layers import WIDTH, PatchDiscriminator, UNet, tiled
from fexgan_lit.systems.losses import absolute_difference, binary_cross_entropy
from fexgan_lit.systems.optimizers import DualOptimizerSettings, dual_adam
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch


@dataclass
class Pix2PixSettings(Options):
    """Network options.

    Attributes:
        name: name of the system.
        image_size: edge length of the square images in pixels, a power of two from 32 to 512.
        width: factor on every channel count; 1 is the paper's size.
        dropout: dropout rate of the three innermost blocks of the decoder, in training alone.
    """

    section = "model"

    name: str = "pix2pix"
    image_size: int = option(128, choices=IMAGE_SIZES)
    width: float = option(1.0, **WIDTH)
    dropout: float = option(0.5, at_least=0, below=1)


@dataclass
class Pix2PixLossSettings(Options):
    """Weights of the losses.

    Attributes:
        adversarial: of the generator's cross-entropy.
        lambda_pixel: of the mean L1 distance to the true target.
    """

    section = "loss"

    adversarial: float = option(1.0, at_least=0)
    lambda_pixel: float = option(100.0, at_least=0)


class Generator(UNet):
    """The U-Net, modulated by the affect."""

    def __init__(self, settings: Pix2PixSettings, affects: int) -> None:
        super().__init__(settings.image_size, 3, width=settings.width, dropout=settings.dropout, condition=affects)

    def forward(self, image: Tensor, affect: Tensor) -> Tensor:  # type: ignore[override]
        """Map `image` (B, 3, S, S) in [-1, 1] and `affect` (B, K) weights to an image (B, 3, S, S) in [-1, 1]."""
        return super().forward(image, affect)


class DiscriminatorPart(nn.Module):
    """The discriminator for export, with its condition as two inputs."""

    def __init__(self, discriminator: PatchDiscriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, source: Tensor, affect: Tensor, image: Tensor) -> Tensor:
        """Map `source`, `image` (B, 3, S, S) and `affect` (B, K) to logits (B, 1, p, p)."""
        return self.discriminator(tiled(source, affect), image)


class Pix2Pix(GANSystem):
    """A U-Net on pairs, with a patch discriminator on (source, affect, image) and an L1 loss.

    Args:
        model: network options.
        loss: loss weights.
        optimizer: Adam, moving average and clipping.
        affects: class names in index order.
        seed: seed of the dropout in training; torch's global generator initialises the weights.
    """

    generator: Generator
    average: Generator
    settings_class = Pix2PixSettings
    loss_class = Pix2PixLossSettings
    optimizer_class = DualOptimizerSettings
    whole_batch_reason = ""

    def __init__(self, model: Any, loss: Any, optimizer: Any, affects: Sequence[str], seed: int = 0) -> None:
        super().__init__(model, loss, optimizer, affects, seed)
        K = len(self.affects)
        self.generator = Generator(self.settings, K)
        self.discriminator = PatchDiscriminator(3 + K, self.settings.width)
        self.average = frozen_copy(self.generator)

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

    def _gradients(self, batch: PairBatch, share: float) -> dict[str, Tensor]:
        """Add the gradients of both losses, scaled by `share`, to the networks; return losses and parts."""
        w, K = self.loss_weights, len(self.affects)
        wanted = batch.target_expression(K).known["affect"]
        with torch.set_grad_enabled(self.generator_is_due):
            fake = self.generator(batch.source, wanted)
        on_real, on_fake = self.discriminator.on_both(tiled(batch.source, wanted), batch.target, fake)

        parts = {"adversarial": binary_cross_entropy(on_fake, real=True),
                 "pixel": absolute_difference(fake, batch.target)}  # fmt: skip
        loss_g = w.adversarial * parts["adversarial"] + w.lambda_pixel * parts["pixel"]
        # halved, as in the paper, so that the discriminator learns more slowly than the generator
        loss_d = 0.5 * (binary_cross_entropy(on_real, real=True) + binary_cross_entropy(on_fake, real=False))

        if self.generator_is_due:
            self.backward_into(self.generator, share * loss_g, retain_graph=True)
        self.backward_into(self.discriminator, share * loss_d)
        return {name: loss.detach() for name, loss in {"generator": loss_g, "discriminator": loss_d, **parts}.items()}

    def forward(self, source: Tensor, source_expression: Expression | None, target: Expression) -> Tensor:
        """Map `source` (B, 3, S, S) to the affects of `target`; see the base class."""
        self.check_reads(target)
        return self.average(source, target.affect)

    @full_precision
    def validation_step(self, batch: PairBatch, batch_idx: int = 0) -> ValidationOutput:  # type: ignore[override]
        """See the base class; the real image is the target, which this discriminator sees beside the source."""
        K = len(self.affects)
        wanted = batch.target_expression(K)
        generated = self.synthesize(batch.source, batch.source_expression(K), wanted)
        condition = tiled(batch.source, wanted.known["affect"])
        on_real, on_fake = (self.discriminator.realness(condition, image) for image in (batch.target, generated))
        return ValidationOutput(generated, on_real, None, on_fake, None)

    def export_modules(self) -> dict[str, Exported]:
        """See the base class."""
        face, affect = face_input(self.image_size), affect_input(self.affects)
        seen = {"source": face_input(self.image_size, "the given face"), "affect": affect, "image": face}
        made = {"face": "face with the wanted affects, RGB in [-1, 1]"}
        return {
            "generator": Exported(self.average, {"image": face, "affect": affect}, made),
            "discriminator": Exported(
                DiscriminatorPart(self.discriminator), seen, {"realness": "logits of overlapping patches"}
            ),
        }

    def saved_modules(self) -> dict[str, nn.Module]:
        """Return the moving average as the generator, and the discriminator."""
        return {"generator": self.average, "discriminator": self.discriminator}
