"""The 17 action units from 68 landmarks: ridge regression on the displacements from the neutral face.

The detector gives no action units, so these are simple estimates. They are fitted on studio characters, whose action
units are exact: half of the samples are affect patterns at random strength, half are random units.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fexgan_lit.data.datasets.annotations import AU_SCALE
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.utils.cache import cache_root

if TYPE_CHECKING:
    from fexgan_lit.synthetic.base import Studio

#: Raise this number when estimates change.
VERSION = 1

#: Correlation with the true units on 4,200 frames of ten rendered human heads with the seven affects, detected
#: landmarks, fitted on cartoon characters; the mean absolute error was 0.55 on the scale 0..5 (all zero: 0.63).
HUMAN_CORRELATION = {
    1: 0.71, 2: 0.82, 4: 0.32, 5: 0.65, 6: 0.57, 7: 0.58, 9: 0.78, 10: 0.94, 12: 0.81, 14: 0.68, 15: 0.42, 17: 0.24,
    20: 0.64, 23: 0.79, 25: 0.78, 26: 0.95, 45: 0.89,
}  # fmt: skip
HUMAN_ERROR = 0.55
#: Units below this correlation are reported as unreliable.
USEFUL = 0.35

#: Landmarks that expressions hardly move: bridge of the nose and corners of the eyes.
_STABLE = (27, 28, 36, 39, 42, 45)
_RIDGE = 0.01
#: Standard deviation of the noise on training landmarks, as a share of the distance between the outer eye corners. The
#: noise makes the fit transfer to other kinds of faces: without it the weights use differences that no detector sees.
_JITTER = 0.02
_CHARACTERS, _SAMPLES, _NEUTRAL = 48, 120, 4


@dataclass(frozen=True, eq=False)
class AuEstimator:
    """A fitted regression.

    Attributes:
        mean: (136,) mean of the training displacements.
        scale: (136,) standard deviation of the training displacements.
        weights: (137, 17), the last row is the offset.
        correlation: (17,) correlation with the true units on held-out characters, with noise.
        error: (17,) mean absolute error on held-out characters, 0..5.
        source: description of the training data.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    correlation: NDArray[np.float64]
    error: NDArray[np.float64]
    source: str

    def estimate(self, points: NDArray[np.floating], identity: ArrayLike, neutral: ArrayLike) -> NDArray[np.float64]:
        """Estimate the action units, (N, 17) in 0..5 in the order of `ACTION_UNITS`; NaN for rows without landmarks.

        Args:
            points: (N, 68, 2) landmarks in any unit; NaN if there is no face.
            identity: (N,) identity of each frame.
            neutral: (N,) bool, whether the frame shows the neutral face; an identity without a neutral frame is
                compared with the median of all its frames, which makes its estimates less accurate.
        """
        return np.clip(_apply(self, displacements(points, identity, neutral)), 0.0, AU_SCALE)


def displacements(points: NDArray[np.floating], identity: ArrayLike, neutral: ArrayLike) -> NDArray[np.float64]:
    """Return the points' displacements (N, 136) from the neutral face, in distances between the outer eye corners.

    Rotation, translation and scale within the image plane are removed.
    """
    who, calm = np.asarray(identity), np.asarray(neutral, bool)
    upright = _upright(np.asarray(points, np.float64))
    found = np.isfinite(upright).all(axis=(1, 2))
    moved = np.full(upright.shape, np.nan)
    for name in np.unique(who[found]):
        rows = np.flatnonzero((who == name) & found)
        reference = rows[calm[rows]] if calm[rows].any() else rows
        rest = np.median(upright[reference], axis=0)  # (68, 2)
        moved[rows] = onto(upright[rows], rest) - rest
    return moved.reshape(len(moved), -1)  # (N, 68, 2) -> (N, 136)


def fit_action_units(
    points: NDArray[np.floating], aus: NDArray[np.floating], identity: ArrayLike, neutral: ArrayLike, source: str
) -> AuEstimator:
    """Fit on annotated faces; correlation and error come from a second fit that holds out every fourth identity.

    Args:
        points: (N, 68, 2) landmarks.
        aus: (N, 17) action units in 0..5.
        identity: (N,) identity of each frame; at least four identities.
        neutral: (N,) bool, whether the frame shows the neutral face.
        source: description of the data for the notes.
    """
    who = np.unique(np.asarray(identity), return_inverse=True)[1]
    rng = np.random.default_rng(0)
    distance = np.linalg.norm(points[:, 45] - points[:, 36], axis=1)[:, None, None]
    noisy = points + _JITTER * distance * rng.standard_normal(points.shape)
    moved = displacements(noisy, who, neutral)
    held = who % 4 == 0
    trial = _ridge(moved[~held], aus[~held], source)
    guess = np.clip(_apply(trial, moved[held]), 0.0, AU_SCALE)
    correlation, error = agreement(guess, aus[held])
    whole = _ridge(moved, aus, source)
    return AuEstimator(whole.mean, whole.scale, whole.weights, correlation, error, source)


def agreement(guess: NDArray[np.floating], truth: NDArray[np.floating]) -> tuple[NDArray, NDArray]:
    """Return correlations (17,), NaN for constant units, and mean absolute errors (17,) of two (N, 17) arrays."""
    one, other = guess - guess.mean(axis=0), truth - truth.mean(axis=0)
    spread = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    with np.errstate(invalid="ignore"):
        correlation = np.where(spread > 0, (one * other).sum(axis=0) / np.where(spread > 0, spread, 1), np.nan)
    return correlation, np.abs(guess - truth).mean(axis=0)


def studio_samples(studio: Studio, count: int = _SAMPLES, seed: int = 0) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return landmarks (N, 68, 2), units (N, 17) in 0..5, identity and neutral (N,), `count` faces per character."""
    from fexgan_lit.synthetic.takes import FaceState

    rng = np.random.default_rng(seed)
    points, units = [], []
    for person in range(studio.identities):
        for number in range(count):
            sides = _sample_units(rng) if number >= _NEUTRAL else np.zeros((2, len(ACTION_UNITS)))
            yaw, pitch, roll = rng.normal(0.0, 2.0, 3)
            points.append(studio.landmarks(person, FaceState(sides, pose=(yaw, pitch, roll)), studio.size))
            units.append(AU_SCALE * sides.mean(axis=0))
    who = np.repeat(np.arange(studio.identities), count)
    return np.array(points), np.array(units), who, np.tile(np.arange(count) < _NEUTRAL, studio.identities)


def face_estimator(cache_dir: str | None = None, facekit: str | None = None) -> AuEstimator:
    """Return the estimator fitted on rendered human heads if `facekit` is given, else on cartoon characters."""
    from fexgan_lit.synthetic import CartoonStudio

    if facekit is None:
        return studio_estimator(CartoonStudio(identities=_CHARACTERS, size=128), cache_dir)
    from fexgan_lit.synthetic.human.studio import HumanStudio

    return studio_estimator(HumanStudio(identities=_CHARACTERS, size=128, facekit=facekit), cache_dir)


def studio_estimator(studio: Studio, cache_dir: str | None = None) -> AuEstimator:
    """Return the estimator fitted on the characters of `studio`, cached or fitted now (seconds)."""
    recipe = hashlib.sha256(json.dumps(studio.recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]
    path = cache_root(cache_dir) / "detectors" / f"action_units-{VERSION}-{studio.kind}-{recipe}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return AuEstimator(**{name: stored[name] for name in _ARRAYS}, source=str(stored["source"]))
    except (OSError, ValueError, KeyError):
        pass  # missing or incomplete
    fitted = fit_action_units(*studio_samples(studio), source=f"{studio.identities} {studio.kind} characters")
    _store(fitted, path)
    return fitted


def quality_note(estimator: AuEstimator) -> str:
    """Describe the accuracy of the estimates in one or two sentences."""
    fitted = (
        f"action units are estimates from landmarks, fitted on {estimator.source}: mean absolute error "
        f"{estimator.error.mean():.2f} (scale 0..5) on held-out characters"
    )
    if "cartoon" not in estimator.source:
        return fitted
    weak = [f"AU{unit:02d}" for unit, value in HUMAN_CORRELATION.items() if value < USEFUL]
    return (
        f"{fitted}; on rendered human heads with detected landmarks the error is {HUMAN_ERROR:.2f}, and "
        f"{' and '.join(weak)} are of little use (correlation below {USEFUL:g}); dataset.facekit fits on human heads"
    )


_ARRAYS = ("mean", "scale", "weights", "correlation", "error")


def _store(fitted: AuEstimator, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        np.savez(partial, **{name: getattr(fitted, name) for name in _ARRAYS}, source=np.array(fitted.source))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _sample_units(rng: np.random.Generator) -> NDArray[np.float64]:
    """Sample units (2, 17): half the time an affect at random strength with rare extra units, else random units."""
    from fexgan_lit.synthetic.prototypes import PROTOTYPES, prototype

    count = len(ACTION_UNITS)
    if rng.random() < 0.5:
        pattern = prototype(list(PROTOTYPES)[rng.integers(len(PROTOTYPES))]) * rng.uniform(0.6, 1.3, count)
        stray = (rng.random(count) < 0.04) * rng.random(count)
        units = np.maximum(np.clip(pattern, 0, 1) * rng.random(), stray)
    else:
        units = (rng.random(count) < 0.25) * rng.random(count)
    return np.clip(units * (1 + 0.05 * rng.standard_normal((2, count))), 0.0, 1.0)


def _ridge(moved: NDArray[np.float64], aus: NDArray[np.floating], source: str) -> AuEstimator:
    mean, scale = moved.mean(axis=0), moved.std(axis=0) + 1e-6
    inputs = np.column_stack([(moved - mean) / scale, np.ones(len(moved))])  # (N, 137)
    penalty = np.diag([_RIDGE * len(inputs)] * moved.shape[1] + [0.0])
    weights = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ aus)
    unknown = np.full(aus.shape[1], np.nan)
    return AuEstimator(mean, scale, weights, unknown, unknown, source)


def _apply(fitted: AuEstimator, moved: NDArray[np.float64]) -> NDArray[np.float64]:
    return (moved - fitted.mean) / fitted.scale @ fitted.weights[:-1] + fitted.weights[-1]


def _upright(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Align faces by similarity so that the outer eye corners lie at (-1/2, 0) and (1/2, 0)."""
    flat = points[..., 0] + 1j * points[..., 1]  # (N, 68): rotation and scale are one complex factor
    left, right = flat[:, 36:37], flat[:, 45:46]
    with np.errstate(invalid="ignore", divide="ignore"):
        flat = (flat - (left + right) / 2) / (right - left)
    return np.stack([flat.real, flat.imag], axis=-1)


def onto(points: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Align faces (N, 68, 2) to `rest` by similarity: least squares over the stable points."""
    flat, target = points[..., 0] + 1j * points[..., 1], rest[..., 0] + 1j * rest[..., 1]
    centre, goal = flat[:, _STABLE].mean(axis=1, keepdims=True), target[list(_STABLE)].mean()
    flat = flat - centre  # (N, 68)
    stable, wanted = flat[:, _STABLE], target[list(_STABLE)] - goal
    factor = (wanted * stable.conj()).sum(axis=1) / (np.abs(stable) ** 2).sum(axis=1)
    flat = flat * factor[:, None] + goal
    return np.stack([flat.real, flat.imag], axis=-1)
