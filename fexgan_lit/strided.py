"""The 4x4 convolutions of stride 2 of FExGAN's networks, by fewer operations where a processor is faster with them.

- The deep layers hold millions of weights and look at maps of a few pixels. A processor's convolution kernels rearrange
  the weights for every pass over such a map; a matrix product reads them once. Both do the same sums in another order.
- The wide layers on larger maps make most of an iteration. In training in bf16 they are computed by minimal filtering,
  nine products in place of sixteen (`fexgan_lit.winograd`). In use they are torch's kernels.
- A layer that paints an image gives three channels, which kernels fill up to sixteen. Here it gives the twelve of 2x2
  pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle

from fexgan_lit import loops
from fexgan_lit.autograd import once
from fexgan_lit.maps import channels_last, new_map
from fexgan_lit.published import are_kernels_alone
from fexgan_lit.winograd import passes as winograd

#: Channels from which a pass over a map, forward or back to its input, is a matrix product where pixels are few.
WIDE = 256
#: Pixels a channel up to which the gradient of the weights is one; there the convolution kernels are slowest.
WEIGHT_PIXELS = 4
#: Channels, of either side and multiplied, from which nine products cost less than sixteen where pixels are many and
#: loops add up, and in which precisions: torch's convolutions in float32 are up to 1.7 times as fast as its products.
SPARING, SPARING_PRODUCT, SPARING_PRECISIONS = 32, 32 * 64, (torch.bfloat16,)
#: Channels up to which a map is painted as 2x2 stacked pixels.
FEW = 4


class HalvingConv(nn.Conv2d):
    """Conv 4x4, stride 2, padding 1, without bias: (B, C, 2h, 2w) -> (B, O, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if not are_kernels_alone():
            if x.shape[2:] == (2, 2):
                pixel = x.permute(0, 2, 3, 1).flatten(1) @ seen_of_a_pixel(self.weight).T  # (B, 4C) -> (B, O)
                return pixel[:, :, None, None]  # (B, O) -> (B, O, 1, 1)
            if is_ours(self.weight, *size_of_small(x, halving=True)):
                return strided(x, self.weight, None, halving=True)
        return super().forward(x)


class DoublingConv(nn.ConvTranspose2d):
    """Transposed conv 4x4, stride 2, padding 1: (B, O, h, w) -> (B, C, 2h, 2w)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See the class."""
        if not are_kernels_alone():
            if x.shape[2:] == (1, 1) and self.bias is None:
                pixels = x.flatten(1) @ seen_of_a_pixel(self.weight)  # (B, O) -> (B, 4C)
                return pixels.unflatten(1, (2, 2, -1)).permute(0, 3, 1, 2)  # (B, 2, 2, C) -> (B, C, 2, 2)
            if is_ours(self.weight, *size_of_small(x, halving=False)):
                return strided(x, self.weight, self.bias, halving=False)
        return super().forward(x, output_size)


def seen_of_a_pixel(weight: Tensor) -> Tensor:
    """Weights (O, C, 4, 4) -> (O, 4C), channels last: the inner 2x2, all of a kernel that is not on the padding.

    Between 2x2 pixels and one, a convolution of any kind is this dense layer, on every device.
    """
    return weight.permute(0, 2, 3, 1)[:, 1:3, 1:3].flatten(1)  # (O, C, 4, 4) -> (O, 2, 2, C) -> (O, 4C)


def is_ours(weight: Tensor, b: int, h: int, w: int) -> bool:
    """Whether some pass of a layer is not a convolution kernel of torch's; its smaller map is (B, O, h, w).

    Only on a processor, with weights that lie channels last (else they would be copied), and not in a graph that is
    compiled or exported.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False  # asked first: a graph for any batch must not look at this one
    return (
        (weight.shape[1] <= FEW or has_few_pixels(weight, b * h * w) or is_spared(weight, b, h, w))
        and weight.device.type == "cpu"
        and weight.is_contiguous(memory_format=torch.channels_last)
    )


def is_small(weight: Tensor, pixels: int) -> bool:
    """Whether a pass over a map of so many pixels costs less as a matrix product: the weights outweigh it by far."""
    return WIDE <= min(weight.shape[:2]) >= pixels


def has_few_pixels(weight: Tensor, pixels: int) -> bool:
    """Whether the gradient of the weights costs less as one matrix product, `pixels` being those of the smaller map."""
    return pixels <= WEIGHT_PIXELS * min(weight.shape[:2])


def is_spared(weight: Tensor, b: int, h: int, w: int) -> bool:
    """Whether training costs less by minimal filtering: sums of parts must not outweigh the products they spare."""
    o, c = weight.shape[:2]
    wider = 1 if o % loops.CHANNELS == c % loops.CHANNELS == 0 and loops.are_coming() else 2  # sums by torch cost more
    tiled = h % 2 == w % 2 == 0
    wide = min(o, c) >= wider * SPARING and o * c >= wider**2 * SPARING_PRODUCT
    return tiled and wide and b * h * w > min(o, c)


def strided(x: Tensor, weight: Tensor, bias: Tensor | None, halving: bool) -> Tensor:
    """The map that a layer makes of `x`, which is taken in the precision in which autocast would hand it over."""
    if torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    trained = torch.is_grad_enabled() and weight.requires_grad and x.dtype in SPARING_PRECISIONS
    spared = trained and bias is None and is_spared(weight, *size_of_small(x, halving))
    return _Strided.apply(x, weight, bias, halving, spared)


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
    """`HalvingConv`, or `DoublingConv` where not `halving`: each is what the other's gradient is made with.

    It computes in the precision of the map; the gradient of the weights comes back in that of the weights. `spared` are
    the layers computed by minimal filtering.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, halving: bool, spared: bool) -> Tensor:
        ctx.halving, ctx.spared, ctx.shape = halving, spared, x.shape
        if spared:
            out, parts = winograd.halve(x, weight) if halving else winograd.double(x, weight)
            ctx.save_for_backward(weight, *parts)
        else:
            cast = weight.to(x.dtype)
            out = halve(x, cast) if halving else double(x, cast, bias)
            ctx.save_for_backward(weight, x, cast)
        return out

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        weight, kept, used = ctx.saved_tensors
        if ctx.spared:
            parts = winograd.Parts(kept, used)
            to_x, to_weight = winograd.gradients(grad, parts, weight, ctx.shape, ctx.halving, *wanted(ctx))
        else:
            to_x, to_weight = gradients(grad, kept, used, ctx.halving, *wanted(ctx))
        to_bias = grad.sum((0, 2, 3), dtype=weight.dtype) if ctx.needs_input_grad[2] else None
        return to_x, None if to_weight is None else to_weight.to(weight.dtype), to_bias, None, None


def size_of_small(x: Tensor, halving: bool) -> tuple[int, int, int]:
    """B, h, w of the smaller map of a layer that gets `x`."""
    b, _, height, width = x.shape
    return (b, height // 2, width // 2) if halving else (b, height, width)


def gradients(
    grad: Tensor, x: Tensor, weight: Tensor, halving: bool, to_x: bool, to_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of a layer's input `x` and weights where asked for, each a pass of its own.

    `grad` is that of what came out.
    """
    back = None
    if to_x:
        back = double(grad, weight) if halving else halve(grad, weight)
    if not to_weight:
        return back, None
    return back, weight_gradient(grad, x, weight) if halving else weight_gradient(x, grad, weight)


def halve(large: Tensor, weight: Tensor) -> Tensor:
    """(B, C, 2h, 2w) and weights (O, C, 4, 4) -> (B, O, h, w)."""
    b, _, height, width = large.shape
    h, w = height // 2, width // 2
    if not is_small(weight, b * h * w):
        return torch.conv2d(large, weight, stride=2, padding=1)
    small = new_map(large, torch.Size((b, len(weight), h, w)))
    torch.mm(windows(large), as_matrix(weight).T, out=small.permute(0, 2, 3, 1).view(b * h * w, -1))
    return small


def double(small: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(B, O, h, w) and weights (O, C, 4, 4) -> (B, C, 2h, 2w), plus bias (C,): the transpose of `halve`."""
    b, o, h, w = small.shape
    bias = None if bias is None else bias.to(small.dtype)
    if weight.shape[1] <= FEW:
        return paint(small, weight, bias)
    if bias is not None or not is_small(weight, b * h * w):
        return torch.conv_transpose2d(small, weight, bias, stride=2, padding=1)
    rows = small.permute(0, 2, 3, 1).reshape(-1, o)  # (B, O, h, w) -> (B*h*w, O)
    patches = (rows @ as_matrix(weight)).view(b, h, w, 4, 4, -1)  # (B, h, w, 4, 4, C)
    return sum_patches(patches)


def sum_patches(patches: Tensor) -> Tensor:
    """(B, h, w, 4, 4, C) -> (B, C, 2h, 2w): overlapping patches, summed in float32 as a convolution kernel would."""
    b, h, w, _, _, c = patches.shape
    large = new_map(patches, torch.Size((b, c, 2 * h, 2 * w)))
    if patches.dtype == torch.bfloat16 and c % loops.CHANNELS == 0 and loops.are_ready():
        from fexgan_lit.loops import patches as compiled  # which compiles it
        from fexgan_lit.loops.team import run

        run(compiled.sum_patches, (patches, large), b, h, w, c // 2)
        return large
    framed = torch.zeros(b, 2 * h + 2, 2 * w + 2, c)
    for i in range(4):
        for j in range(4):
            framed[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += patches[:, :, :, i, j]
    return large.copy_(framed[:, 1:-1, 1:-1].permute(0, 3, 1, 2))  # (B, 2h, 2w, C) -> (B, C, 2h, 2w)


def paint(small: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`double` to few channels C: a convolution to 2x2 stacked pixels, which are then laid out."""
    o, c = weight.shape[:2]
    # (O, C, tap, row, tap, column); a transposed convolution turns the taps
    taps = weight.view(o, c, 2, 2, 2, 2).flip(2, 4)
    kernel = channels_last(taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * c, o, 2, 2))
    bias = None if bias is None else bias.repeat_interleave(4)
    stacked = torch.conv2d(small, kernel, bias, padding=1)  # (B, 4C, h+1, w+1)
    framed = pixel_shuffle(stacked, 2)  # (B, C, 2h+2, 2w+2)
    return channels_last(framed[:, :, 1:-1, 1:-1])


def weight_gradient(small: Tensor, large: Tensor, weight: Tensor) -> Tensor:
    """(B, O, h, w) and (B, C, 2h, 2w), one of them a gradient -> the gradient (O, C, 4, 4) of the weights."""
    b, o, h, w = small.shape
    if not has_few_pixels(weight, b * h * w):
        asked = (False, True, False)  # input, weights, bias
        by_kernel = torch.ops.aten.convolution_backward(
            small, large, weight, None, (2, 2), (1, 1), (1, 1), False, (0, 0), 1, asked
        )
        return by_kernel[1]
    rows = small.permute(0, 2, 3, 1).reshape(-1, o)  # (B, O, h, w) -> (B*h*w, O)
    return (rows.T @ windows(large)).view(o, 4, 4, -1).permute(0, 3, 1, 2)  # (O, 16C) -> (O, C, 4, 4)


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
