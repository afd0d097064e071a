from __future__ import annotations

import math

import pytest
import torch

from fexgan_lit.metrics.pixels import (
    PSNR_CAP,
    box_psnr,
    mouth_boxes,
    pixel_metrics,
    psnr,
    recipes,
    scale_weights,
    scales,
    sharpness,
    ssim,
    to_unit,
)
from fexgan_lit.utils.errors import UserError


def pair(size: int, count: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Blurred noise and the same with other noise added, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, size // 8, size // 8, generator=generator)
    a = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    b = (a + 0.1 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    return a * 2 - 1, b * 2 - 1


def computed(a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
    metrics = pixel_metrics(a.shape[-1], multiscale=True)
    for metric in metrics.values():
        metric.update(to_unit(a), to_unit(b))
    return {name: metric.compute() for name, metric in metrics.items()}


@pytest.mark.parametrize(("size", "count"), [(32, 2), (64, 3), (128, 4), (192, 5)])
def test_ms_ssim_has_the_scales_that_fit_and_weights_that_sum_to_one(size, count):
    assert scales(size) == count
    assert sum(scale_weights(size)) == pytest.approx(1.0)
    assert f"{count} scales" in recipes(size)["ms_ssim"]
    a, b = pair(size, 1)
    assert 0 < float(computed(a, b)["ms_ssim"]) < 1
    ratio = scale_weights(size)[1] / scale_weights(size)[0]
    assert ratio == pytest.approx(0.2856 / 0.0448)


def test_identity_transform():
    a, _ = pair(64, count=5)
    values = computed(a, a)
    torch.testing.assert_close(values["ssim"], torch.ones(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(values["ms_ssim"], torch.ones(5), atol=1e-6, rtol=0)
    assert values["psnr"].tolist() == psnr(a, a).tolist() == [PSNR_CAP] * 5


def test_each_image_has_its_own_value_whatever_the_batch():
    a, b = pair(64, count=4)
    both, alone = computed(a, b), [computed(a[i : i + 1], b[i : i + 1]) for i in range(4)]
    for name, column in both.items():
        assert column.unique().numel() == 4
        torch.testing.assert_close(column, torch.cat([one[name].flatten() for one in alone]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both["ssim"], ssim(a, b))


def test_psnr_of_a_constant_shift():
    a = torch.zeros(2, 3, 16, 16)
    b = torch.stack((a[0] + 0.2, a[1] + 0.02))  # 0.1 and 0.01 on the scale of [0, 1]
    assert psnr(a, b).tolist() == pytest.approx([20.0, 40.0], abs=1e-4)


def test_ssim_of_two_flat_images_is_the_luminance_term():
    a, b = (torch.full((1, 3, 16, 16), level).double() for level in (-0.5, 0.5))  # 0.25 and 0.75
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    assert float(ssim(a, b)) == pytest.approx(expected, abs=1e-5)


def test_nothing_is_quantised_and_values_outside_are_clamped():
    a, b = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 1e-3)  # less than half a grey level
    assert float(psnr(a, b)) == pytest.approx(20 * math.log10(2 / 1e-3), abs=1e-2)
    assert psnr(a + 1, a + 3).tolist() == [PSNR_CAP]


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(UserError, match="at least as large as its window of 11 px"):
        pixel_metrics(8, multiscale=False)


def test_sharpness_is_the_ratio_of_laplacian_energies():
    _, true = pair(32, count=2)
    torch.testing.assert_close(sharpness(true, true), torch.ones(2).double())
    halved = sharpness(0.5 * true, true)  # half the contrast, a quarter of the energy
    torch.testing.assert_close(halved, torch.full((2,), 0.25).double(), atol=1e-4, rtol=0)
    blurred = torch.nn.functional.avg_pool2d(true, 3, stride=1, padding=1, count_include_pad=False)
    noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    assert (sharpness(blurred, true) < 0.5).all()
    assert (sharpness((true + 0.5 * noise).clamp(-1, 1), true) > 1.5).all()
    plane = torch.arange(32.0).view(1, 1, 1, 32).expand(1, 3, 32, 32) / 32
    assert sharpness(plane * 0.5, torch.zeros(1, 3, 32, 32)).isnan().all(), "a flat target has no sharpness"
    by_hand = torch.zeros(1, 3, 5, 5)
    by_hand[..., 2, 2] = 1.0  # a bright pixel, 0.5 in [0, 1]: once 4 * 0.5, four times 0.5
    twice = by_hand.clone()
    twice[..., 2, 2] = -1.0
    torch.testing.assert_close(sharpness(by_hand, twice), torch.ones(1).double())


def test_sharpness_of_the_mouth_looks_at_the_box_around_the_mouth_alone():
    a, true = pair(64, count=3)
    landmarks = torch.zeros(3, 68, 2)
    landmarks[:, 48:68, 0] = torch.linspace(-0.25, 0.25, 20)
    landmarks[:, 48:68, 1] = 0.5
    landmarks[2, 48:68] += 2.0  # outside of the frame
    boxes = mouth_boxes(landmarks)
    torch.testing.assert_close(boxes[0], torch.tensor([-0.35, 0.4, 0.35, 0.6]))
    inside = (slice(None), slice(None), slice(44, 52), slice(20, 44))  # rows and columns whose centres are in the box
    made = true.clone()
    made[inside] = a[inside]
    ratios = sharpness(made, true, boxes)
    assert (ratios[:2] < sharpness(made, true)[:2]).all()
    assert ratios[2].isnan()
    made[..., :40, :] = 0.0  # far from the mouth
    torch.testing.assert_close(sharpness(made, true, boxes)[:2], ratios[:2])


def test_psnr_in_a_box_looks_at_its_pixels_alone():
    true = torch.zeros(2, 3, 16, 16)
    made = true.clone()
    made[0, :, 4:8, 2:10] = 0.2  # 0.1 of the range [0, 1]: 20 dB
    boxes = torch.tensor([[2 / 8 - 1, 4 / 8 - 1, 10 / 8 - 1, 8 / 8 - 1]]).repeat(2, 1)  # columns 2 to 9, rows 4 to 7
    assert box_psnr(made, true, boxes).tolist() == pytest.approx([20.0, PSNR_CAP], abs=1e-4)
    assert psnr(made, true)[0].item() == pytest.approx(20 + 10 * math.log10(16 * 16 / (4 * 8)), abs=1e-4)
    assert box_psnr(made, true, boxes * 0).isnan().all(), "between the centres of four pixels there is none"
