"""Freed memory is kept; Adam and linear layers take channels-last tensors without copying them."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.optim import Adam

from fexgan_lit.kernels import memory
from tests.kernels.maps import last

COUNT = """
import resource, sys
import numpy as np
from fexgan_lit.kernels.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(3)
def work():
    for megabytes in (40, 24, 40):
        np.ones(megabytes << 20, np.uint8)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Pages that the system handed out while large blocks were taken and freed again."""
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, timeout=60)
    if done.returncode == 3:
        pytest.skip("the allocator here takes no options")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_blocks_taken_again_cost_no_new_pages():
    given_back, kept = faults("give back"), faults("keep")
    assert given_back > 1000  # else there would be nothing to gain here
    assert kept < given_back / 50


def test_an_allocator_without_the_option_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed_memory()


def test_linear_layers_on_a_map_are_those_on_the_flattened_map():
    torch.manual_seed(0)
    layers = [nn.Linear(6 * 4 * 3, outputs) for outputs in (1, 5)]
    x = last(torch.randn(2, 6, 4, 3)).requires_grad_()
    flat = x.detach().clone().requires_grad_()
    mine = memory.linear_on_map(x, *layers)
    theirs = tuple(layer(flat.flatten(1)) for layer in layers)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    for outputs in (mine, theirs):
        sum(output.square().sum() for output in outputs).backward()
    torch.testing.assert_close(x.grad, flat.grad, rtol=1e-5, atol=1e-6)
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def stepped(kind, layout, fused, gradients=torch.contiguous_format, steps=3):
    """Weights and moments after steps down the same gradients."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((6, 4, 4, 4), (5, 3, 1, 1), (7,), (3, 2))]
    for weight in weights[:2]:
        weight.data = weight.data.contiguous(memory_format=layout)
    optimizer = kind(weights, 1e-2, (0.5, 0.999), fused=fused)
    for step in range(steps):
        for weight in weights:
            gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(step))
            # lies otherwise than its weight now and then, which torch's fused kernel takes for another gradient
            weight.grad = gradient.contiguous(memory_format=gradients) if gradient.ndim == 4 else gradient
        optimizer.step()
    return [value for weight in weights for value in (weight, optimizer.state[weight]["exp_avg_sq"])]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gradients", [torch.contiguous_format, torch.channels_last])
def test_adam_steps_alike_however_weights_and_gradients_lie(layout, gradients):
    plain = stepped(Adam, torch.contiguous_format, fused=False)
    for ours, theirs in zip(stepped(memory.Adam, layout, True, gradients), plain, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def copies(kind):
    """How often a step copies a weight that lies channels last, or something of it."""
    weight = nn.Parameter(torch.randn(8, 8, 4, 4).contiguous(memory_format=torch.channels_last))
    optimizer = kind([weight], fused=True)
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        with torch.profiler.profile(record_shapes=True) as profile:
            optimizer.step()
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
    return sum(event.name == "aten::copy_" and event.input_shapes[0] == [8, 8, 4, 4] for event in profile.events())


def test_weights_that_lie_channels_last_are_not_copied():
    assert copies(Adam) == 1  # else there would be no need for ours
    assert copies(memory.Adam) == 0
