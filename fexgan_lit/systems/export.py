"""Networks with named inputs and outputs that a system offers for export to other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS

#: The order of action units in the inputs and outputs of networks.
UNIT_NAMES = f"action units {', '.join(map(str, ACTION_UNITS))}"


class Input(NamedTuple):
    """An input of an exported network.

    Attributes:
        shape: shape of one item, without the batch dimension.
        meaning: description with the range of the values.
        low: smallest usual value.
        high: largest usual value.
    """

    shape: tuple[int, ...]
    meaning: str
    low: float = 0.0
    high: float = 1.0


class Exported(NamedTuple):
    """A network to export.

    Attributes:
        module: the network in evaluation mode; it takes the inputs by name and returns a tensor or a tuple of tensors.
        inputs: the inputs by name, in the order of the arguments.
        outputs: meanings of the outputs by name, in order.
    """

    module: nn.Module
    inputs: Mapping[str, Input]
    outputs: Mapping[str, str]

    def draw(self, batch: int, seed: int = 0) -> dict[str, Tensor]:
        """Draw inputs of `batch` items uniformly from their usual ranges."""
        generator = torch.Generator().manual_seed(seed)
        return {
            name: each.low + (each.high - each.low) * torch.rand(batch, *each.shape, generator=generator)
            for name, each in self.inputs.items()
        }


def face_input(size: int, whose: str = "face") -> Input:
    """Describe an image input of `size` pixels."""
    return Input((3, size, size), f"{whose}, RGB in [-1, 1]", -1.0, 1.0)


def affect_input(affects: tuple[str, ...], what: str = "wanted affects") -> Input:
    """Describe an input of affect weights."""
    return Input((len(affects),), f"{what}, 1 is the affect as the data show it: {', '.join(affects)}")


def units_input(what: str) -> Input:
    """Describe an input of action units, such as the `wanted` ones."""
    return Input((len(ACTION_UNITS),), f"{what} intensity 0..1 of {UNIT_NAMES}")


def unit_edit_inputs(size: int) -> dict[str, Input]:
    """Describe the inputs of a network that edits a face of known action units."""
    return {
        "image": face_input(size, "the given face"),
        "aus": units_input("wanted"),
        "source_aus": units_input("present"),
    }


class Answering(nn.Module):
    """Wrap a network that takes only an image, to return its outputs as a plain tuple of float32 tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map `image` (B, 3, S, S) to the outputs of the network."""
        return tuple(answer.float() for answer in self.network(image))
