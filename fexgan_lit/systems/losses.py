"""Losses that several systems share: pure functions of tensors, computed in float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fexgan_lit.utils.errors import UserError


def binary_cross_entropy(logits: Tensor, real: bool) -> Tensor:
    """Return phi_b of the FExGAN papers: mean cross-entropy of `logits` (B,) against all-real (1) or all-fake (0)."""
    logits = logits.float()
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def categorical_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Return phi_m of the FExGAN papers: mean cross-entropy of `logits` (B, K) against class indices (B,)."""
    return F.cross_entropy(logits.float(), classes)


def absolute_difference(image: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Return the L1 distance of two image batches (B, C, H, W): mean over all, or with `sum` per image, mean over B.

    Raises:
        UserError: the shapes differ; torch would broadcast a batch of one channel.
    """
    if image.shape != target.shape:
        shapes = f"{tuple(image.shape)} and {tuple(target.shape)}"
        raise UserError(f"an L1 loss got images of the shapes {shapes}; expected equal shapes")
    difference = (image.float() - target.float()).abs()
    return difference.mean() if reduction == "mean" else difference.flatten(1).sum(1).mean()


def charbonnier(image: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(d^2 + epsilon^2) - epsilon over all pixels: L1 with a smooth minimum."""
    return ((image - target).square() + epsilon**2).sqrt().mean() - epsilon


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor | None = None
) -> Tensor:
    """Return the WGAN-GP penalty: the mean over the batch of (|grad D(x)| - 1)^2 at random x between real and fake.

    The penalty is computed in float32 at every precision of the training, since it is differentiated twice.

    Args:
        critic: maps images (B, C, H, W) to scores (B, ...); the gradient is that of each image's summed scores.
        real: (B, C, H, W).
        fake: (B, C, H, W); no gradient flows into it.
        share: weight (B, 1, 1, 1) in [0, 1] of the real image in x; drawn uniformly if None.
    """
    with torch.autocast(real.device.type, enabled=False):
        real, fake = real.detach().float(), fake.detach().float()
        if share is None:
            share = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = torch.lerp(fake, real, share).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        norm = gradient.flatten(1).norm(dim=1)  # (B, C, H, W) -> (B, C*H*W) -> (B,)
        return (norm - 1).square().mean()


def total_variation(image: Tensor) -> Tensor:
    """Return the sum of absolute differences of vertical and horizontal neighbour pixels of a batch (B, C, H, W)."""
    image = image.float()
    return image.diff(dim=2).abs().sum() + image.diff(dim=3).abs().sum()
