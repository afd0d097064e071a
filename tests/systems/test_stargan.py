"""StarGAN: its published sizes, one iteration, and what it reads."""

from __future__ import annotations

import pytest
import torch

from fexgan_lit.expression import Expression
from fexgan_lit.systems.layers import PatchCritic, ResidualBlock
from fexgan_lit.systems.stargan.system import Generator, StarGAN, StarGANLossSettings, StarGANSettings
from fexgan_lit.systems.wgan import WassersteinOptimizerSettings
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import NoisePairs, changed, count, fit, snapshot


def make_system(loss=None, optimizer=None):
    torch.manual_seed(0)
    settings = StarGANSettings(image_size=32, width=0.07, residual_blocks=1)
    names = [f"a{k}" for k in range(4)]
    return StarGAN(settings, loss or StarGANLossSettings(), optimizer or WassersteinOptimizerSettings(), names)


def test_sizes_differ_from_ganimation_by_condition_and_mask_only():
    # stem and head of GANimation see 17 units and paint an attention mask besides
    assert count(Generator(StarGANSettings(), 5)) == 8_471_296 - 12 * 64 * 49 - 64 * 49
    assert count(PatchCritic(128, 5)) == 44_860_352 - 12 * 2048 * 4


def test_the_generator_moves_on_every_fifth_iteration_and_is_told_the_affect(tmp_path):
    system = make_system()
    before = snapshot(system.generator), snapshot(system.critic)
    fit(system, 4, tmp_path)
    assert not changed(system.generator, before[0])
    assert changed(system.critic, before[1])
    fit(system, 5, tmp_path)
    assert changed(system.generator, before[0])
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert not torch.equal(*(system.synthesize(x, None, system.expression([k])) for k in (0, 1)))


def test_each_network_follows_its_own_loss():
    """The critic learns the source's affect from real images, the generator the target's; the rest stays put."""
    system = make_system(StarGANLossSettings(pixel=5.0), WassersteinOptimizerSettings(n_critic=1))
    losses = {}
    system.update = lambda network, loss, counted: losses.setdefault(network is system.generator, loss)
    batch = NoisePairs().batch(0, 0)
    parts = system.training_step(batch, 0)
    w = system.loss_weights
    assert losses[False].item() == pytest.approx(
        (parts["d_fake"] - parts["d_real"] + w.lambda_class * parts["d_class"] + 10 * parts["d_penalty"]).item()
    )
    pixel = (system.generator(batch.source, torch.eye(4)[batch.target_affect]) - batch.target).abs().mean()
    expected = parts["adversarial"] + parts["class"] + 10 * parts["cycle"] + 5 * pixel
    assert losses[True].item() == pytest.approx(expected.item())
    made = system.generator(batch.source, torch.eye(4)[batch.target_affect])
    (on_real, named), (on_fake, _) = system.critic(batch.source), system.critic(made)
    assert parts["d_real"].item() == pytest.approx(on_real.mean().item())
    assert parts["d_fake"].item() == pytest.approx(on_fake.mean().item())
    expected = torch.nn.functional.cross_entropy(named, batch.source_affect)
    assert parts["d_class"].item() == pytest.approx(expected.item())
    assert torch.autograd.grad(losses[False], list(system.generator.parameters()), allow_unused=True) == tuple(
        None for _ in system.generator.parameters()
    )


def test_assessment_names_affects_but_gives_no_threshold():
    system, batch = make_system(), NoisePairs().batch(0, 0)
    made = system.validation_step(batch)
    assert made.generated.shape == batch.source.shape
    assert made.real_realness.shape == made.fake_realness.shape == (4,)
    assert made.real_affect.shape == made.fake_affect.shape == (4, 4)
    assert not made.calibrated


def test_it_reads_affects_alone():
    system, x = make_system(), torch.zeros(1, 3, 32, 32)
    with pytest.raises(UserError, match="stargan reads affects"):
        system.synthesize(x, None, Expression(aus=torch.zeros(1, 17)))
    blend = Expression.blend({"a0": 1, "a2": 1}, system.affects)
    assert system.synthesize(x, None, blend).shape == x.shape


def test_film_modulates_every_residual_block_by_the_affect():
    torch.manual_seed(0)
    plain, film = (
        Generator(StarGANSettings(image_size=32, width=0.07, residual_blocks=2, film=film), 4) for film in (False, True)
    )
    film.load_state_dict(plain.state_dict(), strict=False)
    x, affect = torch.rand(2, 3, 32, 32) * 2 - 1, torch.eye(4)[:2]
    assert torch.equal(film(x, affect), plain(x, affect)), "it starts as the identity"
    blocks = [block for block in film.trunk if isinstance(block, ResidualBlock)]
    assert len(blocks) == 2
    for block in blocks:
        torch.nn.init.normal_(block.film.linear.weight)
        assert not torch.allclose(film(x, affect), plain(x, affect), atol=1e-3)
        torch.nn.init.zeros_(block.film.linear.weight)


def test_one_pass_of_the_critic_under_autocast_gives_the_losses_of_two_passes():
    system, batch = make_system(), NoisePairs().batch(0, 0)
    affect = batch.source_affect
    losses = []
    for enabled in (False, True):
        system.seed_iteration()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(system.critic_loss(system.critic, batch.source, batch.target, affect)[1])
    exact, rounded = ([part.item() for part in parts.values()] for parts in losses)
    assert exact[0] != pytest.approx(exact[1], rel=0.05)  # real and generated are told apart
    assert rounded == pytest.approx(exact, rel=0.03, abs=1e-4)
