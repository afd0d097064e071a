"""The generator of GANimation and its two masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.layers import scaled, tiled, translation_trunk
from fexgan_lit.systems.ganimation.settings import GANimationSettings


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
