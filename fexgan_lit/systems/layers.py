"""Blocks and initialisers that several systems share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

#: Keras' LeakyReLU slope, used by the official FExGAN networks.
KERAS_LEAKY_SLOPE = 0.3
#: PyTorch's LeakyReLU slope, used by the critics of StarGAN and GANimation.
TORCH_LEAKY_SLOPE = 0.01


def activation(name: str) -> nn.Module:
    """Return `leaky_relu` (Keras slope 0.3), `relu` or `linear` as a module."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "leaky_relu": lambda: nn.LeakyReLU(KERAS_LEAKY_SLOPE, inplace=True),
        "relu": lambda: nn.ReLU(inplace=True),
        "linear": nn.Identity,
    }
    return makers[name]()


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a BatchNorm with Keras' defaults: eps 1e-3; momentum 0.99, which is 0.01 in PyTorch's convention."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def down_block(inputs: int, outputs: int, act: str, norm: bool = True) -> nn.Sequential:
    """Halve the resolution: Conv 4x4 stride 2 without bias, BatchNorm, activation.

    (B, inputs, S, S) -> (B, outputs, S/2, S/2)
    """
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)]
    if norm:
        layers.append(batch_norm(outputs))
    return nn.Sequential(*layers, activation(act))


def up_block(inputs: int, outputs: int, act: str, dropout: float = 0.0) -> nn.Sequential:
    """Double the resolution: ConvT 4x4 stride 2 without bias, BatchNorm, dropout, activation.

    (B, inputs, S, S) -> (B, outputs, 2S, 2S)
    """
    conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    layers: list[nn.Module] = [conv, batch_norm(outputs)]
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, activation(act))


def init_normal(module: nn.Module, std: float = 0.02) -> None:
    """Draw the weights of convolutions from N(0, std), as DCGAN and pix2pix do; biases are 0, norm scales 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def dense(inputs: int, outputs: int, init: str) -> nn.Linear:
    """Return a linear layer with zero bias; `init` is `normal` (N(0, 0.02)), `glorot` (Glorot uniform) or `zero`."""
    layer = nn.Linear(inputs, outputs)
    if init == "normal":
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif init == "glorot":
        nn.init.xavier_uniform_(layer.weight)
    else:
        nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


#: Factors on channel counts: below, no network is narrower for it; above, no machine holds one.
WIDTH: dict[str, Any] = {"expected": "1/64 to 16, 1 for the papers' channels", "at_least": 1 / 64, "at_most": 16}


def scaled(count: int, width: float) -> int:
    """Return a published channel count scaled by `width`, at least 4."""
    return max(4, round(count * width))


def instance_block(layer: nn.Module) -> nn.Sequential:
    """Return a convolution without bias, affine instance norm and ReLU."""
    return nn.Sequential(layer, nn.InstanceNorm2d(int(layer.out_channels), affine=True), nn.ReLU(inplace=True))  # type: ignore[arg-type]


class FiLM(nn.Module):
    """Scale and shift each channel by a linear function of a condition, which starts as the identity."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Map `features` (B, c, S, S) and `condition` (B, n) to (B, c, S, S)."""
        scale, shift = self.linear(condition)[:, :, None, None].chunk(2, dim=1)  # (B, c, 1, 1) each
        return features * (1 + scale) + shift


class ResidualBlock(nn.Module):
    """Two convolutions with instance norm, added to their input.

    Args:
        channels: channels of input and output.
        condition: numbers of the condition of a FiLM after the second norm; 0 for no FiLM.
    """

    def __init__(self, channels: int, condition: int = 0) -> None:
        super().__init__()
        self.block = nn.Sequential(
            instance_block(nn.Conv2d(channels, channels, 3, padding=1, bias=False)),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )
        self.film = FiLM(condition, channels) if condition else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the sum of `x` (B, channels, S, S) and the block's output for `condition` (B, n)."""
        made = self.block(x)
        return x + (made if self.film is None else self.film(made, condition))


class TranslationTrunk(nn.Sequential):
    """The common part of the StarGAN and GANimation generators: downsample by 4, residual blocks, upsample by 4.

    Args:
        image: channels of the image.
        condition: numbers of the condition, which is repeated at every pixel.
        width: factor on all channel counts.
        residuals: number of residual blocks.
        film: also modulate every residual block by the condition. The instance norm after the first convolution
            removes what is the same at every pixel, so that only the zeros around the image tell later layers about a
            condition that is.
    """

    def __init__(self, image: int, condition: int, width: float = 1.0, residuals: int = 6, film: bool = False) -> None:
        a, b, c = (scaled(count, width) for count in (64, 128, 256))
        super().__init__(
            instance_block(nn.Conv2d(image + condition, a, 7, padding=3, bias=False)),
            instance_block(nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False)),
            instance_block(nn.Conv2d(b, c, 4, stride=2, padding=1, bias=False)),
            *(ResidualBlock(c, condition if film else 0) for _ in range(residuals)),
            instance_block(nn.ConvTranspose2d(c, b, 4, stride=2, padding=1, bias=False)),
            instance_block(nn.ConvTranspose2d(b, a, 4, stride=2, padding=1, bias=False)),
        )

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        """Map an image (B, C, S, S) and a condition (B, n) to features (B, 64 * width, S, S)."""
        features = tiled(image, condition)
        for layer in self:
            features = layer(features, condition) if isinstance(layer, ResidualBlock) else layer(features)
        return features


def tiled(image: Tensor, condition: Tensor) -> Tensor:
    """Concatenate a condition (B, n), repeated at every pixel, to an image (B, C, S, S): (B, C + n, S, S)."""
    planes = condition[:, :, None, None].expand(-1, -1, *image.shape[2:])  # (B, n) -> (B, n, S, S)
    return torch.cat((image, planes.to(image.dtype)), dim=1)


class UNet(nn.Module):
    """The generator of pix2pix: convolutions halve the image until one pixel is left, and others double it again.

    64-128-256-512-512-512-512 channels at 128 px. Every block of the decoder sees the features of the encoder of the
    same size beside those of the block before.

    Args:
        inputs: channels of the input.
        image_size: edge length of the images in pixels, a power of two.
        width: factor on every channel count.
        dropout: rate of the three innermost blocks of the decoder, in training alone.
        affects: number of affects, which modulate the decoder (`FiLM`); 0 for none.
        outputs: channels of the output.
        nearest: whether the decoder repeats pixels before a convolution of 3 x 3, which leaves no checkerboard; if not,
            it has the transposed convolutions of the paper.
    """

    def __init__(
        self,
        inputs: int,
        image_size: int,
        width: float,
        dropout: float,
        affects: int = 0,
        outputs: int = 3,
        nearest: bool = False,
    ) -> None:
        super().__init__()
        depth = int(math.log2(image_size))
        widths = [scaled(min(64 * 2**n, 512), width) for n in range(depth)]

        def doubling(before: int, after: int, bias: bool = False) -> list[nn.Module]:
            if nearest:
                return [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1, bias=bias)]
            return [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=bias)]

        self.down = nn.ModuleList()
        for n, (before, after) in enumerate(zip([inputs, *widths], widths, strict=False)):
            norm = 0 < n < depth - 1  # neither the first block nor the one that ends with a single pixel
            self.down.append(nn.Sequential(
                *([nn.LeakyReLU(0.2)] if n else []),
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                *([nn.BatchNorm2d(after)] if norm else []),
            ))  # fmt: skip
        self.up, self.films = nn.ModuleList(), nn.ModuleList()
        for n, (before, after) in enumerate(zip(widths[::-1], widths[-2::-1], strict=False)):
            self.up.append(nn.Sequential(
                nn.ReLU(),
                *doubling(before * (2 if n else 1), after),
                nn.BatchNorm2d(after),
                nn.Dropout(dropout if n < 3 else 0.0),
            ))  # fmt: skip
            if affects:
                self.films.append(FiLM(affects, after))
        self.to_rgb = nn.Sequential(nn.ReLU(), *doubling(2 * widths[0], outputs, bias=True))
        self.apply(pix2pix_weights)

    def forward(self, image: Tensor, affect: Tensor | None = None) -> Tensor:
        """Map `image` (B, inputs, S, S) and, with FiLM, `affect` (B, K) weights to (B, outputs, S, S) in [-1, 1]."""
        return self.raw(image, affect).tanh()

    def raw(self, image: Tensor, affect: Tensor | None = None) -> Tensor:
        """Return the output of `forward` before tanh."""
        seen = []
        features = image
        for block in self.down:
            features = block(features)  # (B, c, S/2, S/2), ..., (B, 512, 1, 1)
            seen.append(features)
        seen.pop()
        for n, block in enumerate(self.up):
            features = block(features)
            if affect is not None:
                features = self.films[n](features, affect)
            features = torch.cat((features, seen.pop()), dim=1)  # (B, 2c, s, s)
        return self.to_rgb(features).float()


class PatchCritic(nn.Module):
    """The critic of StarGAN and GANimation: a realness score for each quarter of the image, and a classification.

    Strided convolutions reduce the image to 2 x 2 pixels: six at 128 px, with channel counts that double from 64. An
    image that is not square is reduced until its shorter side has 2 or 3 pixels.

    Args:
        image_size: edge length of square images in pixels, or height and width.
        answers: number of outputs besides realness: affects or action units.
        width: factor on every channel count.
    """

    def __init__(self, image_size: int | tuple[int, int], answers: int, width: float = 1.0) -> None:
        super().__init__()
        height, breadth = (image_size, image_size) if isinstance(image_size, int) else image_size
        depth = int(math.log2(min(height, breadth))) - 1
        widths = [scaled(64 * 2**n, width) for n in range(depth)]
        layers: list[nn.Module] = []
        for before, after in zip([3, *widths], widths, strict=False):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(TORCH_LEAKY_SLOPE)]
        self.blocks = nn.Sequential(*layers)
        self.realness = nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False)
        self.answers = nn.Conv2d(widths[-1], answers, (height >> depth, breadth >> depth), bias=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map `image` (B, 3, S, S) in [-1, 1] to unbounded scores (B, 2, 2) and answers (B, n)."""
        features = self.blocks(image)  # (B, c, 2, 2)
        # (B, 1, 2, 2) -> (B, 2, 2) and (B, n, 1, 1) -> (B, n)
        return self.realness(features).squeeze(1), self.answers(features).flatten(1)

    def scores(self, image: Tensor) -> Tensor:
        """Return the scores (B, 2, 2) alone."""
        return self.realness(self.blocks(image)).squeeze(1)  # (B, 1, 2, 2) -> (B, 2, 2)


class PatchDiscriminator(nn.Module):
    """Classify overlapping patches of 70 x 70 pixels of an image beside a condition as real or generated (pix2pix).

    Args:
        condition: channels of the condition.
        width: factor on every channel count.
        slope: of LeakyReLU below zero.
        last_norm: whether BatchNorm follows the last convolution, as Table 3 of Li et al. prints it.
        spectral: whether every convolution has spectral norm, in place of every BatchNorm.
    """

    def __init__(
        self, condition: int, width: float = 1.0, slope: float = 0.2, last_norm: bool = False, spectral: bool = False
    ) -> None:
        super().__init__()
        widths = [scaled(count, width) for count in (64, 128, 256, 512)]
        layers: list[nn.Module] = []
        for n, (inputs, outputs) in enumerate(zip([condition + 3, *widths], widths, strict=False)):
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=1 if n == 3 else 2, padding=1, bias=spectral or n == 0))
            layers += [nn.BatchNorm2d(outputs)] if n and not spectral else []
            layers.append(nn.LeakyReLU(slope, inplace=True))
        layers.append(nn.Conv2d(widths[-1], 1, 4, padding=1, bias=not last_norm))
        self.layers = nn.Sequential(*layers, *([nn.BatchNorm2d(1)] if last_norm else []))
        self.apply(pix2pix_weights)
        if spectral:
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d):
                    spectral_norm(layer)

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        """Map `condition` (B, c, S, S) and `image` (B, 3, S, S) to logits (B, 1, S/8 - 2, S/8 - 2), 14x14 at 128 px."""
        return self.layers(torch.cat((condition, image), dim=1))  # (B, c + 3, S, S)

    def on_both(self, condition: Tensor, real: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of real and generated images beside the same condition, computed in one batch.

        In two separate batches, the last BatchNorm would give both the same mean and make them indistinguishable.
        """
        logits = self(torch.cat((condition, condition)), torch.cat((real, generated)))  # (2B, 1, p, p)
        on_real, on_fake = logits.chunk(2)
        return on_real, on_fake

    @torch.no_grad()
    def realness(self, condition: Tensor, image: Tensor) -> Tensor:
        """Return one logit (B,) per image, the mean over its patches, with fixed batch-norm statistics."""
        training = self.training
        logits = self.eval()(condition, image).float().flatten(1).mean(1)  # (B, 1, p, p) -> (B,)
        self.train(training)
        return logits


def pix2pix_weights(module: nn.Module) -> None:
    """Draw convolutions from N(0, 0.02) and BatchNorm scales from N(1, 0.02); every bias is zero."""
    init_normal(module)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
