"""Adam for a generator and its discriminator, as every system here trains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        Adam(generator.parameters(), settings.lr, betas, fused=fused),
        Adam(discriminator.parameters(), settings.lr_discriminator or settings.lr, betas, fused=fused),
    ]
