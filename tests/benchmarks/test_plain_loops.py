"""The plain loops: each computes what its system computes, and so does the FLOP count."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from fexgan_lit.benchmarks.config import SYSTEMS
from fexgan_lit.benchmarks.inputs import random_motions
from fexgan_lit.benchmarks.plain_loops import PLAIN_LOOPS
from fexgan_lit.runs.build import build_system
from fexgan_lit.runs.config import train_settings
from fexgan_lit.systems.landmark_label.perceptual import VGG19Start
from fexgan_lit.training.flops import FlopsByPrecision
from tests.runs.test_config import composed, options
from tests.systems.helpers import NoisePairs, fit

ITERATIONS = 4


def tiny(model, *overrides):
    """A system of 32 px and few channels whose generator moves on every second iteration where n_critic exists."""
    if model in ("ganimation", "stargan", "us_gan", "attgan", "lgp_gan"):
        overrides = ("optimizer.n_critic=2", *overrides)
    if model in ("ganimation", "stargan", "lgp_gan"):
        overrides = ("model.residual_blocks=1", *overrides)
    if model == "mien":
        overrides = ("model.blocks=1", "loss.critics_from=0", "loss.gamma_end=2", *overrides)
    if model == "lgp_gan":
        overrides = ("loss.pixel=10", *overrides)
    if model == "landmark_label":
        overrides = ("model.blocks=2", *overrides)
    if model == "motion_texture":
        overrides = ("model.motion_width=0.02", "optimizer.motion_batch=6", "loss.identity=0", *overrides)
    sizes = ("dataset=folder", "dataset.root=.", "dataset.image_size=32", "model.width=0.07")
    settings = train_settings(composed(f"model={model}", *sizes, *overrides))
    system = build_system(settings, ("a", "b", "c", "d"))
    if model == "landmark_label":
        torch.manual_seed(1)
        system.set_perceptual(VGG19Start())
    if model == "motion_texture":
        system.set_motions(random_motions(8, 4, 30))
    return system


def run_plain_loop(model, system, iterations=ITERATIONS):
    """The losses of the plain loop's iterations, its random numbers seeded as the system seeds its own."""
    pairs = NoisePairs()
    loop = PLAIN_LOOPS[model](system, (pairs.batch(*divmod(n, len(pairs))) for n in itertools.count()), False)
    losses = []
    for iteration in range(iterations):
        torch.manual_seed(hash((system.seed, 0, iteration)) & 0x7FFF_FFFF_FFFF_FFFF)
        losses.append(tuple(float(loss) for loss in next(loop)))
    return losses


def test_every_system_has_a_plain_loop():
    assert set(PLAIN_LOOPS) == set(SYSTEMS) == set(options("model"))


@pytest.mark.parametrize("model", sorted(PLAIN_LOOPS))
def test_a_plain_loop_ends_with_the_weights_of_its_system(model, tmp_path):
    # a moving average that counts, so that a loop without one would be found out
    system = tiny(model, "optimizer.ema_half_life_images=20")
    plain, before = copy.deepcopy(system), copy.deepcopy(system.state_dict())
    fit(system, ITERATIONS, tmp_path)
    run_plain_loop(model, plain)
    ours, theirs = system.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        # action units of the affects are unknown, NaN, before they are learned from frames
        torch.testing.assert_close(
            theirs[name], value, rtol=1e-5, atol=1e-6, equal_nan=True, msg=lambda m, n=name: n + m
        )
    moved = {
        name.partition(".")[0] for name, value in system.named_parameters() if not torch.equal(value, before[name])
    }
    assert moved == {name.partition(".")[0] for name, _ in system.named_parameters()}  # every network, the average too


@pytest.mark.parametrize("model", ["fexgan", "ganimation"])
def test_plain_loop_and_system_compute_the_same_flop(model, tmp_path):
    system = tiny(model)
    plain = copy.deepcopy(system)
    with FlopsByPrecision() as ours:
        fit(system, 2, tmp_path)
    with FlopsByPrecision() as theirs:
        run_plain_loop(model, plain, 2)
    assert ours.counts == theirs.counts
    assert theirs.counts[torch.float32] > 1e6
