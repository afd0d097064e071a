"""Exponential moving average of a network, by half-life in images so that it does not depend on the batch size."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
#: Numbers of a tensor up to which a kernel of its own costs a GPU more than the work.
SMALL = 1 << 16


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
        lerp_by(list(zip(average.parameters(), network.parameters(), strict=True)), 1.0 - decay)
    else:
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - decay)
    buffers = list(zip(average.buffers(), network.buffers(), strict=True))
    for kind in {old.dtype for old, _ in buffers}:  # one kernel copies them all if they are of one kind
        olds, news = apart([pair for pair in buffers if pair[0].dtype == kind])
        torch._foreach_copy_(olds, news)


def lerp_by(pairs: list[tuple[Tensor, Tensor]], weight: Tensor) -> None:
    """Move the first of each pair towards the second by `weight` (), which lies on their device.

    torch has no call that does so for many tensors at once. A kernel each takes a microsecond of a GPU however small
    the tensor is, so the small ones share three.
    """
    for old, new in pairs:
        if old.numel() > SMALL:
            old.lerp_(new, weight)
    if small := [pair for pair in pairs if pair[0].numel() <= SMALL]:
        olds, news = apart(small)
        steps = torch._foreach_sub(news, olds)
        torch._foreach_mul_(steps, weight)
        torch._foreach_add_(olds, steps)


def apart(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """The first of every pair, and the second."""
    return [first for first, _ in pairs], [second for _, second in pairs]
