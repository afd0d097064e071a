"""Two processes train what one trains at the same whole batch: weights, averages, moments and losses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore

from fexgan_lit.distributed.averaging import agreed, average_gradients
from fexgan_lit.distributed.place import Place
from fexgan_lit.distributed.team import Team
from tests.distributed.helpers import largest_difference
from tests.distributed.partner import train_part

ITERATIONS = 6


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What one process leaves, and what the first of two leaves."""
    folder = tmp_path_factory.mktemp("equality")
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    other = subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.partner", str(store.port), str(folder), str(ITERATIONS)],
        cwd=Path(__file__).parents[2],
    )
    alone = train_part(None, folder, ITERATIONS)
    place = Place(0, 2, 0, 2, "127.0.0.1", store.port)
    team = Team(place, store, {1: other})
    team.connect()
    together = train_part(place, folder, ITERATIONS)
    team.leave()
    assert other.wait(20) == 0
    return alone, together


def test_the_weights_are_those_of_one_process(both):
    (alone, _), (together, _) = both
    assert together.iteration == alone.iteration == ITERATIONS
    assert largest_difference(alone.state_dict(), together.state_dict()) < 2e-5


def test_the_weights_have_moved_further_than_the_tolerance(both):
    from tests.test_training import make_system

    fresh = make_system(dropout=0.0, lambda_mode="normal")
    assert largest_difference(fresh.generator.state_dict(), both[1][0].generator.state_dict()) > 2e-4


def test_the_logged_losses_are_those_of_the_whole_batch(both):
    (_, alone), (_, together) = both
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4)


def test_one_process_of_a_group_changes_nothing(tmp_path):
    """Gradients divided by a world of one, whatever their memory format, and none where there are none."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        kernel, idle = (torch.nn.Parameter(torch.zeros(2, 3, 4, 4)) for _ in range(2))
        kernel.grad = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
        before = kernel.grad.clone()
        average_gradients([kernel, idle])
        assert torch.equal(kernel.grad, before)
        assert kernel.grad.is_contiguous(memory_format=torch.channels_last)
        assert idle.grad is None
        assert agreed(True, False) == [True, False]
    finally:
        torch.distributed.destroy_process_group()
