"""Blocks and initialisers that the systems share."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

#: Keras' LeakyReLU slope, used by the official FExGAN networks.
KERAS_LEAKY_SLOPE = 0.3


def activation(name: str) -> nn.Module:
    """`leaky_relu` (Keras slope 0.3), `relu` or `linear` as a module."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "leaky_relu": lambda: nn.LeakyReLU(KERAS_LEAKY_SLOPE, inplace=True),
        "relu": lambda: nn.ReLU(inplace=True),
        "linear": nn.Identity,
    }
    return makers[name]()


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm with Keras' defaults: eps 1e-3; its momentum 0.99 is 0.01 in PyTorch's convention."""
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
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
        batch_norm(outputs),
    ]
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, activation(act))


def init_normal(module: nn.Module, std: float = 0.02) -> None:
    """Weights of convolutions from N(0, std), as DCGAN and pix2pix do; biases zero, norm scales one."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def dense(inputs: int, outputs: int, init: str) -> nn.Linear:
    """A linear layer with zero bias and `init` one of `normal` (N(0, 0.02)), `glorot` (Glorot uniform), `zero`."""
    layer = nn.Linear(inputs, outputs)
    if init == "normal":
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif init == "glorot":
        nn.init.xavier_uniform_(layer.weight)
    else:
        nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
