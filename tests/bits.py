"""Comparing results to the bit."""

from __future__ import annotations

import torch


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    kinds = {torch.bfloat16: torch.int16, torch.float32: torch.int32}
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(kinds[a.dtype]), b.contiguous().view(kinds[b.dtype]))
