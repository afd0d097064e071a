"""Action units estimated from landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fexgan_lit.data.faces import action_units
from fexgan_lit.data.faces.action_units import agreement, displacements, fit_action_units, studio_samples
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.synthetic import CartoonStudio


def test_displacements_ignore_where_and_how_large_the_face_is() -> None:
    points, _, who, neutral = studio_samples(CartoonStudio(identities=4, size=64), count=12)
    turn = 1.3 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    moved = points @ turn.T + (40, -7)
    assert displacements(moved, who, neutral) == pytest.approx(displacements(points, who, neutral), abs=1e-9)
    broken = points.copy()
    broken[5] = np.nan
    rows = displacements(broken, who, neutral)
    assert np.isnan(rows[5]).all()
    assert np.isfinite(np.delete(rows, 5, axis=0)).all()


def test_regression_recovers_the_units_of_unseen_characters() -> None:
    samples = studio_samples(CartoonStudio(identities=24, size=128), count=40)
    fitted = fit_action_units(*samples, source="test")
    assert np.nanmean(fitted.correlation) > 0.6
    # what any estimator has to see: mouth corners, brows, jaw, lids
    strong = [fitted.correlation[ACTION_UNITS.index(unit)] for unit in (1, 2, 12, 26, 45)]
    assert min(strong) > 0.7
    points, units, who, neutral = studio_samples(CartoonStudio(identities=32, size=128), count=16, seed=1)
    unseen = who >= 24
    estimates = fitted.estimate(points[unseen], who[unseen], neutral[unseen])
    assert estimates.min() >= 0
    assert estimates.max() <= 5
    correlation, error = agreement(estimates, units[unseen])
    assert np.nanmean(correlation) > 0.6
    assert error.mean() < 0.75 * units[unseen].mean()


def test_agreement_by_hand() -> None:
    truth = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    guess = np.array([[0.0, 0.0], [2.0, 1.0], [4.0, 2.0]])
    correlation, error = agreement(guess, truth)
    assert correlation[0] == pytest.approx(1)
    assert np.isnan(correlation[1])
    assert error == pytest.approx([1, 2 / 3])


def test_the_estimator_is_fitted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_units, "_CHARACTERS", 8)  # enough for what is not about the estimates
    first = action_units.face_estimator(str(tmp_path))
    monkeypatch.setattr(action_units, "fit_action_units", None)
    again = action_units.face_estimator(str(tmp_path))
    assert np.array_equal(again.weights, first.weights)
    assert again.source == first.source
    assert "AU04 and AU17" in action_units.quality_note(again)
