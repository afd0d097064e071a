from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from fexgan_lit.metrics import distributions
from fexgan_lit.metrics.distributions import KID, SeededInceptionScore, frechet_distance, neighbour_radii, prdc


def normal(rows: int, size: int = 8, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) + shift


def metric_of(metric, real, fake):
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric


def test_kid_of_all_images_needs_no_draw():
    x, y = normal(40, 5), normal(40, 5, seed=1, shift=0.5)
    mean, std = metric_of(KID(5, 0), x, y).compute()
    kernel = [(a.double() @ b.double().mT / 5 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    within = sum(float(k.sum() - k.diagonal().sum()) for k in kernel[:2]) / (40 * 39)
    assert float(mean) == pytest.approx(within - 2 * float(kernel[2].mean()), rel=1e-4)
    assert float(std) == pytest.approx(0.0, abs=1e-5)


def test_kid_of_one_distribution_is_zero_within_its_spread_and_grows_with_a_shift():
    real, fake = normal(2000), normal(2000, seed=1)
    mean, std = metric_of(KID(8, 0), real, fake).compute()
    assert abs(mean) < 3 * std
    assert metric_of(KID(8, 0), real, fake + 0.2).compute()[0] > 5 * std
    before = torch.get_rng_state()
    assert metric_of(KID(8, 3), real, fake).compute()[0] == metric_of(KID(8, 3), real, fake).compute()[0]
    assert metric_of(KID(8, 3), real, fake).compute()[0] != metric_of(KID(8, 4), real, fake).compute()[0]
    assert torch.equal(torch.get_rng_state(), before), "the generator of the training is left alone"


def inception_score(probabilities: torch.Tensor) -> tuple[float, float]:
    metric = SeededInceptionScore(probabilities.shape[1], 0)
    metric.update(probabilities)
    mean, std = metric.compute()
    return float(mean), float(std)


def test_inception_score_of_known_probabilities():
    assert inception_score(torch.full((100, 7), 1 / 7)) == (pytest.approx(1.0, abs=1e-5), pytest.approx(0.0, abs=1e-5))
    certain = torch.eye(7).repeat(100, 1)
    assert 6.5 < inception_score(certain)[0] < 7.0  # seven classes are not balanced in each of the ten parts
    collapsed = torch.eye(7)[torch.zeros(50, dtype=torch.long)]
    assert inception_score(collapsed)[0] == pytest.approx(1.0, abs=1e-5)
    assert inception_score(certain[:2])[0] == pytest.approx(1.0, abs=1e-5), "one image a part"


def naive_prdc(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, ...]:
    def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))

    real_radii, fake_radii = (np.sort(distances(x, x), axis=1)[:, k] for x in (real, fake))
    between = distances(real, fake)
    within = between < real_radii[:, None]
    return (
        within.any(0).mean(),
        (between < fake_radii[None]).any(1).mean(),
        within.sum(0).mean() / k,
        (between.min(1) < real_radii).mean(),
    )


def test_prdc_is_the_naive_one_across_blocks(monkeypatch):
    monkeypatch.setattr(distributions, "_BLOCK", 37)  # neither side is a multiple
    real, fake = normal(150, 6) + 40, 0.8 * normal(110, 6, seed=1, shift=0.7) + 40
    expected = naive_prdc(real.double().numpy(), fake.double().numpy(), 3)
    assert 0.1 < expected[0] < 1  # the case is not trivial
    assert tuple(prdc(real, fake, k=3)) == pytest.approx(expected, abs=1e-12)


def test_prdc_of_equal_and_of_far_sets():
    real = normal(400)
    same = prdc(real, real.clone())
    assert (same.precision, same.recall, same.coverage) == (1.0, 1.0, 1.0)
    assert same.density == pytest.approx(1.0, abs=0.2)
    assert prdc(real, real + 100) == (0.0, 0.0, 0.0, 0.0)
    again = prdc(real, normal(400, seed=1))
    assert again.density == pytest.approx(1.0, abs=0.2)  # another sample of the same distribution
    assert again.coverage > 0.9


def test_one_generated_face_covers_little():
    real = normal(300)
    collapsed = prdc(real, real[:1].repeat(300, 1) + 1e-3 * normal(300, seed=1))
    assert collapsed.precision == 1.0
    assert collapsed.recall < 0.05
    assert collapsed.coverage < 0.1


def test_neighbours_leave_the_row_itself_out():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    assert neighbour_radii(x, 1).tolist() == [1.0, 1.0, 4.0]
    with pytest.raises(ValueError, match="need 6 images a side; got 3 real"):
        prdc(x, x)


def test_frechet_of_shifted_gaussians_from_their_samples():
    real, fake = normal(40_000, 4), normal(40_000, 4, seed=1) * 2 + torch.tensor([3.0, 0.0, 0.0, 0.0])
    # |(3, 0, 0, 0)|^2 + 4 (2 - 1)^2
    assert frechet_distance(real, fake) == pytest.approx(13.0, rel=0.02)


def test_frechet_agrees_with_scipy_at_the_width_of_the_judge():
    first, second = normal(400, 128).double(), normal(400, 128, seed=1, shift=0.1).double() * 1.3
    c1, c2 = torch.cov(first.mT).numpy(), torch.cov(second.mT).numpy()
    root = scipy.linalg.sqrtm(c1 @ c2)
    shift = (first.mean(0) - second.mean(0)).square().sum()
    expected = float(shift) + np.trace(c1 + c2 - 2 * root.real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
