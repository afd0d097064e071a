"""Values of annotations that pass every check and can still hardly be meant, as sentences for the summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.images import FrameError, open_image
from fexgan_lit.data.table import AU_COLUMNS, LANDMARK_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

#: Frames whose size is looked up to tell whether their landmarks lie inside.
_SAMPLE = 64
#: Action units (0..1, a fifth of the file's) of which none is above this were probably divided by five before.
_FAINT = 0.2


def suspicions(values: pd.DataFrame, root: Path | None, source: str) -> list[str]:
    """What looks wrong in the rows joined from the file `source`.

    Args:
        values: column path and, if the file has them, `AU_COLUMNS` (0..1) and `LANDMARK_COLUMNS` (pixels).
        root: folder the paths start from, for the sizes of the images; None: sizes are unknown.
        source: named in the sentences.
    """
    found: list[str] = []
    if AU_COLUMNS[0] in values:
        found += _about_units(values[list(AU_COLUMNS)].to_numpy())
    if LANDMARK_COLUMNS[0] in values:
        found += _about_landmarks(values, root)
    return [f"{source}: {text}" for text in found]


def _about_units(units: np.ndarray) -> list[str]:
    """`units` is (n, 17) in 0..1."""
    if len(units) < 2:
        return []
    found = []
    if (units == units[:1]).all():
        found.append("suspicious: the action units are the same in every row")
    elif (units == units[:, :1]).all():
        found.append("suspicious: all 17 columns of action units are equal")
    if 0 < units.max() <= _FAINT:
        found.append("suspicious: no action unit is above 1, expected 0..5; perhaps they were divided by 5 before")
    return found


def _about_landmarks(values: pd.DataFrame, root: Path | None) -> list[str]:
    points = values[list(LANDMARK_COLUMNS)].to_numpy().reshape(len(values), -1, 2)  # (n, 136) -> (n, 68, 2)
    found = []
    if len(points) > 1 and (points == points[:1]).all():
        found.append("suspicious: the landmarks are the same in every row")
    if points.min() >= 0 and points.max() <= 1:
        found.append("suspicious: no landmark is beyond 1, expected pixels; perhaps they are shares of the image")
    negative = (points < 0).any(axis=(1, 2))
    if negative.any():
        found.append(f"suspicious: landmarks left of or above the image in {int(negative.sum())} of {len(points)} rows")
    if root is not None:
        found += _beyond_size(values["path"].tolist(), points, root)
    return found


def _beyond_size(paths: list[str], points: np.ndarray, root: Path) -> list[str]:
    """Whether landmarks (n, 68, 2) lie beyond the right or lower edge, in a sample of the frames."""
    rows = np.unique(np.linspace(0, len(paths) - 1, _SAMPLE).astype(np.int64)).tolist()
    sizes = [(row, _size(root / paths[row])) for row in rows]
    known = [(row, size) for row, size in sizes if size is not None]
    outside = [paths[row] for row, size in known if (points[row] > size).any()]
    if not outside:
        return []
    return [f"suspicious: landmarks right of or below the image in {len(outside)} of {len(known)} frames looked at, "
            f"such as {outside[0]}"]  # fmt: skip


def _size(path: Path) -> np.ndarray | None:
    """(2,) width and height by the header of an image; None where there is none."""
    try:
        return np.array(open_image(path.read_bytes()).size)
    except (OSError, FrameError):
        return None
