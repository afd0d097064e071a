"""The moving average of a generator, with and without torch's private functions for many tensors at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fexgan_lit.systems.gan import SMALL, copy_all, update_ema

PRIVATE = ("_foreach_copy_", "_foreach_sub", "_foreach_mul_", "_foreach_add_")


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(256, SMALL // 256 + 1), nn.BatchNorm1d(SMALL // 256 + 1))  # one tensor above SMALL
    net[1].running_mean.normal_()
    net[1].num_batches_tracked.fill_(seed)
    return net


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("decay", [0.75, torch.tensor(0.75)], ids=["number", "tensor"])
def test_parameters_move_towards_the_network_and_buffers_are_copied(decay, private, monkeypatch):
    average, new, old = network(1), network(2), network(1)
    if not private:
        for name in PRIVATE:
            monkeypatch.delattr(torch, name)
    update_ema(average, new, decay)
    for moved, before, target in zip(average.parameters(), old.parameters(), new.parameters(), strict=True):
        torch.testing.assert_close(moved, 0.75 * before + 0.25 * target)
    for copied, target in zip(average.buffers(), new.buffers(), strict=True):
        assert torch.equal(copied, target)


@pytest.mark.parametrize("private", [True, False])
def test_tensors_are_copied_in_place(private, monkeypatch):
    if not private:
        monkeypatch.delattr(torch, "_foreach_copy_")
    olds, latest = [torch.zeros(3), torch.zeros(2, 2)], [torch.arange(3.0), torch.ones(2, 2)]
    copy_all(olds, latest)
    assert torch.equal(olds[0], latest[0])
    assert torch.equal(olds[1], latest[1])
