"""Options of GANimation; the defaults are the published values."""

from __future__ import annotations

from dataclasses import dataclass

from fexgan_lit.systems.wgan import TranslationSettings, WassersteinOptimizerSettings
from fexgan_lit.utils.options import Options, option


@dataclass
class GANimationSettings(TranslationSettings):
    """The networks; see `TranslationSettings`.

    Attributes:
        saturate_attention: push the attention A towards 0 and 1: clip(0.55 tanh(3 (A - 0.5)) + 0.5, 0, 1).
    """

    name: str = "ganimation"
    saturate_attention: bool = False


@dataclass
class GANimationLossSettings(Options):
    """Weights of the losses.

    Attributes:
        adversarial: of the Wasserstein terms, in both losses.
        lambda_cond: of the mean squared error of the action units, in both losses. The published code multiplies
            by 4000 and divides by its batch of 25.
        lambda_gp: of the gradient penalty.
        lambda_cycle: of the mean L1 distance between the source and its way there and back.
        lambda_attention: of the mean of the attention, which keeps it from 1 everywhere.
        lambda_tv: of the total variation of the attention, a sum over all pixels of the batch.
        au_noise: half-width of the uniform noise on the wanted action units; they are not clipped.
        pixel: of the mean L1 distance to the true target, which GANimation does not have; above 0 the wanted action
            units are those of that target, without noise, and the frames must be paired.
    """

    section = "loss"

    adversarial: float = option(1.0, at_least=0)
    lambda_cond: float = option(160.0, at_least=0)
    lambda_gp: float = option(10.0, at_least=0)
    lambda_cycle: float = option(10.0, at_least=0)
    lambda_attention: float = option(0.1, at_least=0)
    lambda_tv: float = option(1e-5, at_least=0)
    au_noise: float = option(0.1, at_least=0)
    pixel: float = option(0.0, at_least=0)


@dataclass
class GANimationOptimizerSettings(WassersteinOptimizerSettings):
    """Adam for both networks; see `DualOptimizerSettings`.

    Attributes:
        separate_penalty: the gradient penalty is a step of its own after that of the critic's other losses, as in the
            published code; false adds it to them.
    """

    separate_penalty: bool = True
