"""Kernels and torch.compile from outside: the same weights by the same names, and machines that lack something."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import Callback

import fexgan_lit
from fexgan_lit.training.accelerate import DiscriminatorOnMap, accelerate, compile_networks, why_not
from tests.benchmarks.test_plain_loops import tiny
from tests.systems.helpers import fit

CPU = torch.device("cpu")
SYSTEMS = ("fexgan", "fexgan_meta", "ganimation", "landmark_label", "stargan")


class Keep(Callback):
    """Every iteration's losses."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, system, outputs, batch, batch_idx):
        self.losses.append({name: float(value) for name, value in outputs.items()})


def losses(system, tmp_path, precision="float32"):
    keep = Keep()
    fit(system, 4, tmp_path, callbacks=[keep], precision=precision)
    return keep.losses


def assert_same_training(eager, compiled, tmp_path):
    """Equal losses of four iterations, dropout, noise and gradient penalty included, and equal weights by name."""
    for ours, theirs in zip(losses(eager, tmp_path), losses(compiled, tmp_path), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-4, abs=1e-5)
    before, after = eager.state_dict(), compiled.state_dict()
    assert list(before) == list(after)  # no `_orig_mod` in a checkpoint
    for name, value in before.items():
        # Adam divides by the size of a gradient, so rounding shows in weights whose gradient is next to nothing
        torch.testing.assert_close(after[name], value, rtol=1e-3, atol=1e-3, equal_nan=True)


def test_graphs_of_the_compiler_train_alike(tmp_path):
    """Dynamo and autograd's graphs, without the code made of them, which takes minutes."""
    eager, compiled = tiny("fexgan"), tiny("fexgan")
    assert compile_networks(compiled, CPU, backend="aot_eager").networks == ("generator",)
    assert_same_training(eager, compiled, tmp_path)


def test_a_graph_that_serves_two_losses_is_kept_in_bf16(tmp_path):
    """Compiled code would otherwise reuse what autocast's copies lie in once the generator's loss is walked back."""
    system = tiny("fexgan")
    compile_networks(system, CPU, backend="aot_eager")
    assert len(losses(system, tmp_path, "bf16")) == 4


@pytest.mark.slow
def test_compiled_code_trains_alike_beside_a_gradient_penalty(tmp_path):
    """True code; without a C++ compiler the graphs alone."""
    backend = "aot_eager" if why_not(CPU) else "inductor"
    eager, compiled = (tiny("stargan", "model.residual_blocks=0", "optimizer.n_critic=2") for _ in range(2))
    assert compile_networks(compiled, CPU, backend=backend).networks == ("generator", "critic")
    assert_same_training(eager, compiled, tmp_path)


def test_the_penalty_never_calls_the_compiled_critic(tmp_path):
    system = tiny("stargan")
    calls, graphs = [], []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    system.critic.compile(backend=backend)
    system.critic.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    with torch.enable_grad():
        image = torch.rand(2, 3, 32, 32, requires_grad=True)
        (gradient,) = torch.autograd.grad(system.critic.scores(image).sum(), image, create_graph=True)
        gradient.square().sum().backward()
    assert not graphs
    assert not calls
    system.critic(image)
    assert graphs


def test_a_machine_without_a_compiler_goes_on(monkeypatch, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\n  in PATH")

    system = tiny("fexgan")
    monkeypatch.setattr(torch, "compile", broken)
    done = compile_networks(system, CPU)
    assert done.networks == ()
    assert "No working C++ compiler found" in done.line
    assert "\n" not in done.line
    assert len(losses(system, tmp_path)) == 4


def test_a_torch_without_the_private_switch_of_donated_buffers_compiles(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._functorch.config", None)
    monkeypatch.setattr("fexgan_lit.training.accelerate.why_not", lambda *_: None)
    assert compile_networks(tiny("fexgan"), CPU, backend="eager").networks == ("generator",)


def test_a_compiler_that_is_not_there_is_noticed_by_trying():
    """In a process of its own: torch looks for the compiler once."""
    code = "import torch; from fexgan_lit.training.accelerate import why_not; print(why_not(torch.device('cpu')))"
    environment = {**os.environ, "CXX": "/nowhere/g++"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "No working C++ compiler found" in done.stdout
    assert "/nowhere/g++" in done.stdout


# ---------------------------------------------------------------------- kernels


def kernels_in(system):
    return {type(module).__name__ for module in system.modules() if "kernels" in type(module).__module__}


@pytest.mark.parametrize("model", SYSTEMS)
def test_networks_are_torchs_and_accelerated_ones_hold_the_same_weights(model):
    """A seed gives the same initial weights, and a state dict has the same keys, with and without kernels."""
    torch.manual_seed(3)
    plain = tiny(model)
    torch.manual_seed(3)
    fast = tiny(model)
    assert not kernels_in(plain)
    parameters = dict(fast.named_parameters())
    assert accelerate(fast) == []
    assert all(parameters[name] is parameter for name, parameter in fast.named_parameters())
    ours, theirs = fast.state_dict(), plain.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(value, theirs[name]) or value.isnan().any() for name, value in ours.items())
    replaced = {"DownConv", "UpConv", "FusedBlock", "Dropout"} if model.startswith("fexgan") else set()
    assert kernels_in(fast) == replaced  # a gradient penalty needs second derivatives
    assert (type(getattr(fast, "discriminator", None)) is DiscriminatorOnMap) == bool(replaced)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in fast.parameters() if p.ndim == 4)
    fast.load_state_dict(theirs)
    accelerate(fast)  # twice is once
    assert kernels_in(fast) == replaced
    copied = pickle.loads(pickle.dumps(copy.deepcopy(fast)))  # noqa: S301
    assert kernels_in(copied) == replaced


def test_without_kernels_nothing_is_swapped():
    system = tiny("fexgan")
    accelerate(system, kernels=False, channels_last=False)
    assert not kernels_in(system)
    assert system.adam is torch.optim.Adam
    assert all(p.is_contiguous() for p in system.parameters())


@pytest.mark.parametrize("model", ["fexgan", "landmark_label"])
def test_accelerated_networks_train_alike(model, tmp_path):
    changes = ["optimizer.lr=2.0e-5", "model.dropout=0"]
    plain, fast = tiny(model, *changes), tiny(model, *changes)
    accelerate(fast)
    assert_same_training(plain, fast, tmp_path)
    assert {type(optimizer).__module__ for optimizer in fast.trainer.optimizers} == {"fexgan_lit.kernels.memory"}
    assert {type(optimizer).__name__ for optimizer in fast.trainer.optimizers} == {"Adam"}  # columns have its name


def test_without_the_package_of_kernels_a_system_trains_alike(tmp_path, monkeypatch):
    def trained():
        torch.manual_seed(0)
        system = tiny("fexgan", "model.dropout=0")
        accelerate(system)
        fit(system, 4, tmp_path)
        return system

    with_kernels = trained().state_dict()
    for name in [name for name in sys.modules if name.startswith("fexgan_lit.kernels")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fexgan_lit.kernels", None)
    monkeypatch.delattr(fexgan_lit, "kernels")
    plain = trained()
    assert not kernels_in(plain)
    assert not any(name.startswith("fexgan_lit.kernels.") for name in sys.modules)
    without = plain.state_dict()
    assert list(without) == list(with_kernels)
    for name, value in with_kernels.items():
        torch.testing.assert_close(without[name], value, rtol=1e-3, atol=1e-3)


def test_missing_private_functions_and_libraries_leave_torchs_operations(monkeypatch, tmp_path, caplog):
    from fexgan_lit import kernels

    monkeypatch.delattr(torch._C, "_will_engine_execute_node")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # neither mallopt nor GOMP_parallel
    monkeypatch.delitem(sys.modules, "fexgan_lit.kernels.loops", raising=False)
    monkeypatch.delitem(sys.modules, "fexgan_lit.kernels.threads", raising=False)
    with caplog.at_level(logging.WARNING):
        assert kernels._load_loops() is None
    assert "training continues without compiled loops" in caplog.text
    monkeypatch.setattr(kernels, "gnu_openmp", lambda: None)
    missing = kernels.start_loading_loops.__wrapped__()
    assert missing.result() is None
    monkeypatch.setattr(kernels, "start_loading_loops", lambda: missing)
    system = tiny("fexgan")
    accelerate(system)
    assert "DownConv" in kernels_in(system)
    assert len(losses(system, tmp_path, "bf16-mixed")) == 4
