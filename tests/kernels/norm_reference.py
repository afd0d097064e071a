"""Batch norm over the rows of maps and the activation after it, by torch's operations (`fexgan_lit.kernels.blocks`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.kernels.memory import new_map

#: Rows (pixels) that are added up at a time, and how many such sums.
BLOCK = BLOCKS = 16


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, options: Tensor
) -> tuple[Tensor, Tensor]:
    """A map (B, C, H, W) normalised and activated, and (4, C): mean, 1 / deviation, scale and shift.

    Args:
        x: the map, channels last.
        weight: (C,).
        bias: (C,).
        running_mean: (C,), moved towards the mean in place.
        running_var: (C,), moved towards the variance in place.
        options: epsilon, momentum and the slope for negative values.
    """
    rows = rows_of(x)
    epsilon, momentum, slope = options
    first = rows[0]
    from_first = rows - first  # so that a mean far from zero takes no digits of the variance
    away = summed(from_first) / len(rows)
    var = (summed(from_first * from_first) / len(rows) - away * away).clamp(min=0)
    mean, inverse = first + away, one_over_root(var + epsilon)
    scale = inverse * weight
    shift = bias - mean * scale
    count = torch.tensor(float(len(rows)))
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * (count / (count - 1)) - running_var)
    z = rows * scale + shift
    return as_map(torch.where(z > 0, z, z * slope), x), torch.stack((mean, inverse, scale, shift))


def gradients(grad: Tensor, x: Tensor, stats: Tensor, options: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the map, (B, C, H, W), and of weight and bias, (2, C), given that of what came out."""
    rows, to_rows = rows_of(x), rows_of(grad)
    mean, inverse, scale, shift = stats
    to_rows = torch.where(rows * scale + shift > 0, to_rows, to_rows * options[2])
    total, along = summed(to_rows), summed(to_rows * (rows - mean))
    share = scale * inverse * inverse * (along / len(rows))
    back = scale * (to_rows - total / len(rows)) - share * (rows - mean)
    return as_map(back, x), torch.stack((along * inverse, total))


def rows_of(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B*H*W, C) in float32."""
    return x.permute(0, 2, 3, 1).flatten(0, 2).float()


def as_map(rows: Tensor, like: Tensor) -> Tensor:
    """(B*H*W, C) -> (B, C, H, W), channels last, in the precision of `like`."""
    b, c, height, width = like.shape
    return new_map(like, like.shape).copy_(rows.view(b, height, width, c).permute(0, 3, 1, 2))


def one_over_root(values: Tensor) -> Tensor:
    """1 / sqrt, each of the two to the nearest float32; torch's root is now and then the one beside it."""
    return torch.from_numpy(np.float32(1) / np.sqrt(values.numpy()))


def summed(rows: Tensor) -> Tensor:
    """(rows, C) -> (C,): blocks of sixteen rows, sixteen of their sums, and those of all chunks, each one by one.

    An order that any number of threads can keep, with errors of a few roundings however many rows there are.
    """
    chunks = -(-len(rows) // (BLOCK * BLOCKS))
    sums = rows.new_zeros(chunks * BLOCK * BLOCKS, rows.shape[1])
    sums[: len(rows)] = rows
    for count in (BLOCK, BLOCKS, chunks):
        parts = sums.view(-1, count, rows.shape[1])
        sums = torch.zeros_like(parts[:, 0])
        for i in range(count):
            sums = sums + parts[:, i]
    return sums[0]
