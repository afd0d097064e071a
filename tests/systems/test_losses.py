"""Equations 1 to 7 against values computed by hand."""

from __future__ import annotations

from math import e, log

import pytest
import torch

from fexgan_lit.systems.fexgan.losses import (
    FExGANLossSettings,
    adversarial_loss,
    discriminator_loss,
    fake_loss,
    generator_loss,
    kl_divergence,
    real_loss,
    reconstruction_loss,
)
from fexgan_lit.systems.fexgan.networks import DiscriminatorOutput, Latent

#: sigmoid = 3/4; softmax = (1/2, 1/4, 1/4)
VERDICT = DiscriminatorOutput(torch.tensor([log(3.0)]), torch.tensor([[log(2.0), 0.0, 0.0]]))
FIRST, SECOND = torch.tensor([0]), torch.tensor([1])


def test_equation_1_adversarial():
    total, parts = adversarial_loss(VERDICT, FIRST)
    assert parts["binary"].item() == pytest.approx(-log(3 / 4))
    assert parts["class"].item() == pytest.approx(log(2))
    assert total.item() == pytest.approx(log(4 / 3) + log(2))


def test_equation_1_parts_are_weighted_apart():
    total, _ = adversarial_loss(VERDICT, FIRST, binary=0.1, classes=3.0)
    assert total.item() == pytest.approx(0.1 * log(4 / 3) + 3 * log(2))


def test_equation_2_reconstruction():
    made, wanted = torch.zeros(2, 3, 2, 2), torch.full((2, 3, 2, 2), -0.5)
    assert reconstruction_loss(made, wanted).item() == pytest.approx(0.5)
    assert reconstruction_loss(made, wanted, "sum").item() == pytest.approx(0.5 * 12)


def test_equation_3_kl_is_zero_at_the_prior():
    standard = Latent(torch.zeros(3, 4), torch.zeros(3, 4))
    for sigma in ("log_sigma", "kl_literal", "logvar_head"):
        assert kl_divergence(standard, sigma).item() == 0


def test_equation_3_kl_by_hand():
    latent = Latent(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    # log sigma: entries 1/2 (1) and -1/2 (1 + 2 - e^2)
    assert kl_divergence(latent, "log_sigma", "sum").item() == pytest.approx(0.5 - 0.5 * (3 - e**2))
    assert kl_divergence(latent, "log_sigma", "mean").item() == pytest.approx((0.5 - 0.5 * (3 - e**2)) / 2)
    # log sigma^2: -1/2 (1 + 1 - e)
    assert kl_divergence(latent, "logvar_head", "sum").item() == pytest.approx(0.5 - 0.5 * (2 - e))
    assert kl_divergence(latent, "kl_literal", "sum").item() == pytest.approx(0.5 - 0.5 * (2 - e))


def test_equation_4_generator():
    latent = Latent(torch.tensor([[2.0]]), torch.tensor([[0.0]]))  # KL = 2
    made, wanted = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)  # L1 = 1
    w = FExGANLossSettings(alpha=2, beta=3, gamma=5)
    total, parts = generator_loss(VERDICT, made, wanted, latent, FIRST, w)
    assert total.item() == pytest.approx(2 * (log(4 / 3) + log(2)) + 3 * 2 + 5 * 1)
    assert set(parts) == {"binary", "class", "reconstruction", "kl"}
    cut, _ = generator_loss(VERDICT, made, wanted, latent, FIRST, w, adversarial_binary=0.0)
    assert cut.item() == pytest.approx(2 * log(2) + 3 * 2 + 5 * 1)


def test_equations_5_to_7_discriminator():
    on_real, on_fake = VERDICT, DiscriminatorOutput(torch.tensor([0.0]), torch.tensor([[0.0, log(3.0), 0.0]]))
    real, _ = real_loss(on_real, FIRST)
    fake, _ = fake_loss(on_fake, SECOND)
    assert real.item() == pytest.approx(log(4 / 3) + log(2))
    assert fake.item() == pytest.approx(log(2) - log(3 / 5))
    total, parts = discriminator_loss(on_real, on_fake, FIRST, SECOND)
    assert total.item() == pytest.approx(real.item() + fake.item())
    assert set(parts) == {"d_real_binary", "d_real_class", "d_fake_binary", "d_fake_class"}


def test_equation_6_without_classifying_fakes():
    on_fake = DiscriminatorOutput(torch.tensor([0.0]), torch.tensor([[0.0, log(3.0), 0.0]]))
    assert fake_loss(on_fake, SECOND, classify_fakes=False)[0].item() == pytest.approx(log(2))


def test_losses_are_computed_in_float32_whatever_arrives():
    half = DiscriminatorOutput(VERDICT.realness.bfloat16(), VERDICT.affect.bfloat16())
    total, _ = adversarial_loss(half, FIRST)
    assert total.dtype == torch.float32
