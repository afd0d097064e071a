"""The six functions of `fexgan_lit.winograd.operations` in bf16 by compiled loops, with the same bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.winograd.loops import ENTRIES
from fexgan_lit.winograd.operations import new_map
from fexgan_lit.winograd.team import run


def parts_of_weight(weight: Tensor) -> Tensor:
    """(O, C, 4, 4) -> (9, O, 4C)."""
    o, c = weight.shape[:2]
    parts, n = weight.new_empty(9, o, 4 * c), c // 2
    run(ENTRIES["cut_pairs"], _map(weight), _flat(parts), o, 16 * n, 2, 4 * n, 8 * n, 1, 2 * n)
    return parts


def parts_of_small(small: Tensor) -> Tensor:
    """(B, O, h, w) -> (9, T, O)."""
    b, o, h, w = small.shape
    parts, n = small.new_empty(9, b * (h // 2) * (w // 2), o), o // 2
    run(ENTRIES["cut_pairs"], _map(small), _flat(parts), b, h * w * n, h // 2, 2 * w * n, w * n, w // 2, n)
    return parts


def parts_of_large(large: Tensor) -> Tensor:
    """(B, C, 2h, 2w) -> (9, T, 4C)."""
    b, c, height, width = large.shape
    parts = large.new_empty(9, b * (height // 4) * (width // 4), 4 * c)
    run(ENTRIES["cut_large"], _map(large), _flat(parts), b, height, width, c // 2)
    return parts


def small_of(parts: Tensor, shape: torch.Size) -> Tensor:
    """(9, T, O) -> (B, O, h, w)."""
    b, o, h, w = shape
    small = new_map(parts, shape)
    run(ENTRIES["sum_small"], _flat(parts), _map(small), b, h // 2, w // 2, o // 2)
    return small


def weight_of(parts: Tensor, shape: torch.Size) -> Tensor:
    """(9, O, 4C) -> (O, C, 4, 4) in float32."""
    o, c = shape[:2]
    weight = torch.empty(o, 4, 4, c)
    run(ENTRIES["sum_weight"], _flat(parts), weight.numpy(), o, c // 2)
    return weight.permute(0, 3, 1, 2)  # (O, 4, 4, C) -> (O, C, 4, 4)


def large_of(parts: Tensor, shape: torch.Size) -> Tensor:
    """(9, T, 4C) -> (B, C, 2h, 2w)."""
    b, c, height, width = shape
    large = new_map(parts, shape)
    run(ENTRIES["sum_large"], _flat(parts), _map(large), b, height, width, c // 2)
    return large


def _map(tensor: Tensor) -> np.ndarray:
    """A map or weights (B, C, H, W), channels last."""
    return _flat(tensor.permute(0, 2, 3, 1))


def _flat(tensor: Tensor) -> np.ndarray:
    """The bits of values in bf16, in the order of their indices."""
    return tensor.detach().contiguous().view(torch.int16).numpy()
