"""Both layers between (B, C, 2h, 2w) and (B, O, h, w), forward and back, with nine products for sixteen."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from fexgan_lit import loops
from fexgan_lit.winograd import operations

#: Halves of the batch whose gradients of weights are products of their own, in bf16.
PIECES = 2


class Parts(NamedTuple):
    """What `gradients` multiplies with: the parts of what came in, a map, and of the weights."""

    came_in: Tensor
    weight: Tensor


def halve(large: Tensor, weight: Tensor) -> tuple[Tensor, Parts]:
    """(B, C, 2h, 2w) and weights (O, C, 4, 4) -> (B, O, h, w), computed in the precision of the map."""
    do = operations_for(large, weight)
    b, _, height, width = large.shape
    s, w = do.parts_of_large(large), do.parts_of_weight(weight, large.dtype)  # (9, T, 4C), (9, O, 4C)
    return do.small_of(torch.bmm(s, w.mT), torch.Size((b, len(weight), height // 2, width // 2))), Parts(s, w)


def double(small: Tensor, weight: Tensor) -> tuple[Tensor, Parts]:
    """(B, O, h, w) and weights (O, C, 4, 4) -> (B, C, 2h, 2w), the transpose of `halve`."""
    do = operations_for(small, weight)
    b, _, h, w = small.shape
    y, parts = do.parts_of_small(small), do.parts_of_weight(weight, small.dtype)  # (9, T, O), (9, O, 4C)
    return do.large_of(torch.bmm(y, parts), torch.Size((b, weight.shape[1], 2 * h, 2 * w))), Parts(y, parts)


def gradients(
    grad: Tensor, parts: Parts, weight: Tensor, shape: torch.Size, halving: bool, to_x: bool, to_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a layer's input and weights, where asked for.

    Args:
        grad: of what came out, a map.
        parts: as the layer gave them.
        weight: (O, C, 4, 4).
        shape: of what came in.
        halving: whether the layer is `halve`, not `double`.
        to_x: whether the gradient of the input is asked for.
        to_weight: whether that of the weights is; it comes in float32 or finer.
    """
    do = operations_for(grad, weight)
    y = do.parts_of_small(grad) if halving else parts.came_in  # (9, T, O)
    s = parts.came_in if halving else do.parts_of_large(grad)  # (9, T, 4C)
    back = None
    if to_x:
        w = parts.weight
        back = do.large_of(torch.bmm(y, w), shape) if halving else do.small_of(torch.bmm(s, w.mT), shape)
    return back, do.weight_of(over_tiles(y, s), weight.shape) if to_weight else None


def over_tiles(y: Tensor, s: Tensor) -> Tensor:
    """Y^T S in pieces: (9, T, O) and (9, T, 4C) -> (9 * pieces, O, 4C).

    Nine products over all tiles are no even work for two threads, which both prepare the operands of the fifth.
    """
    _, tiles, o = y.shape
    pieces = PIECES if y.dtype == torch.bfloat16 and tiles % PIECES == 0 else 1
    rows = tiles // pieces
    return torch.bmm(y.reshape(9 * pieces, rows, o).mT, s.reshape(9 * pieces, rows, -1))


def operations_for(x: Tensor, weight: Tensor) -> ModuleType:
    """The module with the six functions that a layer computes with: `compiled` where it suits and is there.

    Both give the same bits.
    """
    suits = (
        x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and weight.dtype == torch.float32
        and not any(size % loops.CHANNELS for size in weight.shape[:2])
    )
    if not suits or not loops.are_ready():
        return operations
    from fexgan_lit.winograd import compiled

    return compiled
