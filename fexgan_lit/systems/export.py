"""What a system gives away of itself: networks with named inputs and outputs, for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Input(NamedTuple):
    """An input of an exported network.

    Attributes:
        shape: of one item, without the batch.
        meaning: in words, with the range of its values.
        low: smallest usual value.
        high: largest usual value.
    """

    shape: tuple[int, ...]
    meaning: str
    low: float = 0.0
    high: float = 1.0


class Exported(NamedTuple):
    """A network to be written for other programs.

    Attributes:
        module: in evaluation mode; takes the inputs by name, gives a tensor or a tuple of tensors.
        inputs: by name, in the order of the arguments.
        outputs: names and meanings, in order.
    """

    module: nn.Module
    inputs: Mapping[str, Input]
    outputs: Mapping[str, str]

    def draw(self, batch: int, seed: int = 0) -> dict[str, Tensor]:
        """Inputs of `batch` items, uniform over their usual ranges."""
        generator = torch.Generator().manual_seed(seed)
        return {
            name: each.low + (each.high - each.low) * torch.rand(batch, *each.shape, generator=generator)
            for name, each in self.inputs.items()
        }


def face_input(size: int, whose: str = "face") -> Input:
    """A face of `size` pixels."""
    return Input((3, size, size), f"{whose}, RGB in [-1, 1]", -1.0, 1.0)


def affect_input(affects: tuple[str, ...], what: str = "wanted affects") -> Input:
    """Weights of the affects."""
    return Input((len(affects),), f"{what}, 1 is the affect as the data show it: {', '.join(affects)}")


class Answering(nn.Module):
    """A network that looks at an image alone, its answers as a plain tuple of float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`image` (B, 3, S, S) -> what the network says."""
        return tuple(answer.float() for answer in self.network(image))
