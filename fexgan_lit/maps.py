"""Maps (B, C, H, W) whose channels lie last in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def new_map(like: Tensor, shape: torch.Size) -> Tensor:
    """Room for a map (B, C, H, W), channels last and not a view: a function of autograd must not return one."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def channels_last(x: Tensor) -> Tensor:
    """A map or weights (B, C, H, W), channels last, copied where they lie otherwise."""
    return x.contiguous(memory_format=torch.channels_last)
