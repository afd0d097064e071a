from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from fexgan_lit.errors import UserError
from fexgan_lit.metrics.frechet import (
    JudgeFrechetDistance,
    Unavailable,
    feature_frechet_distance,
    frechet_distance,
    make_fid,
    to_bytes,
)


def random_gaussian(size: int, rows: int, seed: int):
    x = torch.randn(rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = x @ torch.diag(torch.linspace(0.1, 3.0, size, dtype=torch.float64))
    return x.mean(0), torch.cov(x.T)


def test_closed_form_of_shifted_and_scaled_gaussians():
    eye, zero = torch.eye(5), torch.zeros(5)
    shift = torch.tensor([3.0, 4.0, 0.0, 0.0, 0.0])
    assert float(frechet_distance(zero, eye, shift, eye)) == pytest.approx(25.0)
    # tr(I + 4 I - 2 * 2 I) = 5
    assert float(frechet_distance(zero, eye, zero, 4 * eye)) == pytest.approx(5.0)
    # Commuting but different axes: sum (sqrt a - sqrt b)^2
    a, b = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 1.0, 16.0])
    value = frechet_distance(torch.zeros(3), torch.diag(a), torch.zeros(3), torch.diag(b))
    assert float(value) == pytest.approx(3.0)


@pytest.mark.parametrize("rows", [300, 65])
def test_agrees_with_scipy(rows):
    mu1, c1 = random_gaussian(64, rows, 0)
    mu2, c2 = random_gaussian(64, rows, 1)
    root = scipy.linalg.sqrtm(c1.numpy() @ c2.numpy())
    expected = float((mu1 - mu2).square().sum()) + np.trace(c1.numpy() + c2.numpy() - 2 * root.real)
    assert float(frechet_distance(mu1, c1, mu2, c2)) == pytest.approx(expected, rel=1e-6)


def test_symmetric_and_zero_on_itself_even_when_singular():
    mu1, c1 = random_gaussian(64, 20, 0)  # rank 19 of 64
    mu2, c2 = random_gaussian(64, 30, 1)
    assert float(frechet_distance(mu1, c1, mu1, c1)) == pytest.approx(0.0, abs=1e-9 * float(c1.trace()))
    forth, back = frechet_distance(mu1, c1, mu2, c2), frechet_distance(mu2, c2, mu1, c1)
    assert float(forth) == pytest.approx(float(back), rel=1e-9)


def test_metric_sums_up_to_the_direct_distance(judge):
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.rand(200, 3, 32, 32, generator=generator) * scale - 1 for scale in (2.0, 1.5))
    metric = JudgeFrechetDistance(judge.net)
    for chunk in real.split(64):
        metric.update(chunk, real=True)
    for chunk in fake.split(48):
        metric.update(chunk, real=False, features=judge.net(chunk).features)
    expected = feature_frechet_distance(judge.read(real).features, judge.read(fake).features)
    assert metric.compute().dtype == torch.float64
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)
    assert metric.note is None
    metric.reset()
    assert metric.count == 0


def test_metric_flags_few_images_and_refuses_one(judge):
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    metric = JudgeFrechetDistance(judge.net)
    metric.update(images, real=True)
    metric.update(images[:1], real=False)
    with pytest.raises(ValueError, match="two images a side; got 4 real, 1 generated"):
        metric.compute()
    metric.update(images[1:], real=False)
    assert float(metric.compute()) == pytest.approx(0.0, abs=1e-5)
    assert "only 4 images for 128 feature dimensions" in metric.note


def test_fid_is_absent_with_a_reason_and_a_wrong_path_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    fid = make_fid()
    assert isinstance(fid, Unavailable)
    assert "weights-inception" in fid.reason
    with pytest.raises(UserError, match="inception_weights"):
        make_fid(tmp_path / "nothing.pth")


def test_bytes_are_rounded_and_clamped():
    levels = torch.tensor([-1.2, -1.0, 0.0, 100.6 / 127.5 - 1, 1.0, 1.3])
    assert to_bytes(levels).tolist() == [0, 0, 128, 101, 255, 255]
