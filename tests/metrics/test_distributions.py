from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from fexgan_lit.metrics import distributions
from fexgan_lit.metrics.distributions import inception_score, kid, neighbour_radii, polynomial_mmd, prdc
from fexgan_lit.metrics.frechet import feature_frechet_distance, frechet_distance
from fexgan_lit.metrics.streaming import FeatureReservoir, StreamedMoments


def normal(rows: int, size: int = 8, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) + shift


def brute_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """The definition, pair by pair."""

    def kernel(p: np.ndarray, q: np.ndarray) -> float:
        return (float(p @ q) / len(p) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(p, q) for p in x for q in y) / (n * m)


def test_mmd_is_its_definition():
    x, y = normal(17, 5), normal(13, 5, seed=1, shift=0.3)
    assert float(polynomial_mmd(x, y)) == pytest.approx(brute_mmd(x.double().numpy(), y.double().numpy()), rel=1e-4)


def test_kid_of_all_images_needs_no_draw_and_says_so():
    x, y = normal(40), normal(40, seed=1, shift=0.5)
    value = kid(x, y, subsets=3, size=1000)
    assert value.mean == pytest.approx(float(polynomial_mmd(x, y)), rel=1e-5)
    assert value.std == pytest.approx(0.0, abs=1e-6)
    assert value.note == "subsets of 40 in place of 1000: there are no more images a side"


def test_kid_of_one_distribution_is_zero_within_its_spread_and_grows_with_a_shift():
    real, fake = normal(2000), normal(2000, seed=1)
    same = kid(real, fake, subsets=40, size=300)
    assert abs(same.mean) < same.std
    assert same.note is None
    assert kid(real, fake + 0.2, subsets=5, size=300).mean > 5 * same.std
    assert kid(real, fake, subsets=4, size=300, seed=3) == kid(real, fake, subsets=4, size=300, seed=3)
    assert kid(real, fake, subsets=4, size=300, seed=3) != kid(real, fake, subsets=4, size=300, seed=4)


def test_kid_needs_two_a_side():
    with pytest.raises(ValueError, match="got 1 real, 5 generated"):
        kid(normal(1), normal(5))


def test_inception_score_of_known_probabilities():
    uniform = torch.full((100, 7), 1 / 7)
    score = inception_score(uniform)
    assert (score.mean, score.std) == (pytest.approx(1.0, abs=1e-6), pytest.approx(0.0, abs=1e-6))
    certain = torch.eye(7).repeat(100, 1)
    assert inception_score(certain, splits=1).mean == pytest.approx(7.0)
    assert 6.5 < inception_score(certain, splits=10).mean < 7.0  # seven classes are not balanced in each of the splits
    collapsed = torch.eye(7)[torch.zeros(50, dtype=torch.long)]
    assert inception_score(collapsed).mean == pytest.approx(1.0)


def test_inception_score_by_hand_and_with_few_images():
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    marginal = p.mean(0)
    expected = math.exp(float((p * (p / marginal).log()).sum(1).mean()))
    assert inception_score(p, splits=1).mean == pytest.approx(expected, rel=1e-6)
    few = inception_score(p, splits=10)
    assert few.mean == pytest.approx(1.0)  # one image a split
    assert few.note == "2 splits in place of 10: there are no more images"


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


def test_streamed_moments_are_those_of_all_rows_and_merge():
    rows = normal(90, 5, shift=3.0)
    one, two = StreamedMoments(5), StreamedMoments(5)
    for chunk in rows[:50].split(16):
        one.update(chunk)
    two.update(rows[50:])
    both = one.merge(two)
    assert both.n == 90
    torch.testing.assert_close(both.mean, rows.double().mean(0))
    torch.testing.assert_close(both.covariance, torch.cov(rows.double().mT))
    other = StreamedMoments(5)
    other.update(normal(70, 5, seed=1))
    direct = feature_frechet_distance(rows, normal(70, 5, seed=1))
    assert both.frechet(other) == pytest.approx(direct, rel=1e-9)
    assert both.frechet(both) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="two images a side; got 90 and 0"):
        both.frechet(StreamedMoments(5))


def test_reservoir_keeps_the_first_rows_only():
    rows = normal(30, 3)
    reservoir = FeatureReservoir(cap=20)
    assert reservoir.rows is None
    for chunk in rows.split(8):
        reservoir.update(chunk)
    assert reservoir.seen == 30
    assert torch.equal(reservoir.rows, rows[:20])


def test_frechet_of_shifted_gaussians_from_their_samples():
    real, fake = normal(40_000, 4), normal(40_000, 4, seed=1) * 2 + torch.tensor([3.0, 0.0, 0.0, 0.0])
    # |(3, 0, 0, 0)|^2 + 4 (2 - 1)^2
    assert feature_frechet_distance(real, fake) == pytest.approx(13.0, rel=0.02)


def test_frechet_of_wide_features_keeps_a_millionth():
    """Covariances that share their axes have a closed form; scipy's root at this size would take a minute."""
    size, generator = 1024, torch.Generator().manual_seed(0)
    axes = torch.randn(size, size, dtype=torch.float64, generator=generator)
    turn = torch.linalg.qr(axes).Q
    a, b = (torch.rand(size, dtype=torch.float64, generator=generator) ** 4 for _ in range(2))
    zero = torch.zeros(size)
    value = frechet_distance(zero, (turn * a) @ turn.mT, zero, (turn * b) @ turn.mT)
    assert float(value) == pytest.approx(float((a.sqrt() - b.sqrt()).square().sum()), rel=1e-6)


def test_frechet_agrees_with_scipy_at_the_width_of_the_judge():
    first, second = normal(400, 128).double(), normal(400, 128, seed=1, shift=0.1).double() * 1.3
    c1, c2 = torch.cov(first.mT).numpy(), torch.cov(second.mT).numpy()
    root = scipy.linalg.sqrtm(c1 @ c2)
    shift = (first.mean(0) - second.mean(0)).square().sum()
    expected = float(shift) + np.trace(c1 + c2 - 2 * root.real)
    assert feature_frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
