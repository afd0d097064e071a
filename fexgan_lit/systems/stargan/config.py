"""Options of StarGAN; the defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass

from fexgan_lit.systems.wgan import TranslationSettings, negative_weights


@dataclass
class StarGANSettings(TranslationSettings):
    """The networks; see `TranslationSettings`."""

    name: str = "stargan"


@dataclass
class StarGANLossSettings:
    """Weights of the losses.

    Attributes:
        adversarial: of the Wasserstein terms, in both losses.
        lambda_class: of the cross-entropy of the affects, in both losses.
        lambda_gp: of the gradient penalty.
        lambda_cycle: of the mean L1 distance between the source and its way there and back.
    """

    adversarial: float = 1.0
    lambda_class: float = 1.0
    lambda_gp: float = 10.0
    lambda_cycle: float = 10.0

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        return negative_weights(self)
