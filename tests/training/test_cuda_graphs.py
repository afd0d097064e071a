"""Captured iterations: the run is that of plain iterations, whatever a graph freezes."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from fexgan_lit.runs.config import TrainerSettings, train_settings
from fexgan_lit.systems.optimizers import plain_groups
from fexgan_lit.training.accelerate import graph_strategy
from fexgan_lit.training.callbacks import AdversarialCut, LinearDecay
from fexgan_lit.training.cuda_graphs import WARM_UP, CUDAGraphStrategy, why_not_captured
from fexgan_lit.utils.hardware import root_device
from tests.benchmarks.test_plain_loops import tiny
from tests.runs.test_config import composed
from tests.systems.helpers import fit
from tests.training.test_accelerate import Keep

#: A power of two, as the rate below: a rate that falls to zero over them is then the same number in 32 bits.
ITERATIONS = 16
RATE = f"optimizer.lr={2**-13}"
SYSTEMS = ("fexgan", "ganimation", "landmark_label", "stargan", "bridge")


class Frozen:
    """A stand-in for CUDA graphs: a replay runs the step again with the numbers Python had when it was captured.

    A step that reads a number which changes from iteration to iteration, and neither tells it in `graph_key` nor keeps
    it on the device, trains another network this way, as it would with a graph.
    """

    def __init__(self, system):
        self.system, self.recorded, self.replayed, self.plain = system, 0, 0, 0

    def eagerly(self, task):
        self.plain += 1
        return task()

    def groups(self):
        return [group for optimizer in self.system.trainer.optimizers for group in optimizer.param_groups]

    def numbers(self):
        binary = getattr(self.system, "adversarial_binary", None)
        return self.system.iteration, binary, [group["lr"] for group in self.groups()]

    def set_numbers(self, numbers):
        self.system.iteration, binary, rates = numbers
        if binary is not None:
            self.system.adversarial_binary = binary
        for group, rate in zip(self.groups(), rates, strict=True):
            group["lr"] = rate

    def record(self, task):
        self.recorded += 1
        losses, frozen = {}, self.numbers()

        def replay():
            self.replayed += 1
            now = self.numbers()
            self.set_numbers(frozen)
            self.system.capturing = True
            losses.update(task())
            self.system.capturing = False
            self.set_numbers(now)

        return losses, replay


def run(system, tmp_path, capture=False, iterations=ITERATIONS, callbacks=(), say=print, accelerator="cpu"):
    """Train with a rate that falls and a weight that is cut in the middle; the losses of every iteration."""
    cut = [AdversarialCut(epoch=3, to=0.2)] if hasattr(system, "adversarial_binary") else []
    keep, recorder, strategy = Keep(), Frozen(system) if capture and accelerator == "cpu" else None, "auto"
    if capture:
        strategy = CUDAGraphStrategy(root_device(accelerator), say, recorder)
    schedules = [LinearDecay(0.0), *cut, keep, *callbacks]
    fit(system, iterations, tmp_path, callbacks=schedules, strategy=strategy, accelerator=accelerator)
    return keep.losses, recorder


def assert_same_weights(ours, theirs):
    assert ours.iteration == theirs.iteration
    others = theirs.state_dict()
    for name, value in ours.state_dict().items():
        # what the first layer makes of constant planes has no gradient before instance norm but rounding
        seen = slice(3) if name.endswith("trunk.0.0.weight") else slice(None)
        mine, other = (x[:, seen] if x.ndim == 4 else x for x in (value, others[name]))
        torch.testing.assert_close(other, mine, rtol=1e-4, atol=2e-6, equal_nan=True, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("model", SYSTEMS)
def test_replayed_iterations_train_the_networks_of_plain_ones(model, tmp_path):
    plain = tiny(model, "optimizer.ema_half_life_images=20", RATE)
    replayed = copy.deepcopy(plain)
    expected, _ = run(plain, tmp_path)
    losses, recorder = run(replayed, tmp_path, capture=True)
    n_critic = getattr(plain.optimizer_settings, "n_critic", 1)
    after_the_cut = 1 if model == "fexgan" else 0  # the first iteration of a kind is never captured
    assert recorder.plain == WARM_UP * n_critic + after_the_cut
    assert recorder.replayed == ITERATIONS - recorder.plain
    assert recorder.recorded == (2 if model == "fexgan" else n_critic)  # before and after the cut; with and without G
    assert plain.trainer.global_step == replayed.trainer.global_step == ITERATIONS
    assert_same_weights(plain, replayed)
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def test_a_number_that_is_not_declared_would_be_found(tmp_path, monkeypatch):
    """The stand-in does freeze: without `graph_key` the weight after the cut is never seen."""
    plain = tiny("fexgan", RATE)
    replayed = copy.deepcopy(plain)
    monkeypatch.setattr(type(plain), "graph_key", lambda self: ())
    run(plain, tmp_path)
    _, recorder = run(replayed, tmp_path, capture=True)
    assert recorder.recorded == 1
    with pytest.raises(AssertionError):
        assert_same_weights(plain, replayed)


def test_an_iteration_that_cannot_be_captured_is_run_as_it_is(tmp_path, monkeypatch):
    def refuse(self, task):
        weight = next(self.system.generator.parameters())
        weight.grad = torch.ones_like(weight)
        assert self.system.iteration == WARM_UP
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be")

    plain, said = tiny("fexgan", RATE), []
    refused = copy.deepcopy(plain)
    monkeypatch.setattr(Frozen, "record", refuse)
    run(plain, tmp_path)
    _, recorder = run(refused, tmp_path, capture=True, say=said.append)
    assert all(isinstance(group["lr"], float) for group in recorder.groups())
    assert recorder.plain == refused.trainer.global_step == ITERATIONS
    assert_same_weights(plain, refused)
    (line,) = said
    assert "cannot be captured (operation not permitted when stream is capturing); continuing without" in line


def test_a_checkpoint_of_a_captured_run_is_an_ordinary_one(tmp_path):
    system = tiny("fexgan")
    saved = {}

    class Save(Keep):
        def on_train_batch_end(self, trainer, system, outputs, batch, batch_idx):
            saved.update(trainer._checkpoint_connector.dump_checkpoint(weights_only=False))

    run(system, tmp_path, capture=True, iterations=6, callbacks=[Save()])
    groups = [group for state in saved["optimizer_states"] for group in state["param_groups"]]
    assert [type(group["lr"]) for group in groups] == [float, float]
    assert not any(group["capturable"] for group in groups)
    assert saved["iteration"] == 6


def test_plain_groups_keep_the_rate():
    states = [{"param_groups": [{"lr": torch.tensor(0.25), "capturable": True}]}]
    plain_groups(states)
    assert states == [{"param_groups": [{"lr": 0.25, "capturable": False}]}]


def test_who_cannot_be_captured_is_told_why():
    system = tiny("fexgan")
    assert "NVIDIA GPU" in why_not_captured(system, torch.device("cpu"), 1)
    assert "several devices" in why_not_captured(system, torch.device("cuda"), 2)
    assert why_not_captured(system, torch.device("cuda"), 1) is None
    other = SimpleNamespace(settings=SimpleNamespace(name="painter"))
    assert "painter lacks graph_key()" in why_not_captured(other, torch.device("cuda"), 1)


def test_without_a_gpu_a_run_goes_on_and_says_so():
    said = []
    assert graph_strategy(tiny("fexgan"), torch.device("cpu"), said.append) == "auto"
    assert said == ["nothing: CUDA graphs need an NVIDIA GPU, but the device is cpu; continuing without graphs"]


def test_options_that_do_not_go_together_are_refused():
    assert "trainer.cuda_graphs=false" in TrainerSettings(profile=True, cuda_graphs=True).problems()[0]
    assert TrainerSettings(profile=True).problems() == TrainerSettings(cuda_graphs=True).problems() == []


@pytest.mark.parametrize(("model", "data"), zip(SYSTEMS, 3 * ("studio_cartoon", "mhfed"), strict=False))
def test_the_gpu_trainer_suits_every_system_and_recipe(model, data):
    settings = train_settings(composed("trainer=gpu", f"model={model}", f"dataset={data}", "dataset.root=."))
    t = settings.trainer
    assert (t.accelerator, t.cuda_graphs, t.compile) == ("gpu", True, True)
    plain = train_settings(composed(f"model={model}", f"dataset={data}", "dataset.root=.")).trainer
    assert t.max_steps == plain.max_steps
