"""When batch norm and its activation are one operation, and that operation."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from fexgan_lit import loops
from fexgan_lit.autograd import once
from fexgan_lit.batch_norm import operations
from fexgan_lit.maps import channels_last
from fexgan_lit.published import are_kernels_alone


def is_ours(layer: nn.Module, x: Tensor) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a layer is a batch norm that is done here, on a map `x`: trained in bf16 on a processor.

    A synchronised one, one without statistics or without weights is torch's, and so is every one in use, exported or
    compiled.
    """
    return (
        type(layer) is nn.BatchNorm2d
        and layer.training
        and x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and x.shape[1] % loops.CHANNELS == 0
        and x.numel() > x.shape[1]
        and layer.affine
        and layer.track_running_stats
        and layer.momentum is not None
        and layer.weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and not are_kernels_alone()
        and loops.are_coming()
    )


def slope_of(activation: nn.Module | None) -> float | None:
    """What an activation multiplies negative values by; None for any other module."""
    if isinstance(activation, nn.LeakyReLU):
        return float(activation.negative_slope)
    return {nn.ReLU: 0.0, nn.Identity: 1.0}.get(type(activation))


def activated(x: Tensor, norm: nn.BatchNorm2d, slope: float = 1.0) -> Tensor:
    """A map (B, C, H, W) through a batch norm that is in training, and a leaky ReLU of that slope."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    told = _told(norm.eps, norm.momentum, slope)
    return _Activated.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, told)


class _Activated(torch.autograd.Function):
    """See the package; it computes in float32 and rounds once, to the precision of the map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, told: Tensor) -> Tensor:
        out, stats = _operations().normalise(x, weight, bias, mean, var, told)
        ctx.save_for_backward(x, stats, told)
        return out

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, stats, told = ctx.saved_tensors
        to_x, to_both = _operations().gradients(channels_last(grad), x, stats, told)
        return to_x, *to_both.unbind(), None, None, None


def _operations() -> ModuleType:
    if not loops.are_ready():
        return operations
    from fexgan_lit.batch_norm import compiled

    return compiled


@functools.cache
def _told(epsilon: float, momentum: float, slope: float) -> Tensor:
    """The numbers of a layer as loops read them."""
    with torch.inference_mode(False):  # whoever asks first may never walk back, the next one may
        return torch.tensor([epsilon, momentum, slope])
