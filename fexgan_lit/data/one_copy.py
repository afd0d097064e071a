"""Several small arrays of the host on a device, by one copy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def one_copy(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """`arrays` as tensors on `device`, with their shapes and types; nothing waits for the device.

    A copy costs a GPU about as much time as a kernel, however little it moves. On the CPU the tensors share one block
    of new memory.
    """
    # the widest numbers first, so that every array begins at a multiple of its own numbers' width
    ordered = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    count = sum(array.nbytes for _, array in ordered)
    block = torch.empty(count, dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.concatenate([array.ravel().view(np.uint8) for _, array in ordered], out=block.numpy())
    there = block.to(device, non_blocking=True)  # torch keeps the pinned block until the copy is done
    tensors: dict[str, Tensor] = {}
    start = 0
    for dtype, group in itertools.groupby(ordered, lambda item: item[1].dtype):
        same = list(group)
        end = start + sum(array.nbytes for _, array in same)
        typed = there[start:end].view(torch_type(dtype)).split([array.size for _, array in same])
        tensors |= {name: part.view(array.shape) for (name, array), part in zip(same, typed, strict=True)}
        start = end
    return tensors


def torch_type(dtype: np.dtype) -> torch.dtype:
    """The torch type of the same bytes."""
    return torch.from_numpy(np.empty(0, dtype)).dtype
