"""Two processes train what one trains at the same whole batch: weights, averages and losses of every system."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fexgan_lit.training.strategy import agreed, average_gradients
from tests.systems.helpers import share_apart
from tests.training.distributed.partner import MODELS, make, train_part

ITERATIONS = 4


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """The folder in which each of two processes leaves the weights and losses of every system."""
    folder = tmp_path_factory.mktemp("equality")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    here = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.distributed.partner", str(folder), str(ITERATIONS)]
    root = Path(__file__).parents[3]
    both = [subprocess.Popen(command, cwd=root, env=here | {"LOCAL_RANK": rank}) for rank in ("0", "1")]
    assert [process.wait(300) for process in both] == [0, 0]
    return folder


@pytest.mark.parametrize("model", MODELS)
def test_two_processes_hold_the_weights_of_one(model, together, tmp_path):
    first, second = (torch.load(together / f"{model}{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.testing.assert_close(first["weights"], second["weights"], rtol=0, atol=0, equal_nan=True)
    alone, losses = train_part(model, None, tmp_path, ITERATIONS)
    assert alone.iteration == ITERATIONS
    # what the first layer makes of planes of one value has gradients of rounding error, which Adam makes steps of
    assert share_apart(alone.state_dict(), first["weights"], atol=2e-5) < 1e-2
    assert share_apart(make(model).state_dict(), first["weights"], atol=2e-5) > 0.2, "they have moved further than that"
    for one, two in zip(losses, first["losses"], strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4), "losses are those of the whole batch"


def test_one_process_of_a_group_changes_nothing():
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
