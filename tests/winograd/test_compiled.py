"""The compiled loops give the bits of torch's operations, whoever shares the work."""

from __future__ import annotations

import pytest
import torch

from fexgan_lit.winograd import operations
from fexgan_lit.winograd.passes import over_tiles
from tests.bits import same_bits
from tests.winograd.maps import LOOP_SHAPES, layer

compiled = pytest.importorskip(
    "fexgan_lit.winograd.compiled", reason="needs GNU OpenMP", exc_type=(ImportError, OSError)
)


@pytest.mark.parametrize("shape", LOOP_SHAPES)
def test_parts_and_sums_are_to_the_bit_those_of_torch(shape, threads):
    large, small, weight = layer(shape, torch.bfloat16, seed=threads)
    s, y = operations.parts_of_large(large), operations.parts_of_small(small)
    w = operations.parts_of_weight(weight, torch.bfloat16)
    assert same_bits(compiled.parts_of_large(large), s)
    assert same_bits(compiled.parts_of_small(small), y)
    assert same_bits(compiled.parts_of_weight(weight, torch.bfloat16), w)
    for name, parts, like in (
        ("small_of", s @ w.mT, small),
        ("large_of", y @ w, large),
        ("weight_of", y.mT @ s, weight),
        ("weight_of", over_tiles(y, s), weight),
    ):
        mine, theirs = (getattr(module, name)(parts, like.shape) for module in (compiled, operations))
        assert same_bits(mine, theirs), name
        assert mine.stride() == theirs.stride(), name


def test_ties_are_rounded_to_even_and_infinities_stay():
    """1 + 2^-8 lies between two values of bf16, of which 1 is the even one; 1 + 3 * 2^-8 between two others."""
    tie = torch.tensor([2.0**-8, 3 * 2.0**-8, float("inf"), -(2.0**-8)]).bfloat16().repeat(8)
    small = torch.stack((torch.ones(32).bfloat16(), tie)).view(1, 1, 2, 32).repeat(1, 2, 1, 1)  # (1, h, w, O)
    small = small.permute(0, 3, 1, 2)  # (1, O, h, w) = (1, 32, 2, 2), channels last
    middle = compiled.parts_of_small(small).view(3, 3, 32)[0, 1]  # the sum of two pixels of a row
    assert middle.tolist() == [1.0, 1.0 + 2.0**-6, float("inf"), 1.0 - 2.0**-8] * 8


def test_a_map_that_lies_otherwise_gives_the_same():
    large, *_ = layer(LOOP_SHAPES[-1], torch.bfloat16)
    assert same_bits(compiled.parts_of_large(large.contiguous()), compiled.parts_of_large(large))
    framed = torch.nn.functional.pad(large, (1, 1, 1, 1))
    assert same_bits(compiled.parts_of_large(framed[:, :, 1:-1, 1:-1]), compiled.parts_of_large(large))
