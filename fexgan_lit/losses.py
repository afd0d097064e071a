"""Losses that several systems share: pure functions of tensors; everything is computed in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def binary_cross_entropy(logits: Tensor, real: bool) -> Tensor:
    """phi_b of the FExGAN papers: mean cross-entropy of `logits` (B,) against all-real (1) or all-fake (0)."""
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def categorical_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """phi_m of the FExGAN papers: mean cross-entropy of `logits` (B, K) against class indices (B,)."""
    return F.cross_entropy(logits.float(), classes)


def absolute_difference(image: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """L1 between two image batches (B, C, H, W): mean over all pixels, or `sum` over pixels and mean over B."""
    difference = (image.float() - target.float()).abs()
    return difference.mean() if reduction == "mean" else difference.flatten(1).sum(1).mean()
