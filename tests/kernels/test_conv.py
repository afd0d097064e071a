"""The convolutions of FExGAN's blocks as matrix products: the same values and gradients as torch's own kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fexgan_lit.kernels import conv, winograd
from fexgan_lit.kernels.conv import DownConv, UpConv, down, up, weight_gradient, windows
from tests.bits import same_bits
from tests.kernels.maps import last, needs_loops


def layers(kind, inputs, outputs, bias=False, seed=0):
    """Ours with weights that lie channels last, and torch's with the same weights."""
    torch.manual_seed(seed)
    plain = {DownConv: nn.Conv2d, UpConv: nn.ConvTranspose2d}[kind](inputs, outputs, 4, 2, 1, bias=bias)
    ours = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    assert kind.replaces(ours)
    ours.__class__ = kind
    assert list(ours.state_dict()) == list(plain.state_dict())
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


@pytest.mark.parametrize(("kind", "shape"), [(DownConv, (4, 256, 8, 4)), (UpConv, (4, 256, 4, 2))])
def test_small_maps_give_the_values_and_gradients_of_torchs_kernels(kind, shape, no_kernels):
    ours, plain = layers(kind, 256, 264)
    x = torch.randn(shape)
    grad = torch.randn_like(plain(x))
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-4)


@needs_loops
@pytest.mark.parametrize("shape", [(3, 2, 2, 64), (2, 1, 3, 32), (1, 4, 2, 96)])
def test_patches_are_added_up_by_loops_as_by_torch(shape, threads, monkeypatch):
    torch.manual_seed(0)
    b, h, w, c = shape
    patches = torch.randn(b, h, w, 4, 4, c).bfloat16()
    by_loops = conv.sum_patches(patches)
    monkeypatch.setattr(conv, "compiled_loops", lambda: None)
    by_torch = conv.sum_patches(patches)
    assert same_bits(by_loops, by_torch)
    assert by_loops.stride() == by_torch.stride()
    exact = torch.nn.functional.fold(
        patches.double().permute(0, 5, 3, 4, 1, 2).reshape(b, 16 * c, h * w), (2 * h, 2 * w), 4, padding=1, stride=2
    )
    torch.testing.assert_close(by_torch.double(), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize(("kind", "size"), [(DownConv, 2), (UpConv, 1)])
@pytest.mark.parametrize("laid_out", [last, torch.Tensor.contiguous])
def test_between_four_pixels_and_one_a_layer_is_dense(kind, size, laid_out, no_kernels):
    ours, plain = layers(kind, 24, 20)
    ours.weight.data = laid_out(ours.weight.data)
    x = torch.randn(3, 24, size, size)
    grad = torch.randn_like(plain(x))
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert ours.weight.grad.stride() == ours.weight.stride()  # which Adam would have to copy otherwise


@pytest.mark.parametrize(("kind", "size"), [(DownConv, 8), (UpConv, 4)])
def test_of_narrow_layers_the_gradient_of_the_weights_alone_is_a_product(kind, size, monkeypatch):
    called = []
    real = conv.weight_gradient
    monkeypatch.setattr(conv, "weight_gradient", lambda *maps: called.append(1) or real(*maps))
    ours, plain = layers(kind, 16, 12)
    x = torch.randn(2, 16, size, size)
    grad = torch.randn_like(plain(x))
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert called == [1]


@needs_loops
@pytest.mark.parametrize(("kind", "inputs", "outputs", "size"), [(DownConv, 64, 128, 16), (UpConv, 128, 64, 8)])
def test_wide_layers_are_trained_by_minimal_filtering_in_bf16(kind, inputs, outputs, size, no_kernels):
    ours, plain = layers(kind, inputs, outputs)
    x, size_out = torch.randn(4, inputs, size, size), size // 2 if kind is DownConv else 2 * size
    grad = torch.randn(4, outputs, size_out, size_out)
    with FlopCounterMode(display=False) as counter:
        mine = passes(ours, last(x.bfloat16()), last(grad))
    exact = passes(plain.double(), x.bfloat16().double(), grad.bfloat16().double())
    for ours_, truth in zip(mine, exact, strict=True):
        assert (ours_.double() - truth).norm() < 0.01 * truth.norm()
    assert mine[0].dtype == mine[1].dtype == torch.bfloat16
    assert mine[2].dtype == torch.float32
    assert not mine[0]._is_view()  # an activation may write into it
    assert ours.weight.grad.stride() == ours.weight.stride()
    # 16 taps each for forward, gradient of the input and of the weights, nine products for sixteen
    assert counter.get_total_flops() == 3 * 2 * 16 * 64 * 128 * 4 * 8 * 8 * 9 / 16


def test_in_inference_and_in_float32_wide_layers_are_torchs_kernels(monkeypatch):
    ours, plain = layers(DownConv, 64, 128)
    x = last(torch.randn(4, 64, 16, 16))
    monkeypatch.setattr(winograd, "down", lambda *what: pytest.fail("less exact"))
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
    ours, plain = layers(UpConv, 24, channels, bias=True)
    x = torch.randn(2, 24, 5, 6)
    grad = torch.randn_like(plain(x))
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-4)
    assert ours(last(x)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [3, 4])
def test_the_gradient_of_an_image_is_painted_the_same_way(channels, monkeypatch):
    ours, plain = layers(DownConv, channels, 24)
    x, grad = torch.randn(2, channels, 10, 12), torch.randn(2, 24, 5, 6)
    theirs = passes(plain, x, grad)
    monkeypatch.setattr(torch, "conv_transpose2d", lambda *what, **how: pytest.fail("sixteen channels for three"))
    for mine, other in zip(passes(ours, last(x), last(grad)), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_in_bf16_they_are_as_exact_as_torchs_kernels():
    ours, plain = layers(DownConv, 256, 256)
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
    ours, _ = layers(DownConv, 256, 256)
    x = last(torch.randn(2, 256, 4, 4)).requires_grad_()
    monkeypatch.setattr(conv, "weight_gradient", lambda *maps: pytest.fail("nobody asked for it"))
    ours(x).sum().backward(inputs=[x])
    assert x.grad.abs().sum() > 0
    assert ours.weight.grad is None
    ours.weight.requires_grad_(False)
    ours(x).sum().backward()


def test_a_private_function_that_torch_no_longer_has_costs_time_alone(monkeypatch):
    ours, plain = layers(DownConv, 256, 256)
    monkeypatch.delattr(torch._C, "_will_engine_execute_node")
    x, grad = torch.randn(2, 256, 4, 4), torch.randn(2, 256, 2, 2)
    for mine, theirs in zip(passes(ours, last(x), last(grad)), passes(plain, x, grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-4)


def test_a_second_derivative_is_refused_by_name():
    ours, _ = layers(DownConv, 3, 8)
    x = last(torch.randn(2, 3, 8, 8)).requires_grad_()
    (gradient,) = torch.autograd.grad(ours(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_when_products_are_taken(monkeypatch):
    taken = []
    monkeypatch.setattr(conv._StridedConv, "apply", lambda *what: taken.append(what))

    def is_taken(weight, b, height, width):
        taken.clear()
        conv.strided_conv(torch.zeros(b, weight.shape[1], height, width), weight, None, is_down=True)
        return bool(taken)

    wide, narrow = (last(torch.zeros(c, c, 4, 4)) for c in (256, 8))
    assert is_taken(narrow, 2, 8, 8)
    assert not is_taken(narrow, 2, 10, 8)  # torch's kernels are as fast there
    assert is_taken(wide, 2, 10, 8)
    assert not is_taken(wide.contiguous(), 1, 4, 4)  # the weights would be copied in every pass
    assert not is_taken(wide.to("meta"), 1, 4, 4)
    assert conv.use_matmul(wide, 256)
    assert not conv.use_matmul(wide, 257)
    assert not conv.use_matmul(narrow, 4)


@pytest.mark.parametrize("loops", [object(), None])
def test_when_minimal_filtering_is(loops, monkeypatch):
    monkeypatch.setattr(conv, "compiled_loops", lambda: loops)
    weight, x = last(torch.zeros(128, 64, 4, 4)), torch.zeros(32, 1, 1, 1).bfloat16()
    assert conv.use_winograd(x, weight, 16, 16) == (loops is not None)
    assert conv.use_winograd(x, weight[:64, :32], 16, 16) == (loops is not None)
    assert not conv.use_winograd(x.float(), weight, 16, 16)
    assert not conv.use_winograd(x, weight, 16, 15)  # tiles are two by two
    assert not conv.use_winograd(x[:1], weight, 8, 8)  # fewer pixels than channels: the weights outweigh them
    assert not conv.use_winograd(x, weight[:32, :32], 16, 16)  # sums would cost what products spare
    assert not conv.use_winograd(x, weight[:, :48], 16, 16)  # loops take 32 channels at once


def test_which_layers_are_replaced():
    assert DownConv.replaces(nn.Conv2d(3, 8, 4, 2, 1, bias=False))
    assert UpConv.replaces(nn.ConvTranspose2d(8, 3, 4, 2, 1))
    for module in (
        nn.Conv2d(3, 8, 4, 2, 1), nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.Conv2d(3, 8, 4, 1, 1, bias=False),
        nn.Conv2d(4, 8, 4, 2, 1, groups=2, bias=False), nn.Conv2d(3, 8, 4, 2, 1, bias=False, padding_mode="reflect"),
        nn.ConvTranspose2d(8, 3, 4, 2, 1, output_padding=1), nn.ReLU(),
    ):  # fmt: skip
        assert not DownConv.replaces(module)
        assert not UpConv.replaces(module)


def test_exported_and_compiled_graphs_hold_convolutions():
    ours, _ = layers(DownConv, 256, 256)
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


def test_up_is_the_transpose_of_down():
    """<down(x), y> = <x, up(y)> for all x, y; and the weights' gradient is that of this number."""
    torch.manual_seed(1)
    weight = last(torch.randn(256, 256, 4, 4, dtype=torch.float32))
    x, y = torch.randn(1, 256, 4, 4), torch.randn(1, 256, 2, 2)
    left, right = (down(x, weight) * y).sum(), (x * up(y, weight)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-3)
    assert float((weight_gradient(y, x, weight) * weight).sum()) == pytest.approx(float(left), rel=1e-3)
