"""When a block's batch norm and activation are one operation, and that a network does not notice."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fexgan_lit import loops
from fexgan_lit.batch_norm import layer as layers
from fexgan_lit.batch_norm.layer import is_ours, slope_of
from fexgan_lit.layers import Block, MapDropout, activation, down_block, up_block
from fexgan_lit.published import kernels_alone
from tests.bits import same_bits
from tests.winograd.maps import last

pytestmark = pytest.mark.skipif(not loops.loading().result(), reason="needs GNU OpenMP")


def norm_block(act="leaky_relu", channels=64):
    torch.manual_seed(0)
    block = Block(nn.BatchNorm2d(channels), activation(act))
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


def test_the_bits_do_not_tell_when_loops_came(monkeypatch):
    block, x, grad = norm_block(), bf16_map(3, 64, 6, 6), bf16_map(3, 64, 6, 6)
    other = copy.deepcopy(block)
    by_loops = trained(block, x, grad)
    monkeypatch.setattr(loops, "are_ready", lambda: False)
    for mine, theirs in zip(by_loops[:-1], trained(other, x, grad)[:-1], strict=True):
        assert same_bits(mine, theirs)


def test_between_a_norm_and_its_activation_dropout_stays_where_it_is(monkeypatch):
    slopes = []
    activated = layers.activated
    monkeypatch.setattr("fexgan_lit.layers.activated", lambda *what: slopes.append(what[2]) or activated(*what))
    plain, dropping = down_block(32, 64, "relu"), up_block(64, 64, "relu", dropout=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        out = dropping.to(memory_format=torch.channels_last)(plain.to(memory_format=torch.channels_last)(
            last(torch.randn(4, 32, 8, 8))
        ))  # fmt: skip
    assert slopes == [0.0, 1.0]
    assert isinstance(dropping[2], MapDropout)
    assert 0.6 < (out == 0).float().mean() < 0.9  # half by dropout, half of the rest by the activation


def test_a_pass_without_gradients_spoils_none_after_it():
    layers._told.cache_clear()
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


def test_which_layers_are_torchs():
    x, norm = bf16_map(2, 64, 4, 4), nn.BatchNorm2d(64)
    assert is_ours(norm, x)
    assert not is_ours(norm, x.float())
    assert not is_ours(norm, x.contiguous())
    assert not is_ours(norm, x.to("meta"))
    assert not is_ours(norm, x[:1, :, :1, :1])  # torch says that it has no variance
    assert not is_ours(nn.BatchNorm2d(48), bf16_map(2, 48, 4, 4))
    assert not is_ours(nn.SyncBatchNorm(64), x)
    assert not is_ours(nn.BatchNorm2d(64, affine=False), x)
    assert not is_ours(nn.BatchNorm2d(64, track_running_stats=False), x)
    assert not is_ours(nn.BatchNorm2d(64, momentum=None), x)
    assert not is_ours(nn.BatchNorm2d(64).eval(), x)
    assert not is_ours(nn.InstanceNorm2d(64), x)
    with kernels_alone():
        assert not is_ours(norm, x)


def test_where_loops_cannot_be_had_they_are_torchs(monkeypatch):
    monkeypatch.setattr(loops, "are_coming", lambda: False)
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
