"""The training algorithm: who is updated by what, how often, and what happens when it cannot go on."""

from __future__ import annotations

import copy
import io
import os
import re
from datetime import timedelta

import pytest
import torch
from rich.console import Console

from fexgan_lit.systems.fexgan.config import FExGANSettings
from fexgan_lit.systems.fexgan.losses import FExGANLossSettings
from fexgan_lit.systems.fexgan.system import DualOptimizerSettings, FExGAN
from fexgan_lit.systems.gan import ema_decay
from fexgan_lit.training.callbacks import AdversarialCut, LinearDecay, RunProgressBar, TimeLimit, TrainingDivergedError
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import NoisePairs, changed, fit, saver, snapshot


def make_system(loss: FExGANLossSettings | None = None, optimizer: DualOptimizerSettings | None = None, **model):
    torch.manual_seed(0)
    s = FExGANSettings(image_size=32, width=0.05, latent_size=8, **model)
    return FExGAN(s, loss or FExGANLossSettings(), optimizer or DualOptimizerSettings(), [f"a{k}" for k in range(4)])


def test_one_generator_forward_an_iteration_serves_both_networks(tmp_path):
    system = make_system()
    calls = []
    system.generator.register_forward_hook(lambda *_: calls.append(1))
    before = snapshot(system.generator), snapshot(system.discriminator)
    fit(system, 3, tmp_path)
    assert len(calls) == 3
    assert system.iteration == 3
    assert changed(system.generator, before[0])
    assert changed(system.discriminator, before[1])


def test_each_loss_reaches_its_own_network_only():
    """The gradients the step uses are those of equation 4 alone and equation 7 alone."""
    system = make_system(dropout=0.0)
    batch = NoisePairs().batch(0, 0)
    taken: dict[str, dict[str, torch.Tensor]] = {}

    def keep(update_generator, size):
        for name in ("generator", "discriminator"):
            network = getattr(system, name)
            taken[name] = {n: p.grad.clone() for n, p in network.named_parameters()}

    system.step_together = keep
    system.manual_backward = lambda loss, **kwargs: loss.backward(**kwargs)
    reference = copy.deepcopy(system)
    reference._fabric = None
    losses = {}
    for name, other in (("generator", "discriminator"), ("discriminator", "generator")):
        twin = copy.deepcopy(reference)
        for parameter in getattr(twin, other).parameters():
            parameter.requires_grad_(False)
        grads = {}
        twin.step_together = lambda *_: None
        backward = {"generator": 0, "discriminator": 1}[name]
        calls = []
        twin.backward_into = lambda network, loss, retain_graph=False, calls=calls: calls.append(loss)
        if name == "discriminator":  # equation 7 with the generator's graph cut off
            twin.generator.requires_grad_(False)
        twin.training_step(batch, 0)
        calls[backward].backward()
        grads = {n: p.grad for n, p in getattr(twin, name).named_parameters()}
        losses[name] = grads
    system.training_step(batch, 0)
    for name, expected in losses.items():
        for key, gradient in taken[name].items():
            torch.testing.assert_close(gradient, expected[key], rtol=1e-5, atol=1e-7, msg=f"{name}.{key}")


def test_a_hopeless_reconstruction_does_not_move_the_discriminator(tmp_path):
    """gamma changes the generator's gradient only."""
    ends = []
    for gamma in (0.0, 1000.0):
        system = make_system(FExGANLossSettings(gamma=gamma))
        fit(system, 1, tmp_path)
        ends.append(system)
    a, b = ends
    assert all(
        torch.equal(x, y) for x, y in zip(a.discriminator.parameters(), b.discriminator.parameters(), strict=True)
    )
    assert changed(a.generator, snapshot(b.generator))


def test_n_critic_lets_the_generator_step_on_every_nth_iteration(tmp_path):
    system = make_system(optimizer=DualOptimizerSettings(n_critic=3))
    before = snapshot(system.generator), snapshot(system.discriminator)
    fit(system, 2, tmp_path)
    assert not changed(system.generator, before[0])
    assert changed(system.discriminator, before[1])
    fit(system, 3, tmp_path)
    assert changed(system.generator, before[0])


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_clipping_bounds_both_gradients(precision, tmp_path):
    system = make_system(optimizer=DualOptimizerSettings(clip_norm=1e-3))
    norms = []

    def record(optimizer, *_):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.stack([g.norm() for g in grads]).norm().item())

    configure = system.configure_optimizers

    def configured():
        optimizers = configure()
        for optimizer in optimizers:
            optimizer.register_step_pre_hook(record)
        return optimizers

    system.configure_optimizers = configured
    fit(system, 2, tmp_path, precision=precision)
    assert len(norms) == 4
    assert max(norms) == pytest.approx(1e-3, rel=1e-2)


def test_adam_as_the_papers_state():
    generator, discriminator = make_system().configure_optimizers()
    for optimizer in (generator, discriminator):
        assert optimizer.param_groups[0]["lr"] == 2e-4
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.999)


def test_max_steps_counts_batches_not_optimizer_steps(tmp_path):
    system = make_system()
    pairs = fit(system, 6, tmp_path)
    assert pairs.asked == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]


def test_a_batch_of_one_is_explained(tmp_path):
    with pytest.raises(UserError, match=r"batch of 1.*dataset\.batch_size"):
        fit(make_system(), 1, tmp_path, NoisePairs(batch=1))


def test_ema_half_life_is_in_images():
    assert ema_decay(32, 320, images_seen=10**9) == pytest.approx(0.5 ** (32 / 320))
    assert ema_decay(32, 0, images_seen=10**9) == 0
    # the ramp: after 1,000 images the half-life is 50 at most
    assert ema_decay(10, 10_000, images_seen=1000) == pytest.approx(0.5 ** (10 / 50))


def test_average_follows_the_generator_and_equals_it_when_off(tmp_path):
    off = make_system(optimizer=DualOptimizerSettings(ema_half_life_images=0))
    fit(off, 2, tmp_path)
    assert not changed(off.average, snapshot(off.generator))
    on = make_system()
    start = snapshot(on.average)
    fit(on, 4, tmp_path)
    assert changed(on.average, start)
    assert changed(on.average, snapshot(on.generator))


def test_the_weight_of_the_binary_part_is_cut_after_its_epoch(tmp_path):
    system = make_system()
    seen = []

    class Look(AdversarialCut):
        def on_train_batch_end(self, trainer, system, *_):
            seen.append(system.adversarial_binary)

    fit(system, 10, tmp_path, callbacks=[Look(epoch=2, to=0.1)])
    assert seen == [1.0] * 8 + [0.1] * 2


def test_the_learning_rate_falls_to_zero_over_the_last_part(tmp_path):
    system = make_system(optimizer=DualOptimizerSettings(lr=1e-3))
    rates = []

    class Look(LinearDecay):
        def on_train_batch_end(self, trainer, *_):
            rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])

    fit(system, 8, tmp_path, callbacks=[Look(start=0.5)])
    assert rates == [pytest.approx([1e-3 * f] * 2) for f in (1, 1, 1, 1, 1, 0.75, 0.5, 0.25)]


def test_nan_stops_with_iteration_parts_and_last_good_checkpoint(tmp_path):
    save = saver(tmp_path, 3)
    with pytest.raises(TrainingDivergedError) as error:
        fit(make_system(), 9, tmp_path, NoisePairs(bad_from=5), [save.monitor, save])
    message = str(error.value)
    assert "iteration 6" in message
    assert "reconstruction=nan" in message
    assert str(save.path) in message
    saved = torch.load(save.path, weights_only=True)
    assert saved["iteration"] == 3
    assert all(v.isfinite().all() for v in saved["state_dict"].values() if v.is_floating_point())


def test_training_is_reproducible_and_depends_on_the_seed(tmp_path):
    def end(seed):
        system = make_system()
        system.seed = seed
        torch.rand(seed + 1)  # whatever was drawn before must not matter
        fit(system, 3, tmp_path)
        return snapshot(system.generator)

    first, again, other = end(0), end(0), end(1)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_resume_in_process_gives_the_same_weights_optimizers_and_average(tmp_path):
    whole, first, second, save = make_system(), make_system(), make_system(), saver(tmp_path, 3)
    fit(whole, 7, tmp_path)
    fit(first, 3, tmp_path, callbacks=[save])
    for parameter in second.parameters():
        parameter.data.zero_()
    pairs = fit(second, 7, tmp_path, checkpoint=save.path)
    assert pairs.asked == [(0, 3), (1, 0), (1, 1), (1, 2)]
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_time_limit_ends_with_a_checkpoint(tmp_path):
    system, save = make_system(), saver(tmp_path, 5000)
    fit(system, 10_000, tmp_path, callbacks=[TimeLimit(timedelta(microseconds=1), verbose=False), save])
    assert 1 <= system.iteration < 100
    assert torch.load(save.path, weights_only=True)["iteration"] == system.iteration


def test_the_pace_is_told_once_and_where_the_time_will_not_do(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5), raising=False)
    written = io.StringIO()
    bar = RunProgressBar(Console(file=written, width=200), line_s=0, pace_s=0)
    fit(make_system(), 60, tmp_path, callbacks=[TimeLimit(timedelta(hours=9), verbose=False), bar])
    lines = written.getvalue().splitlines()
    (pace,) = [line for line in lines if line.startswith("  pace ")]
    assert re.fullmatch(r"  pace       \S+ iterations per second: \d+ (s|minutes) to iteration 60", pace)
    assert re.match(r"  training 30/60  \S+ it/s, \d+ (s|minutes) left  G ", lines[30])
    written.truncate(0)
    monkeypatch.setattr(os, "getloadavg", lambda: (999.0, 0.5, 0.5))
    bar.pace_s = 0
    fit(make_system(), 10_000_000, tmp_path, callbacks=[TimeLimit(timedelta(seconds=0.2), verbose=False), bar])
    (pace,) = [line for line in written.getvalue().splitlines() if "pace " in line]
    assert re.search(r"hours to iteration 10000000; trainer\.max_minutes ends it in 0 s, near iteration \d+; ", pace)
    assert "other processes keep the machine busy (load 999 on" in pace


@pytest.mark.parametrize("mode", ["one", "abs_normal", "normal"])
def test_lambda_scales_the_affect_in_training(mode):
    system = make_system(lambda_mode=mode)
    torch.manual_seed(0)
    batch = NoisePairs(batch=64).batch(0, 0)
    told, wanted = system._training_conditions(batch)
    strength = wanted.sum(1)
    assert torch.equal(wanted.abs().argmax(1), batch.target_affect)
    assert told is wanted
    assert {"one": bool((strength == 1).all()), "abs_normal": bool((strength >= 0).all() and strength.std() > 0.3),
            "normal": bool((strength < 0).any() and (strength > 0).any())}[mode]  # fmt: skip
