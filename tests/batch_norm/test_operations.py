"""Batch norm with its activation by torch's operations and, to the bit, by compiled loops."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import batch_norm, leaky_relu

from fexgan_lit import loops
from fexgan_lit.batch_norm import operations
from tests.bits import same_bits
from tests.winograd.maps import last

#: (B, C, H, W): a few rows, whole blocks and chunks of them, some of one more; channels of one vector and of several.
SHAPES = [(2, 32, 1, 1), (3, 64, 5, 7), (4, 32, 8, 8), (5, 96, 16, 9), (2, 32, 31, 33)]
EPSILON, MOMENTUM = 1e-3, 0.01


def norm(shape, slope, seed=0):
    """A map in bf16, weight, bias, running statistics and what is told."""
    torch.manual_seed(seed)
    c = shape[1]
    x = last((torch.randn(shape) * torch.linspace(0.5, 3, c)[:, None, None] + torch.randn(c, 1, 1)).bfloat16())
    return x, torch.rand(c) + 0.5, torch.randn(c), torch.randn(c), torch.rand(c) + 0.5, told(slope)


def told(slope):
    return torch.tensor([EPSILON, MOMENTUM, slope])


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_has_the_values_gradients_and_statistics_of_torchs_layers(shape, slope):
    x, weight, bias, mean, var, numbers = norm(shape, slope)
    x, grad = x.float(), last(torch.randn(shape))
    theirs = [value.clone().double() for value in (x, weight, bias)]
    for value in theirs:
        value.requires_grad_()
    exact_mean, exact_var = mean.double(), var.double()
    z = batch_norm(theirs[0], exact_mean, exact_var, theirs[1], theirs[2], True, MOMENTUM, EPSILON)
    expected = leaky_relu(z, slope)
    expected.backward(grad.double())

    out, stats = operations.normalise(x, weight, bias, mean, var, numbers)
    back, made = operations.gradients(grad, x, stats, numbers)
    for mine, exact in zip(
        (out, back, made[0], made[1], mean, var),
        (expected, *(value.grad for value in theirs), exact_mean, exact_var),
        strict=True,
    ):
        torch.testing.assert_close(mine.double(), exact.detach(), rtol=1e-4, atol=2e-5)


def test_by_hand():
    """Pixels 1 and 3 of a channel: mean 2, variance 1; weight 2, bias 1; so 2 (x - 2) + 1, halved where negative."""
    x = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    mean, var = torch.zeros(1), torch.ones(1)
    out, stats = operations.normalise(
        x, torch.tensor([2.0]), torch.tensor([1.0]), mean, var, torch.tensor([0.0, 0.5, 0.5])
    )
    assert out.flatten().tolist() == [-0.5, 3.0]
    assert stats.flatten().tolist() == [2.0, 1.0, 2.0, -3.0]  # mean, 1 / deviation, scale, shift
    assert (mean.item(), var.item()) == (1.0, 1.5)  # half of the way to 2, and to 2: the variance without bias
    back, made = operations.gradients(torch.tensor([4.0, 1.0]).view(1, 1, 1, 2), x, stats, torch.tensor([0, 0, 0.5]))
    assert made.flatten().tolist() == [2 * -1 + 1 * 1, 2 + 1]  # the gradient before the activation is 2, 1
    # 2 ((2, 1) - 3 / 2) - 2 (x - 2) * -1 / 2 = (1, -1) + (-1, 1)
    assert back.flatten().tolist() == [0.0, 0.0]


def test_a_mean_far_from_zero_takes_nothing_from_the_variance():
    torch.manual_seed(0)
    x = 1000 + torch.randint(0, 4, (8, 32, 16, 16)) * 4  # values that bf16 has
    _, stats = operations.normalise(
        last(x.bfloat16()), torch.ones(32), torch.zeros(32), torch.zeros(32), torch.ones(32), told(1.0)
    )
    exact = 1 / (x.double().var((0, 2, 3), unbiased=False) + EPSILON).sqrt()
    torch.testing.assert_close(stats[1].double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 255, 256, 257, 4000])
def test_sums_of_any_number_of_rows(rows):
    torch.manual_seed(rows)
    values = torch.rand(rows, 3)
    torch.testing.assert_close(operations.summed(values).double(), values.double().sum(0), rtol=5e-7, atol=0)
    assert torch.equal(operations.summed(torch.ones(rows, 3)), torch.full((3,), float(rows)))


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_loops_give_the_same_bits_however_many_threads_share_them(shape, slope, threads):
    if not loops.loading().result():
        pytest.skip("needs GNU OpenMP")
    from fexgan_lit.batch_norm import compiled

    results = []
    for do in (compiled, operations):
        x, weight, bias, mean, var, numbers = norm(shape, slope, seed=threads)
        grad = last(torch.randn(shape).bfloat16())
        out, stats = do.normalise(x, weight, bias, mean, var, numbers)
        back, made = do.gradients(grad, x, stats, numbers)
        assert all(each.is_contiguous(memory_format=torch.channels_last) for each in (out, back))
        results.append((out, stats, mean, var, back, made))
    for mine, theirs in zip(*results, strict=True):
        assert same_bits(mine, theirs)
