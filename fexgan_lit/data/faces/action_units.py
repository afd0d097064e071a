"""The 17 action units from 68 landmarks: a ridge regression on how the points moved away from the neutral face.

The detector knows no action units, so these are estimates of a plain kind. They are fitted on studio characters, whose
action units are exact: half of the samples are the affects' patterns at random strength, half any units at random.
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

#: Raise when the estimates would come out differently.
VERSION = 1

#: Correlation with the true units on 4,200 frames of ten rendered human heads that act the seven affects, landmarks by
#: the detector, fitted on cartoon characters; the mean absolute error was 0.55 on the scale 0..5 (all zero: 0.63).
HUMAN_CORRELATION = {
    1: 0.71, 2: 0.82, 4: 0.32, 5: 0.65, 6: 0.57, 7: 0.58, 9: 0.78, 10: 0.94, 12: 0.81, 14: 0.68, 15: 0.42, 17: 0.24,
    20: 0.64, 23: 0.79, 25: 0.78, 26: 0.95, 45: 0.89,
}  # fmt: skip
HUMAN_ERROR = 0.55
#: Units below this correlation are named as of little use.
USEFUL = 0.35

#: Points that expressions hardly move: bridge of the nose and corners of the eyes.
_STABLE = (27, 28, 36, 39, 42, 45)
_RIDGE = 0.01
#: Jitter of the points in training, as a share of the distance of the outer eye corners. It is what makes the fit
#: carry over from one kind of face to another: without it the weights feed on differences a detector cannot see.
_JITTER = 0.02
_CHARACTERS, _SAMPLES, _NEUTRAL = 48, 120, 4


@dataclass(frozen=True, eq=False)
class AuEstimator:
    """A fitted regression.

    Attributes:
        mean: (136,) of the displacements in training.
        scale: (136,) their standard deviations.
        weights: (137, 17), the last row the offset.
        correlation: (17,) with the truth on characters left out of the fit, jitter included.
        error: (17,) mean absolute error there, 0..5.
        source: what it was fitted on.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    correlation: NDArray[np.float64]
    error: NDArray[np.float64]
    source: str

    def estimate(self, points: NDArray[np.floating], identity: ArrayLike, neutral: ArrayLike) -> NDArray[np.float64]:
        """(N, 17) action units in 0..5, in the order of `ACTION_UNITS`; NaN for rows without landmarks.

        Args:
            points: (N, 68, 2) landmarks in any unit; NaN where there is no face.
            identity: (N,) who it is.
            neutral: (N,) bool, whether the frame shows the neutral face; an identity without one is compared with
                the median of all its frames, which makes its estimates weaker.
        """
        return np.clip(_apply(self, displacements(points, identity, neutral)), 0.0, AU_SCALE)


def displacements(points: NDArray[np.floating], identity: ArrayLike, neutral: ArrayLike) -> NDArray[np.float64]:
    """(N, 136) movement of each point away from the identity's neutral face, in distances of its outer eye corners.

    Head motion is taken out as far as turning, moving and scaling in the picture go.
    """
    who, calm = np.asarray(identity), np.asarray(neutral, bool)
    upright = _upright(np.asarray(points, np.float64))
    found = np.isfinite(upright).all(axis=(1, 2))
    moved = np.full(upright.shape, np.nan)
    for name in np.unique(who[found]):
        rows = np.flatnonzero((who == name) & found)
        reference = rows[calm[rows]] if calm[rows].any() else rows
        rest = np.median(upright[reference], axis=0)  # (68, 2)
        moved[rows] = _onto(upright[rows], rest) - rest
    return moved.reshape(len(moved), -1)  # (N, 68, 2) -> (N, 136)


def fit_action_units(
    points: NDArray[np.floating], aus: NDArray[np.floating], identity: ArrayLike, neutral: ArrayLike, source: str
) -> AuEstimator:
    """Fit on annotated faces, and measure on every fourth identity, which the measured fit has not seen.

    Args:
        points: (N, 68, 2) landmarks.
        aus: (N, 17) action units in 0..5.
        identity: (N,) who it is; four or more.
        neutral: (N,) bool, whether the frame shows the neutral face.
        source: a few words for the notes.
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
    """(17,) correlations (NaN where a unit never changes) and (17,) mean absolute errors of two (N, 17) arrays."""
    one, other = guess - guess.mean(axis=0), truth - truth.mean(axis=0)
    spread = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    with np.errstate(invalid="ignore"):
        correlation = np.where(spread > 0, (one * other).sum(axis=0) / np.where(spread > 0, spread, 1), np.nan)
    return correlation, np.abs(guess - truth).mean(axis=0)


def studio_samples(studio: Studio, count: int = _SAMPLES, seed: int = 0) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Landmarks (N, 68, 2), units (N, 17) in 0..5, identity (N,) and neutral (N,) of `count` faces a character."""
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
    """The estimator fitted on rendered human heads where `facekit` is given, else on cartoon characters."""
    from fexgan_lit.synthetic import CartoonStudio

    if facekit is None:
        return studio_estimator(CartoonStudio(identities=_CHARACTERS, size=128), cache_dir)
    from fexgan_lit.synthetic.human.studio import HumanStudio

    return studio_estimator(HumanStudio(identities=_CHARACTERS, size=128, facekit=facekit), cache_dir)


def studio_estimator(studio: Studio, cache_dir: str | None = None) -> AuEstimator:
    """The estimator fitted on the characters of `studio`, from the cache or fitted now (seconds)."""
    recipe = hashlib.sha256(json.dumps(studio.recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]
    path = cache_root(cache_dir) / "detectors" / f"action_units-{VERSION}-{studio.kind}-{recipe}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return AuEstimator(**{name: stored[name] for name in _ARRAYS}, source=str(stored["source"]))
    except (OSError, ValueError, KeyError):
        pass  # not there, or not whole
    fitted = fit_action_units(*studio_samples(studio), source=f"{studio.identities} {studio.kind} characters")
    _store(fitted, path)
    return fitted


def quality_note(estimator: AuEstimator) -> str:
    """What a reader of the estimates has to know, in one sentence or two."""
    fitted = (
        f"action units are estimates from landmarks, fitted on {estimator.source}: mean absolute error "
        f"{estimator.error.mean():.2f} (scale 0..5) on characters left out"
    )
    if "cartoon" not in estimator.source:
        return fitted
    weak = [f"AU{unit:02d}" for unit, value in HUMAN_CORRELATION.items() if value < USEFUL]
    return (
        f"{fitted}; when measured on rendered human heads with detected landmarks, {HUMAN_ERROR:.2f}, with "
        f"{' and '.join(weak)} of little use (correlation below {USEFUL:g}); dataset.facekit fits on human heads"
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
    """(2, 17): an affect at random strength with a stray unit now and then, or a quarter of the units at random."""
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
    """Faces moved, turned and scaled so that the outer eye corners lie at (-1/2, 0) and (1/2, 0)."""
    flat = points[..., 0] + 1j * points[..., 1]  # (N, 68): a turn with a scaling is one complex factor
    left, right = flat[:, 36:37], flat[:, 45:46]
    with np.errstate(invalid="ignore", divide="ignore"):
        flat = (flat - (left + right) / 2) / (right - left)
    return np.stack([flat.real, flat.imag], axis=-1)


def _onto(points: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Faces (N, 68, 2) moved, turned and scaled until their stable points lie as near as can be to those of `rest`."""
    flat, target = points[..., 0] + 1j * points[..., 1], rest[..., 0] + 1j * rest[..., 1]
    centre, goal = flat[:, _STABLE].mean(axis=1, keepdims=True), target[list(_STABLE)].mean()
    flat = flat - centre  # (N, 68)
    stable, wanted = flat[:, _STABLE], target[list(_STABLE)] - goal
    factor = (wanted * stable.conj()).sum(axis=1) / (np.abs(stable) ** 2).sum(axis=1)
    flat = flat * factor[:, None] + goal
    return np.stack([flat.real, flat.imag], axis=-1)
