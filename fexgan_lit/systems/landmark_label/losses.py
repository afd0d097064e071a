"""Equations 4 to 7 of the paper."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fexgan_lit.systems.losses import absolute_difference, binary_cross_entropy
from fexgan_lit.utils.options import Options, option

#: A loss as its total and its named, unweighted parts.
Loss = tuple[Tensor, dict[str, Tensor]]


@dataclass
class LandmarkLabelLossSettings(Options):
    """Weights of equation 7, which the paper chose from {1, 5, 10}.

    Attributes:
        adversarial: weight of the adversarial loss of both discriminators, equation 4.
        perceptual: weight of the perceptual loss, equation 6; 0 needs no perceptual network.
        pixel: weight of the pixel loss, equation 5.
        pixel_channels: `sum` divides equation 5 by height and width only, `mean` also by the three colours.
    """

    section = "loss"

    adversarial: float = option(5.0, at_least=0)
    perceptual: float = option(10.0, at_least=0)
    pixel: float = option(10.0, at_least=0)
    pixel_channels: str = option("sum", choices=("sum", "mean"))


def adversarial_loss(image_on_fake: Tensor, geometry_on_fake: Tensor) -> Loss:
    """Return the non-saturating equation 4 for the generator: -log D(fake), averaged over the two discriminators.

    Both arguments are patch logits (B, 1, p, p) of the generated images.
    """
    parts = {
        "adversarial_image": binary_cross_entropy(image_on_fake, real=True),
        "adversarial_geometry": binary_cross_entropy(geometry_on_fake, real=True),
    }
    return 0.5 * (parts["adversarial_image"] + parts["adversarial_geometry"]), parts


def discriminator_loss(on_real: Tensor, on_fake: Tensor) -> Tensor:
    """Return equation 4 for one discriminator: -log D(real) - log(1 - D(fake)), averaged over patches and batch."""
    return binary_cross_entropy(on_real, real=True) + binary_cross_entropy(on_fake, real=False)


def pixel_loss(generated: Tensor, wanted: Tensor, channels: str = "sum") -> Tensor:
    """Return equation 5: 1 / (H W) sum |P^ - P| of images (B, 3, H, W), averaged over the batch.

    `channels="mean"` also divides by the three colours.
    """
    return absolute_difference(generated, wanted) * (generated.shape[1] if channels == "sum" else 1)


def perceptual_loss(generated: Tensor, wanted: Tensor) -> Tensor:
    """Return equation 6: 1 / (W_l H_l C_l) sum |phi(P^) - phi(P)| of features (B, C_l, H_l, W_l), mean over B."""
    return absolute_difference(generated, wanted)


def generator_loss(adversarial: Tensor, perceptual: Tensor, pixel: Tensor, w: LandmarkLabelLossSettings) -> Tensor:
    """Return equation 7: the weighted sum of equations 4, 6 and 5."""
    return w.adversarial * adversarial + w.perceptual * perceptual + w.pixel * pixel
