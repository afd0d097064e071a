"""The generator of GANimation with its two masks, and its export."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.systems.export import Answering, Exported, Input, face_input
from fexgan_lit.systems.ganimation.config import GANimationSettings
from fexgan_lit.systems.layers import scaled, tiled, translation_trunk


class Painted(NamedTuple):
    """What the generator makes of an image.

    Attributes:
        image: (B, 3, S, S) in [-1, 1].
        attention: A (B, 1, S, S) in [0, 1]; 1 keeps the pixel of the input.
        colour: C (B, 3, S, S) in [-1, 1].
    """

    image: Tensor
    attention: Tensor
    colour: Tensor


def compose(source: Tensor, attention: Tensor, colour: Tensor) -> Tensor:
    """A * I + (1 - A) * C: the source where A = 1, the colour where A = 0."""
    return attention * source + (1 - attention) * colour


class Generator(nn.Module):
    """Image and wanted action units -> attention, colour and the image they compose."""

    def __init__(self, settings: GANimationSettings) -> None:
        super().__init__()
        self.saturate = settings.saturate_attention
        channels = scaled(64, settings.width)
        self.trunk = translation_trunk(3 + len(ACTION_UNITS), settings.width, settings.residual_blocks)
        self.colour = nn.Conv2d(channels, 3, 7, padding=3, bias=False)
        self.attention = nn.Conv2d(channels, 1, 7, padding=3, bias=False)

    def forward(self, image: Tensor, aus: Tensor) -> Painted:
        """`image` (B, 3, S, S) in [-1, 1], `aus` (B, 17), about 0..1 -> the image with those action units."""
        features = self.trunk(tiled(image, aus))
        # masks in float32: bf16 steps near 1 would show in every pixel that is kept
        colour, attention = self.colour(features).float().tanh(), self.attention(features).float().sigmoid()
        if self.saturate:
            attention = (0.55 * torch.tanh(3 * (attention - 0.5)) + 0.5).clamp(0, 1)
        return Painted(compose(image, attention, colour), attention, colour)


_UNITS = f"action units {', '.join(map(str, ACTION_UNITS))}"


class GeneratorPart(nn.Module):
    """The generator's answer as a plain tuple."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, aus: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`image` (B, 3, S, S), `aus` (B, 17) -> face (B, 3, S, S), attention (B, 1, S, S), colour (B, 3, S, S)."""
        painted = self.generator(image, aus)
        return painted.image, painted.attention, painted.colour


def ganimation_parts(generator: Generator, critic: nn.Module, size: int) -> dict[str, Exported]:
    """The whole generator and the critic."""
    face = face_input(size)
    units = Input((len(ACTION_UNITS),), f"wanted intensity 0..1 of {_UNITS}")
    made = {"face": "face with the wanted action units, RGB in [-1, 1]",
            "attention": "mask in 0..1, 1 keeps the input", "colour": "what is painted, RGB in [-1, 1]"}  # fmt: skip
    answers = {"scores": "Wasserstein scores of the four quarters", "aus": f"{_UNITS} as read, about 0..1"}
    return {
        "generator": Exported(GeneratorPart(generator), {"image": face, "aus": units}, made),
        "critic": Exported(Answering(critic), {"image": face}, answers),
    }
