"""What only a GPU can show: iterations recorded as CUDA graphs train the networks of plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
from rich.console import Console

from fexgan_lit.callbacks import AdversarialCut, LinearDecay
from fexgan_lit.calls import called
from fexgan_lit.compilation import compile_networks
from fexgan_lit.replay import ReplayedStep
from fexgan_lit.trainer import IterationStream, make_trainer
from tests.benchmarks.test_twins import tiny
from tests.systems.helpers import NoisePairs, share_apart
from tests.test_calls import ITERATIONS, SYSTEMS, Settings
from tests.test_compilation import Keep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU")
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Kernels that do not round to TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def run(system, tmp_path, compiled=False, **options):
    """Train with a rate that falls and a weight that is cut; the losses of every call, and how many are recorded."""
    cut = [AdversarialCut(epoch=3, to=0.2)] if hasattr(system, "adversarial_binary") else []
    settings = Settings([LinearDecay(0.3), *cut], "gpu", **options)
    keep, made = Keep(), []
    stream = IterationStream(NoisePairs(), system, ITERATIONS, settings.trainer.iterations_per_call)
    trainer = make_trainer(settings.trainer, [*settings.callbacks.values(), keep], [], str(tmp_path))
    if compiled:
        assert compile_networks(system, CUDA).networks
    with pytest.MonkeyPatch.context() as patch, called(system, trainer, settings, Console(width=200)):
        record = ReplayedStep._record
        patch.setattr(ReplayedStep, "_record", lambda *args: (made.append(1), record(*args))[1])
        trainer.fit(system, stream)
    return keep.losses, len(made)


def test_a_cut_that_is_not_recorded_would_be_found(tmp_path, monkeypatch):
    plain = tiny("fexgan", "optimizer.lr=1.0e-4")
    replayed = copy.deepcopy(plain)
    monkeypatch.setattr(type(plain), "frozen", lambda self: ())
    run(plain, tmp_path)
    run(replayed, tmp_path, cuda_graphs=True)
    assert share_apart(plain.cpu().state_dict(), replayed.cpu().state_dict()) > 2e-2


@pytest.mark.parametrize("model", SYSTEMS)
def test_recorded_iterations_train_the_networks_of_plain_ones(model, tmp_path, capsys):
    plain = tiny(model, "optimizer.ema_half_life_images=20", "optimizer.lr=1.0e-4")
    replayed = copy.deepcopy(plain)
    expected, _ = run(plain, tmp_path)
    losses, made = run(replayed, tmp_path, cuda_graphs=True)
    assert "cannot be recorded" not in capsys.readouterr().out
    assert made == (2 if model == "fexgan" else plain.optimizer_settings.n_critic)
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    assert share_apart(plain.cpu().state_dict(), replayed.cpu().state_dict()) < 5e-3


def test_recorded_compiled_iterations_several_a_call(tmp_path, capsys):
    plain = tiny("fexgan", "optimizer.lr=1.0e-4")
    fast = copy.deepcopy(plain)
    expected, _ = run(plain, tmp_path)
    options = {"log_every": 18, "val_every": 18, "figures_every": 18, "checkpoint_every": 18}
    losses, made = run(fast, tmp_path, compiled=True, cuda_graphs=True, iterations_per_call=6, **options)
    assert "cannot be recorded" not in capsys.readouterr().out
    assert made == 2
    for ours, theirs in zip(losses, expected[5::6], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-4)
