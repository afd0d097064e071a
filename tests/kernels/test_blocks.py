"""Batch norm and its activation as one operation, and dropout: a network does not notice."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, leaky_relu

from fexgan_lit.kernels import blocks
from fexgan_lit.kernels.blocks import Dropout, FusedBlock, is_fusable, slope_of
from fexgan_lit.systems.layers import activation, down_block, up_block
from tests.bits import same_bits
from tests.kernels import norm_reference as reference
from tests.kernels.maps import last, needs_loops

#: (B, C, H, W): a few rows, whole blocks and chunks of them, some of one more; channels of one vector and of several.
SHAPES = [(2, 32, 1, 1), (3, 64, 5, 7), (4, 32, 8, 8), (5, 96, 16, 9), (2, 32, 31, 33)]
EPSILON, MOMENTUM = 1e-3, 0.01


def norm_block(act="leaky_relu", channels=64):
    torch.manual_seed(0)
    block = FusedBlock(nn.BatchNorm2d(channels), activation(act))
    nn.init.normal_(block[0].weight, 1.0, 0.2)
    nn.init.normal_(block[0].bias)
    return block


def bf16_map(*shape):
    return last(torch.randn(*shape).bfloat16())


def trained(block, x, grad):
    """Output, gradients and statistics of a pass in training."""
    x = x.clone().requires_grad_()
    out = block(x)
    out.backward(grad.to(out.dtype))
    return [out.detach(), x.grad, *(p.grad for p in block.parameters()), *block.buffers()]


@needs_loops
@pytest.mark.parametrize("act", ["leaky_relu", "relu", "linear"])
def test_a_block_is_as_exact_as_torchs_layers(act):
    block, x, grad = norm_block(act), bf16_map(4, 64, 12, 10) * 3 + 1, bf16_map(4, 64, 12, 10)
    plain = nn.Sequential(*copy.deepcopy(block))
    exact = trained(copy.deepcopy(plain).double(), x.double(), grad)
    mine, theirs = trained(block, x, grad), trained(plain, x, grad)
    assert mine[0].dtype == torch.bfloat16
    for ours, others, truth in zip(mine, theirs, exact, strict=True):
        assert ours.dtype == others.dtype
        error = (ours.double() - truth).norm()
        assert error <= 1.2 * (others.double() - truth).norm() + 1e-6 * truth.abs().max()


def test_a_batch_is_counted_once():
    block = norm_block()
    block(bf16_map(2, 64, 4, 4))
    block(bf16_map(2, 64, 4, 4))
    assert block[0].num_batches_tracked == 2


@needs_loops
def test_between_a_norm_and_its_activation_dropout_stays_where_it_is(monkeypatch):
    slopes = []
    fused = blocks.norm_activation
    monkeypatch.setattr(blocks, "norm_activation", lambda *what: slopes.append(what[2]) or fused(*what))
    plain, dropping = down_block(32, 64, "relu"), up_block(64, 64, "relu", dropout=0.5)
    for block in (plain, dropping):
        assert FusedBlock.replaces(block)
        block.__class__ = FusedBlock
    with torch.autocast("cpu", torch.bfloat16):
        out = dropping.to(memory_format=torch.channels_last)(plain.to(memory_format=torch.channels_last)(
            last(torch.randn(4, 32, 8, 8))
        ))  # fmt: skip
    assert slopes == [0.0, 1.0]
    assert 0.6 < (out == 0).float().mean() < 0.9  # half by dropout, half of the rest by the activation


def test_a_pass_without_gradients_spoils_none_after_it():
    blocks._options.cache_clear()
    block, x = norm_block(), bf16_map(2, 64, 4, 4)
    with torch.inference_mode():
        block(x)
    assert trained(block, x, torch.ones_like(x))[1] is not None


def test_only_what_is_asked_for_gets_a_gradient():
    """A discriminator is walked back to its input alone for the generator's loss."""
    block, x = norm_block(), bf16_map(2, 64, 4, 4).requires_grad_()
    block(x).sum().backward(inputs=[x])
    assert x.grad is not None
    assert all(p.grad is None for p in block.parameters())


@needs_loops
def test_which_layers_are_torchs():
    x, norm = bf16_map(2, 64, 4, 4), nn.BatchNorm2d(64)
    assert is_fusable(norm, x)
    assert not is_fusable(norm, x.float())
    assert not is_fusable(norm, x.contiguous())
    assert not is_fusable(norm, x.to("meta"))
    assert not is_fusable(norm, x[:1, :, :1, :1])  # torch says that it has no variance
    assert not is_fusable(nn.BatchNorm2d(48), bf16_map(2, 48, 4, 4))
    assert not is_fusable(nn.SyncBatchNorm(64), x)
    assert not is_fusable(nn.BatchNorm2d(64, affine=False), x)
    assert not is_fusable(nn.BatchNorm2d(64, track_running_stats=False), x)
    assert not is_fusable(nn.BatchNorm2d(64, momentum=None), x)
    assert not is_fusable(nn.BatchNorm2d(64).eval(), x)
    assert not is_fusable(nn.InstanceNorm2d(64), x)


def test_where_loops_cannot_be_had_they_are_torchs(monkeypatch):
    monkeypatch.setattr(blocks, "compiled_loops", lambda: None)
    block, x = norm_block(), bf16_map(2, 64, 4, 4)
    plain = nn.Sequential(*copy.deepcopy(block))
    assert same_bits(block(x.clone()), plain(x.clone()))


def test_slopes():
    assert slope_of(nn.LeakyReLU(0.3)) == pytest.approx(0.3)
    assert slope_of(nn.ReLU()) == 0
    assert slope_of(nn.Identity()) == 1
    assert slope_of(nn.Tanh()) is None
    assert slope_of(None) is None


def test_an_exported_block_is_torchs():
    program = torch.export.export(norm_block().eval(), (bf16_map(2, 64, 4, 4),))
    assert any("batch_norm" in str(node.target) for node in program.graph.nodes)


# ---------------------------------------------------------------------- to the bit


def norm_case(shape, slope, seed=0):
    """A map in bf16, weight, bias, running statistics and options."""
    torch.manual_seed(seed)
    c = shape[1]
    x = last((torch.randn(shape) * torch.linspace(0.5, 3, c)[:, None, None] + torch.randn(c, 1, 1)).bfloat16())
    return x, torch.rand(c) + 0.5, torch.randn(c), torch.randn(c), torch.rand(c) + 0.5, options(slope)


def options(slope):
    return torch.tensor([EPSILON, MOMENTUM, slope])


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_has_the_values_gradients_and_statistics_of_torchs_layers(shape, slope):
    x, weight, bias, mean, var, numbers = norm_case(shape, slope)
    x, grad = x.float(), last(torch.randn(shape))
    theirs = [value.clone().double() for value in (x, weight, bias)]
    for value in theirs:
        value.requires_grad_()
    exact_mean, exact_var = mean.double(), var.double()
    z = batch_norm(theirs[0], exact_mean, exact_var, theirs[1], theirs[2], True, MOMENTUM, EPSILON)
    expected = leaky_relu(z, slope)
    expected.backward(grad.double())

    out, stats = reference.normalise(x, weight, bias, mean, var, numbers)
    back, made = reference.gradients(grad, x, stats, numbers)
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
    out, stats = reference.normalise(
        x, torch.tensor([2.0]), torch.tensor([1.0]), mean, var, torch.tensor([0.0, 0.5, 0.5])
    )
    assert out.flatten().tolist() == [-0.5, 3.0]
    assert stats.flatten().tolist() == [2.0, 1.0, 2.0, -3.0]  # mean, 1 / deviation, scale, shift
    assert (mean.item(), var.item()) == (1.0, 1.5)  # half of the way to 2, and to 2: the variance without bias
    back, made = reference.gradients(torch.tensor([4.0, 1.0]).view(1, 1, 1, 2), x, stats, torch.tensor([0, 0, 0.5]))
    assert made.flatten().tolist() == [2 * -1 + 1 * 1, 2 + 1]  # the gradient before the activation is 2, 1
    # 2 ((2, 1) - 3 / 2) - 2 (x - 2) * -1 / 2 = (1, -1) + (-1, 1)
    assert back.flatten().tolist() == [0.0, 0.0]


def test_a_mean_far_from_zero_takes_nothing_from_the_variance():
    torch.manual_seed(0)
    x = 1000 + torch.randint(0, 4, (8, 32, 16, 16)) * 4  # values that bf16 has
    _, stats = reference.normalise(
        last(x.bfloat16()), torch.ones(32), torch.zeros(32), torch.zeros(32), torch.ones(32), options(1.0)
    )
    exact = 1 / (x.double().var((0, 2, 3), unbiased=False) + EPSILON).sqrt()
    torch.testing.assert_close(stats[1].double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 255, 256, 257, 4000])
def test_sums_of_any_number_of_rows(rows):
    torch.manual_seed(rows)
    values = torch.rand(rows, 3)
    torch.testing.assert_close(reference.summed(values).double(), values.double().sum(0), rtol=5e-7, atol=0)
    assert torch.equal(reference.summed(torch.ones(rows, 3)), torch.full((3,), float(rows)))


@needs_loops
@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_loops_give_the_bits_of_torchs_operations_in_any_number_of_threads(shape, slope, threads):
    x, weight, bias, mean, var, numbers = norm_case(shape, slope, seed=threads)
    norm = nn.BatchNorm2d(shape[1], EPSILON, MOMENTUM)
    norm.weight.data, norm.bias.data = weight, bias
    norm.running_mean, norm.running_var = mean.clone(), var.clone()
    x.requires_grad_()
    grad = last(torch.randn(shape).bfloat16())
    out = blocks.norm_activation(x, norm, slope)
    out.backward(grad)
    expected, stats = reference.normalise(x.detach(), weight, bias, mean, var, numbers)
    to_x, to_both = reference.gradients(grad, x.detach(), stats, numbers)
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in (out, x.grad))
    for mine, theirs in (
        (out.detach(), expected), (norm.running_mean, mean), (norm.running_var, var), (x.grad, to_x),
        (norm.weight.grad, to_both[0]), (norm.bias.grad, to_both[1]),
    ):  # fmt: skip
        assert same_bits(mine, theirs)


# ---------------------------------------------------------------------- dropout


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_dropout_keeps_the_share_and_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(16, 32, 8, 8)
    y = Dropout(p)(x)
    kept = y != 0
    assert float(kept.float().mean()) == pytest.approx(1 - p, abs=0.01)
    assert torch.allclose(y[kept], torch.tensor(1 / (1 - p)))
    for share in (kept.float().mean((0, 2, 3)), kept.float().mean((1, 2, 3)), kept.float().mean((0, 1)).flatten()):
        assert float(share.std()) < 0.03  # of every channel, picture and pixel
    assert torch.equal(Dropout(p).eval()(x), x)


def test_dropout_is_drawn_pixel_by_pixel_however_a_map_lies():
    x, drop = torch.randn(3, 5, 4, 4), Dropout(0.5)
    torch.manual_seed(1)
    first = drop(x)
    torch.manual_seed(1)
    second = drop(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(first, second)
    assert not torch.equal(first, drop(x))
    x.requires_grad_()
    torch.manual_seed(1)
    out = drop(x)
    out.sum().backward()
    assert torch.equal(x.grad != 0, out != 0)
