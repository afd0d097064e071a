"""Map the tensors of the official Keras files to parameters and convert their memory layout."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fexgan_lit.runs.keras.reading import Unit
from fexgan_lit.systems.fexgan.networks import Decoder, Discriminator, Encoder
from fexgan_lit.utils.errors import UserError

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Slot:
    """A layer of the network, with the BatchNorm after it if there is one.

    Attributes:
        name: name of the layer in messages.
        shapes: shapes of its arrays in Keras.
        fill: copies the Keras arrays into the parameters.
    """

    name: str
    shapes: Shapes
    fill: Callable[[tuple[np.ndarray, ...]], None]


def encoder_slots(encoder: Encoder) -> list[Slot]:
    """Return the slots of the encoder: label, convolutions, the two heads."""
    if encoder.label is None:
        raise ValueError("the encoder has no label input; the official encoders have one")
    return [
        dense_slot("label Dense", encoder.label),
        *_block_slots(encoder.blocks, "convolution"),
        dense_slot("mu Dense", encoder.mu),
        dense_slot("sigma Dense", encoder.s),
    ]


def decoder_slots(decoder: Decoder) -> list[Slot]:
    """Return the slots of the decoder in Keras order: label 1, latent, label 2, transposed convolutions."""
    first, second, latent = decoder.label[0], decoder.label[1], decoder.latent[0]
    return [
        dense_slot("label Dense 1", first),
        dense_slot("latent Dense", latent),
        dense_slot("label Dense 2", second),
        *_block_slots(decoder.blocks, "transposed convolution"),
        convolution_slot("output transposed convolution", decoder.to_rgb),
    ]


def discriminator_slots(discriminator: Discriminator) -> list[Slot]:
    """Return the slots of the discriminator: convolutions, and the two heads on the flattened map."""
    channels = _convolution(discriminator.blocks[-1]).out_channels
    return [
        *_block_slots(discriminator.blocks, "convolution"),
        dense_slot("realness Dense", discriminator.realness, channels),
        dense_slot("affect Dense", discriminator.affect, channels),
    ]


def dense_slot(name: str, layer: nn.Module, channels: int | None = None) -> Slot:
    """Return the slot of a linear layer; a Keras kernel is (in, out), a PyTorch weight (out, in).

    Args:
        name: name of the layer in messages.
        layer: the linear layer.
        channels: channels of the square map flattened before the layer, by Keras as (h, w, channel), here as
            (channel, h, w); None if its input is not a flattened map.
    """
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"{name}: {type(layer).__name__} is not a linear layer")
    inputs, outputs = layer.in_features, layer.out_features

    def fill(arrays: tuple[np.ndarray, ...]) -> None:
        kernel, bias = map(_tensor, arrays)
        if channels is not None:
            side = round((inputs // channels) ** 0.5)
            kernel = kernel.view(side, side, channels, outputs).permute(2, 0, 1, 3).reshape(inputs, outputs)
        _put(layer.weight, kernel.t())
        _put(layer.bias, bias)

    return Slot(name, ((inputs, outputs), (outputs,)), fill)


def convolution_slot(name: str, layer: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d | None = None) -> Slot:
    """Return the slot of a convolution.

    A Keras kernel is (h, w, in, out), transposed (h, w, out, in); a PyTorch weight is (out, in, h, w), transposed
    (in, out, h, w).
    """
    transposed = isinstance(layer, nn.ConvTranspose2d)
    last = (layer.out_channels, layer.in_channels) if transposed else (layer.in_channels, layer.out_channels)
    vectors = (4 if norm is not None else 0) + (layer.bias is not None)

    def fill(arrays: tuple[np.ndarray, ...]) -> None:
        kernel, *rest = map(_tensor, arrays)
        _put(layer.weight, kernel.permute(3, 2, 0, 1))
        if layer.bias is not None:
            _put(layer.bias, rest.pop(0))
        if norm is not None:
            buffers = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            for ours, theirs in zip(buffers, rest, strict=True):
                _put(ours, theirs)

    shapes = ((*layer.kernel_size, *last), *[(layer.out_channels,)] * vectors)
    return Slot(name, shapes, fill)


def _block_slots(blocks: nn.Module, name: str) -> list[Slot]:
    """Return one slot per block: its convolution and its BatchNorm, if it has one."""
    slots = []
    for number, block in enumerate(blocks.children(), 1):
        norms = [layer for layer in block.children() if isinstance(layer, nn.BatchNorm2d)]
        slots.append(convolution_slot(f"{name} {number}", _convolution(block), norms[0] if norms else None))
    return slots


def _convolution(block: nn.Module) -> nn.Conv2d | nn.ConvTranspose2d:
    return next(layer for layer in block.children() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d))


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)


@torch.no_grad()
def _put(ours: Tensor | None, theirs: Tensor) -> None:
    if ours is None or ours.shape != theirs.shape:
        raise ValueError(f"cannot copy {theirs.shape} to {None if ours is None else ours.shape}")
    ours.copy_(theirs)


_SHOWN = 4


def fill_slots(
    slots: Sequence[Slot], units: Sequence[Unit], path: Path, what: str, others: Mapping[str, Sequence[Slot]]
) -> None:
    """Copy every layer of the file `path` into its slot; no parameter changes unless all layers fit.

    Args:
        slots: slots of the network, in order.
        units: layers of the file, in order.
        path: the file, for messages.
        what: name of the network.
        others: slots of the other networks by name, to detect swapped files.

    Raises:
        UserError: layers are missing, have another shape or fit nowhere; the message lists them.
    """
    pairs, missing, surplus = matched(slots, units)
    if missing or surplus:
        raise UserError(_trouble(missing, surplus, path, what, _whose(units, others)))
    for slot, unit in pairs:
        slot.fill(unit.arrays)


def matched(slots: Sequence[Slot], units: Sequence[Unit]) -> tuple[list[tuple[Slot, Unit]], list[Slot], list[Unit]]:
    """Match slots and layers by shape, in order; return the pairs, slots without a layer and layers without a slot."""
    waiting: dict[Shapes, deque[Unit]] = defaultdict(deque)
    for unit in units:
        waiting[unit.shapes].append(unit)
    pairs, missing = [], []
    for slot in slots:
        if waiting[slot.shapes]:
            pairs.append((slot, waiting[slot.shapes].popleft()))
        else:
            missing.append(slot)
    left = {id(unit) for queue in waiting.values() for unit in queue}
    return pairs, missing, [unit for unit in units if id(unit) in left]


def _whose(units: Sequence[Unit], others: Mapping[str, Sequence[Slot]]) -> str | None:
    """Return the name of the other network whose layers the file holds; None if there is none."""
    for name, slots in others.items():
        _, missing, surplus = matched(slots, units)
        if not missing and not surplus:
            return name
    return None


def _trouble(missing: Sequence[Slot], surplus: Sequence[Unit], path: Path, what: str, whose: str | None) -> str:
    if whose:
        return f"{path} holds the {whose}; expected the {what}. Give the file as keras_{whose}="
    lines = [f"{path} does not fit the {what} of the official networks:"]
    lines += [f"  - {slot.name}: missing; expected {_shapes(slot.shapes)}" for slot in missing[:_SHOWN]]
    lines += [f"  - {unit.name}: {_shapes(unit.shapes)} fits nowhere" for unit in surplus[:_SHOWN]]
    hidden = max(0, len(missing) - _SHOWN) + max(0, len(surplus) - _SHOWN)
    lines += [f"  - and {hidden} more"] if hidden else []
    return "\n".join(
        [*lines, "docs/official_weights.md lists every layer; affects=[...] changes the number of classes"]
    )


def _shapes(shapes: Shapes) -> str:
    """Format the shapes of a layer, such as `(4, 4, 3, 64) and 4 x (64)`."""
    kernel, vectors = shapes[0], shapes[1:]
    text = f"({', '.join(map(str, kernel))})"
    return f"{text} and {len(vectors)} x ({vectors[0][0]})" if vectors else text
