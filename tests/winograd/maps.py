"""Maps, weights and torch's own convolutions to compare with."""

from __future__ import annotations

import torch

from fexgan_lit.winograd.passes import over_tiles

#: (B, C, O, h, w) of layers: square and not, one tile and many, any channels.
SHAPES = [(3, 6, 10, 2, 2), (2, 4, 8, 4, 6), (5, 34, 18, 6, 2), (4, 64, 70, 8, 8)]
#: The same with channels that compiled loops take.
LOOP_SHAPES = [(3, 32, 64, 2, 2), (2, 64, 32, 4, 6), (5, 96, 32, 6, 2), (4, 64, 96, 8, 8)]


def last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def layer(shape, dtype, seed=0):
    """A large map, a small one and weights, which are those of float32 where maps are less exact."""
    b, c, o, h, w = shape
    torch.manual_seed(seed)
    large, small, weight = torch.randn(b, c, 2 * h, 2 * w), torch.randn(b, o, h, w), torch.randn(o, c, 4, 4)
    kept = torch.promote_types(dtype, torch.float32)
    return last(large.to(dtype)), last(small.to(dtype)), last(weight.to(kept))


def by_kernels(large, small, weight):
    """What becomes of the large map, of the small one, and the gradient of the weights, in float64."""
    large, small, weight = (x.detach().double().clone() for x in (large, small, weight))
    weight.requires_grad_()
    halved = torch.conv2d(large, weight, stride=2, padding=1)
    (gradient,) = torch.autograd.grad(halved, weight, small)
    return halved.detach(), torch.conv_transpose2d(small, weight.detach(), stride=2, padding=1), gradient


def by_parts(do, large, small, weight):
    """The same by the six functions of a module."""
    s, y, w = do.parts_of_large(large), do.parts_of_small(small), do.parts_of_weight(weight, small.dtype)
    change = do.weight_of(over_tiles(y, s), weight.shape)
    return do.small_of(s @ w.mT, small.shape), do.large_of(y @ w, large.shape), change
