"""Maps, weights and torch's own convolutions to compare with."""

from __future__ import annotations

import pytest
import torch

from fexgan_lit.kernels import compiled_loops

needs_loops = pytest.mark.skipif(compiled_loops() is None, reason="needs GNU OpenMP")


def last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def layer(shape, dtype, seed=0):
    """A large map, a small one and weights, which are those of float32 where maps are less exact."""
    b, c, o, h, w = shape
    torch.manual_seed(seed)
    large, small, weight = torch.randn(b, c, 2 * h, 2 * w), torch.randn(b, o, h, w), torch.randn(o, c, 4, 4)
    return last(large.to(dtype)), last(small.to(dtype)), last(weight.to(torch.promote_types(dtype, torch.float32)))


def by_torch(large, small, weight):
    """What becomes of the large map, of the small one, and the gradient of the weights, in float64."""
    large, small, weight = (x.detach().double().clone() for x in (large, small, weight))
    weight.requires_grad_()
    halved = torch.conv2d(large, weight, stride=2, padding=1)
    (gradient,) = torch.autograd.grad(halved, weight, small)
    return halved.detach(), torch.conv_transpose2d(small, weight.detach(), stride=2, padding=1), gradient
