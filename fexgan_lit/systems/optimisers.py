"""Adam for a generator and its discriminator, as every system here trains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Adam, Optimizer

if TYPE_CHECKING:
    from torch import nn


@dataclass
class DualOptimizerSettings:
    """Adam for both networks.

    Attributes:
        lr: learning rate of the generator.
        lr_discriminator: learning rate of the discriminator; null takes `lr`.
        beta1: decay of Adam's first moment.
        beta2: decay of Adam's second moment.
        n_critic: the generator steps on every n-th iteration, the discriminator on each.
        clip_norm: largest gradient norm of each network; null does not clip.
        ema_half_life_images: half-life of the generator's moving average, in images; 0 turns averaging off.
    """

    lr: float = 2e-4
    lr_discriminator: float | None = None
    beta1: float = 0.5
    beta2: float = 0.999
    n_critic: int = 1
    clip_norm: float | None = None
    ema_half_life_images: float = 10_000

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        positive = {"lr": self.lr, "lr_discriminator": self.lr_discriminator, "clip_norm": self.clip_norm}
        found = [
            f"optimizer.{name}={value}: expected a positive number"
            for name, value in positive.items()
            if value is not None and not value > 0
        ]
        found += [
            f"optimizer.{name}={value}: expected a number in [0, 1)"
            for name, value in (("beta1", self.beta1), ("beta2", self.beta2))
            if not 0 <= value < 1
        ]
        if self.n_critic < 1:
            found.append(f"optimizer.n_critic={self.n_critic}: expected 1 or more iterations a generator step")
        if not self.ema_half_life_images >= 0:
            found.append(f"optimizer.ema_half_life_images={self.ema_half_life_images}: expected zero or more images")
        return found


def dual_adam(
    generator: nn.Module, discriminator: nn.Module, settings: DualOptimizerSettings, fused: bool
) -> list[Optimizer]:
    """Adam for the generator, Adam for the discriminator; `fused` where the device has the fused kernel."""
    betas = (settings.beta1, settings.beta2)
    return [
        LaidOutAdam(generator.parameters(), settings.lr, betas, fused=fused),
        LaidOutAdam(discriminator.parameters(), settings.lr_discriminator or settings.lr, betas, fused=fused),
    ]


class LaidOutAdam(Adam):
    """Adam that sees weights on a processor in the order in which they lie.

    The fused kernel copies the gradient of a weight whose channels lie last, which takes longer than the step. And a
    gradient that lies otherwise than its weight (autograd gives no such one) it would take for another gradient.
    """

    def _init_group(self, group: dict[str, Any], params: list[Any], grads: list[Any], *lists: list[Any]) -> bool:
        has_complex = super()._init_group(group, params, grads, *lists)
        moments = lists[:2]
        for i, weight in enumerate(params):
            if weight.device.type != "cpu" or weight.ndim != 4:
                continue
            last = lies_last(weight)
            grads[i] = grads[i].contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
            if last and all(lies_last(values[i]) for values in moments):
                for values in (params, grads, *moments):
                    values[i] = values[i].permute(0, 2, 3, 1)  # (O, C, 4, 4) -> (O, 4, 4, C), contiguous
        return has_complex


def lies_last(tensor: torch.Tensor) -> bool:
    """Whether a tensor has channels, and they lie last in memory and not first."""
    return (
        tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )  # fmt: skip


def lay_out_like(networks: nn.Module, optimizer_states: Sequence[dict[str, Any]]) -> None:
    """Give the moments of saved optimizers the memory format that the weights of `networks` have now, in place.

    Fused Adam walks over weights, gradients and moments as they lie in memory without comparing their strides. A run
    saved with `trainer.channels_last` and resumed without it (or the other way round) would get the moments of other
    weights.
    """
    kernels = [parameter for parameter in networks.parameters() if parameter.ndim == 4]
    last = any(not kernel.is_contiguous() for kernel in kernels)
    layout = torch.channels_last if last else torch.contiguous_format
    for optimizer in optimizer_states:
        for values in optimizer["state"].values():
            kept = {name: value for name, value in values.items() if torch.is_tensor(value) and value.ndim == 4}
            values |= {name: value.contiguous(memory_format=layout) for name, value in kept.items()}


def plain_groups(states: list[dict[str, Any]]) -> None:
    """Make saved states of optimizers what they would be without recordings, in place: any run can go on with them."""
    for state in states:
        for group in state["param_groups"]:
            group["lr"] = float(group["lr"])
            group["capturable"] = False
