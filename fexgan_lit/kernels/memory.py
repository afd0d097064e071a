"""How tensors lie in memory: freed blocks kept by the process, operations without copies in channels-last format.

Measured with FExGAN at 128 px and full width, and at 64 px and half width (experiments/speed/README.md). On two cores
of an AMD EPYC with AVX-512 BF16 an iteration in bf16, of 681 and 70 ms, takes 0.92 and 0.95 of the time with freed
memory kept, 0.98 and 0.96 with linear layers on maps. On one without AVX-512 the first gives 0.94 at 64 px in float32
as well; Adam without copies saves 35 and 7.5 ms.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from torch import Tensor, nn

#: Names of glibc's options in <malloc.h>, and what they are set to.
_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2
_NEVER, _STEP = 2**31 - 1, 64 << 20


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, instead of giving it back to the system at once.

    glibc takes every large block from the system anew and gives it back when it is freed. The system hands out each
    page when it is first written to, zeroed: some 80,000 pages in an iteration of a full-width FExGAN. The option holds
    for the rest of this process; the most it holds grows by some percent.

    Returns:
        whether the allocator has this option: glibc's has, others are left alone.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _STEP}
    return all(mallopt(option, value) for option, value in options.items())


def new_map(like: Tensor, shape: torch.Size) -> Tensor:
    """An empty map (B, C, H, W) in channels-last format, no view: an autograd function must not return one."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def channels_last(x: Tensor) -> Tensor:
    """A map or weights (B, C, H, W) in channels-last format, copied where they lie otherwise."""
    return x.contiguous(memory_format=torch.channels_last)


def linear_on_map(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """What linear layers make of a flattened map, in one product and without flattening it.

    A channels-last map is copied to be flattened in the order of its channels, and its gradient then comes back in
    contiguous format, in which the layers before take several times as long. Here the weights are copied, not the map.

    Args:
        x: (B, C, H, W).
        layers: with C * H * W inputs and a bias.

    Returns:
        the output of each layer, (B, outputs).
    """
    weight = torch.cat([layer.weight for layer in layers]).view(-1, *x.shape[1:])  # (N, C, H, W)
    bias = torch.cat([layer.bias for layer in layers])
    flat, weight = (values.permute(0, 2, 3, 1).flatten(1) for values in (x, weight))  # (B, H*W*C), (N, H*W*C)
    return nn.functional.linear(flat, weight, bias).split([layer.out_features for layer in layers], dim=1)


class Adam(torch.optim.Adam):
    """Fused Adam that takes weights in channels-last format without copying their gradients.

    torch's fused kernel copies the gradient of such a weight, which takes longer than the step. Here weight, gradient
    and moments are permuted to (O, 4, 4, C), which is contiguous. On a GPU it is torch's. The class has torch's name
    because Lightning's `LearningRateMonitor` names its columns by it.
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
    """Whether a tensor is in channels-last format and not contiguous as well."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
