"""Equations 1 to 7 of FExGAN (2201.09061) and FExGAN-Meta (2203.05975); both papers use the same numbers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fexgan_lit.systems.fexgan.networks import DiscriminatorOutput, Latent
from fexgan_lit.systems.losses import absolute_difference, binary_cross_entropy, categorical_cross_entropy
from fexgan_lit.utils.options import Options, option

#: A loss as its total and its named, unweighted parts; all keep their gradients.
Loss = tuple[Tensor, dict[str, Tensor]]


@dataclass
class FExGANLossSettings(Options):
    """Weights and variants of the losses. Neither paper states the weights.

    Attributes:
        alpha: weight of the adversarial loss in equation 4.
        beta: weight of the KL divergence in equation 4.
        gamma: weight of the reconstruction in equation 4.
        adversarial_binary: weight of phi_b within equation 1 (FExGAN reduces it after epoch 50).
        adversarial_class: weight of phi_m within equation 1.
        classify_fakes: whether the class head also learns from generated frames (equation 6: true).
        kl_reduction: `mean` over the latent entries (FExGAN-Meta) or `sum` (FExGAN); null uses the model's preset.
        l1_reduction: `mean` over the pixels or `sum` (both papers); null uses the model's preset.
    """

    section = "loss"

    alpha: float = option(1.0, at_least=0)
    beta: float = option(1.0, at_least=0)
    gamma: float = option(100.0, at_least=0)
    adversarial_binary: float = option(1.0, at_least=0)
    adversarial_class: float = option(1.0, at_least=0)
    classify_fakes: bool = True
    kl_reduction: str | None = option(None, choices=("mean", "sum"))
    l1_reduction: str | None = option(None, choices=("mean", "sum"))


def adversarial_loss(on_fake: DiscriminatorOutput, target: Tensor, binary: float = 1.0, classes: float = 1.0) -> Loss:
    """Return equation 1: phi_b(1, y) + phi_m(A_t, y_m) on the generated image, each part weighted."""
    parts = {
        "binary": binary_cross_entropy(on_fake.realness, real=True),
        "class": categorical_cross_entropy(on_fake.affect, target),
    }
    return binary * parts["binary"] + classes * parts["class"], parts


def reconstruction_loss(generated: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Return equation 2: sum |G(I_s, A_t) - I_t|; by default the mean, so that gamma does not depend on size."""
    return absolute_difference(generated, target, reduction)


def kl_divergence(latent: Latent, sigma: str = "log_sigma", reduction: str = "mean") -> Tensor:
    """Return equation 3: -1/2 sum(1 + ln sigma^2 - mu^2 - sigma^2) over the n latent entries, mean over the batch.

    Args:
        latent: output of the encoder.
        sigma: meaning of `latent.s`: log sigma (`log_sigma`, so ln sigma^2 = 2 s) or log sigma^2 (`kl_literal`,
            `logvar_head`).
        reduction: `mean` divides by n (FExGAN-Meta's 1/2n); `sum` does not.
    """
    mu, s = latent.mu.float(), latent.s.float()
    log_variance = 2 * s if sigma == "log_sigma" else s
    terms = -0.5 * (1 + log_variance - mu.square() - log_variance.exp())  # (B, n)
    return terms.mean() if reduction == "mean" else terms.sum(1).mean()


def generator_loss(
    on_fake: DiscriminatorOutput, generated: Tensor, wanted: Tensor, latent: Latent, target: Tensor,
    w: FExGANLossSettings, sigma: str = "log_sigma", adversarial_binary: float | None = None,
) -> Loss:  # fmt: skip
    """Return equation 4: alpha * adversarial + beta * KL + gamma * reconstruction.

    Args:
        on_fake: output of the discriminator for `generated`.
        generated: G(I_s, A_t), (B, 3, S, S).
        wanted: I_t, (B, 3, S, S).
        latent: output of the encoder for I_s.
        target: class indices of A_t, (B,).
        w: the weights.
        sigma: meaning of `latent.s`, see `kl_divergence`.
        adversarial_binary: current weight of phi_b, where a schedule has changed it.
    """
    binary = w.adversarial_binary if adversarial_binary is None else adversarial_binary
    adversarial, parts = adversarial_loss(on_fake, target, binary, w.adversarial_class)
    reconstruction = reconstruction_loss(generated, wanted, w.l1_reduction or "mean")
    kl = kl_divergence(latent, sigma, w.kl_reduction or "mean")
    total = w.alpha * adversarial + w.beta * kl + w.gamma * reconstruction
    return total, {**parts, "reconstruction": reconstruction, "kl": kl}


def real_loss(on_real: DiscriminatorOutput, source: Tensor) -> Loss:
    """Return equation 5: phi_b(1, y) + phi_m(A_s, y_m) on the source image; `source` holds class indices (B,)."""
    parts = {
        "d_real_binary": binary_cross_entropy(on_real.realness, real=True),
        "d_real_class": categorical_cross_entropy(on_real.affect, source),
    }
    return parts["d_real_binary"] + parts["d_real_class"], parts


def fake_loss(on_fake: DiscriminatorOutput, target: Tensor, classify_fakes: bool = True) -> Loss:
    """Return equation 6: phi_b(0, y) + phi_m(A_t, y_m) on the generated image; phi_m only with `classify_fakes`."""
    parts = {
        "d_fake_binary": binary_cross_entropy(on_fake.realness, real=False),
        "d_fake_class": categorical_cross_entropy(on_fake.affect, target),
    }
    return parts["d_fake_binary"] + (parts["d_fake_class"] if classify_fakes else 0.0), parts


def discriminator_loss(
    on_real: DiscriminatorOutput,
    on_fake: DiscriminatorOutput,
    source: Tensor,
    target: Tensor,
    classify_fakes: bool = True,
) -> Loss:
    """Return equation 7: equation 5 on real images plus equation 6 on generated images."""
    real, real_parts = real_loss(on_real, source)
    fake, fake_parts = fake_loss(on_fake, target, classify_fakes)
    return real + fake, {**real_parts, **fake_parts}
