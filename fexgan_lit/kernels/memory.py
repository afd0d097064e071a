"""Memory of tensors: freed blocks that the process keeps, and operations without copies in channels-last format.

Measured with FExGAN at 128 px and full width, and at 64 px and half width (experiments/speed/README.md). On two cores
of an AMD EPYC with AVX-512 BF16, an iteration in bf16 takes 681 and 70 ms. Keeping freed memory reduces this to 0.92
and 0.95, linear layers on maps to 0.98 and 0.96. On a CPU without AVX-512, keeping freed memory reduces the time to
0.94 at 64 px in float32; Adam without copies saves 35 and 7.5 ms.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from torch import Tensor, nn

#: Numbers of glibc's options in <malloc.h>, and their new values.
_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2
_NEVER, _STEP = 2**31 - 1, 64 << 20


def keep_freed_memory() -> bool:
    """Let this process keep freed memory instead of returning it to the system at once.

    glibc requests every large block from the system and returns it when it is freed. The system zeroes each page at its
    first write: some 80,000 pages in an iteration of a full-width FExGAN. The option holds for the rest of the process;
    its peak memory grows by a few percent.

    Returns:
        Whether the allocator has this option: glibc has it, other allocators are left unchanged.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _STEP}
    return all(mallopt(option, value) for option, value in options.items())


def new_map(like: Tensor, shape: torch.Size) -> Tensor:
    """Return an empty map (B, C, H, W) in channels-last format that is not a view, as autograd functions require."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def channels_last(x: Tensor) -> Tensor:
    """Convert a map or weights (B, C, H, W) to channels-last format, with a copy only where necessary."""
    return x.contiguous(memory_format=torch.channels_last)


def linear_on_map(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """Apply linear layers to a flattened map in one product, without flattening the map.

    Flattening copies a channels-last map to contiguous channel order, and its gradient then comes back in contiguous
    format, in which the preceding layers take several times as long. This function copies the weights instead.

    Args:
        x: (B, C, H, W).
        layers: layers with C * H * W inputs and a bias.

    Returns:
        The output of each layer, (B, outputs).
    """
    weight = torch.cat([layer.weight for layer in layers]).view(-1, *x.shape[1:])  # (N, C, H, W)
    bias = torch.cat([layer.bias for layer in layers])
    flat, weight = (values.permute(0, 2, 3, 1).flatten(1) for values in (x, weight))  # (B, H*W*C), (N, H*W*C)
    return nn.functional.linear(flat, weight, bias).split([layer.out_features for layer in layers], dim=1)


class Adam(torch.optim.Adam):
    """Fused Adam that does not copy the gradients of channels-last weights.

    torch's fused kernel copies the gradient of such a weight, which takes longer than the step. This class permutes
    weight, gradient and moments to the contiguous (O, 4, 4, C). On a GPU it is torch's Adam. The class has torch's name
    because Lightning's `LearningRateMonitor` uses it for its columns.
    """

    def _init_group(self, group: dict[str, Any], params: list[Any], grads: list[Any], *lists: list[Any]) -> bool:
        has_complex = super()._init_group(group, params, grads, *lists)
        moments = lists[:2]
        for i, weight in enumerate(params):
            if weight.device.type != "cpu" or weight.ndim != 4:
                continue
            last = _is_channels_last(weight)
            grads[i] = grads[i].contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
            if last and all(_is_channels_last(values[i]) for values in moments):
                for values in (params, grads, *moments):
                    values[i] = values[i].permute(0, 2, 3, 1)  # (O, C, 4, 4) -> (O, 4, 4, C), contiguous
        return has_complex


def _is_channels_last(x: Tensor) -> bool:
    """Return whether a tensor is in channels-last format and not also contiguous."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
