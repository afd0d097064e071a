"""Options of StarGAN; the defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass

from fexgan_lit.systems.wgan import TranslationSettings
from fexgan_lit.utils.options import Options, option


@dataclass
class StarGANSettings(TranslationSettings):
    """The networks; see `TranslationSettings`."""

    name: str = "stargan"


@dataclass
class StarGANLossSettings(Options):
    """Weights of the losses.

    Attributes:
        adversarial: of the Wasserstein terms, in both losses.
        lambda_class: of the cross-entropy of the affects, in both losses.
        lambda_gp: of the gradient penalty.
        lambda_cycle: of the mean L1 distance between the source and its way there and back.
    """

    section = "loss"

    adversarial: float = option(1.0, at_least=0)
    lambda_class: float = option(1.0, at_least=0)
    lambda_gp: float = option(10.0, at_least=0)
    lambda_cycle: float = option(10.0, at_least=0)
