"""Motions of landmarks as square-root velocity functions (SRVF): points of a unit sphere.

A clip of landmarks is a curve alpha(t) in R^136. Its SRVF is q(t) = alpha'(t) / sqrt(l |alpha'(t)|), where l is the
length of the curve. With the inner product <a, b> = mean over t of a(t) . b(t), |q| = 1. The length is kept apart, as
the intensity of the motion. The landmarks at the start are not part of q, so a motion can be applied to any face.

Velocities are differences of consecutive frames, and curves are their cumulative sums. Both are exact inverses, unlike
central differences and the trapezoidal rule. All functions accept any number of leading dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.clips import affect_of_take, rows_of_takes
from fexgan_lit.data.datasets.labels import has_affects
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet

#: Coordinates of 68 landmarks: all x, then all y.
COORDINATES = 136
#: Smallest number by which is divided.
_TINY = 1e-12
#: Largest intensity of the first frame of a clip that starts neutral.
NEUTRAL = 0.2
#: Most floats of the inner products that `nearest` computes at once.
_BLOCK = 1 << 24


def as_vectors(landmarks: Tensor) -> Tensor:
    """Return landmarks (..., 68, 2) as vectors (..., 136): all x, then all y."""
    return landmarks.transpose(-1, -2).flatten(-2)


def as_landmarks(vectors: Tensor) -> Tensor:
    """Return vectors (..., 136) as landmarks (..., 68, 2); the inverse of `as_vectors`."""
    return vectors.unflatten(-1, (2, -1)).transpose(-1, -2)


def face_size(landmarks: Tensor) -> Tensor:
    """Return the Frobenius norm of landmarks (..., 68, 2) about their centroid, (..., 1, 1)."""
    return (landmarks - landmarks.mean(-2, keepdim=True)).norm(dim=(-2, -1), keepdim=True)


def normalised(landmarks: Tensor) -> Tensor:
    """Return landmarks (..., 68, 2) with their centroid at 0 and the Frobenius norm 1, as vectors (..., 136)."""
    centred = landmarks - landmarks.mean(-2, keepdim=True)
    return as_vectors(centred / face_size(landmarks).clamp_min(_TINY))


def resample(curve: Tensor, points: int, by_arc_length: bool = True) -> Tensor:
    """Interpolate curves (..., F, D) linearly at `points` places, equally spaced in arc length or in time.

    The first and the last point stay as they are. A curve that does not move stays where it is.

    Returns:
        (..., points, D).
    """
    frames = curve.shape[-2]
    if by_arc_length:
        steps = curve.diff(dim=-2).norm(dim=-1)  # (..., F - 1)
        place = torch.cat((torch.zeros_like(steps[..., :1]), steps.cumsum(-1)), dim=-1)  # (..., F)
        place = place / place[..., -1:].clamp_min(_TINY)
    else:
        place = torch.linspace(0, 1, frames, device=curve.device, dtype=curve.dtype).expand(curve.shape[:-1])
    wanted = torch.linspace(0, 1, points, device=curve.device, dtype=curve.dtype).expand(*curve.shape[:-2], points)
    after = torch.searchsorted(place.contiguous(), wanted.contiguous(), right=True).clamp(1, frames - 1)
    low, high = place.gather(-1, after - 1), place.gather(-1, after)
    share = ((wanted - low) / (high - low).clamp_min(_TINY)).clamp(0, 1)
    start, end = (
        curve.gather(-2, index.unsqueeze(-1).expand(*index.shape, curve.shape[-1])) for index in (after - 1, after)
    )
    return torch.lerp(start, end, share.unsqueeze(-1))


def srvf(curve: Tensor) -> tuple[Tensor, Tensor]:
    """Return the SRVFs (..., T, D) of curves (..., T + 1, D), and the lengths (...) of the curves.

    The SRVF of a curve that does not move is 0.
    """
    velocity = curve.diff(dim=-2) * (curve.shape[-2] - 1)
    speed = velocity.norm(dim=-1, keepdim=True)  # (..., T, 1)
    length = speed.mean(-2, keepdim=True)  # (..., 1, 1)
    return velocity / (speed * length).clamp_min(_TINY).sqrt(), length[..., 0, 0]


def displacement(q: Tensor, length: Tensor) -> Tensor:
    """Return the way of a curve from its start: 0, then length times the integral of q |q|.

    Args:
        q: SRVFs (..., T, D).
        length: lengths (...) of the curves.

    Returns:
        (..., T + 1, D).
    """
    velocity = length[..., None, None] * q * q.norm(dim=-1, keepdim=True)
    return torch.nn.functional.pad(velocity.cumsum(-2) / q.shape[-2], (0, 0, 1, 0))


def apply_motion(q: Tensor, length: Tensor, landmarks: Tensor) -> Tensor:
    """Move a neutral face; the first frame has exactly its landmarks.

    Args:
        q: SRVFs (..., T, 136).
        length: lengths (...) in units of the size of a face (`face_size`); 0 is a still face.
        landmarks: (..., 68, 2), in any unit.

    Returns:
        (..., T + 1, 68, 2) in the unit of `landmarks`.
    """
    neutral = landmarks.unsqueeze(-3)  # (..., 1, 68, 2)
    return neutral + face_size(neutral) * as_landmarks(displacement(q, length))


# ------------------------------------------------------------------ the unit sphere


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return <a, b> = mean over t of a(t) . b(t) of functions (..., T, D): (..., 1, 1)."""
    return (a * b).sum(-1, keepdim=True).mean(-2, keepdim=True)


def size(v: Tensor) -> Tensor:
    """Return |v| of functions (..., T, D): (..., 1, 1); its gradient at 0 is 0."""
    return inner(v, v).clamp_min(_TINY**2).sqrt()


def geodesic(a: Tensor, b: Tensor) -> Tensor:
    """Return arccos <a, b> in [0, pi] of points (..., T, D) of the sphere: (...).

    The angle is computed from the chords |a - b| and |a + b|, since rounding makes arccos inexact near 0 and pi.
    """
    return 2 * torch.atan2(size(a - b), size(a + b))[..., 0, 0]


def tangent(mean: Tensor, v: Tensor) -> Tensor:
    """Project functions `v` (..., T, D) onto the tangent space at `mean`: v - <v, mean> mean."""
    return v - inner(v, mean) * mean


def exp_map(mean: Tensor, v: Tensor) -> Tensor:
    """Return the points (..., T, D) that geodesics from `mean` reach with the tangent vectors `v` (..., T, D)."""
    angle = size(v)
    return angle.cos() * mean + torch.sinc(angle / torch.pi) * v


def log_map(mean: Tensor, q: Tensor) -> Tensor:
    """Return the tangent vectors (..., T, D) at `mean` to points `q`: the inverse of `exp_map` for angles below pi.

    The point opposite to `mean` has no single vector; it gets 0.
    """
    across = tangent(mean, q)
    return geodesic(mean, q)[..., None, None] / size(across) * across


def karcher_mean(q: Tensor, iterations: int = 100, step: float = 0.9, tolerance: float = 0.01) -> Tensor:
    """Return the point (T, D) of the sphere with the least mean squared geodesic distance to points (N, T, D).

    Starting from the normalised mean, move by `step` times the mean of all tangent vectors until that is shorter than
    `tolerance`.
    """
    mean = q.mean(0)
    mean = mean / size(mean)
    for _ in range(iterations):
        towards = log_map(mean, q).mean(0)
        if float(size(towards)) < tolerance:
            break
        mean = exp_map(mean, step * towards)
        mean = mean / size(mean)  # rounding leaves the sphere
    return mean


def nearest(q: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the geodesic distance (M,) of points (M, T, D) to the nearest of `others` (N, T, D), and its index."""
    flat, rows = others.flatten(1), max(1, _BLOCK // max(len(others), 1))
    cosines, index = zip(*((part.flatten(1) @ flat.T / q.shape[1]).max(1) for part in q.split(rows)), strict=True)
    found = torch.cat(index)
    near = torch.cat(cosines).clamp(-1, 1)
    # the matrix product finds the nearest fast; where it is very near, only the chord gives the distance exactly
    close = near > 0.99
    distance = near.acos()
    distance[close] = geodesic(q[close], others[found[close]])
    return distance, found


# ------------------------------------------------------------------ motions of a data set


class Motions(NamedTuple):
    """The motions of N takes from neutral to their apex.

    Attributes:
        q: SRVFs (N, T, 136).
        length: (N,) lengths in units of the size of a face.
        affect: (N,) int64.
        identity: (N,) int64.
        rows: rows of each take in the FrameSet, from neutral to the apex.
        left_out: names of the takes that have no such motion, by reason.
    """

    q: Tensor
    length: Tensor
    affect: Tensor
    identity: Tensor
    rows: list[np.ndarray]
    left_out: dict[str, list[str]]


def motions_of(frames: FrameSet, steps: int, by_arc_length: bool = True) -> Motions:
    """Return the motions of all takes that start neutral and show another affect.

    The apex is the frame of the highest intensity or, without intensities, the frame whose landmarks are farthest from
    those of the first frame.

    Args:
        frames: a split with takes and landmarks.
        steps: number of time steps T.
        by_arc_length: whether the frames are resampled equally spaced in arc length; otherwise in time.

    Raises:
        UserError: the frames have no affects, landmarks or takes, or no take has a motion.
    """
    if not has_affects(frames.affects) or frames.landmarks is None:
        lacking = "landmarks" if has_affects(frames.affects) else "affects"
        raise UserError(
            f"MotionGAN learns motions of landmarks for each affect, and the frames have no {lacking}; expected frames "
            "with affects, landmarks and takes. model.part=texture trains TextureGAN alone, without takes and affects"
        )
    found: list[tuple[Tensor, int, np.ndarray]] = []
    left_out: dict[str, list[str]] = {}
    for take in rows_of_takes(frames, "take"):
        curve = normalised(torch.from_numpy(frames.landmarks[take]))  # (F, 136)
        affect = affect_of_take(frames, take)
        rows, reason = to_apex(frames, take, curve, affect)
        if not reason:
            curve = resample(curve[: len(rows)], steps + 1, by_arc_length)
            reason = "" if float((curve[1:] - curve[0]).abs().max()) > 1e-6 else "the landmarks do not move"
        if reason:
            name = f"{frames.identities[frames.identity[take[0]]]}/{frames.affects[affect]}"
            left_out.setdefault(reason, []).append(name)
        else:
            found.append((curve, affect, rows))
    if not found:
        reasons = "; ".join(f"{len(names)} {reason} ({names[0]})" for reason, names in left_out.items())
        raise UserError(
            f"no take of these frames has a motion from neutral to an affect: {reasons}. Expected takes of two or more "
            "frames that start neutral; dataset.split=take keeps takes whole, and model.part=texture needs no takes"
        )
    q, length = srvf(torch.stack([curve for curve, _, _ in found]))
    identity = torch.from_numpy(frames.identity[[rows[0] for _, _, rows in found]])
    affects = torch.tensor([affect for _, affect, _ in found])
    return Motions(q, length, affects, identity, [rows for _, _, rows in found], left_out)


def to_apex(frames: FrameSet, take: np.ndarray, curve: Tensor, affect: int) -> tuple[np.ndarray, str]:
    """Return the rows of a take up to its apex, and why it has no motion ("" if it has one).

    Args:
        frames: the frames.
        take: (F,) rows in order of time.
        curve: (F, 136) normalised landmarks of the take.
        affect: the affect of the take.
    """
    if frames.affects[affect] == "neutral":
        return take, "show a neutral face throughout"
    if len(take) < 2:
        return take, "have a single frame"
    known = None if frames.intensity is None else frames.intensity[take]
    if known is not None and not np.isnan(known).any():
        apex, neutral = int(known.argmax()), bool(known[0] <= NEUTRAL)
    else:
        apex = int((curve - curve[0]).norm(dim=-1).argmax())
        labels = frames.affect[take]
        neutral = "neutral" not in {frames.affects[label] for label in labels} or labels[0] != affect
    if not neutral:
        return take, "do not start neutral"
    return (take[: apex + 1], "") if apex else (take, "do not move away from their first frame")
