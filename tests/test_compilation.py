"""torch.compile of the networks: the same losses and names of weights, and machines without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import Callback

from fexgan_lit.compilation import compile_networks, why_not
from tests.benchmarks.test_twins import tiny
from tests.systems.helpers import fit

CPU = torch.device("cpu")


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


@pytest.mark.parametrize("model", ["fexgan", "ganimation"])
def test_graphs_of_the_compiler_train_alike(model, tmp_path):
    """Dynamo and autograd's graphs, without the code made of them, which takes minutes."""
    eager, compiled = tiny(model), tiny(model)
    done = compile_networks(compiled, CPU, backend="aot_eager")
    assert done.networks == (("generator", "critic") if model == "ganimation" else ("generator",))
    assert_same_training(eager, compiled, tmp_path)


def test_a_graph_that_serves_two_losses_is_kept_in_bf16(tmp_path):
    """Compiled code would otherwise reuse what autocast's copies lie in once the generator's loss is walked back."""
    system = tiny("fexgan")
    compile_networks(system, CPU, backend="aot_eager")
    assert len(losses(system, tmp_path, "bf16")) == 4


@pytest.mark.slow
@pytest.mark.skipif(why_not(CPU) is not None, reason="torch.compile does not work on this machine")
def test_compiled_code_trains_alike_beside_a_gradient_penalty(tmp_path):
    eager, compiled = (tiny("stargan", "model.residual_blocks=0", "optimizer.n_critic=2") for _ in range(2))
    compile_networks(compiled, CPU)
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


def test_a_compiler_that_is_not_there_is_noticed_by_trying():
    """In a process of its own: torch looks for the compiler once."""
    code = "import torch; from fexgan_lit.compilation import why_not; print(why_not(torch.device('cpu')))"
    environment = {**os.environ, "CXX": "/nowhere/g++"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "No working C++ compiler found" in done.stdout
    assert "/nowhere/g++" in done.stdout
