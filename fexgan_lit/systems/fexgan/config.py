"""Every choice FExGAN and FExGAN-Meta leave open, with the preset each default comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fexgan_lit.systems.layers import WIDTHS

IMAGE_SIZES = (32, 64, 128, 256, 512)

#: What papers and published networks say where they disagree. `code` is checkable against the released weights.
#: paper_s1 is the FExGAN text (2201.09061), paper_s0 the FExGAN-Meta text (2203.05975).
PRESETS: dict[str, dict[str, str]] = {
    "code": {"encoder_activation": "leaky_relu", "decoder_activation": "relu", "discriminator_activation": "leaky_relu",
             "sigma": "log_sigma", "lambda_mode": "one", "kl_reduction": "mean", "l1_reduction": "mean"},
    "paper_s1": {"encoder_activation": "relu", "decoder_activation": "leaky_relu", "discriminator_activation": "relu",
                 "sigma": "kl_literal", "lambda_mode": "normal", "kl_reduction": "sum", "l1_reduction": "sum"},
    "paper_s0": {"encoder_activation": "linear", "decoder_activation": "relu",
                 "discriminator_activation": "leaky_relu", "sigma": "logvar_head", "lambda_mode": "normal",
                 "kl_reduction": "mean", "l1_reduction": "sum"},
}  # fmt: skip

CHOICES: dict[str, tuple[str, ...]] = {
    "preset": ("code", "paper"),
    "encoder_activation": ("leaky_relu", "relu", "linear"),
    "decoder_activation": ("leaky_relu", "relu", "linear"),
    "discriminator_activation": ("leaky_relu", "relu", "linear"),
    "sigma": ("log_sigma", "kl_literal", "logvar_head"),
    "encoder_label": ("target", "source", "none"),
    "lambda_mode": ("one", "abs_normal", "normal"),
}


def fill_nulls(settings: Any, values: Mapping[str, str]) -> None:
    """Give every field of the dataclass `settings` that is null its value of `values`, if there is one."""
    for field in fields(settings):
        if getattr(settings, field.name) is None and field.name in values:
            setattr(settings, field.name, values[field.name])


@dataclass
class FExGANSettings:
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

    name: str = "fexgan"
    preset: str = "code"
    image_size: int = 128
    width: float = 1.0
    latent_size: int = 128
    dropout: float = 0.5
    encoder_activation: str | None = None
    decoder_activation: str | None = None
    discriminator_activation: str | None = None
    sigma: str | None = None
    encoder_label: str = "target"
    lambda_mode: str | None = None

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = [
            f"model.{field}={value}: expected one of {', '.join(allowed)}"
            for field, allowed in CHOICES.items()
            if (value := getattr(self, field)) is not None and value not in allowed
        ]
        if self.image_size not in IMAGE_SIZES:
            found.append(f"model.image_size={self.image_size}: expected one of {', '.join(map(str, IMAGE_SIZES))}")
        if not WIDTHS[0] <= self.width <= WIDTHS[1]:
            found.append(
                f"model.width={self.width}: expected {WIDTHS[0]:g} to {WIDTHS[1]:g}, 1 for the papers' channels"
            )
        if self.latent_size < 1:
            found.append(f"model.latent_size={self.latent_size}: expected a positive whole number")
        if not 0 <= self.dropout < 1:
            found.append(f"model.dropout={self.dropout}: expected a rate in [0, 1)")
        return found

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
        return max(4, round(count * self.width))
