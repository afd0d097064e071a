"""Exponential moving average of a network, by half-life in images so that it does not depend on the batch size."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """A copy of `network` in evaluation mode that takes no gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def ema_decay(batch: int, half_life_images: float, images_seen: int, ramp_up: float = 0.05) -> float:
    """Share of the old average that one update keeps.

    Args:
        batch: images in this update.
        half_life_images: images after which an old weight counts half; 0 keeps nothing (the average is the network).
        images_seen: images before this update; the half-life never exceeds `ramp_up` times this.
        ramp_up: see `images_seen`; 0 turns the ramp off.
    """
    if ramp_up > 0:
        half_life_images = min(half_life_images, images_seen * ramp_up)
    return 0.5 ** (batch / half_life_images) if half_life_images > 0 else 0.0


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float | Tensor) -> None:
    """Move the parameters of `average` towards `network`; buffers (batch-norm statistics) are taken over.

    Args:
        average: keeps `decay` of itself.
        network: what is trained.
        decay: a number, or a tensor () on the networks' device, which a recorded iteration reads.
    """
    if isinstance(decay, Tensor):
        weight = 1.0 - decay
        for old, new in zip(average.parameters(), network.parameters(), strict=True):
            old.lerp_(new, weight)
    else:
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - decay)
    buffers = list(network.buffers())
    if buffers:  # the call takes no empty lists
        torch._foreach_copy_(list(average.buffers()), buffers)
