"""The two functions of `fexgan_lit.batch_norm.operations` in bf16 by compiled loops, with the same bits."""

from __future__ import annotations

import torch
from torch import Tensor

from fexgan_lit.loops import norm
from fexgan_lit.loops.team import run


def normalise(
    x: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, told: Tensor
) -> tuple[Tensor, Tensor]:
    """See there."""
    out, stats = torch.empty_like(x), weight.new_empty(4, len(weight))
    run(norm.normalise, (x, out, _room(x), weight, bias, running_mean, running_var, told, stats), *_sizes(x))
    return out, stats


def gradients(grad: Tensor, x: Tensor, stats: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
    """See there."""
    back, made = torch.empty_like(x), stats.new_empty(2, stats.shape[1])
    run(norm.normalise_back, (grad, x, back, _room(x), told, stats, made), *_sizes(x))
    return back, made


def _sizes(x: Tensor) -> tuple[int, int]:
    """Rows, and pairs of channels."""
    return x.numel() // x.shape[1], x.shape[1] // 2


def _room(x: Tensor) -> Tensor:
    """For the sums of chunks of rows."""
    rows, n = _sizes(x)
    return torch.empty(-(-rows // norm.CHUNK), 4 * n)
