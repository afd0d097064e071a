"""The optimizers' memory: moments follow the layout of the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import Adam

from fexgan_lit.systems.optimizers import lay_out_like
from tests.systems.helpers import fit
from tests.training.test_training import make_system

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
