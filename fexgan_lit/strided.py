"""The 4x4 convolutions of stride 2 of FExGAN's blocks, as matrix products where a processor is faster with them.

The deep layers hold millions of weights and look at maps of a few pixels. A processor's convolution kernels rearrange
the weights for every pass over such a map; a matrix product reads them once. Both do the same sums in another order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

#: Channels from which a pass over a map, forward or back to its input, is a matrix product where pixels are few.
WIDE = 256
#: Pixels a channel up to which the gradient of the weights is one; there the convolution kernels are slowest.
WEIGHT_PIXELS = 4


class HalvingConv(nn.Conv2d):
    """Conv 4x4, stride 2, padding 1, without bias: (B, C, 2h, 2w) -> (B, O, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if x.shape[2:] == (2, 2):
            pixel = x.permute(0, 2, 3, 1).flatten(1) @ seen_of_a_pixel(self.weight).T  # (B, 4C) -> (B, O)
            return pixel[:, :, None, None]  # (B, O) -> (B, O, 1, 1)
        if takes_products(self.weight, x.shape[0] * x.shape[2] * x.shape[3] // 4):
            return _Strided.apply(*in_precision_of_autocast(x, self.weight), True)
        return super().forward(x)


class DoublingConv(nn.ConvTranspose2d):
    """Transposed conv 4x4, stride 2, padding 1, without bias: (B, O, h, w) -> (B, C, 2h, 2w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See the class."""
        if x.shape[2:] == (1, 1):
            pixels = x.flatten(1) @ seen_of_a_pixel(self.weight)  # (B, O) -> (B, 4C)
            return pixels.unflatten(1, (2, 2, -1)).permute(0, 3, 1, 2)  # (B, 2, 2, C) -> (B, C, 2, 2)
        if takes_products(self.weight, x.shape[0] * x.shape[2] * x.shape[3]):
            return _Strided.apply(*in_precision_of_autocast(x, self.weight), False)
        return super().forward(x, output_size)


def seen_of_a_pixel(weight: Tensor) -> Tensor:
    """Weights (O, C, 4, 4) -> (O, 4C), channels last: the inner 2x2, all of a kernel that is not on the padding.

    Between 2x2 pixels and one, a convolution of any kind is this dense layer, on every device.
    """
    return weight.permute(0, 2, 3, 1)[:, 1:3, 1:3].flatten(1)  # (O, C, 4, 4) -> (O, 2, 2, C) -> (O, 4C)


def takes_products(weight: Tensor, pixels: int) -> bool:
    """Whether some pass of a layer is a matrix product, `pixels` being those of the smaller map over the whole batch.

    Only on a processor, with weights that lie channels last (else they would be copied), and not in a graph that is
    compiled or exported.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False  # asked first: a graph for any batch must not look at this one
    return (
        pixels <= WEIGHT_PIXELS * min(weight.shape[:2])
        and weight.device.type == "cpu"
        and weight.is_contiguous(memory_format=torch.channels_last)
    )


def is_small(weight: Tensor, pixels: int) -> bool:
    """Whether a pass over a map of so many pixels costs less as a matrix product: the weights outweigh it by far."""
    return WIDE <= min(weight.shape[:2]) >= pixels


def in_precision_of_autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both as autocast would hand them to a convolution."""
    if not torch.is_autocast_enabled("cpu"):
        return x, weight
    precision = torch.get_autocast_dtype("cpu")
    return x.to(precision), weight.to(precision)


def wanted(ctx: Any) -> tuple[bool, bool]:
    """Whether this backward pass asks for the gradients of the input and of the weights.

    `needs_input_grad` says what could be asked for at all. A discriminator that is walked back for its generator's loss
    is asked for the input's alone, which torch's own operations find out in the same way.
    """
    nodes = [node for node, _ in ctx.next_functions]
    to_x, to_weight = (
        may and _is_asked_for(node) for may, node in zip(ctx.needs_input_grad[:2], nodes[:2], strict=True)
    )
    return to_x, to_weight


def _is_asked_for(node: Any) -> bool:
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except (AttributeError, RuntimeError):  # another torch; or torch.autograd.grad, which does not tell of weights
        return True


class _Strided(torch.autograd.Function):
    """`HalvingConv`, or `DoublingConv` where not `halving`: each is what the other's gradient is made with."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, halving: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.halving = halving
        return halve(x, weight) if halving else double(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        back, (small, large) = (double, (grad, x)) if ctx.halving else (halve, (x, grad))
        to_x, to_weight = wanted(ctx)
        return back(grad, weight) if to_x else None, weight_gradient(small, large) if to_weight else None, None


def halve(large: Tensor, weight: Tensor) -> Tensor:
    """(B, C, 2h, 2w) and weights (O, C, 4, 4) -> (B, O, h, w)."""
    b, _, height, width = large.shape
    h, w = height // 2, width // 2
    if not is_small(weight, b * h * w):
        return torch.conv2d(large, weight, stride=2, padding=1)
    small = windows(large) @ as_matrix(weight).T  # (B*h*w, O)
    return small.view(b, h, w, -1).permute(0, 3, 1, 2)


def double(small: Tensor, weight: Tensor) -> Tensor:
    """(B, O, h, w) and weights (O, C, 4, 4) -> (B, C, 2h, 2w): the transpose of `halve`."""
    b, o, h, w = small.shape
    if not is_small(weight, b * h * w):
        return torch.conv_transpose2d(small, weight, stride=2, padding=1)
    rows = small.permute(0, 2, 3, 1).reshape(-1, o)  # (B, O, h, w) -> (B*h*w, O)
    patches = (rows @ as_matrix(weight)).view(b, h, w, 4, 4, -1)  # (B, h, w, 4, 4, C)
    # overlapping patches are added up in float32, as a convolution kernel would
    large = torch.zeros(b, 2 * h + 2, 2 * w + 2, weight.shape[1])
    for i in range(4):
        for j in range(4):
            large[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += patches[:, :, :, i, j]
    return large[:, 1:-1, 1:-1].to(small.dtype).permute(0, 3, 1, 2)  # (B, 2h, 2w, C) -> (B, C, 2h, 2w)


def weight_gradient(small: Tensor, large: Tensor) -> Tensor:
    """(B, O, h, w) and (B, C, 2h, 2w), one of them a gradient -> the gradient (O, C, 4, 4) of the weights."""
    o, c = small.shape[1], large.shape[1]
    rows = small.permute(0, 2, 3, 1).reshape(-1, o)  # (B, O, h, w) -> (B*h*w, O)
    return (rows.T @ windows(large)).view(o, 4, 4, c).permute(0, 3, 1, 2)  # (O, 16C) -> (O, C, 4, 4)


def windows(large: Tensor) -> Tensor:
    """(B, C, 2h, 2w) -> (B*h*w, 16C): for every pixel of the halved map the 4x4 pixels it sees, channels last."""
    b, c, height, width = large.shape
    framed = pad(large.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (B, 2h+2, 2w+2, C)
    per_image, per_row, per_pixel, _ = framed.stride()
    strides = (per_image, 2 * per_row, 2 * per_pixel, per_row, per_pixel, 1)
    return framed.as_strided((b, height // 2, width // 2, 4, 4, c), strides).reshape(-1, 16 * c)


def as_matrix(weight: Tensor) -> Tensor:
    """(O, C, 4, 4) -> (O, 16C) in the order of `windows`, without a copy where it lies channels last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
