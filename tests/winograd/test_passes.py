"""Nine products in place of sixteen: the sums of torch's convolution kernels, forward and back."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fexgan_lit import loops
from fexgan_lit.winograd import operations, passes
from tests.winograd.maps import SHAPES, by_kernels, by_parts, last, layer


@pytest.mark.parametrize("shape", SHAPES)
def test_all_three_passes_are_those_of_torchs_kernels(shape):
    maps = layer(shape, torch.float64)
    for mine, theirs in zip(by_parts(operations, *maps), by_kernels(*maps), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
        assert mine.shape == theirs.shape


def test_they_lie_channels_last_as_what_comes_after_expects():
    for result in by_parts(operations, *layer(SHAPES[-1], torch.float32)):
        assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("tiles", "pieces"), [(6, 2), (5, 1)])
def test_in_bf16_either_half_of_the_tiles_gives_gradients_of_its_own(tiles, pieces):
    torch.manual_seed(0)
    y, s = torch.randn(9, tiles, 4), torch.randn(9, tiles, 8)
    halves = passes.over_tiles(y.bfloat16(), s.bfloat16())
    assert halves.shape == (9 * pieces, 4, 8)
    assert passes.over_tiles(y, s).shape == (9, 4, 8)  # exact products need no halves
    shape = torch.Size((4, 2, 4, 4))
    whole, summed = (operations.weight_of(parts, shape) for parts in (y.mT @ s, halves))
    assert summed.dtype == torch.float32
    assert (summed - whole).norm() < 0.01 * whole.norm()


def test_by_hand_in_one_channel():
    """A single pixel of the small map seen by a kernel of ones gives ones; a map of ones, what a kernel sees of it."""
    ones, spot = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
    spot[0, 0, 0, 1] = 3
    w = operations.parts_of_weight(ones, torch.float32)
    grown = operations.large_of(operations.parts_of_small(spot) @ w, torch.Size((1, 1, 4, 4)))
    assert grown[0, 0].tolist() == [[0, 3, 3, 3], [0, 3, 3, 3], [0, 3, 3, 3], [0, 0, 0, 0]]  # a frame is cut off
    seen = operations.small_of(operations.parts_of_large(ones) @ w.mT, torch.Size((1, 1, 2, 2)))
    assert seen[0, 0].tolist() == [[9, 9], [9, 9]]


def test_nine_sixteenths_of_the_flop():
    large, small, weight = layer(SHAPES[-1], torch.float32)
    with FlopCounterMode(display=False) as kernels:
        by_kernels(large, small, weight)
    with FlopCounterMode(display=False) as spared:
        by_parts(operations, large, small, weight)
    assert spared.get_total_flops() == kernels.get_total_flops() * 9 / 16


@pytest.mark.parametrize("shape", SHAPES)
def test_in_bf16_a_result_lies_less_than_a_hundredth_from_the_exact_one(shape):
    maps = layer(shape, torch.bfloat16)
    for mine, exact in zip(by_parts(operations, *maps), by_kernels(*maps), strict=True):
        assert (mine.double() - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("halving", [True, False])
@pytest.mark.parametrize(("to_x", "to_weight"), [(True, True), (True, False), (False, True), (False, False)])
def test_only_gradients_that_are_asked_for_are_made(halving, to_x, to_weight):
    large, small, weight = layer(SHAPES[1], torch.float64)
    halved, doubled, of_weight = by_kernels(large, small, weight)
    x, grad = (large, small) if halving else (small, large)
    out, kept = passes.halve(x, weight) if halving else passes.double(x, weight)
    torch.testing.assert_close(out, halved if halving else doubled)
    back, change = passes.gradients(grad, kept, weight, x.shape, halving, to_x, to_weight)
    assert (back is not None, change is not None) == (to_x, to_weight)
    if to_x:
        torch.testing.assert_close(back, doubled if halving else halved)
    if to_weight:
        torch.testing.assert_close(change, of_weight)


# ---------------------------------------------------------------------- which operations


def test_nobody_waits_for_loops_that_are_being_loaded(monkeypatch):
    x, weight = last(torch.zeros(1, 64, 4, 4).bfloat16()), torch.zeros(64, 64, 4, 4)
    monkeypatch.setattr(loops, "are_ready", lambda: False)
    assert passes.operations_for(x, weight) is operations
    monkeypatch.setattr(loops, "are_ready", lambda: True)
    monkeypatch.setitem(sys.modules, "fexgan_lit.winograd.compiled", operations_in_loops := ModuleType("compiled"))
    monkeypatch.setattr("fexgan_lit.winograd.compiled", operations_in_loops, raising=False)
    assert passes.operations_for(x, weight) is operations_in_loops


def test_what_the_loops_do_not_suit_is_not_given_to_them(monkeypatch):
    monkeypatch.setattr(loops, "are_ready", lambda: pytest.fail("nothing to load them for"))
    x, weight = torch.zeros(1, 64, 4, 4), torch.zeros(64, 64, 4, 4)
    assert passes.operations_for(x, weight) is operations
    assert passes.operations_for(x.bfloat16(), weight[:48]) is operations  # 32 values at once
    assert passes.operations_for(x.bfloat16().to("meta"), weight) is operations
