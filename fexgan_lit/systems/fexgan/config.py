"""Options of FExGAN and FExGAN-Meta; each default comes from a preset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fexgan_lit.data.config import IMAGE_SIZES
from fexgan_lit.systems.layers import WIDTH, scaled
from fexgan_lit.utils.options import Options, option

#: Values on which papers and published networks disagree. `code` can be checked against the released weights.
#: paper_s1 is the text of FExGAN (2201.09061), paper_s0 the text of FExGAN-Meta (2203.05975).
PRESETS: dict[str, dict[str, str]] = {
    "code": {"encoder_activation": "leaky_relu", "decoder_activation": "relu", "discriminator_activation": "leaky_relu",
             "sigma": "log_sigma", "lambda_mode": "one", "kl_reduction": "mean", "l1_reduction": "mean"},
    "paper_s1": {"encoder_activation": "relu", "decoder_activation": "leaky_relu", "discriminator_activation": "relu",
                 "sigma": "kl_literal", "lambda_mode": "normal", "kl_reduction": "sum", "l1_reduction": "sum"},
    "paper_s0": {"encoder_activation": "linear", "decoder_activation": "relu",
                 "discriminator_activation": "leaky_relu", "sigma": "logvar_head", "lambda_mode": "normal",
                 "kl_reduction": "mean", "l1_reduction": "sum"},
}  # fmt: skip

ACTIVATIONS = ("leaky_relu", "relu", "linear")


def fill_nulls(settings: Any, values: Mapping[str, str]) -> None:
    """Set every null field of the dataclass `settings` to its value in `values`, if there is one."""
    for field in fields(settings):
        if getattr(settings, field.name) is None and field.name in values:
            setattr(settings, field.name, values[field.name])


@dataclass
class FExGANSettings(Options):
    """The networks of FExGAN; a field left null takes the value of the preset.

    Attributes:
        name: which paper: `fexgan` or `fexgan_meta`.
        preset: `code` (the published networks) or `paper` (the text of the paper of that name).
        image_size: edge of the square images in pixels, a power of two from 32 to 512.
        width: factor on every channel count; 1 is the papers' size.
        latent_size: length of the latent code z.
        dropout: rate of the decoder's first three blocks, in [0, 1).
        encoder_activation: of the encoder's blocks but the last, which is linear.
        decoder_activation: of the decoder's blocks but the last, which is tanh.
        discriminator_activation: of the discriminator's blocks.
        sigma: what the second head gives. `log_sigma`: s = log sigma. `kl_literal`: the same head, but the KL takes
            it for log sigma^2. `logvar_head`: s = log sigma^2 throughout, z = mu + exp(s / 2) * eps.
        encoder_label: which affect the encoder is told: `target` (FExGAN), `source` (FExGAN-Meta) or `none`.
        lambda_mode: scale of the affect in training: `one`, `abs_normal` (|N(0, 1)|) or `normal` (N(0, 1)) a sample.
    """

    section = "model"

    name: str = "fexgan"
    preset: str = option("code", choices=("code", "paper"))
    image_size: int = option(128, choices=IMAGE_SIZES)
    width: float = option(1.0, **WIDTH)
    latent_size: int = option(128, at_least=1, at_most=65536)
    dropout: float = option(0.5, "a rate in [0, 1)", at_least=0, below=1)
    encoder_activation: str | None = option(None, choices=ACTIVATIONS)
    decoder_activation: str | None = option(None, choices=ACTIVATIONS)
    discriminator_activation: str | None = option(None, choices=ACTIVATIONS)
    sigma: str | None = option(None, choices=("log_sigma", "kl_literal", "logvar_head"))
    encoder_label: str = option("target", choices=("target", "source", "none"))
    lambda_mode: str | None = option(None, choices=("one", "abs_normal", "normal"))

    def resolve(self) -> FExGANSettings:
        """Fill every field left null from the preset; explicit values win."""
        fill_nulls(self, self.preset_values)
        return self

    @property
    def preset_values(self) -> dict[str, str]:
        """What the preset says, for these settings and those of the losses."""
        paper = "paper_s0" if self.name == "fexgan_meta" else "paper_s1"
        return PRESETS[{"code": "code", "paper": paper}[self.preset]]

    @property
    def blocks(self) -> int:
        """Halvings from the image to a single pixel: 7 at 128 px."""
        return int(math.log2(self.image_size))

    def channels(self, count: int) -> int:
        """A published channel count scaled by `width`, at least 4."""
        return scaled(count, self.width)
