"""What only a GPU can show: iterations captured as CUDA graphs train the networks of plain ones."""

from __future__ import annotations

import copy

import pytest
import torch

from fexgan_lit.training.accelerate import compile_networks
from fexgan_lit.training.cuda_graphs import CUDAGraphStrategy
from tests.benchmarks.test_plain_loops import tiny
from tests.systems.helpers import share_apart
from tests.training import test_cuda_graphs
from tests.training.test_cuda_graphs import ITERATIONS, RATE, SYSTEMS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU")
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Kernels that do not round to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def run(system, tmp_path, capture=False):
    """The losses of every iteration, and how many were captured."""
    made, record = [], CUDAGraphStrategy._record
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CUDAGraphStrategy, "_record", lambda *args: (made.append(1), record(*args))[1])
        losses, _ = test_cuda_graphs.run(system, tmp_path, capture, accelerator="gpu")
    assert system.iteration == len(losses) == ITERATIONS
    return losses, len(made)


def test_a_cut_that_is_not_captured_would_be_found(tmp_path, monkeypatch):
    plain = tiny("fexgan", RATE)
    replayed = copy.deepcopy(plain)
    monkeypatch.setattr(type(plain), "graph_key", lambda self: ())
    run(plain, tmp_path)
    run(replayed, tmp_path, capture=True)
    assert share_apart(plain.cpu().state_dict(), replayed.cpu().state_dict()) > 2e-2


@pytest.mark.parametrize("model", SYSTEMS)
def test_captured_iterations_train_the_networks_of_plain_ones(model, tmp_path, capsys):
    plain = tiny(model, "optimizer.ema_half_life_images=20", RATE)
    replayed = copy.deepcopy(plain)
    expected, _ = run(plain, tmp_path)
    losses, made = run(replayed, tmp_path, capture=True)
    assert "cannot be captured" not in capsys.readouterr().out
    assert made == (2 if model == "fexgan" else getattr(plain.optimizer_settings, "n_critic", 1))
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    assert share_apart(plain.cpu().state_dict(), replayed.cpu().state_dict()) < 5e-3


def test_captured_compiled_iterations(tmp_path, capsys):
    plain = tiny("fexgan", RATE)
    fast = copy.deepcopy(plain)
    expected, _ = run(plain, tmp_path)
    assert compile_networks(fast, CUDA).networks
    losses, made = run(fast, tmp_path, capture=True)
    assert "cannot be captured" not in capsys.readouterr().out
    assert made == 2
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-4)
