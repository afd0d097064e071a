"""4x4 convolutions of stride 2, up and down, with fewer operations where this is faster on a CPU.

- Inner layers have millions of weights and maps of a few pixels. A CPU's convolution kernels rearrange the weights in
  every pass; a matrix product reads them once. A layer between 2x2 pixels and one pixel is a dense layer on every
  device.
- Wide layers on larger maps take most of an iteration. In bf16 training they use Winograd filtering
  (`fexgan_lit.kernels.winograd`); in inference and in float32 they use torch's kernels.
- A layer with an image as output has three channels, which kernels pad to sixteen. Here it computes the twelve channels
  of 2x2 pixels.

Measured with FExGAN at 128 px and full width, and at 64 px and half width (experiments/speed/README.md). On two cores
of an AMD EPYC with AVX-512 BF16, an iteration in bf16 takes 681 and 70 ms. Matrix products for small maps reduce this
to 0.95 and 0.96, stacked pixels for images to 0.99 and 0.96; the compiled sum of patches saves 7 and 2 ms. On a CPU
without AVX-512, matrix products for small maps reduce the time to 0.97 at 64 px in float32; dense layers for single
pixels save some 25 and 8 ms over products of windows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, pixel_shuffle

from fexgan_lit.kernels import CHANNELS, compiled_loops, winograd
from fexgan_lit.kernels.memory import channels_last, new_map

#: Channels from which a forward or input-gradient pass is a matrix product if there are few pixels.
MATMUL_CHANNELS = 256
#: Pixels per channel up to which the weight gradient is a matrix product; there the convolution kernels are slowest.
MATMUL_WEIGHT_PIXELS = 4
#: Smallest channel count of either side, and smallest product of both, for which Winograd filtering is faster.
WINOGRAD_CHANNELS, WINOGRAD_CHANNEL_PRODUCT = 32, 32 * 64
#: Largest number of output channels that are computed as 2x2 stacked pixels.
IMAGE_CHANNELS = 4

_OPTIONS: dict[str, Any] = {
    "kernel_size": (4, 4), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 1,
    "padding_mode": "zeros",
}  # fmt: skip


class DownConv(nn.Conv2d):
    """`nn.Conv2d(C, O, 4, stride=2, padding=1, bias=False)`: (B, C, 2h, 2w) -> (B, O, h, w).

    The gradient cannot be differentiated again, so this class does not work under a gradient penalty.
    """

    @classmethod
    def replaces(cls, module: nn.Module) -> bool:
        """Return whether a module can become this class by assigning `__class__`."""
        same = all(getattr(module, name, None) == value for name, value in _OPTIONS.items())
        return type(module) is nn.Conv2d and same and module.bias is None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution; see the class for shapes."""
        if x.shape[2:] == (2, 2):
            pixel = x.permute(0, 2, 3, 1).flatten(1) @ inner_weight(self.weight).T  # (B, 4C) -> (B, O)
            return pixel[:, :, None, None]  # (B, O) -> (B, O, 1, 1)
        out = strided_conv(x, self.weight, None, is_down=True)
        return super().forward(x) if out is None else out


class UpConv(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d(O, C, 4, stride=2, padding=1)`: (B, O, h, w) -> (B, C, 2h, 2w).

    The gradient cannot be differentiated again, so this class does not work under a gradient penalty.
    """

    @classmethod
    def replaces(cls, module: nn.Module) -> bool:
        """Return whether a module can become this class by assigning `__class__`."""
        same = all(getattr(module, name, None) == value for name, value in _OPTIONS.items())
        return type(module) is nn.ConvTranspose2d and same and module.output_padding == (0, 0)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Compute the transposed convolution; see the class for shapes."""
        if x.shape[2:] == (1, 1) and self.bias is None:
            pixels = x.flatten(1) @ inner_weight(self.weight)  # (B, O) -> (B, 4C)
            return pixels.unflatten(1, (2, 2, -1)).permute(0, 3, 1, 2)  # (B, 2, 2, C) -> (B, C, 2, 2)
        out = strided_conv(x, self.weight, self.bias, is_down=False)
        return super().forward(x, output_size) if out is None else out


def inner_weight(weight: Tensor) -> Tensor:
    """Return the inner 2x2 taps of weights (O, C, 4, 4) as (O, 4C), channels last; the other taps only see padding."""
    return weight.permute(0, 2, 3, 1)[:, 1:3, 1:3].flatten(1)  # (O, C, 4, 4) -> (O, 2, 2, C) -> (O, 4C)


def strided_conv(x: Tensor, weight: Tensor, bias: Tensor | None, is_down: bool) -> Tensor | None:
    """Return the output of a layer, or None where torch's convolutions should compute every pass.

    The result is None on other devices, for weights in contiguous format (every pass would copy them), and in compiled
    or exported graphs.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return None  # checked first, since a graph for any batch size must not depend on this batch
    if weight.device.type != "cpu" or not weight.is_contiguous(memory_format=torch.channels_last):
        return None
    if torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    b, _, height, width = x.shape
    h, w = (height // 2, width // 2) if is_down else (height, width)
    is_trained = torch.is_grad_enabled() and weight.requires_grad
    minimal = is_trained and bias is None and use_winograd(x, weight, h, w)
    if not minimal and weight.shape[1] > IMAGE_CHANNELS and not use_matmul_for_weight_gradient(weight, b * h * w):
        return None
    return _StridedConv.apply(x, weight, bias, is_down, minimal)


def use_matmul(weight: Tensor, pixels: int) -> bool:
    """Return whether a pass over a map of `pixels` pixels is faster as a matrix product (few pixels)."""
    return MATMUL_CHANNELS <= min(weight.shape[:2]) >= pixels


def use_matmul_for_weight_gradient(weight: Tensor, pixels: int) -> bool:
    """Return whether the weight gradient is faster as one matrix product; `pixels` counts the smaller map."""
    return pixels <= MATMUL_WEIGHT_PIXELS * min(weight.shape[:2])


def use_winograd(x: Tensor, weight: Tensor, h: int, w: int) -> bool:
    """Return whether Winograd filtering makes training faster; the smaller map is (B, O, h, w).

    It is faster only in bf16, since torch's float32 convolutions are up to 1.7 times as fast as its matrix products.
    The extra additions must cost less than the multiplications they save.
    """
    o, c = weight.shape[:2]
    return (
        x.dtype == torch.bfloat16
        and weight.dtype == torch.float32
        and o % CHANNELS == c % CHANNELS == h % 2 == w % 2 == 0
        and min(o, c) >= WINOGRAD_CHANNELS
        and o * c >= WINOGRAD_CHANNEL_PRODUCT
        and len(x) * h * w > min(o, c)
        and compiled_loops() is not None
    )


class _StridedConv(torch.autograd.Function):
    """`DownConv`, or `UpConv` if not `is_down`; each computes its gradient with the other.

    The computation is in the precision of the map; the weight gradient has the precision of the weights.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, is_down: bool, minimal: bool) -> Tensor:
        ctx.is_down, ctx.minimal, ctx.shape = is_down, minimal, x.shape
        if minimal:
            out, *parts = winograd.down(x, weight) if is_down else winograd.up(x, weight)
            ctx.save_for_backward(weight, *parts)
        else:
            cast = weight.to(x.dtype)
            out = down(x, cast) if is_down else up(x, cast, bias)
            ctx.save_for_backward(weight, x, cast)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        weight, x, used = ctx.saved_tensors
        needs_x, needs_weight = needed_gradients(ctx)
        to_x = to_weight = None
        if ctx.minimal:
            to_x, to_weight = winograd.gradients(grad, x, used, ctx.shape, ctx.is_down, needs_x, needs_weight)
        else:
            if needs_x:
                to_x = up(grad, used) if ctx.is_down else down(grad, used)
            if needs_weight:
                small, large = (grad, x) if ctx.is_down else (x, grad)
                to_weight = weight_gradient(small, large, used).to(weight.dtype)
        to_bias = grad.sum((0, 2, 3), dtype=weight.dtype) if ctx.needs_input_grad[2] else None
        return to_x, to_weight, to_bias, None, None


def needed_gradients(ctx: Any) -> list[bool]:
    """Return whether this backward pass needs the gradients of the input and of the weights.

    `needs_input_grad` only says which gradients are possible. In the generator's step, for example, a discriminator
    needs only the gradient of its input. torch itself checks this with a private function; without it both are
    computed.
    """

    def is_needed(node: Any) -> bool:
        try:
            return bool(torch._C._will_engine_execute_node(node))
        except (AttributeError, RuntimeError):  # another torch version, or torch.autograd.grad
            return True

    return [may and is_needed(ctx.next_functions[i][0]) for i, may in enumerate(ctx.needs_input_grad[:2])]


# ---------------------------------------------------------------------- forward and gradient passes


def down(large: Tensor, weight: Tensor) -> Tensor:
    """Convolve (B, C, 2h, 2w) with weights (O, C, 4, 4) to (B, O, h, w)."""
    b, _, height, width = large.shape
    h, w = height // 2, width // 2
    if not use_matmul(weight, b * h * w):
        return torch.conv2d(large, weight, stride=2, padding=1)
    small = new_map(large, torch.Size((b, len(weight), h, w)))
    torch.mm(windows(large), as_matrix(weight).T, out=small.permute(0, 2, 3, 1).view(b * h * w, -1))
    return small


def up(small: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply the transpose of `down` to (B, O, h, w) with weights (O, C, 4, 4), plus bias (C,): (B, C, 2h, 2w)."""
    b, o, h, w = small.shape
    bias = None if bias is None else bias.to(small.dtype)
    if weight.shape[1] <= IMAGE_CHANNELS:
        return paint(small, weight, bias)
    if bias is not None or not use_matmul(weight, b * h * w):
        return torch.conv_transpose2d(small, weight, bias, stride=2, padding=1)
    rows = small.permute(0, 2, 3, 1).reshape(-1, o)  # (B, O, h, w) -> (B*h*w, O)
    return sum_patches((rows @ as_matrix(weight)).view(b, h, w, 4, 4, -1))


def sum_patches(patches: Tensor) -> Tensor:
    """Sum overlapping patches (B, h, w, 4, 4, C) to (B, C, 2h, 2w), in float32 as a convolution kernel would.

    In bf16 a compiled loop computes the bitwise same sums.
    """
    b, h, w, _, _, c = patches.shape
    large = new_map(patches, torch.Size((b, c, 2 * h, 2 * w)))
    if patches.dtype == torch.bfloat16 and c % CHANNELS == 0:
        loops: Any = compiled_loops()
        if loops is not None:
            loops.run(loops.sum_patches, (patches, large), b, h, w, c // 2)
            return large
    framed = torch.zeros(b, 2 * h + 2, 2 * w + 2, c, dtype=torch.promote_types(patches.dtype, torch.float32))
    for i in range(4):
        for j in range(4):
            framed[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += patches[:, :, :, i, j]
    return large.copy_(framed[:, 1:-1, 1:-1].permute(0, 3, 1, 2))  # (B, 2h, 2w, C) -> (B, C, 2h, 2w)


def paint(small: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `up` for few output channels C as a convolution to 2x2 stacked pixels."""
    o, c = weight.shape[:2]
    # (O, C, tap, row, tap, column); a transposed convolution flips the taps
    taps = weight.view(o, c, 2, 2, 2, 2).flip(2, 4)
    kernel = channels_last(taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * c, o, 2, 2))
    bias = None if bias is None else bias.repeat_interleave(4)
    stacked = torch.conv2d(small, kernel, bias, padding=1)  # (B, 4C, h+1, w+1)
    framed = pixel_shuffle(stacked, 2)  # (B, C, 2h+2, 2w+2)
    return channels_last(framed[:, :, 1:-1, 1:-1])


def weight_gradient(small: Tensor, large: Tensor, weight: Tensor) -> Tensor:
    """Return the weight gradient (O, C, 4, 4) from (B, O, h, w) and (B, C, 2h, 2w), one of which is a gradient."""
    b, o, h, w = small.shape
    if not use_matmul_for_weight_gradient(weight, b * h * w):
        mask = (False, True, False)  # input, weights, bias
        by_kernel = torch.ops.aten.convolution_backward(
            small, large, weight, None, (2, 2), (1, 1), (1, 1), False, (0, 0), 1, mask
        )
        return by_kernel[1]
    rows = small.permute(0, 2, 3, 1).reshape(-1, o)  # (B, O, h, w) -> (B*h*w, O)
    return (rows.T @ windows(large)).view(o, 4, 4, -1).permute(0, 3, 1, 2)  # (O, 16C) -> (O, C, 4, 4)


def windows(large: Tensor) -> Tensor:
    """Return the 4x4 input pixels of every output pixel, channels last: (B, C, 2h, 2w) -> (B*h*w, 16C)."""
    b, c, height, width = large.shape
    framed = pad(large.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (B, 2h+2, 2w+2, C)
    per_image, per_row, per_pixel, _ = framed.stride()
    strides = (per_image, 2 * per_row, 2 * per_pixel, per_row, per_pixel, 1)
    return framed.as_strided((b, height // 2, width // 2, 4, 4, c), strides).reshape(-1, 16 * c)


def as_matrix(weight: Tensor) -> Tensor:
    """Reshape (O, C, 4, 4) to (O, 16C) in the order of `windows`, without a copy for channels-last weights."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
