"""Reference frames, and the `Expression` of an affect for one identity, read from real frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.expression import Expression

#: Fields of `Expression` that describe motion: they can be added and scaled, a label cannot.
_MOTIONS = ("aus", "landmarks")


def frame_expression(frames: FrameSet, rows: np.ndarray) -> Expression:
    """Return the expression of the frames `rows` (B,), with every field the data set has."""
    affect = torch.nn.functional.one_hot(torch.from_numpy(frames.affect[rows]), len(frames.affects)).float()  # (B, K)
    motions = (getattr(frames, name) for name in _MOTIONS)
    return Expression(affect, *(None if known is None else torch.from_numpy(known[rows]) for known in motions))


def strongest_row(frames: FrameSet, identity: int | None, affect: int) -> int | None:
    """Return the row with the highest intensity for an affect, or None if no frame shows it.

    Neutral frames: the first one, since blinks come later in a take. Without intensities: the middle one, where the
    apex of a take lies.

    Args:
        frames: a split.
        identity: index of the identity to search; None searches all identities.
        affect: index of the affect.
    """
    same = frames.affect == affect
    rows = np.flatnonzero(same if identity is None else same & (frames.identity == identity))
    if not len(rows):
        return None
    if frames.affects[affect] == "neutral":
        return int(rows[0])
    if frames.intensity is None:
        return int(rows[len(rows) // 2])
    return int(rows[np.argmax(np.nan_to_num(frames.intensity[rows], nan=-1.0))])


def reference_row(frames: FrameSet, identity: int) -> int | None:
    """Return the row of an identity's neutral frame, else of its first affect; None if the split lacks the identity."""
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else 0
    order = [neutral, *(k for k in range(len(frames.affects)) if k != neutral)]
    found = (strongest_row(frames, identity, affect) for affect in order)
    return next((row for row in found if row is not None), None)


def reference_rows(frames: FrameSet) -> list[int]:
    """Return one row for each identity of the split: its neutral frame, else its first affect."""
    rows = (reference_row(frames, identity) for identity in range(len(frames.identities)))
    return [row for row in rows if row is not None]


def affect_expression(frames: FrameSet, row: int, affect: int) -> Expression:
    """Return the expression (batch of one) that gives the face of frame `row` the affect.

    The label is one-hot. Action units and landmarks are those of the strongest real frame of the same identity. If the
    split has no such frame, the motion of another identity (from its reference to the affect) is added to those of
    `row`.
    """
    own = strongest_row(frames, int(frames.identity[row]), affect)
    if own is not None:
        return frame_expression(frames, np.array([own]))
    moved = frame_expression(frames, np.array([row]))
    shown = strongest_row(frames, None, affect)
    if shown is not None:
        start = reference_row(frames, int(frames.identity[shown]))
        moved = _moved(moved, frame_expression(frames, np.array([start])), frame_expression(frames, np.array([shown])))
    return replace(moved, affect=Expression.of_affects([affect], len(frames.affects)).affect)


def _moved(face: Expression, start: Expression, end: Expression) -> Expression:
    """Return `face` with the motion from `start` to `end` added."""
    return _with_motions(face, {name: getattr(end, name) - getattr(start, name) for name in _motions(face)})


def both(source: Expression, first: Expression, second: Expression, strength: float = 1.0) -> Expression:
    """Combine two expressions: sum their affects; for each motion keep the one that is larger relative to `source`.

    Args:
        source: expression of the source images, (B, ...).
        first: an expression with the fields of `source`.
        second: an expression with the fields of `source`.
        strength: factor on both expressions; 1 keeps their full strength.
    """
    larger = {}
    for name in _motions(source):
        a, b = (getattr(end, name) - getattr(source, name) for end in (first, second))
        larger[name] = strength * torch.where(a.abs() >= b.abs(), a, b)
    summed = None if first.affect is None or second.affect is None else strength * (first.affect + second.affect)
    return replace(_with_motions(source, larger), affect=summed)


def _motions(face: Expression) -> list[str]:
    return [name for name in _MOTIONS if getattr(face, name) is not None]


def _with_motions(face: Expression, motions: dict[str, Tensor]) -> Expression:
    moved = {name: getattr(face, name) + motion for name, motion in motions.items()}
    if "aus" in moved:
        moved["aus"] = moved["aus"].clamp(0, 1)
    return replace(face, **moved)


def at_strength(source: Expression, wanted: Expression, strength: float) -> Expression:
    """Scale an expression: its affects by `strength`, its motions by that share of the way from `source`.

    Args:
        source: expression of the source images, (B, ...).
        wanted: target expression, with the fields of `source`.
        strength: 0 gives the motions of the source and no affect, 1 gives `wanted`.
    """
    motions = {name: strength * (getattr(wanted, name) - getattr(source, name)) for name in _motions(source)}
    weights = None if wanted.affect is None else strength * wanted.affect
    return replace(_with_motions(source, motions), affect=weights)


def telling_rows(frames: FrameSet, min_intensity: float) -> np.ndarray:
    """Return the int64 rows whose affect is visible: unknown intensity, neutral, or at least `min_intensity`.

    If no frame of an affect qualifies, all frames of that affect are returned.
    """
    everything = np.arange(len(frames))
    if frames.intensity is None:
        return everything
    with np.errstate(invalid="ignore"):
        shows = np.isnan(frames.intensity) | (frames.intensity >= min_intensity)
    if "neutral" in frames.affects:
        shows |= frames.affect == frames.affects.index("neutral")
    for k in range(len(frames.affects)):
        mine = frames.affect == k
        if not shows[mine].any():
            shows |= mine
    return everything[shows]


def similar_rows_of_others(frames: FrameSet, count: int, seed: int = 0, most: int = 4096) -> np.ndarray:
    """Return for every frame the rows of other identities that show its affect most alike.

    Frames are alike by their action units, else by their intensities, else all the same.

    Args:
        frames: a split.
        count: number of rows for each frame; they repeat where fewer frames are there.
        seed: of the choice of candidates.
        most: number of frames of an affect that are candidates; all if there are fewer.

    Returns:
        (n, count) int64, nearest first; a frame whose affect nobody else shows has its own row.
    """
    level = np.zeros(len(frames)) if frames.intensity is None else np.nan_to_num(frames.intensity)
    shows = torch.from_numpy(level[:, None] if frames.aus is None else frames.aus).float()
    identity = torch.from_numpy(frames.identity)
    found = torch.arange(len(frames))[:, None].repeat(1, count)
    rng = np.random.default_rng(seed)
    for affect in np.unique(frames.affect):
        rows = np.flatnonzero(frames.affect == affect)
        candidates = torch.from_numpy(np.sort(rng.permutation(rows)[:most]))
        for part in torch.from_numpy(rows).split(1024):
            apart = torch.cdist(shows[part], shows[candidates])
            apart[identity[part][:, None] == identity[candidates]] = torch.inf
            distance, nearest = apart.topk(min(count, len(candidates)), largest=False)  # (m, c)
            others = distance.isfinite()
            rank = torch.arange(count) % others.sum(1, keepdim=True).clamp(min=1)
            found[part] = torch.where(others[:, :1], candidates[nearest.gather(1, rank)], part[:, None])
    return found.numpy()
