"""What guides a face besides its label, as the networks want it: action units, landmarks, takes and moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fexgan_lit.data.table import AU_COLUMNS, LANDMARK_COLUMNS, Drop, FrameTable
from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

#: The square of the stored picture that a pack shows, pixels; without these columns it is the central one.
CROP_COLUMNS = ("crop_left", "crop_top", "crop_side")


#: What `dataset.require` may name, and the columns it stands for.
_KNOWLEDGE = {"intensity": ("intensity",), "aus": AU_COLUMNS, "landmarks": LANDMARK_COLUMNS}


def keep_known(table: FrameTable, require: Sequence[str]) -> tuple[FrameTable, np.ndarray]:
    """`table` without the frames that lack something of `require`, which become drops; and the (n,) rows kept.

    Raises:
        UserError: no frame has what is required.
    """
    kept = np.ones(len(table), bool)
    drops: list[Drop] = []
    for name in require:
        columns = _KNOWLEDGE[name]
        known = np.zeros(len(table), bool)
        if set(columns) <= set(table.frame.columns):
            known = table.frame[list(columns)].notna().all(axis=1).to_numpy()
        reason = f"{name} not known, which dataset.require asks for"
        drops += [Drop(path, reason) for path in table.frame["path"][kept & ~known]]
        kept &= known
    if not kept.any():
        raise UserError(
            f"dataset.require={list(require)}: no frame has all of it; give it with dataset.annotations=FILE.csv, or "
            "find landmarks with `python -m fexgan_lit.prepare ... dataset.detector=mediapipe`."
        )
    rows = np.flatnonzero(kept)
    return (table.select(rows, drops), rows) if drops else (table, rows)


def guides(table: FrameTable) -> dict[str, np.ndarray | None]:
    """The optional arrays of a `FrameSet`, a row a frame of `table`.

    Returns:
        aus (N, 17) in [0, 1], landmarks (N, 68, 2) in -1..1 of the packed square, take and moment (N,) int64, time_s
        (N,) float32; None for what the data set does not know of every frame.
    """
    frame = table.frame
    points = _columns(frame, LANDMARK_COLUMNS)
    return {
        "aus": _columns(frame, AU_COLUMNS),
        "landmarks": None if points is None else in_square(points.reshape(-1, 68, 2), squares(frame)),  # (N, 68, 2)
        "take": take_numbers(frame),
        "moment": _groups(frame, ("identity", "take", "frame")) if table.shared_takes else None,
        "time_s": _column(frame, "time_s"),
    }


def take_numbers(frame: pd.DataFrame) -> np.ndarray | None:
    """(N,) int64, equal for the frames of one take; None where takes are not known of all."""
    # where a filmed clip runs from neutral to its affect, its neutral frames belong to it
    return _groups(frame, ("identity", "clip") if "clip" in frame else ("identity", "affect", "take"))


def squares(frame: pd.DataFrame) -> np.ndarray:
    """(N, 3) float32: left, top and side of the square each packed frame shows, in pixels of the stored picture."""
    if set(CROP_COLUMNS) <= set(frame.columns):
        return frame[list(CROP_COLUMNS)].to_numpy(np.float32)
    height, width = (frame[name].to_numpy() for name in ("height", "width"))
    side = np.minimum(height, width)
    return np.stack([(width - side) // 2, (height - side) // 2, side], axis=1).astype(np.float32)


def in_square(points: np.ndarray, square: np.ndarray) -> np.ndarray:
    """(N, 68, 2) pixels to -1..1 from edge to edge of the squares (N, 3)."""
    relative = (points - square[:, None, :2]) / square[:, None, 2:]
    return np.ascontiguousarray(2 * relative - 1, np.float32)


def _columns(frame: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray | None:
    """(N, len(names)) float32, or None unless every frame has them all."""
    if not set(names) <= set(frame.columns):
        return None
    values = frame[list(names)].to_numpy(np.float32)
    return None if np.isnan(values).any() else values


def _column(frame: pd.DataFrame, name: str) -> np.ndarray | None:
    values = _columns(frame, (name,))
    return None if values is None else values[:, 0]


def _groups(frame: pd.DataFrame, names: tuple[str, ...]) -> Any:
    """(N,) int64 numbers of the groups with equal entries in `names`, or None if one is not known throughout."""
    if not set(names) <= set(frame.columns) or frame[list(names)].isna().any(axis=None):
        return None
    return frame.groupby(list(names), sort=True).ngroup().to_numpy(np.int64)
