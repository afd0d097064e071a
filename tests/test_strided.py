"""The convolutions of FExGAN's blocks as matrix products: the same values and gradients as torch's own kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fexgan_lit import strided
from fexgan_lit.strided import DoublingConv, HalvingConv, double, halve, takes_products, weight_gradient, windows


def last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def layers(kind, inputs, outputs, seed=0):
    """Ours with weights that lie channels last, and torch's with the same weights."""
    torch.manual_seed(seed)
    ours = kind(inputs, outputs).to(memory_format=torch.channels_last)
    plain = {HalvingConv: nn.Conv2d, DoublingConv: nn.ConvTranspose2d}[kind](inputs, outputs, 4, 2, 1, bias=False)
    plain.load_state_dict(ours.state_dict())  # the names are torch's
    return ours, plain


def passes(layer, x, grad):
    """Output, gradient of the input, gradient of the weights."""
    x = x.clone().requires_grad_()
    out = layer(x)
    out.backward(grad.to(out.dtype))
    return out, x.grad, layer.weight.grad


@pytest.fixture
def no_kernels(monkeypatch):
    """Torch's convolutions cannot be called."""

    def refuse(*args, **kwargs):
        raise AssertionError("a convolution kernel was called")

    for name in ("conv2d", "conv_transpose2d"):
        monkeypatch.setattr(torch, name, refuse)


@pytest.mark.parametrize(("kind", "shape"), [(HalvingConv, (4, 256, 8, 4)), (DoublingConv, (4, 256, 4, 2))])
def test_small_maps_give_the_values_and_gradients_of_torchs_kernels(kind, shape, no_kernels):
    ours, plain = layers(kind, 256, 264)
    x = torch.randn(shape)
    grad = torch.randn_like(plain(x))
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(("kind", "size"), [(HalvingConv, 2), (DoublingConv, 1)])
@pytest.mark.parametrize("laid_out", [last, torch.Tensor.contiguous])
def test_between_four_pixels_and_one_a_layer_is_dense(kind, size, laid_out, no_kernels):
    ours, plain = layers(kind, 24, 20)
    ours.weight.data = laid_out(ours.weight.data)
    x = torch.randn(3, 24, size, size)
    grad = torch.randn_like(plain(x))
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert ours.weight.grad.stride() == ours.weight.stride()  # which Adam would have to copy otherwise


@pytest.mark.parametrize(("kind", "size"), [(HalvingConv, 8), (DoublingConv, 4)])
def test_of_narrow_layers_the_gradient_of_the_weights_alone_is_a_product(kind, size, monkeypatch):
    called = []
    real = strided.weight_gradient
    monkeypatch.setattr(strided, "weight_gradient", lambda *maps: called.append(1) or real(*maps))
    ours, plain = layers(kind, 16, 12)
    x = torch.randn(2, 16, size, size)
    grad = torch.randn_like(plain(x))
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert called == [1]


def test_in_bf16_they_are_as_exact_as_torchs_kernels():
    ours, plain = layers(HalvingConv, 256, 256)
    x, grad = torch.randn(2, 256, 8, 8), torch.randn(2, 256, 4, 4)
    exact = passes(copy.deepcopy(plain), x, grad)
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = passes(ours, last(x), last(grad)), passes(plain, last(x), last(grad))
    assert mine[0].dtype == theirs[0].dtype == torch.bfloat16
    assert mine[2].dtype == torch.float32
    for ours_, theirs_, truth in zip(mine, theirs, exact, strict=True):
        error = (ours_.float() - truth).abs().max()
        assert error <= 1.5 * (theirs_.float() - truth).abs().max()


def test_only_what_is_asked_for_is_computed(monkeypatch):
    """A discriminator is walked back to its input alone for the generator's loss."""
    ours, _ = layers(HalvingConv, 256, 256)
    x = last(torch.randn(2, 256, 4, 4)).requires_grad_()
    monkeypatch.setattr(strided, "weight_gradient", lambda *maps: pytest.fail("nobody asked for it"))
    ours(x).sum().backward(inputs=[x])
    assert x.grad.abs().sum() > 0
    assert ours.weight.grad is None
    ours.weight.requires_grad_(False)
    ours(x).sum().backward()


def test_when_products_are_taken():
    wide, narrow = (last(torch.zeros(c, c, 4, 4)) for c in (256, 8))
    assert takes_products(wide, 1024)
    assert not takes_products(wide, 1025)  # torch's kernels are as fast there
    assert takes_products(narrow, 32)
    assert not takes_products(wide.contiguous(), 4)  # the weights would be copied in every pass
    assert not takes_products(wide.to("meta"), 4)
    assert strided.is_small(wide, 256)
    assert not strided.is_small(wide, 257)
    assert not strided.is_small(narrow, 4)


def test_exported_and_compiled_graphs_hold_convolutions():
    ours, _ = layers(HalvingConv, 256, 256)
    any_batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(ours, (last(torch.randn(2, 256, 4, 4)),), dynamic_shapes=(any_batch,))
    assert any("conv2d" in str(node.target) for node in program.graph.nodes)


def test_windows_are_the_pixels_a_kernel_sees():
    image = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    seen = windows(image).view(2, 2, 2, 4, 4, 3)
    framed = nn.functional.pad(image, (1, 1, 1, 1))
    for row in range(2):
        for column in range(2):
            pixels = framed[:, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
            assert torch.equal(seen[:, row, column], pixels.permute(0, 2, 3, 1))


def test_double_is_the_transpose_of_halve():
    """<halve(x), y> = <x, double(y)> for all x, y; and the weights' gradient is that of this number."""
    torch.manual_seed(1)
    weight = last(torch.randn(256, 256, 4, 4, dtype=torch.float32))
    x, y = torch.randn(1, 256, 4, 4), torch.randn(1, 256, 2, 2)
    left, right = (halve(x, weight) * y).sum(), (x * double(y, weight)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-3)
    assert float((weight_gradient(y, x) * weight).sum()) == pytest.approx(float(left), rel=1e-3)
