"""An iteration waits for nothing: on a GPU the host runs ahead, and a recording may not ask what a tensor holds."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.profilers import PassThroughProfiler
from torch.optim import Adam
from torch.utils._python_dispatch import TorchDispatchMode

from tests.benchmarks.test_plain_loops import tiny
from tests.systems.helpers import NoisePairs

#: Operations that need an answer from the device.
WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "_unique2", "equal")


class NoWaits(TorchDispatchMode):
    """Fails where an operation would wait for the device, or a tensor goes from one to another."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        assert name not in WAITING, f"{name} waits for the device"
        out = func(*args, **(kwargs or {}))
        moved = isinstance(out, torch.Tensor) and name in ("_to_copy", "copy_")
        assert not (moved and args[0].device != out.device), f"{name} moves {tuple(out.shape)} to {out.device}"
        return out


def ready_on(device, model):
    """A system whose step can be called without a trainer, after one iteration of its optimizers."""
    system = tiny(model).to(device).train()
    if getattr(system, "perceptual", None) is not None:
        system.perceptual.to(device)  # no child of the system; a trainer moves it
    system.manual_backward = lambda loss, **kwargs: loss.backward(**kwargs)
    networks = [child for name, child in system.named_children() if name not in ("average", "prior", "pose_range")]
    adams = [Adam(weights) for network in networks if (weights := list(network.parameters()))]
    # the steps are torch's own; a recording asks them to keep their counts on the device
    skip = SimpleNamespace(optimizer_step=lambda *_: None)
    system._trainer = SimpleNamespace(max_steps=-1, optimizers=adams, strategy=skip, profiler=PassThroughProfiler())
    system.clip_gradients = lambda adam, *_: torch.nn.utils.clip_grad_norm_(adam.optimizer.param_groups[0]["params"], 1)
    system.optimizers = lambda: [
        SimpleNamespace(optimizer=adam, step=lambda: None, zero_grad=adam.zero_grad) for adam in adams
    ]
    return system


MODELS = ("fexgan", "fexgan_meta", "ganimation", "landmark_label", "stargan", "lgp_gan", "pix2pix", "attgan", "mien",
          "bridge", "landmark_fusion", "motion_texture")  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_an_iteration_asks_the_device_nothing(model, monkeypatch):
    """On torch's device without memory any question has no answer, so nothing can slip through."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # it knows no such device
    system, batch = ready_on("meta", model), NoisePairs().batch(0, 0).to("meta")
    for iteration in range(2):  # with and without a step of the generator
        system.iteration = iteration
        system.update_graph_inputs(len(batch))
        with NoWaits():
            losses = system.training_step(batch, 0)
    assert {loss.device.type for loss in losses.values()} == {"meta"}
    assert isinstance(system.graph_key(), tuple)


def test_the_guard_sees_a_question():
    with pytest.raises((AssertionError, NotImplementedError, RuntimeError)), NoWaits():
        float(torch.zeros((), device="meta") + 1)
    with pytest.raises(AssertionError, match="moves"), NoWaits():
        torch.ones(3).to("meta")
