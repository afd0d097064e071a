"""Nine products in place of sixteen: the sums of torch's convolution kernels, forward and back."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fexgan_lit.kernels import winograd
from tests.bits import same_bits
from tests.kernels import winograd_reference as reference
from tests.kernels.maps import by_torch, last, layer, needs_loops

#: (B, C, O, h, w) of layers: square and not, one tile and many, any channels.
SHAPES = [(3, 6, 10, 2, 2), (2, 4, 8, 4, 6), (5, 34, 18, 6, 2), (4, 64, 70, 8, 8)]
#: The same with channels that compiled loops take.
LOOP_SHAPES = [(3, 32, 64, 2, 2), (2, 64, 32, 4, 6), (5, 96, 32, 6, 2), (4, 64, 96, 8, 8)]


def by_reference(large, small, weight):
    """The small map, the large one and the gradient of the weights by torch's operations, in any precision."""
    s, y = reference.parts_of_large(large), reference.parts_of_small(small)
    w = reference.parts_of_weight(weight, small.dtype)
    return (
        reference.sum_small(s @ w.mT, small.shape), reference.sum_large(y @ w, large.shape),
        reference.sum_weight(y.mT @ s, weight.shape),
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_the_formula_is_that_of_torchs_convolutions(shape):
    maps = layer(shape, torch.float64)
    for mine, theirs in zip(by_reference(*maps), by_torch(*maps), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
        assert mine.is_contiguous(memory_format=torch.channels_last)


def test_nine_sixteenths_of_the_flop():
    maps = layer(SHAPES[-1], torch.float32)
    with FlopCounterMode(display=False) as convolutions:
        by_torch(*maps)
    with FlopCounterMode(display=False) as minimal:
        by_reference(*maps)
    assert minimal.get_total_flops() == convolutions.get_total_flops() * 9 / 16


@needs_loops
@pytest.mark.parametrize("shape", LOOP_SHAPES)
def test_compiled_loops_give_the_bits_of_torchs_operations_in_any_number_of_threads(shape, threads):
    large, small, weight = layer(shape, torch.bfloat16, seed=threads)
    s, y = reference.parts_of_large(large), reference.parts_of_small(small)
    w = reference.parts_of_weight(weight, torch.bfloat16)
    products = winograd.weight_products(y, s)
    for mine, theirs in (
        (winograd.parts_of_large(large), s),
        (winograd.parts_of_large(large.contiguous()), s),
        (winograd.parts_of_large(torch.nn.functional.pad(large, (1, 1, 1, 1))[:, :, 1:-1, 1:-1]), s),
        (winograd.parts_of_small(small), y),
        (winograd.parts_of_weight(weight), w),
        (winograd.sum_small(s @ w.mT, small.shape), reference.sum_small(s @ w.mT, small.shape)),
        (winograd.sum_large(y @ w, large.shape), reference.sum_large(y @ w, large.shape)),
        (winograd.sum_weight(y.mT @ s), reference.sum_weight(y.mT @ s, weight.shape)),
        (winograd.sum_weight(products), reference.sum_weight(products, weight.shape)),
    ):
        assert same_bits(mine, theirs)
        assert mine.stride() == theirs.stride()


@needs_loops
def test_ties_are_rounded_to_even_and_infinities_stay():
    """1 + 2^-8 lies between two values of bf16, of which 1 is the even one; 1 + 3 * 2^-8 between two others."""
    tie = torch.tensor([2.0**-8, 3 * 2.0**-8, float("inf"), -(2.0**-8)]).bfloat16().repeat(8)
    small = torch.stack((torch.ones(32).bfloat16(), tie)).view(1, 1, 2, 32).repeat(1, 2, 1, 1)  # (1, h, w, O)
    small = small.permute(0, 3, 1, 2)  # (1, O, h, w) = (1, 32, 2, 2), channels last
    middle = winograd.parts_of_small(small).view(3, 3, 32)[0, 1]  # the sum of two pixels of a row
    assert middle.tolist() == [1.0, 1.0 + 2.0**-6, float("inf"), 1.0 - 2.0**-8] * 8


@needs_loops
@pytest.mark.parametrize("shape", LOOP_SHAPES)
@pytest.mark.parametrize("is_down", [True, False])
def test_results_and_gradients_lie_less_than_a_hundredth_from_the_exact_ones(shape, is_down):
    large, small, weight = layer(shape, torch.bfloat16)
    halved, doubled, of_weight = by_torch(large, small, weight)
    x, grad = (large, small) if is_down else (small, large)
    out, x_parts, weight_parts = winograd.down(x, weight) if is_down else winograd.up(x, weight)

    def gradients(*needed):
        return winograd.gradients(grad, x_parts, weight_parts, x.shape, is_down, *needed)

    to_x, to_weight = gradients(True, True)
    exact = (halved, doubled) if is_down else (doubled, halved)
    for mine, truth in zip((out, to_x, to_weight), (*exact, of_weight), strict=True):
        assert (mine.double() - truth).norm() < 0.01 * truth.norm()
    assert to_weight.dtype == torch.float32
    assert [value is None for value in gradients(False, True)] == [True, False]
    assert [value is None for value in gradients(True, False)] == [False, True]


@pytest.mark.parametrize(("tiles", "pieces"), [(6, 2), (5, 1)])
def test_either_half_of_the_tiles_has_products_of_its_own(tiles, pieces):
    torch.manual_seed(0)
    y, s = torch.randn(9, tiles, 4).bfloat16(), torch.randn(9, tiles, 8).bfloat16()
    halves = winograd.weight_products(y, s)
    assert halves.shape == (9 * pieces, 4, 8)
    shape = torch.Size((4, 2, 4, 4))
    whole = reference.sum_weight(y.float().mT @ s.float(), shape)
    assert (reference.sum_weight(halves, shape) - whole).norm() < 0.01 * whole.norm()


def test_by_hand_in_one_channel():
    """A single pixel of the small map seen by a kernel of ones gives ones; a map of ones, what a kernel sees of it."""
    ones, spot = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
    spot[0, 0, 0, 1] = 3
    seen, grown, _ = by_reference(ones, spot, last(ones))
    assert grown[0, 0].tolist() == [[0, 3, 3, 3], [0, 3, 3, 3], [0, 3, 3, 3], [0, 0, 0, 0]]  # a frame is cut off
    assert seen[0, 0].tolist() == [[9, 9], [9, 9]]
