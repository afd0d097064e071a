"""The backbone of every judge: a residual network that maps a face to one feature vector."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut of pooling and a 1x1 convolution; halves the resolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels_in, channels_out, 1, bias=False))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, S, S) to (B, C_out, S/2, S/2)."""
        inner = self.activation(self.norm1(self.conv1(x)))
        return self.activation(self.norm2(self.conv2(inner)) + self.shortcut(x))


class FaceTrunk(nn.Module):
    """The backbone that embeds a face.

    Images are resized to `working_size` first, so judging 256 px frames costs as much as 64 px. The last feature map is
    flattened instead of averaged: faces are aligned, and the position of a wrinkle tells more than its presence.

    Args:
        working_size: input size of the network in pixels, a multiple of 16.
        widths: channels after the stem and after each of the three blocks.
        feature_size: length F of a feature vector.
    """

    def __init__(self, working_size: int, widths: tuple[int, int, int, int], feature_size: int) -> None:
        super().__init__()
        self.working_size = working_size
        self.feature_size = feature_size
        self.frozen = False
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in pairwise(widths)))
        self.embedding = nn.Sequential(
            nn.Linear(widths[-1] * (working_size // 16) ** 2, feature_size), nn.BatchNorm1d(feature_size), nn.ReLU()
        )

    def embed(self, images: Tensor) -> Tensor:
        """Map images (B, 3, S, S) in [-1, 1] to features (B, F)."""
        images = self._at_working_size(images).contiguous(memory_format=torch.channels_last)
        return self.embedding(self.blocks(self.stem(images)).flatten(1))  # (B, C, s, s) -> (B, C*s*s) -> (B, F)

    def freeze(self) -> Self:
        """Disable gradients and stay in evaluation mode, even if a parent module enters training mode."""
        self.requires_grad_(False).eval()
        self.frozen = True
        return self

    def train(self, mode: bool = True) -> Self:
        """Set the mode as in torch; a frozen network stays in evaluation mode."""
        super().train(mode and not self.frozen)
        return self

    def _at_working_size(self, images: Tensor) -> Tensor:
        size = (self.working_size, self.working_size)
        if images.shape[-1] > self.working_size:
            return nn.functional.interpolate(images, size=size, mode="area")
        if images.shape[-1] < self.working_size:
            return nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
        return images
