"""With weights and inputs made by a formula, our networks answer what the official Keras networks answered.

The figures were computed once with the official networks under TensorFlow 2.15.1 in inference mode. Weights and
inputs follow the formulas below, in the order of the official weight files, so no file is needed here.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fexgan_lit.systems.fexgan.config import FExGANSettings
from fexgan_lit.systems.fexgan.networks import Decoder, Discriminator, Encoder

#: every 16th of the 128 entries, both samples
MU = [
    -0.046222944, 0.85275108, -0.35878909, 0.28747639, 0.78917205, 0.16983379, 0.41241658, -0.21293977,
    -0.038766, 0.73279476, -0.20447613, 0.24396397, 1.2702625, 0.018612431, 0.24959798, -0.13433819,
]  # fmt: skip
LOG_SIGMA = [
    0.17030835, 0.15878764, -0.53050846, -0.17705384, 0.84415179, 0.17129557, -0.81116402, -0.62738979,
    0.2444851, 0.16660899, -0.93906832, -0.11161438, 0.10337529, 0.22609553, -0.78236878, -0.66972321,
]  # fmt: skip
#: first image, rows 5, 45, 85, 125, columns 7, 47, 87, 127, all channels
IMAGE = [
    -0.094423935, -0.29946283, 0.053238209, -0.064467095, -0.2634213, 0.042884808, -0.060874581, -0.31138772,
    0.038833469, -0.18211757, -0.022412859, 0.40514645, -0.050417166, -0.23228848, 0.0641739, -0.082327776,
    -0.29475078, 0.050449673, -0.060900707, -0.28694585, 0.0024975075, -0.1711257, -0.031381492, 0.39069888,
    -0.092028543, -0.2919254, 0.014951354, -0.075054035, -0.24890383, 0.064931206, -0.088880703, -0.28095531,
    0.048327036, -0.17878453, -0.029536095, 0.39471617, -0.022645334, -0.22237262, -0.040885329, -0.038246643,
    -0.21428633, -0.043215409, -0.015738878, -0.22713538, -0.020002985, -0.15467206, -0.039405737, 0.32729504,
]  # fmt: skip
REAL = [0.71402216, 0.555713]
AFFECT = [
    0.27683264, 0.017139161, 0.33352399, 0.11126298, 0.10627264, 0.029415062, 0.1255535,
    0.02363861, 0.0068915342, 0.34941557, 0.39323202, 0.12262526, 0.071223408, 0.032973543,
]  # fmt: skip


class FormulaWeights:
    """Fills layers in the order of a weight file; array k holds 2 frac(|sin(12.9898 i + 78.233 k) 43758.5453|) - 1."""

    def __init__(self) -> None:
        self.k = 0

    def array(self, *shape: int) -> np.ndarray:
        i = np.arange(int(np.prod(shape)), dtype=np.float64)
        wave = np.abs(np.sin(12.9898 * i + 78.233 * self.k) * 43758.5453)
        self.k += 1
        return (2 * (wave - np.floor(wave)) - 1).reshape(shape)

    def kernel(self, *shape: int) -> torch.Tensor:
        fan = np.prod(shape[:-1])
        return torch.from_numpy((self.array(*shape) * np.sqrt(6 / fan)).astype(np.float32))

    def small(self, size: int) -> torch.Tensor:
        return torch.from_numpy((0.05 * self.array(size)).astype(np.float32))

    def dense(self, layer: nn.Linear, map_shape: tuple[int, int] | None = None) -> None:
        kernel = self.kernel(layer.in_features, layer.out_features)  # (in, out)
        if map_shape is not None:
            channels, side = map_shape
            # Keras flattens (h, w, channel), PyTorch (channel, h, w)
            kernel = kernel.view(side, side, channels, -1).permute(2, 0, 1, 3).reshape(layer.in_features, -1)
        layer.weight.data, layer.bias.data = kernel.t().contiguous(), self.small(layer.out_features)

    def conv(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        transposed = isinstance(layer, nn.ConvTranspose2d)
        last = (layer.out_channels, layer.in_channels) if transposed else (layer.in_channels, layer.out_channels)
        # (h, w, a, b) -> (b, a, h, w): out, in for a convolution, in, out for a transposed one
        layer.weight.data = self.kernel(4, 4, *last).permute(3, 2, 0, 1).contiguous()
        if layer.bias is not None:
            layer.bias.data = self.small(layer.out_channels)

    def norm(self, layer: nn.BatchNorm2d) -> None:
        n = layer.num_features
        layer.weight.data = torch.from_numpy((1 + 0.1 * self.array(n)).astype(np.float32))
        layer.bias.data, layer.running_mean = self.small(n), self.small(n)
        layer.running_var = torch.from_numpy((1 + 0.1 * np.abs(self.array(n))).astype(np.float32))

    def blocks(self, blocks: nn.Module) -> None:
        for layer in blocks.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                self.conv(layer)
            elif isinstance(layer, nn.BatchNorm2d):
                self.norm(layer)


@pytest.fixture(scope="module")
def published() -> FExGANSettings:
    return FExGANSettings().resolve()


def formula_image() -> torch.Tensor:
    h, w, c = np.arange(128)[:, None, None], np.arange(128)[None, :, None], np.arange(3)
    x = np.stack([np.sin(0.05 * h + 0.03 * w * (c + 1) + b) for b in range(2)])  # (2, 128, 128, 3)
    return torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)  # (2, 3, 128, 128)


LABELS = torch.eye(7)[[3, 6]]


def agree(ours: torch.Tensor, theirs: list[float]) -> None:
    np.testing.assert_allclose(ours.flatten().numpy(), theirs, atol=1e-5, rtol=0)


@torch.no_grad()
def test_encoder(published):
    encoder, fill = Encoder(published, 7).eval(), FormulaWeights()
    fill.dense(encoder.label)
    fill.blocks(encoder.blocks)
    fill.dense(encoder.mu)
    fill.dense(encoder.s)
    latent = encoder(formula_image(), LABELS)
    agree(latent.mu[:, ::16], MU)
    agree(latent.s[:, ::16], LOG_SIGMA)


@torch.no_grad()
def test_decoder(published):
    decoder, fill = Decoder(published, 7).eval(), FormulaWeights()
    fill.dense(decoder.label[0])
    fill.dense(decoder.latent[0])
    fill.dense(decoder.label[1])
    fill.blocks(decoder.blocks)
    fill.conv(decoder.to_rgb)
    z = torch.from_numpy(np.sin(0.11 * np.arange(256)).reshape(2, 128).astype(np.float32))
    agree(decoder(z, LABELS)[0, :, 5::40, 7::40].permute(1, 2, 0), IMAGE)


@torch.no_grad()
def test_discriminator(published):
    discriminator, fill = Discriminator(published, 7).eval(), FormulaWeights()
    fill.blocks(discriminator.blocks)
    fill.dense(discriminator.realness, (512, 16))
    fill.dense(discriminator.affect, (512, 16))
    verdict = discriminator(formula_image())
    agree(verdict.realness.sigmoid(), REAL)
    agree(verdict.affect.softmax(1), AFFECT)
