"""Winograd's minimal filtering F(2 x 2, 2 x 2) for 4x4 convolutions of stride 2, in bf16: 9 instead of 16 products.

A 4x4 kernel of stride 2 is a 2x2 kernel on a map whose 2x2 pixels are stacked as channels. In one dimension, with
stacked pixels s0, s1, s2 and taps w0, w1, two neighbouring outputs need four products, or three with

    m0 = w0 (s0 - s1),  m1 = (w0 + w1) s1,  m2 = w1 (s2 - s1);    w0 s0 + w1 s1 = m0 + m1,  w0 s1 + w1 s2 = m1 + m2

(S. Winograd, Arithmetic complexity of computations, SIAM 1980; A. Lavin and S. Gray, Fast algorithms for convolutional
neural networks, CVPR 2016, section 4.) In two dimensions, nine products replace sixteen. The factors are called the
*parts* of the large map, of the weights and, for gradients, of the small map. With the parts S (9, T, 4C), W (9, O, 4C)
and Y (9, T, O), the products S W^T, Y W and Y^T S are parts of the small map, the large map and the weights, which are
sums of these parts.

A tile is 2x2 pixels of the small map; B maps of (h, w) pixels have T = B * h/2 * w/2 tiles. Parts are rounded to bf16
once more: the relative error of a result is 0.7% of its norm, with torch's kernels 0.2%. All channel counts are
multiples of 32, h and w are even; compiled loops (`fexgan_lit.kernels.loops`) compute the parts and the sums.

This kernel is faster on CPUs that multiply bf16 in hardware (AVX-512 BF16, AMX): an iteration of FExGAN takes 0.70 of
the time at 128 px and full width, and 0.80 at 64 px and half width (experiments/speed/README.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fexgan_lit.kernels import compiled_loops
from fexgan_lit.kernels.memory import channels_last, new_map


def down(large: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve (B, C, 2h, 2w) in bf16 with weights (O, C, 4, 4) in float32; return (B, O, h, w), S and W."""
    b, _, height, width = large.shape
    s, w = parts_of_large(large), parts_of_weight(weight)  # (9, T, 4C), (9, O, 4C)
    return sum_small(torch.bmm(s, w.mT), torch.Size((b, len(weight), height // 2, width // 2))), s, w


def up(small: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Transpose-convolve (B, O, h, w) in bf16 with weights (O, C, 4, 4) in float32; return (B, C, 2h, 2w), Y and W."""
    b, _, h, w = small.shape
    y, parts = parts_of_small(small), parts_of_weight(weight)  # (9, T, O), (9, O, 4C)
    return sum_large(torch.bmm(y, parts), torch.Size((b, weight.shape[1], 2 * h, 2 * w))), y, parts


def gradients(
    grad: Tensor, x_parts: Tensor, weight_parts: Tensor, shape: torch.Size, is_down: bool, to_x: bool, to_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return the requested gradients of a layer's input and weights.

    Args:
        grad: gradient of the output, a map in bf16.
        x_parts: parts of the input from `down` or `up`.
        weight_parts: parts of the weights from `down` or `up`.
        shape: shape of the input.
        is_down: whether the layer is `down` and not `up`.
        to_x: whether to compute the gradient of the input.
        to_weight: whether to compute the gradient of the weights, (O, C, 4, 4) in float32.
    """
    y = parts_of_small(grad) if is_down else x_parts  # (9, T, O)
    s = x_parts if is_down else parts_of_large(grad)  # (9, T, 4C)
    of_x = None
    if to_x and is_down:
        of_x = sum_large(torch.bmm(y, weight_parts), shape)
    elif to_x:
        of_x = sum_small(torch.bmm(s, weight_parts.mT), shape)
    return of_x, sum_weight(weight_products(y, s)) if to_weight else None


def weight_products(y: Tensor, s: Tensor) -> Tensor:
    """Return Y^T S in pieces: (9, T, O) and (9, T, 4C) -> (9 * pieces, O, 4C).

    The two halves of the tiles have separate products, which `sum_weight` adds in float32. Nine products over all tiles
    would be uneven work for two threads, which would both prepare the operands of the fifth.
    """
    _, tiles, o = y.shape
    pieces = 2 if tiles % 2 == 0 else 1
    rows = tiles // pieces
    return torch.bmm(y.reshape(9 * pieces, rows, o).mT, s.reshape(9 * pieces, rows, -1))


# ---------------------------------------------------------------------- parts and sums


def parts_of_weight(weight: Tensor) -> Tensor:
    """Transform weights (O, C, 4, 4) in float32 to W (9, O, 4C)."""
    o, c = weight.shape[:2]
    parts = weight.new_empty(9, o, 4 * c, dtype=torch.bfloat16)
    _run("cut_weight", channels_last(weight), parts, o, c // 2)
    return parts


def parts_of_small(small: Tensor) -> Tensor:
    """Transform (B, O, h, w) to Y (9, T, O)."""
    b, o, h, w = small.shape
    parts = small.new_empty(9, b * (h // 2) * (w // 2), o)
    _run("cut_small", channels_last(small), parts, b, h // 2, w // 2, o // 2)
    return parts


def parts_of_large(large: Tensor) -> Tensor:
    """Transform (B, C, 2h, 2w) to S (9, T, 4C)."""
    b, c, height, width = large.shape
    parts = large.new_empty(9, b * (height // 4) * (width // 4), 4 * c)
    _run("cut_large", channels_last(large), parts, b, height, width, c // 2)
    return parts


def sum_small(parts: Tensor, shape: torch.Size) -> Tensor:
    """Sum parts (9, T, O) to a map (B, O, h, w) of the given shape."""
    b, o, h, w = shape
    small = new_map(parts, shape)
    _run("sum_small", parts.contiguous(), small, b, h // 2, w // 2, o // 2)
    return small


def sum_weight(parts: Tensor) -> Tensor:
    """Sum parts (9 * pieces, O, 4C) to weights (O, C, 4, 4) in float32, channels last."""
    o, c = parts.shape[1], parts.shape[2] // 4
    weight = torch.empty(o, 4, 4, c)
    _run("sum_weight", parts.contiguous(), weight, o, c // 2, len(parts) // 9)
    return weight.permute(0, 3, 1, 2)  # (O, 4, 4, C) -> (O, C, 4, 4)


def sum_large(parts: Tensor, shape: torch.Size) -> Tensor:
    """Sum parts (9, T, 4C) to a map (B, C, 2h, 2w) of the given shape."""
    b, c, height, width = shape
    large = new_map(parts, shape)
    _run("sum_large", parts.contiguous(), large, b, height, width, c // 2)
    return large


def _run(loop: str, x: Tensor, out: Tensor, *sizes: int) -> None:
    loops: Any = compiled_loops()
    loops.run(getattr(loops, loop), (x, out), *sizes)
