"""Reference frames, and the `Expression` that an affect means for an identity, taken from true frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.expression import Expression

#: Fields of `Expression` that say how a face moves; they can be added up, a label cannot.
_MOTIONS = ("aus", "landmarks")


def frame_expression(frames: FrameSet, rows: np.ndarray) -> Expression:
    """What the frames `rows` (B,) show, with every field the data set knows."""
    affect = torch.nn.functional.one_hot(torch.from_numpy(frames.affect[rows]), len(frames.affects)).float()  # (B, K)
    motions = (getattr(frames, name) for name in _MOTIONS)
    return Expression(affect, *(None if known is None else torch.from_numpy(known[rows]) for known in motions))


def strongest_row(frames: FrameSet, identity: int | None, affect: int) -> int | None:
    """The row of the cell with the highest intensity; `identity` None looks at everyone's.

    Of neutral frames the first, since takes blink later; where intensities are unknown the middle one, where takes
    have their apex.
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
    """The neutral frame of an identity, else one of the first affect it has; None where the split lacks it."""
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else 0
    order = [neutral, *(k for k in range(len(frames.affects)) if k != neutral)]
    found = (strongest_row(frames, identity, affect) for affect in order)
    return next((row for row in found if row is not None), None)


def reference_rows(frames: FrameSet) -> list[int]:
    """A row for each identity of the split: its neutral frame, else the first affect it has."""
    rows = (reference_row(frames, identity) for identity in range(len(frames.identities)))
    return [row for row in rows if row is not None]


def affect_expression(frames: FrameSet, row: int, affect: int) -> Expression:
    """The expression that gives the face of frame `row` the affect, a batch of one.

    Its label is one-hot; action units and landmarks are those of the strongest true frame of the same identity. Where
    the split has none, they are those of `row`, moved as another identity moves from its reference to the affect.
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
    """`face` with the motion from `start` to `end` added."""
    return _with_motions(face, {name: getattr(end, name) - getattr(start, name) for name in _motions(face)})


def both(source: Expression, first: Expression, second: Expression, strength: float = 1.0) -> Expression:
    """Two expressions at once: both entries of the affects, and of every motion from `source` the larger one.

    Args:
        source: what the faces show, (B, ...).
        first: one of the wanted expressions, with the fields of `source`.
        second: the other.
        strength: of both; 1 is as strong as either alone.
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
    """`wanted` at a share of its strength: its affects times `strength`, its motions that share of the way.

    Args:
        source: what the faces show, (B, ...).
        wanted: with the fields of `source`.
        strength: 0 for the source's own motions and no affect, 1 for `wanted`.
    """
    motions = {name: strength * (getattr(wanted, name) - getattr(source, name)) for name in _motions(source)}
    weights = None if wanted.affect is None else strength * wanted.affect
    return replace(_with_motions(source, motions), affect=weights)


def telling_rows(frames: FrameSet, min_intensity: float) -> np.ndarray:
    """Rows of `frames` (int64) whose affect shows: unknown intensity, neutral, or at least `min_intensity`.

    An affect that would be left with no frame keeps all of its frames.
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
