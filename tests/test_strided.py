"""The convolutions of FExGAN's blocks as matrix products: the same values and gradients as torch's own kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fexgan_lit import loops, strided
from fexgan_lit.published import kernels_alone
from fexgan_lit.strided import DoublingConv, HalvingConv, double, halve, is_ours, weight_gradient, windows
from fexgan_lit.winograd import passes as winograd
from tests.bits import same_bits
from tests.winograd.maps import last


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


@pytest.fixture
def spared_float32(monkeypatch):
    """Layers are trained by minimal filtering in float32, too."""
    monkeypatch.setattr(strided, "SPARING_PRECISIONS", (torch.bfloat16, torch.float32))


@pytest.mark.parametrize(("kind", "shape"), [(HalvingConv, (4, 256, 8, 4)), (DoublingConv, (4, 256, 4, 2))])
def test_small_maps_give_the_values_and_gradients_of_torchs_kernels(kind, shape, no_kernels):
    ours, plain = layers(kind, 256, 264)
    x = torch.randn(shape)
    grad = torch.randn_like(plain(x))
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("shape", [(3, 2, 2, 64), (2, 1, 3, 32), (1, 4, 2, 96)])
def test_patches_are_added_up_by_loops_as_by_torch(shape, threads, monkeypatch):
    if not loops.loading().result():
        pytest.skip("needs GNU OpenMP")
    torch.manual_seed(0)
    b, h, w, c = shape
    patches = torch.randn(b, h, w, 4, 4, c).bfloat16()
    by_loops = strided.sum_patches(patches)
    monkeypatch.setattr(loops, "are_ready", lambda: False)
    by_torch = strided.sum_patches(patches)
    assert same_bits(by_loops, by_torch)
    assert by_loops.stride() == by_torch.stride()
    exact = torch.nn.functional.fold(
        patches.double().permute(0, 5, 3, 4, 1, 2).reshape(b, 16 * c, h * w), (2 * h, 2 * w), 4, padding=1, stride=2
    )
    torch.testing.assert_close(by_torch.double(), exact, rtol=2**-8, atol=1e-6)


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


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "size"), [(HalvingConv, 64, 128, 16), (DoublingConv, 128, 64, 8)]
)
def test_wide_layers_are_trained_by_minimal_filtering(kind, inputs, outputs, size, no_kernels, spared_float32):
    ours, plain = layers(kind, inputs, outputs)
    x = torch.randn(4, inputs, size, size)
    grad = torch.randn_like(plain(x))
    mine = passes(ours, last(x), last(grad))
    for ours_, theirs in zip(mine, passes(plain, x, grad), strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=1e-4, atol=1e-3)
    assert not mine[0]._is_view()  # an activation may write into it
    assert ours.weight.grad.stride() == ours.weight.stride()


def test_in_use_and_in_float32_wide_layers_are_torchs_kernels(monkeypatch):
    ours, plain = layers(HalvingConv, 64, 128)
    x = last(torch.randn(4, 64, 16, 16))
    monkeypatch.setattr(winograd, "halve", lambda *what: pytest.fail("more exact in use"))
    with torch.no_grad():
        assert torch.equal(ours(x), plain.to(memory_format=torch.channels_last)(x))
    ours(x)  # float32
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        ours(x)
    ours.weight.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        ours(x.requires_grad_())


@pytest.mark.parametrize("channels", [3, 4])
def test_images_are_painted_as_stacked_pixels(channels):
    ours = DoublingConv(24, channels, bias=True).to(memory_format=torch.channels_last)
    plain = nn.ConvTranspose2d(24, channels, 4, 2, 1)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 24, 5, 6)
    grad = torch.randn_like(plain(x))
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-4)
    assert ours(last(x)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [3, 4])
def test_the_gradient_of_an_image_is_painted_the_same_way(channels, monkeypatch):
    ours, plain = layers(HalvingConv, channels, 24)
    x, grad = torch.randn(2, channels, 10, 12), torch.randn(2, 24, 5, 6)
    theirs = passes(plain, x, grad)
    monkeypatch.setattr(torch, "conv_transpose2d", lambda *what, **how: pytest.fail("sixteen channels for three"))
    for mine, other in zip(passes(ours, last(x), last(grad)), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_flop_are_counted_as_published(spared_float32):
    """16 taps each for forward, gradient of the input and of the weights, whatever is computed in fact."""
    ours, _ = layers(HalvingConv, 64, 128)
    x = last(torch.randn(4, 64, 16, 16)).requires_grad_()
    with FlopCounterMode(display=False) as spared:
        ours(x).sum().backward()
    with kernels_alone(), FlopCounterMode(display=False) as published:
        ours(x).sum().backward()
    assert published.get_total_flops() == 3 * 2 * 16 * 64 * 128 * 4 * 8 * 8
    assert spared.get_total_flops() == published.get_total_flops() * 9 / 16


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
    assert is_ours(narrow, 2, 4, 4)
    assert not is_ours(narrow, 2, 5, 4)  # torch's kernels are as fast there
    assert is_ours(wide, 2, 5, 4)
    assert not is_ours(wide.contiguous(), 1, 2, 2)  # the weights would be copied in every pass
    assert not is_ours(wide.to("meta"), 1, 2, 2)
    assert strided.is_small(wide, 256)
    assert not strided.is_small(wide, 257)
    assert not strided.is_small(narrow, 4)


def test_when_minimal_filtering_is(monkeypatch):
    monkeypatch.setattr(loops, "are_coming", lambda: True)
    weight = last(torch.zeros(128, 64, 4, 4))
    assert strided.is_spared(weight, 32, 16, 16)
    assert not strided.is_spared(weight, 32, 16, 15)  # tiles are two by two
    assert not strided.is_spared(weight, 1, 8, 8)  # fewer pixels than channels: the weights outweigh them
    assert strided.is_spared(weight[:64, :32], 32, 16, 16)
    assert not strided.is_spared(weight[:32, :32], 32, 16, 16)  # sums would cost what products spare
    assert not strided.is_spared(weight[:, :31], 32, 16, 16)
    assert not strided.is_spared(weight[:, :48], 32, 16, 16)  # sums by torch's operations cost more
    monkeypatch.setattr(loops, "are_coming", lambda: False)
    assert strided.is_spared(weight, 32, 16, 16)
    assert not strided.is_spared(weight[:64], 32, 16, 16)


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
    assert float((weight_gradient(y, x, weight) * weight).sum()) == pytest.approx(float(left), rel=1e-3)
