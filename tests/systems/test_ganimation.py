"""GANimation: its published sizes, its losses by hand, who moves when, and what it says when it fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.systems.annotations import UnitPrototypes
from fexgan_lit.systems.ganimation.config import GANimationLossSettings, GANimationOptimizerSettings, GANimationSettings
from fexgan_lit.systems.ganimation.losses import critic_loss, generator_loss, mask_statistics
from fexgan_lit.systems.ganimation.networks import Generator, Painted, compose
from fexgan_lit.systems.ganimation.system import GANimation
from fexgan_lit.systems.layers import PatchCritic
from fexgan_lit.systems.losses import gradient_penalty, total_variation
from fexgan_lit.utils.errors import UserError
from tests.metrics.test_measure import frames
from tests.systems.helpers import NoisePairs, changed, count, fit, saver, snapshot


def make_system(loss=None, optimizer=None, affects=4, **model):
    torch.manual_seed(0)
    settings = GANimationSettings(image_size=32, width=0.07, residual_blocks=1, **model)
    names = [f"a{k}" for k in range(affects)]
    return GANimation(settings, loss or GANimationLossSettings(), optimizer or GANimationOptimizerSettings(), names)


def test_published_parameter_counts():
    assert count(Generator(GANimationSettings())) == 8_471_296
    assert count(PatchCritic(128, 17)) == 44_860_352


@pytest.mark.parametrize(("size", "blocks"), [(32, 4), (64, 5), (128, 6)])
def test_the_critic_ends_at_two_by_two_patches(size, blocks):
    critic = PatchCritic(size, 17, width=0.05)
    assert len([layer for layer in critic.blocks if isinstance(layer, torch.nn.Conv2d)]) == blocks
    scores, units = critic(torch.zeros(3, 3, size, size))
    assert scores.shape == (3, 2, 2)
    assert units.shape == (3, 17)


def test_attention_of_one_gives_the_input_back_and_of_zero_the_colour():
    source, colour = torch.rand(2, 3, 8, 8) * 2 - 1, torch.rand(2, 3, 8, 8) * 2 - 1
    assert torch.equal(compose(source, torch.ones(2, 1, 8, 8), colour), source)
    assert torch.equal(compose(source, torch.zeros(2, 1, 8, 8), colour), colour)


def test_the_generator_composes_its_own_masks():
    generator = Generator(GANimationSettings(image_size=32, width=0.07, residual_blocks=1))
    source, aus = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 17)
    made = generator(source, aus)
    torch.testing.assert_close(made.image, made.attention * source + (1 - made.attention) * made.colour)
    assert made.attention.shape == (2, 1, 32, 32)
    assert 0 < made.attention.min() < made.attention.max() < 1
    with torch.no_grad():
        generator.attention.weight.fill_(1e4)
        generator.trunk[-1][1].bias.fill_(1.0)  # features above zero everywhere
    assert torch.equal(generator(source, aus).image, source)


def test_saturated_attention_is_the_stated_curve():
    generators = [Generator(GANimationSettings(image_size=32, width=0.07, saturate_attention=s)) for s in (False, True)]
    generators[1].load_state_dict(generators[0].state_dict())
    x, aus = torch.rand(1, 3, 32, 32), torch.rand(1, 17)
    plain, pushed = (generator(x, aus).attention for generator in generators)
    torch.testing.assert_close(pushed, (0.55 * torch.tanh(3 * (plain - 0.5)) + 0.5).clamp(0, 1))


def test_gradient_penalty_of_a_linear_critic():
    weight = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)  # |gradient| = 5 wherever it is taken
    real, fake = torch.rand(6, 1, 1, 2), torch.rand(6, 1, 1, 2)
    assert gradient_penalty(lambda x: (weight * x).flatten(1).sum(1), real, fake).item() == pytest.approx(16)
    # four patches that all see the same: the gradient of their sum is 20
    assert gradient_penalty(lambda x: (weight * x).sum((1, 2, 3)).view(-1, 1).expand(-1, 4), real, fake).item() == (
        pytest.approx(19**2)
    )


def test_gradient_penalty_is_taken_between_real_and_fake_and_can_be_differentiated():
    seen = []
    scale = torch.tensor(2.0, requires_grad=True)

    def critic(x):
        seen.append(x.detach())
        return scale * x.square().sum((1, 2, 3)) / 2  # gradient: scale * x

    real, fake = torch.full((50, 1, 1, 1), 3.0), torch.full((50, 1, 1, 1), 1.0)
    penalty = gradient_penalty(critic, real, fake)
    x = seen[0]
    assert 1 < x.min() < 1.3
    assert 2.7 < x.max() < 3
    assert penalty.item() == pytest.approx((2 * x - 1).square().mean().item(), rel=1e-5)
    penalty.backward()
    assert scale.grad.item() == pytest.approx((2 * (2 * x - 1) * x).mean().item(), rel=1e-5)


def test_gradient_penalty_stays_in_float32_under_bf16():
    critic = PatchCritic(32, 17, width=0.07)
    real, fake = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    torch.manual_seed(1)
    plain = gradient_penalty(critic.scores, real, fake)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert critic.scores(real).dtype == torch.bfloat16
        mixed = gradient_penalty(critic.scores, real, fake)
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)


def test_losses_by_hand():
    w = GANimationLossSettings(pixel=5.0)
    on_real = torch.full((2, 2, 2), 3.0), torch.zeros(2, 17)
    on_fake = torch.full((2, 2, 2), -1.0), torch.ones(2, 17)
    total, parts = critic_loss(on_real, on_fake, torch.full((2, 17), 0.5), w)
    assert total.item() == pytest.approx(-3 - 1 + 160 * 0.25)
    assert parts["d_units"].item() == pytest.approx(0.25), "of the real images, not of the generated ones"

    source = torch.zeros(2, 3, 2, 2)
    edges = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).expand(2, 1, 2, 2)  # two unit steps an image
    made, back = Painted(source, edges, source), Painted(source + 0.1, edges, source)
    total, parts = generator_loss(on_fake, torch.full((2, 17), 0.9), made, back, source, source - 0.2, w)
    assert parts["variation"].item() == pytest.approx(8), "both passes, summed over the batch"
    assert parts["attention"].item() == pytest.approx(1), "both passes, a mean"
    assert total.item() == pytest.approx(1 + 160 * 0.01 + 10 * 0.1 + 0.1 * 1 + 1e-5 * 8 + 5 * 0.2)


def test_total_variation_sums_both_directions():
    image = torch.tensor([[0.0, 2.0, 2.0], [1.0, 0.0, 2.0]]).view(1, 1, 2, 3)
    assert total_variation(image).item() == pytest.approx((2 + 0 + 1 + 2) + (1 + 2 + 0))


def test_mask_statistics():
    mask = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    numbers = {name: value.item() for name, value in mask_statistics(mask).items()}
    expected = {"attention_mean": 0.75, "attention_std": 0.5, "attention_saturated": 0.75}
    assert numbers == pytest.approx(expected)


def test_the_generator_moves_on_every_fifth_iteration(tmp_path):
    system = make_system()
    before = snapshot(system.generator), snapshot(system.critic)
    fit(system, 4, tmp_path)
    assert not changed(system.generator, before[0])
    assert changed(system.critic, before[1])
    before = snapshot(system.critic)
    fit(system, 5, tmp_path)
    assert changed(system.generator, snapshot(make_system().generator))
    assert changed(system.critic, before)
    assert system.iteration == 5


@pytest.mark.parametrize(("separate", "steps"), [(True, 2), (False, 1)])
def test_the_penalty_is_a_step_of_its_own_unless_joined(tmp_path, separate, steps):
    system = make_system(optimizer=GANimationOptimizerSettings(separate_penalty=separate))
    calls, update = [], system.update

    def note(network, loss, *, counted):
        calls.append((network, counted))
        update(network, loss, counted=counted)

    system.update = note
    fit(system, 1, tmp_path)
    assert calls == [(system.critic, False), (system.critic, True)][-steps:], "one of them counts the batch"


def test_wanted_units_are_those_of_other_frames_with_noise():
    system = make_system(GANimationLossSettings(au_noise=0.1))
    batch = NoisePairs(batch=64).batch(0, 0)
    wanted = system.wanted_units(batch)
    distance = (wanted[:, None] - batch.target_aus[None]).abs().amax(2)  # (64, 64)
    nearest = distance.min(1)
    assert nearest.values.max() <= 0.1
    assert sorted(nearest.indices.tolist()) == list(range(64)), "every frame once"
    assert (nearest.indices != torch.arange(64)).float().mean() > 0.9, "but not its own"
    assert wanted.min() < 0, "not clipped"
    assert wanted.max() > 1, "not clipped"


def test_with_a_pixel_loss_the_wanted_units_are_those_of_the_true_target():
    system, batch = make_system(GANimationLossSettings(pixel=10.0)), NoisePairs().batch(0, 0)
    assert torch.equal(system.wanted_units(batch), batch.target_aus)
    assert system.pairing == "identity", "random frames of other people are no targets"
    assert make_system().pairing == "none"


def test_losses_fall_into_the_log_with_the_masks(tmp_path):
    system = make_system(optimizer=GANimationOptimizerSettings(n_critic=2))
    seen = []
    report = system.report
    system.report = lambda *args: seen.append(report(*args)) or seen[-1]
    fit(system, 3, tmp_path)
    assert seen[0]["generator"] == 0, "no generator step yet"
    assert {"attention_mean", "attention_std", "attention_saturated", "cycle", "units"} <= set(seen[1])
    assert seen[2]["generator"] == seen[1]["generator"], "as of the last step"
    assert all(value.isfinite() for parts in seen for value in parts.values())


def test_training_runs_in_bf16_with_channels_last(tmp_path):
    system = make_system(optimizer=GANimationOptimizerSettings(n_critic=1)).to(memory_format=torch.channels_last)
    before = snapshot(system.generator)
    fit(system, 2, tmp_path, precision="bf16")
    assert changed(system.generator, before)
    assert all(p.isfinite().all() for p in system.parameters())


def test_the_average_is_the_generator_unless_wanted(tmp_path):
    for half_life in (0.0, 100.0):
        system = make_system(optimizer=GANimationOptimizerSettings(n_critic=1, ema_half_life_images=half_life))
        fit(system, 3, tmp_path)
        assert changed(system.average, snapshot(system.generator)) is (half_life > 0)


def test_resume_gives_the_weights_of_an_uninterrupted_run(tmp_path):
    settings, save = GANimationOptimizerSettings(n_critic=2), saver(tmp_path, 3)
    whole, first, second = (make_system(optimizer=settings) for _ in range(3))
    fit(whole, 7, tmp_path)
    fit(first, 3, tmp_path, callbacks=[save])
    fit(second, 7, tmp_path, checkpoint=save.path)
    ours, theirs = whole.state_dict(), second.state_dict()
    assert [name for name in ours if not torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num())] == []


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"attention_mean": 0.999, "attention_saturated": 0.995}, ["saturated", "99.5%", "lambda_attention", "0.2"]),
        ({"attention_mean": 0.01, "attention_saturated": 0.0}, ["Lower loss.lambda_attention", "0.05"]),
        ({"attention_mean": 0.8, "attention_saturated": 0.6}, None),
        ({}, None),
    ],
)
def test_a_mask_that_does_no_work_is_a_concern(parts, words):
    said = make_system().diagnose(parts)
    assert (said is None) is (words is None)
    assert [word for word in words or [] if word not in said] == []


def test_units_must_be_there_and_in_range():
    system, x = make_system(), torch.zeros(1, 3, 32, 32)
    with pytest.raises(UserError, match="ganimation reads action units"):
        system.synthesize(x, None, Expression(affect=torch.eye(4)[:1]))
    with pytest.raises(UserError, match=r"from 0 to 3\.2, expected intensities in 0\.\.1.*divide by 5"):
        system.synthesize(x, None, Expression(aus=torch.tensor([[0.0] * 16 + [3.2]])))
    with pytest.raises(UserError, match="action units"):
        system.training_step(NoisePairs(bare=True).batch(0, 0), 0)


def test_an_affect_means_the_units_of_its_strongest_frames():
    data = frames({(i, k): 2 for i in range(2) for k in range(3)})
    units = np.zeros((len(data), 17), np.float32)
    units[:, 3] = np.where(data.affect == 1, 0.4 + 0.2 * data.identity, 0)
    object.__setattr__(data, "aus", units)
    system = make_system(affects=3)
    assert system.expression([1]).aus is None, "nothing is known before"
    system.prepare(data, lambda: None)
    wanted = system.expression([1, 0], strength=0.5).aus
    assert wanted[:, 3].tolist() == pytest.approx([0.275, 0])  # half of the upper quartile of 0.4 and 0.6
    assert wanted.shape == (2, 17)


def test_sheets_start_from_the_input():
    system = make_system()
    references, units = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 17)
    shown = Expression(aus=units)
    single, attention = system.sample_figures(references, shown, [shown] * 4, ("x", "y"))
    assert single.cells.shape == (9, 4, 3, 32, 32)
    asked = units[:1].clone()
    asked[0, ACTION_UNITS.index(12)] = 0.66
    row = single.rows.index("AU 12")
    torch.testing.assert_close(
        single.cells[row, 2], system.synthesize(references[:1], None, Expression(aus=asked))[0], atol=1e-5, rtol=0
    )
    assert attention.cells.shape == (2, 4, 3, 32, 32)
    assert -1 <= attention.cells.min() <= attention.cells.max() <= 1


@pytest.mark.parametrize("width", [1.0, 0.25])
def test_weights_start_from_n_0_002_scaled_so_that_signals_keep_their_size(width):
    system = GANimation(
        GANimationSettings(image_size=32, width=width, residual_blocks=1), GANimationLossSettings(),
        GANimationOptimizerSettings(), ["a", "b"],
    )  # fmt: skip
    for network in (system.generator, system.critic, system.average):
        weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, torch.nn.Conv2d)])
        assert weights.std().item() == pytest.approx(0.02 / width**0.5, rel=0.02)
        assert all(not m.bias.any() for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None)


def test_an_affect_is_the_upper_quartile_of_the_people_who_show_it_most():
    data = frames({(person, 1): 2 for person in range(9)}, identities=9)
    aus = np.zeros((len(data), 17), np.float32)
    aus[:, 0] = np.repeat(np.arange(9) / 10, 2)  # every person raises AU1, by 0 to 0.8: the quartile is 0.6
    aus[:2, 8] = 1.0  # one of nine adds AU12, which is not of the affect
    aus[1::2, 3] = 1.0  # the weaker frame of everybody, which does not count
    object.__setattr__(data, "aus", aus)
    object.__setattr__(data, "intensity", np.tile([1.0, 0.5], 9).astype(np.float32))
    prototypes = UnitPrototypes(len(data.affects))
    prototypes.learn(data)
    assert prototypes.known
    wanted = torch.zeros(17)
    wanted[0] = 0.6
    torch.testing.assert_close(prototypes.units[1], wanted)
    assert not prototypes.units[[0, 2]].any(), "nobody shows the other affects"


def test_without_affects_single_units_take_the_place_of_prototypes():
    data = frames({(0, 0): 3})
    object.__setattr__(data, "aus", np.full((3, 17), 0.5, np.float32))
    object.__setattr__(data, "affects", ("unlabelled",))
    torch.manual_seed(0)
    settings = GANimationSettings(image_size=32, width=0.07, residual_blocks=1)
    system = GANimation(settings, GANimationLossSettings(), GANimationOptimizerSettings(), ["unlabelled"])
    system.prepare(data, lambda: None)
    assert not system.prototypes.known
    assert "no affects" in system.summary_lines()[0]
    with pytest.raises(UserError, match=r"without affects.*expected action units"):
        system.expression([0])
    references, units = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 17)
    single, attention = system.sample_figures(references, Expression(aus=units), (), ("x", "y"))
    assert single.cells.shape == (9, 4, 3, 32, 32)
    assert attention.columns == single.rows
    asked = units.clone()
    asked[:, ACTION_UNITS.index(12)] = 1
    mask = 2 * system.paint(references, Expression(aus=asked)).attention - 1
    torch.testing.assert_close(attention.cells[:, attention.columns.index("AU 12"), :1], mask)
    assert units.max() < 1, "the faces' own units are not changed"
    assert make_system().summary_lines() == []


def test_the_critic_reads_units():
    system = make_system()
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(system.read_units(images), system.critic(images)[1].detach())
