"""Metrics of the generated expression: affects, action units, landmarks and strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.reference import telling_rows
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet

#: Indices, from 0, of the outer corners of both eyes among the 68 landmarks.
OUTER_EYE_CORNERS = (36, 45)

#: Pairs of affects that share muscles and are mistaken for one another.
CONFUSED_PAIRS = (("fear", "surprise"), ("anger", "disgust"))

#: Least weight of an affect that counts as seen in a face.
SEEN_WEIGHT = 0.1

#: Smallest standard deviation of measured intensities that counts as a change; below it is the noise of float32.
_STILL = 1e-5


def f1_per_affect(confusion: Tensor) -> Tensor:
    """Return the F1 score of every affect, (K,) float64 in [0, 1]: 2 TP / (2 TP + FP + FN).

    The score is NaN for an affect that was never a target; a mean over affects must leave it out and report this.

    Args:
        confusion: (K, K) counts; rows are target affects, columns the judge's predictions.
    """
    counts = confusion.double()
    asked, named = counts.sum(dim=1), counts.sum(dim=0)
    score = 2 * counts.diagonal() / (asked + named).clamp(min=1)
    return score.masked_fill(asked == 0, float("nan"))


def confusion_partners(affects: Sequence[str]) -> Tensor:
    """Return for every affect the index of the affect that it is mistaken for most easily, (K,) int64; -1 for none.

    The named pairs are fear and surprise, anger and disgust, of which each shares muscles with the other. A pair of
    which the data have one affect only is left out. The share of the frames asked for one of these affects that the
    judge takes for its partner is the *structural confusion*: the mass of the named cells off the diagonal of the
    confusion matrix (an idea of PixelSmile, 2026; the definition is ours).
    """
    both = {name: other for pair in CONFUSED_PAIRS for name, other in (pair, pair[::-1])}
    return torch.tensor([
        affects.index(other) if (other := both.get(name)) is not None and other in affects else -1 for name in affects
    ])  # fmt: skip


@dataclass(frozen=True)
class UnitErrors:
    """Errors of action units relative to their targets, on the scale of [0, 1].

    Attributes:
        per_unit: mean absolute error by number of the action unit; NaN if `n` is 0.
        mean: mean over the 17 units; NaN if `n` is 0.
        n: number of frames with known targets.
        unknown: number of frames without known targets, which are left out.
    """

    per_unit: dict[int, float]
    mean: float
    n: int
    unknown: int


def au_error(measured: Tensor, wanted: Tensor) -> UnitErrors:
    """Return the mean absolute error of each action unit and of all.

    Args:
        measured: (N, 17) in [0, 1].
        wanted: (N, 17) in [0, 1]; frames with a NaN are left out and counted.

    Raises:
        ValueError: the shapes differ or are not (N, 17).
    """
    if measured.shape != wanted.shape or measured.shape[1:] != (len(ACTION_UNITS),):
        raise ValueError(f"action units {tuple(measured.shape)} and {tuple(wanted.shape)}: expected (N, 17) twice")
    known = ~wanted.isnan().any(dim=1)
    errors = (measured[known].double() - wanted[known].double()).abs().mean(dim=0)  # (17,)
    per_unit = dict(zip(ACTION_UNITS, errors.tolist(), strict=True))
    return UnitErrors(per_unit, float(errors.mean()), int(known.sum()), int((~known).sum()))


def landmark_error(measured: Tensor, wanted: Tensor) -> float:
    """Return the mean of `landmark_distances` over all faces; NaN without faces."""
    return float(landmark_distances(measured, wanted).mean())


def landmark_distances(measured: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean distance of the 68 points of each face, (N,) float64, in inter-ocular distances of the target.

    The inter-ocular distance is that of the outer eye corners (points 36 and 45 from 0), as in the 300-W benchmark
    (Sagonas et al., 2013).

    Args:
        measured: (N, 68, 2) in any unit.
        wanted: (N, 68, 2) in the same unit.

    Raises:
        ValueError: the shapes differ or are not (N, 68, 2).
        UserError: both outer eye corners of a target face coincide.
    """
    if measured.shape != wanted.shape or wanted.shape[1:] != (68, 2):
        raise ValueError(f"landmarks {tuple(measured.shape)} and {tuple(wanted.shape)}: expected (N, 68, 2) twice")
    measured, wanted = measured.double(), wanted.double()
    right, left = (wanted[:, corner] for corner in OUTER_EYE_CORNERS)
    eyes = (right - left).norm(dim=1)  # (N,)
    if (eyes < 1e-6).any():
        raise UserError(
            f"in {int((eyes < 1e-6).sum())} of {len(eyes)} faces the outer corners of both eyes (landmarks 37 and 46, "
            "counted from 1) coincide, so the eye distance is zero; expected 68 points in the Multi-PIE order. "
            "Correct the landmarks or leave those frames out."
        )
    return (measured - wanted).norm(dim=2).mean(dim=1) / eyes


@dataclass(frozen=True)
class StrengthScore:
    """Rank correlation between target strength and measured strength.

    Attributes:
        rho: mean over series of Spearman's rank correlation, in [-1, 1]; NaN without series.
        per_series: (G,) float64.
        flat: number of series without any measured change; their rho counts as 0.
    """

    rho: float
    per_series: Tensor
    flat: int


def strength_follows(asked: Tensor, measured: Tensor) -> StrengthScore:
    """Return Spearman's rank correlation between target and measured strengths, per series.

    One series is one face with one affect at L strengths. Pooling faces would add the differences between faces, which
    show every affect with different strength.

    Args:
        asked: target strengths, (L,) or (G, L), not all equal within a series, L at least 3.
        measured: the same shape, for example from `au_intensity` or `affect_margin`.

    Raises:
        ValueError: the shapes differ, a series is too short or constant in `asked`, or a value is not finite.
    """
    from scipy.stats import rankdata

    if asked.shape != measured.shape or asked.shape[-1] < 3:
        raise ValueError(f"strengths {tuple(asked.shape)} and {tuple(measured.shape)}: expected (G, L) twice, L >= 3")
    if not (asked.isfinite().all() and measured.isfinite().all()):
        raise ValueError("strengths must be finite")
    first, second = (values.reshape(-1, values.shape[-1]).double().numpy() for values in (asked, measured))
    if (first == first[:, :1]).all(axis=1).any():
        raise ValueError("a series has a single target strength; expected at least two")
    ranks = [rankdata(values, axis=1) for values in (first, second)]  # (G, L), ties share their mean rank
    flat = (ranks[1] == ranks[1][:, :1]).all(axis=1)
    rho = torch.from_numpy(_correlations(ranks[0], ranks[1], flat))
    return StrengthScore(float(rho.mean()), rho, int(flat.sum()))


def control_linearity(commanded: Tensor, measured: Tensor) -> Tensor:
    """Return Pearson's correlation of commanded and measured intensities, (G,) float64 in [-1, 1].

    1 means that the measured intensity is a straight line of the commanded one, whatever its slope; a series that does
    not change counts as 0. Unlike `strength_follows`, which compares ranks, a jump from nothing to everything is worse
    than an even rise.

    Args:
        commanded: (L,) or (G, L), not all equal within a series, L at least 3; one series is one face and one affect
            or action unit.
        measured: (G, L).

    Raises:
        ValueError: a series is too short, the shapes differ, or a value is not finite.
    """
    x, y = np.broadcast_arrays(commanded.double().numpy(), measured.double().numpy())
    if measured.ndim != 2 or x.shape != tuple(measured.shape) or x.shape[1] < 3:
        raise ValueError(f"ramps {tuple(commanded.shape)} and {tuple(measured.shape)}: expected (G, L) twice, L >= 3")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("intensities must be finite")
    return torch.from_numpy(_correlations(x, y, y.std(axis=1) < _STILL))


def _correlations(x: np.ndarray, y: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each series of x and y (G, L), 0 where `flat` (G,)."""
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (x, y))
    lengths = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.where(flat, 0.0, (x * y).sum(axis=1) / np.where(flat, 1.0, lengths))


def decompose(aus: Tensor, prototypes: Tensor) -> Tensor:
    """Return the non-negative weights (N, A) float64 of affects whose action units come closest to those of the faces.

    The weights w of a face with the units a minimise ||a - w P||^2 over w >= 0 (least squares; Lawson and Hanson).

    Args:
        aus: (N, 17) action units; units that are NaN are left out of the fit of that face.
        prototypes: (A, 17) P, the units of each affect at its apex.
    """
    from scipy.optimize import nnls

    directions = prototypes.double().numpy()
    rows = [nnls(directions[:, ~np.isnan(row)].T, row[~np.isnan(row)])[0] for row in aus.double().numpy()]
    return torch.from_numpy(np.stack(rows))


def mixture_scores(measured: Tensor, true: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Compare the affects that are seen in faces with the mixtures that were asked for.

    Args:
        measured: (N, A) weights of the affects in the generated faces (`decompose`).
        true: (N, A) weights in the true units of the mixture, by the same decomposition: muscles that two affects
            share saturate, so that the shares of the true face are not exactly those that were asked for.
        asked: (N, A) bool, the affects of the mixture, two or more.

    Returns:
        Whether the n asked affects are the n strongest ones, each with a weight of at least `SEEN_WEIGHT`, (N,) float64
        of 0 and 1; and the mean absolute difference
        of the asked affects' shares, normalised to a sum of 1 among them, between measured and true weights, (N,).
    """
    counts = asked.sum(dim=1, keepdim=True)
    place = measured.argsort(dim=1, descending=True, stable=True).argsort(dim=1)  # 0 for the strongest
    seen = ((place < counts) == asked).all(dim=1) & ((measured >= SEEN_WEIGHT) | ~asked).all(dim=1)
    shares = []
    for weights in (measured, true):
        chosen = weights * asked
        shares.append(chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1e-9))
    error = (shares[0] - shares[1]).abs().sum(dim=1) / counts.squeeze(1)
    return seen.double(), error


def affect_prototypes(frames: FrameSet, min_intensity: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return the mean action units of neutral faces and of each affect in real frames.

    Returns:
        rest (17,): the mean of neutral frames, zeros if there are none; directions (K, 17): the mean of the frames
        that clearly show the affect (see `telling_rows`) minus rest; zeros for neutral and for affects without frames.

    Raises:
        ValueError: `frames` have no action units.
    """
    if frames.aus is None:
        raise ValueError("prototypes need frames with action units")
    rows = telling_rows(frames, min_intensity)
    aus, affect = torch.from_numpy(frames.aus[rows]), torch.from_numpy(frames.affect[rows])
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else -1
    rest = aus[affect == neutral].mean(dim=0) if (affect == neutral).any() else torch.zeros(len(ACTION_UNITS))
    directions = [
        aus[affect == k].mean(dim=0) - rest if k != neutral and (affect == k).any() else torch.zeros_like(rest)
        for k in range(len(frames.affects))
    ]
    return rest, torch.stack(directions)


def au_intensity(aus: Tensor, rest: Tensor, direction: Tensor) -> Tensor:
    """Return the strength of an affect in the action units of faces: (N,) float64.

    With a the action units, r those at rest and p the direction of the affect (`affect_prototypes`):
    s = <a - r, p> / <p, p>. The strength is 0 at rest, 1 at the prototype, 2 at twice the prototype, and NaN where p is
    zero (neutral).

    Args:
        aus: (N, 17), measured.
        rest: (17,).
        direction: (17,) for all faces, or (N, 17).
    """
    moved, towards = aus.double() - rest.double(), direction.double()
    return (moved * towards).sum(dim=-1) / (towards * towards).sum(dim=-1)


def affect_margin(logits: Tensor, affect: Tensor) -> Tensor:
    """Return the logit of the target affect minus the largest other logit, (N,) float64.

    This is the measure of strength where action units are unknown. Unlike the probability it does not saturate, so
    rounding does not decide rank correlations.

    Args:
        logits: (N, K), K at least 2.
        affect: target affects, (N,) int64.
    """
    logits = logits.double()
    mine = logits.gather(1, affect[:, None])  # (N, K) -> (N, 1)
    others = logits.scatter(1, affect[:, None], float("-inf"))
    return (mine - others.amax(dim=1, keepdim=True)).squeeze(1)
