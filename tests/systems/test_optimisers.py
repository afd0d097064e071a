"""The optimizers' memory: moments follow the layout of the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import Adam

from fexgan_lit.systems.optimisers import LaidOutAdam, lay_out_like
from tests.systems.helpers import fit
from tests.test_training import make_system

BOTH_WAYS = [(torch.channels_last, torch.contiguous_format), (torch.contiguous_format, torch.channels_last)]


def steps(layer, optimizer, seed, count=3):
    g = torch.Generator().manual_seed(seed)
    for _ in range(count):
        layer.weight.grad = torch.empty_like(layer.weight).copy_(torch.randn(layer.weight.shape, generator=g))
        optimizer.step()


@pytest.mark.parametrize(("before", "after"), BOTH_WAYS)
def test_fused_adam_goes_on_the_same_in_another_memory_format(before, after):
    layer = nn.Conv2d(4, 8, 4, bias=False).to(memory_format=before)
    optimizer = Adam(layer.parameters(), 1e-2, fused=True)
    steps(layer, optimizer, seed=0)
    moved = nn.Conv2d(4, 8, 4, bias=False).to(memory_format=after)
    moved.load_state_dict(layer.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    lay_out_like(moved, [state])
    resumed = Adam(moved.parameters(), 1e-2, fused=True)
    resumed.load_state_dict(state)
    steps(moved, resumed, seed=1)
    steps(layer, optimizer, seed=1)
    assert moved.weight.stride() != layer.weight.stride()
    torch.testing.assert_close(moved.weight, layer.weight, rtol=0, atol=1e-7)


def trained(layout, iterations, folder, checkpoint=None):
    """The trainer of a FExGAN whose weights are laid out as asked, after so many iterations."""
    system = make_system().to(memory_format=layout)
    fit(system, iterations, folder, checkpoint=checkpoint)
    return system.trainer


@pytest.mark.parametrize(("before", "after"), BOTH_WAYS)
def test_a_resumed_run_has_moments_that_lie_as_its_weights(before, after, tmp_path):
    trained(before, 2, tmp_path).save_checkpoint(tmp_path / "at.ckpt", weights_only=False)
    for optimizer in trained(after, 3, tmp_path, tmp_path / "at.ckpt").optimizers:
        for weight, moments in optimizer.state.items():
            assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == weight.stride()


def stepped(kind, layout, fused, gradients=torch.contiguous_format, steps=3):
    """Weights and moments after steps down the same gradients."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((6, 4, 4, 4), (5, 3, 1, 1), (7,), (3, 2))]
    for weight in weights[:2]:
        weight.data = weight.data.contiguous(memory_format=layout)
    optimizer = kind(weights, 1e-2, (0.5, 0.999), fused=fused)
    for step in range(steps):
        for weight in weights:
            gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(step))
            # lies otherwise than its weight now and then, which torch's fused kernel takes for another gradient
            weight.grad = gradient.contiguous(memory_format=gradients) if gradient.ndim == 4 else gradient
        optimizer.step()
    return [value for weight in weights for value in (weight, optimizer.state[weight]["exp_avg_sq"])]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gradients", [torch.contiguous_format, torch.channels_last])
def test_adam_steps_alike_however_weights_and_gradients_lie(layout, gradients):
    plain = stepped(Adam, torch.contiguous_format, fused=False)
    for ours, theirs in zip(stepped(LaidOutAdam, layout, True, gradients), plain, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def copies(kind):
    """How often a step copies a weight that lies channels last, or something of it."""
    weight = nn.Parameter(torch.randn(8, 8, 4, 4).contiguous(memory_format=torch.channels_last))
    optimizer = kind([weight], fused=True)
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        with torch.profiler.profile(record_shapes=True) as profile:
            optimizer.step()
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
    return sum(event.name == "aten::copy_" and event.input_shapes[0] == [8, 8, 4, 4] for event in profile.events())


def test_weights_that_lie_channels_last_are_not_copied():
    assert copies(Adam) == 1  # else there would be no need for ours
    assert copies(LaidOutAdam) == 0
