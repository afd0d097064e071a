"""The options of Adam, and Adam for a generator and its discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Adam, Optimizer

from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from torch import nn


@dataclass
class AdamSettings(Options):
    """Options of Adam and of the moving average.

    Attributes:
        lr: learning rate of the generator.
        beta1: decay of Adam's first moment.
        beta2: decay of Adam's second moment.
        clip_norm: largest gradient norm of each network; null disables clipping.
        ema_half_life_images: half-life of the generator's moving average, in images; 0 disables averaging.
    """

    section = "optimizer"

    lr: float = option(2e-4, above=0)
    beta1: float = option(0.9, at_least=0, below=1)
    beta2: float = option(0.999, at_least=0, below=1)
    clip_norm: float | None = option(None, above=0)
    ema_half_life_images: float = option(10_000, "zero or more images", at_least=0)


@dataclass
class DualOptimizerSettings(AdamSettings):
    """Options of Adam for a generator and its discriminator; see also `AdamSettings`.

    Attributes:
        lr_discriminator: learning rate of the discriminator; null uses `lr`.
        n_critic: the generator is updated in every n-th iteration, the discriminator in every iteration.
    """

    beta1: float = option(0.5, at_least=0, below=1)
    lr_discriminator: float | None = option(None, above=0)
    n_critic: int = option(1, at_least=1, at_most=1000)


def dual_adam(
    generator: nn.Module, discriminator: nn.Module, settings: DualOptimizerSettings, fused: bool,
    adam: type[Adam] = Adam,
) -> list[Optimizer]:  # fmt: skip
    """Return Adam for the generator and Adam for the discriminator; `fused` if the device has the fused kernel."""
    betas = (settings.beta1, settings.beta2)
    return [
        adam(generator.parameters(), settings.lr, betas, fused=fused),
        adam(discriminator.parameters(), settings.lr_discriminator or settings.lr, betas, fused=fused),
    ]


def lay_out_like(networks: nn.Module, optimizer_states: Sequence[dict[str, Any]]) -> None:
    """Convert the moments of saved optimizers, in place, to the memory format of the weights of `networks`.

    Fused Adam reads weights, gradients and moments in memory order and does not compare their strides. Without the
    conversion, a run saved with `trainer.channels_last` and resumed without it (or vice versa) would mix up moments.
    """
    kernels = [parameter for parameter in networks.parameters() if parameter.ndim == 4]
    last = any(not kernel.is_contiguous() for kernel in kernels)
    layout = torch.channels_last if last else torch.contiguous_format
    for optimizer in optimizer_states:
        for values in optimizer["state"].values():
            kept = {name: value for name, value in values.items() if torch.is_tensor(value) and value.ndim == 4}
            values |= {name: value.contiguous(memory_format=layout) for name, value in kept.items()}


def plain_groups(states: list[dict[str, Any]]) -> None:
    """Remove what CUDA graphs changed in saved optimizer states, in place, so that any run can load them."""
    for state in states:
        for group in state["param_groups"]:
            group["lr"] = float(group["lr"])
            group["capturable"] = False
