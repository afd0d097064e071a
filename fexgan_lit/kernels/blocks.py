"""Fused layers: batch norm with its activation in one operation (bf16), and dropout with 16 random bits per value.

Forward, with r rows (pixels) of a channel, their mean m and variance v:

    z = s x + t,  s = weight / sqrt(v + epsilon),  t = bias - m s;    y = z where z > 0, else slope z

Backward, with g the gradient of y, multiplied by the slope where z <= 0:

    to bias: sum g,   to weight: sum g (x - m) / sqrt(v + epsilon),
    to x:  s (g - sum g / r) - s (x - m) / (v + epsilon) * sum g (x - m) / r

(S. Ioffe and C. Szegedy, Batch normalization, ICML 2015, section 3.) torch reads a map four times in the forward pass
(mean, variance, result, activation) and three times in the backward pass. The compiled loops read it twice in each pass
and store only the input map. They compute in float32 and round once, to the precision of the map.

Measured on two cores of an AMD EPYC with AVX-512 BF16 (experiments/speed/README.md): batch norm with its activation
reduces the time of an iteration of FExGAN in bf16 to 0.97 at 128 px and full width, and to 0.93 at 64 px and half
width.
"""

from __future__ import annotations

import functools
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fexgan_lit.kernels import CHANNELS, compiled_loops
from fexgan_lit.kernels.memory import channels_last


class FusedBlock(nn.Sequential):
    """An `nn.Sequential` that fuses a batch norm with the activation after it during training."""

    @classmethod
    def replaces(cls, module: nn.Module) -> bool:
        """Return whether a module can become this class by assigning `__class__`."""
        return type(module) is nn.Sequential and any(type(layer) is nn.BatchNorm2d for layer in module)

    def forward(self, x: Tensor) -> Tensor:
        """Apply all layers to a map (B, C, H, W)."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return super().forward(x)
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if is_fusable(layer, x):
                slope = slope_of(layers[0] if layers else None)
                if slope is not None:
                    layers.pop(0)
                x = norm_activation(x, layer, 1.0 if slope is None else slope)
            else:
                x = layer(x)
        return x


def is_fusable(layer: nn.Module, x: Tensor) -> TypeGuard[nn.BatchNorm2d]:
    """Return whether the compiled loops can compute a layer on a map `x`: a batch norm trained in bf16 on a CPU.

    torch computes synchronised batch norms, those without statistics or weights, and all batch norms in inference.
    """
    return (
        type(layer) is nn.BatchNorm2d
        and layer.training
        and x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and x.shape[1] % CHANNELS == 0
        and x.numel() > x.shape[1]
        and layer.affine
        and layer.track_running_stats
        and layer.momentum is not None
        and layer.weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and compiled_loops() is not None
    )


def slope_of(activation: nn.Module | None) -> float | None:
    """Return the slope of an activation for negative values, or None for other modules."""
    if isinstance(activation, nn.LeakyReLU):
        return float(activation.negative_slope)
    return {nn.ReLU: 0.0, nn.Identity: 1.0}.get(type(activation))


def norm_activation(x: Tensor, norm: nn.BatchNorm2d, slope: float = 1.0) -> Tensor:
    """Apply a batch norm in training mode and a leaky ReLU with `slope` to a map (B, C, H, W)."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    options = _options(norm.eps, norm.momentum, slope)
    return _NormActivation.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, options)


@functools.cache
def _options(epsilon: float, momentum: float, slope: float) -> Tensor:
    """Return the options of a layer in the format of the loops."""
    with torch.inference_mode(False):  # the cached tensor must also work for callers with gradients
        return torch.tensor([epsilon, momentum, slope])


class _NormActivation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, options: Tensor
    ) -> Tensor:
        loops: Any = compiled_loops()
        out, stats = torch.empty_like(x), weight.new_empty(4, len(weight))
        rows, pairs = x.numel() // x.shape[1], x.shape[1] // 2
        sums = torch.empty(-(-rows // loops.CHUNK), 4 * pairs)
        loops.run(loops.norm_activation, (x, out, sums, weight, bias, mean, var, options, stats), rows, pairs)
        ctx.save_for_backward(x, stats, options)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        loops: Any = compiled_loops()
        x, stats, options = ctx.saved_tensors
        to_x, to_both = torch.empty_like(x), stats.new_empty(2, stats.shape[1])
        rows, pairs = x.numel() // x.shape[1], x.shape[1] // 2
        sums = torch.empty(-(-rows // loops.CHUNK), 4 * pairs)
        loops.run(
            loops.norm_activation_backward, (channels_last(grad), x, to_x, sums, options, stats, to_both), rows, pairs
        )
        return to_x, *to_both.unbind(), None, None, None


class Dropout(nn.Dropout):
    """`nn.Dropout` for maps (B, C, S, S) with cheap random numbers on a CPU.

    torch draws one double per value, sequentially: 13 ms of the 70 ms that an iteration of FExGAN takes at 64 px and
    half width in bf16; this class takes 4. It decides each value with 16 random bits, so `p` is exact to 1/65536. The
    bits are drawn per pixel, so that they do not depend on the memory layout of the map.
    """

    @classmethod
    def replaces(cls, module: nn.Module) -> bool:
        """Return whether a module can become this class by assigning `__class__`."""
        return type(module) is nn.Dropout

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to `x`; the shape stays the same."""
        if not self.training or x.device.type != "cpu" or x.ndim != 4 or self.p == 1:
            return super().forward(x)
        scale = kept_values(x, self.p).to(x.dtype) * (1 / (1 - self.p))
        return x * scale.permute(0, 3, 1, 2)  # (B, S, S, C) -> (B, C, S, S)


@torch.compiler.disable  # other random numbers in compiled code would train another network
def kept_values(x: Tensor, p: float) -> Tensor:
    """Return (B, S, S, C) bool: which values of maps (B, C, S, S) are kept, each with probability 1 - `p`."""
    b, c, height, width = x.shape
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()]  # four numbers per word, uniform in -32768..32767
    return (bits < round((1 - p) * 65536) - 32768).view(b, height, width, c)
