"""The six functions of `fexgan_lit.winograd.operations` in bf16 by compiled loops, with the same bits."""

from __future__ import annotations

import torch
from torch import Tensor

from fexgan_lit.loops import minimal
from fexgan_lit.loops.team import run
from fexgan_lit.maps import channels_last, new_map


def parts_of_weight(weight: Tensor, precision: torch.dtype) -> Tensor:
    """(O, C, 4, 4) in float32 -> (9, O, 4C) in that precision, bf16."""
    o, c = weight.shape[:2]
    parts = weight.new_empty(9, o, 4 * c, dtype=precision)
    run(minimal.cut_weight, (channels_last(weight), parts), o, c // 2)
    return parts


def parts_of_small(small: Tensor) -> Tensor:
    """(B, O, h, w) -> (9, T, O)."""
    b, o, h, w = small.shape
    parts = small.new_empty(9, b * (h // 2) * (w // 2), o)
    run(minimal.cut_small, (channels_last(small), parts), b, h // 2, w // 2, o // 2)
    return parts


def parts_of_large(large: Tensor) -> Tensor:
    """(B, C, 2h, 2w) -> (9, T, 4C)."""
    b, c, height, width = large.shape
    parts = large.new_empty(9, b * (height // 4) * (width // 4), 4 * c)
    run(minimal.cut_large, (channels_last(large), parts), b, height, width, c // 2)
    return parts


def small_of(parts: Tensor, shape: torch.Size) -> Tensor:
    """(9, T, O) -> (B, O, h, w)."""
    b, o, h, w = shape
    small = new_map(parts, shape)
    run(minimal.sum_small, (parts.contiguous(), small), b, h // 2, w // 2, o // 2)
    return small


def weight_of(parts: Tensor, shape: torch.Size) -> Tensor:
    """(9 * pieces, O, 4C) -> (O, C, 4, 4) in float32."""
    o, c = shape[:2]
    weight = torch.empty(o, 4, 4, c)
    run(minimal.sum_weight, (parts.contiguous(), weight), o, c // 2, len(parts) // 9)
    return weight.permute(0, 3, 1, 2)  # (O, 4, 4, C) -> (O, C, 4, 4)


def large_of(parts: Tensor, shape: torch.Size) -> Tensor:
    """(9, T, 4C) -> (B, C, 2h, 2w)."""
    b, c, height, width = shape
    large = new_map(parts, shape)
    run(minimal.sum_large, (parts.contiguous(), large), b, height, width, c // 2)
    return large
