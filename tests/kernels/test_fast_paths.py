"""What makes an iteration fast changes nothing but rounding: layouts, fused optimizers, the shared generator pass."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim import Adam

from fexgan_lit.kernels import conv
from fexgan_lit.systems.fexgan.losses import discriminator_loss, generator_loss
from fexgan_lit.training.accelerate import accelerate
from tests.benchmarks.test_plain_loops import tiny
from tests.systems.helpers import NoisePairs, fit
from tests.training.test_accelerate import Keep

ITERATIONS = 50


def losses_of(system, tmp_path, iterations=ITERATIONS):
    keep = Keep()
    fit(system, iterations, tmp_path, callbacks=[keep])
    return keep.losses


def plain_adam(system):
    """The same optimizers in PyTorch's plainest form: a loop over the weights."""
    fused = system.configure_optimizers

    def configure():
        made = []
        for optimizer in fused():
            assert optimizer.defaults["fused"]
            group = optimizer.param_groups[0]
            made.append(Adam(group["params"], group["lr"], group["betas"], fused=False, foreach=False))
        return made

    system.configure_optimizers = configure


@pytest.fixture(scope="module")
def default():
    """A system that takes small steps: Adam divides by the size of a gradient, so large ones make another run of a
    rounding within some tens of iterations.
    """
    return tiny("fexgan", "optimizer.lr=2.0e-5", "model.dropout=0")


@pytest.fixture(scope="module")
def plain_losses(default, tmp_path_factory):
    system = copy.deepcopy(default)
    plain_adam(system)
    return losses_of(system, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("path", ["fused", "channels_last", "kernels", "products"])
def test_fifty_iterations_have_the_losses_of_the_plain_path(path, default, plain_losses, tmp_path, monkeypatch):
    system = copy.deepcopy(default)
    if path == "products":  # narrow layers take the products of wide ones, too
        monkeypatch.setattr(conv, "MATMUL_CHANNELS", 1)
        assert conv.use_matmul(system.generator.encoder.blocks[3][0].weight, pixels=4)
    if path != "fused":
        accelerate(system, kernels=path != "channels_last")
        assert not system.generator.encoder.blocks[1][0].weight.is_contiguous()
    if path in ("channels_last", "products"):
        plain_adam(system)
    losses = losses_of(system, tmp_path)
    assert len(losses) == len(plain_losses) == ITERATIONS
    for iteration, (ours, theirs) in enumerate(zip(losses, plain_losses, strict=True)):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6), iteration
    assert losses[-1]["kl"] != pytest.approx(losses[0]["kl"], rel=0.03)  # the weights did move


def two_passes(system, batch, seed):
    """The exact mode by hand: a pass of both networks for each update, the same noise drawn in both.

    Returns:
        the gradients of the generator and of the discriminator, by name.
    """
    G, D = system.generator, system.discriminator
    target = torch.nn.functional.one_hot(batch.target_affect, len(system.affects)).float()
    torch.manual_seed(seed)
    fake, latent = G(batch.source, target, target)
    loss_g, _ = generator_loss(
        D(fake), fake, batch.target, latent, batch.target_affect, system.loss_weights, str(system.settings.sigma)
    )
    G.zero_grad()
    loss_g.backward()
    gradients = [{name: p.grad.clone() for name, p in G.named_parameters()}]
    torch.manual_seed(seed)
    with torch.no_grad():
        fake, _ = G(batch.source, target, target)
    loss_d, _ = discriminator_loss(D(batch.source), D(fake), batch.source_affect, batch.target_affect)
    D.zero_grad()
    loss_d.backward()
    return [*gradients, {name: p.grad.clone() for name, p in D.named_parameters()}]


def test_one_pass_for_both_updates_has_the_gradients_of_two_passes():
    """Dropout, noise and batch norm as in training; equal since both gradients precede both steps."""
    system, batch = tiny("fexgan"), NoisePairs().batch(0, 0)
    system.settings.encoder_label = "target"
    twin, taken = copy.deepcopy(system), []

    def keep(update_generator, pairs):
        networks = (system.generator, system.discriminator)
        taken.extend({name: p.grad.clone() for name, p in network.named_parameters()} for network in networks)

    system.step_together = keep
    system.manual_backward = lambda loss, **kwargs: loss.backward(**kwargs)
    system.training_step(batch, 0)
    expected = two_passes(twin, batch, hash((system.seed, 0, 0)) & 0x7FFF_FFFF_FFFF_FFFF)
    for ours, theirs in zip(taken, expected, strict=True):
        assert list(ours) == list(theirs)
        for name, gradient in ours.items():
            torch.testing.assert_close(gradient, theirs[name], rtol=1e-5, atol=1e-7, msg=lambda m, n=name: n + m)
        assert sum(float(gradient.abs().sum()) for gradient in ours.values()) > 0


def test_deterministic_gives_the_same_weights_twice(tmp_path):
    ends = []
    for _ in range(2):
        system = tiny("fexgan")
        fit(system, 5, tmp_path, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        ends.append(system.state_dict())
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
