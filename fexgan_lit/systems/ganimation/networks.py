"""The generator of GANimation with its attention and colour masks, and its export."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.systems.export import UNIT_NAMES, Answering, Exported, face_input, units_input
from fexgan_lit.systems.ganimation.config import GANimationSettings
from fexgan_lit.systems.layers import TranslationTrunk, scaled


class Painted(NamedTuple):
    """Output of the generator.

    Attributes:
        image: (B, 3, S, S) in [-1, 1].
        attention: A (B, 1, S, S) in [0, 1]; 1 keeps the pixel of the input.
        colour: C (B, 3, S, S) in [-1, 1].
    """

    image: Tensor
    attention: Tensor
    colour: Tensor


def compose(source: Tensor, attention: Tensor, colour: Tensor) -> Tensor:
    """Return A * I + (1 - A) * C: the source where A = 1, the colour where A = 0."""
    return attention * source + (1 - attention) * colour


class Generator(nn.Module):
    """Map an image and target action units to attention, colour and the image they compose."""

    def __init__(self, settings: GANimationSettings) -> None:
        super().__init__()
        self.saturate = settings.saturate_attention
        channels = scaled(64, settings.width)
        s = settings
        self.trunk = TranslationTrunk(3, len(ACTION_UNITS), s.width, s.residual_blocks, s.film)
        self.colour = nn.Conv2d(channels, 3, 7, padding=3, bias=False)
        self.attention = nn.Conv2d(channels, 1, 7, padding=3, bias=False)

    def forward(self, image: Tensor, aus: Tensor) -> Painted:
        """Map `image` (B, 3, S, S) in [-1, 1] and `aus` (B, 17), about 0..1, to the image with these action units."""
        features = self.trunk(image, aus)
        # masks in float32: the coarse bf16 steps near 1 would be visible in every kept pixel
        colour, attention = self.colour(features).float().tanh(), self.attention(features).float().sigmoid()
        if self.saturate:
            attention = (0.55 * torch.tanh(3 * (attention - 0.5)) + 0.5).clamp(0, 1)
        return Painted(compose(image, attention, colour), attention, colour)


class GeneratorPart(nn.Module):
    """The generator for export, with its output as a plain tuple."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, aus: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map `image` (B, 3, S, S), `aus` (B, 17) to image, attention (B, 1, S, S) and colour (B, 3, S, S)."""
        painted = self.generator(image, aus)
        return painted.image, painted.attention, painted.colour


def ganimation_parts(generator: Generator, critic: nn.Module, size: int) -> dict[str, Exported]:
    """Return generator and critic for export."""
    face = face_input(size)
    made = {"face": "face with the wanted action units, RGB in [-1, 1]",
            "attention": "mask in 0..1, 1 keeps the input", "colour": "what is painted, RGB in [-1, 1]"}  # fmt: skip
    answers = {"scores": "Wasserstein scores of the four quarters", "aus": f"{UNIT_NAMES} as read, about 0..1"}
    return {
        "generator": Exported(GeneratorPart(generator), {"image": face, "aus": units_input("wanted")}, made),
        "critic": Exported(Answering(critic), {"image": face}, answers),
    }
