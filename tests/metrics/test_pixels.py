from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import avg_pool2d
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from fexgan_lit.errors import UserError
from fexgan_lit.metrics import pixels
from fexgan_lit.metrics.pixels import PSNR_CAP, ms_ssim, pixel_distances, psnr, recipes, scale_weights, scales, ssim


def pair(size: int, count: int = 3, smooth: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Blurred noise and the same with other noise added, flat patches included, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, size // smooth, size // smooth, generator=generator)
    a = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    b = (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    a[..., : size // 4, : size // 4] = b[..., : size // 4, : size // 4] = 0.7
    return a * 2 - 1, b * 2 - 1


@pytest.fixture(params=["torch", "compiled"])
def way(request, monkeypatch):
    """Both ways to the same figures."""
    monkeypatch.setattr(pixels, "_WORTH_COMPILING", 0 if request.param == "compiled" else 1 << 40)


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.usefixtures("way")
def test_ssim_is_that_of_torchmetrics_in_single_precision_too(size):
    a, b = (images.double() for images in pair(size))
    expected = structural_similarity_index_measure((a + 1) / 2, (b + 1) / 2, data_range=1.0, reduction="none")
    torch.testing.assert_close(ssim(a, b), expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(ssim(a.float(), b.float()), expected.float(), atol=5e-6, rtol=0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("size", "count"), [(32, 2), (64, 3), (128, 4), (192, 5)])
def test_ms_ssim_is_that_of_torchmetrics_with_as_many_scales(size, count):
    a, b = (images.double() for images in pair(size, 1))
    assert scales(size) == count
    expected = multiscale_structural_similarity_index_measure(
        (a + 1) / 2, (b + 1) / 2, data_range=1.0, betas=scale_weights(size), reduction="none"
    )
    torch.testing.assert_close(ms_ssim(a, b), expected, atol=1e-7, rtol=0)
    torch.testing.assert_close(ms_ssim(a.float(), b.float()), expected.float(), atol=5e-6, rtol=0)


def test_weights_of_fewer_scales_sum_to_one_and_keep_their_ratios():
    assert scale_weights(192) == pytest.approx((0.0448, 0.2856, 0.3001, 0.2363, 0.1333), rel=1e-3)
    assert sum(scale_weights(64)) == pytest.approx(1.0)
    assert scale_weights(64)[1] / scale_weights(64)[0] == pytest.approx(0.2856 / 0.0448)


@pytest.mark.usefixtures("way")
def test_identity_transform():
    a, _ = pair(64, count=11)  # more than one chunk
    torch.testing.assert_close(ssim(a, a), torch.ones(11), atol=1e-6, rtol=0)
    torch.testing.assert_close(ms_ssim(a, a), torch.ones(11), atol=1e-6, rtol=0)
    assert psnr(a, a).tolist() == [PSNR_CAP] * 11


@pytest.mark.usefixtures("way")
def test_each_image_has_its_own_value_whatever_the_batch():
    a, b = pair(64, count=10)
    both = pixel_distances(a, b)
    alone = [pixel_distances(a[i : i + 1], b[i : i + 1]) for i in range(10)]
    torch.testing.assert_close(both.ssim, torch.cat([one.ssim for one in alone]), atol=1e-6, rtol=0)
    torch.testing.assert_close(both.ms_ssim, torch.cat([one.ms_ssim for one in alone]), atol=1e-6, rtol=0)
    assert both.ssim.unique().numel() == 10


def test_psnr_of_a_constant_shift():
    a = torch.zeros(2, 3, 16, 16)
    b = torch.stack((a[0] + 0.2, a[1] + 0.02))  # 0.1 and 0.01 on the scale of [0, 1]
    assert psnr(a, b).tolist() == pytest.approx([20.0, 40.0], abs=1e-4)


@pytest.mark.usefixtures("way")
def test_ssim_of_two_flat_images_is_the_luminance_term():
    a, b = torch.full((1, 3, 16, 16), -0.5), torch.full((1, 3, 16, 16), 0.5)  # 0.25 and 0.75
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    assert float(ssim(a, b)) == pytest.approx(expected, abs=1e-5)


def test_ms_ssim_averages_pairs_of_pixels_between_scales():
    a, b = pair(32, 1)
    weights = scale_weights(32)
    half = [avg_pool2d((images + 1) / 2, 2) * 2 - 1 for images in (a, b)]
    last = float(ssim(*half)) ** weights[1]
    first = float(ms_ssim(a, b)) / last
    assert 0 < first < 1  # the contrast of the full size, to its own power
    assert first ** (1 / weights[0]) != pytest.approx(float(ssim(a, b)), abs=1e-4)  # not its SSIM


def test_nothing_is_quantised_and_values_outside_are_clamped():
    a, b = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 1e-3)  # less than half a grey level
    assert float(psnr(a, b)) == pytest.approx(20 * math.log10(2 / 1e-3), abs=1e-2)
    assert psnr(a + 1, a + 3).tolist() == [PSNR_CAP]


def test_mistakes_are_named():
    with pytest.raises(UserError, match="images of 11 px or more"):
        ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"\(1, 3, 16, 16\) and \(2, 3, 16, 16\)"):
        psnr(torch.zeros(1, 3, 16, 16), torch.zeros(2, 3, 16, 16))
    assert "4 scales" in recipes(128)["ms_ssim"]
    assert "100 dB at most" in recipes(128)["psnr"]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("way")
def test_layout_threads_odd_sizes_and_values_outside_change_nothing(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    a, b = (2 * images[..., :43, :58] for images in pair(64, count=7))  # clamped; halves of odd sides drop a line
    inside = [images.clamp(-1, 1).double() for images in (a, b)]
    expected = pixel_distances(*inside)
    packed = a.contiguous(memory_format=torch.channels_last)
    for found in (pixel_distances(a, b), pixel_distances(packed, b)):
        for mine, right in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, right.float(), atol=5e-6, rtol=1e-5)
    one = [images[:, :1].expand(-1, 3, -1, -1) for images in (a, b)]
    torch.testing.assert_close(pixel_distances(*one).psnr, psnr(*one))
