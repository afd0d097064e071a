"""What CK+ knows of its frames besides the emotion: 68 landmarks of each, and the action units of the peak."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from fexgan_lit.data.layouts.sheet import first_folder
from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.data.table import AU_COLUMNS, LANDMARK_COLUMNS, FrameTable
from fexgan_lit.expression import ACTION_UNITS

_LANDMARKS, _FACS = ("Landmarks", "Landmarks/Landmarks"), ("FACS", "FACS_labels/FACS")
#: FACS grades intensity from A to E; the files write 1 to 5, and 0 for a unit that is there but was not graded.
_GRADES, _UNGRADED = 5.0, 0.5


def join_marks(table: FrameTable, config: DatasetConfig) -> FrameTable:
    """`table` with the columns of landmarks and action units, where `Landmarks/` and `FACS/` are there.

    The FACS code of a sequence holds for its peak, the last frame, which its file is named after: that frame gets the
    grades / 5 (0 for a unit not in the list, 0.5 for one that was seen but not graded). Frames of intensity 0 get
    zeros. What lies between was not coded and stays NaN.
    """
    root = table.root
    if root is None or config.manifest is not None:
        return table
    # A nested folder is looked for first: the outer one exists wherever the inner one does.
    landmarks, facs = (first_folder(root, names[::-1]) for names in (_LANDMARKS, _FACS))
    if landmarks is not None:
        table = _join_landmarks(table, root / landmarks)
    if facs is not None:
        table = _join_facs(table, root / facs)
    return table


def _join_landmarks(table: FrameTable, folder: Path) -> FrameTable:
    points = np.full((len(table), len(LANDMARK_COLUMNS)), np.nan, np.float32)  # (N, 136): x00, y00, x01, ...
    wrong = []
    for row, (clip, path) in enumerate(zip(table.frame["clip"], table.paths, strict=True)):
        file = folder / clip / f"{PurePosixPath(path).stem}_landmarks.txt"
        values = _numbers(file)
        if values is not None and len(values) == points.shape[1]:
            points[row] = values
        elif values is not None:
            wrong.append(f"{clip}/{file.name}")
    found = int(np.isfinite(points[:, 0]).sum())
    notes = [f"landmarks of {found} of {len(table)} frames", *_named("files without 68 points, not used", wrong)]
    return _with_columns(table, LANDMARK_COLUMNS, points, notes)


def _join_facs(table: FrameTable, folder: Path) -> FrameTable:
    units = np.full((len(table), len(AU_COLUMNS)), np.nan, np.float32)  # (N, 17) in 0..1
    strength = table.intensity
    if strength is not None:
        units[strength == 0] = 0
    wrong, ungraded, other = [], 0, set()
    for row, path in _peaks(table):
        file = folder / str(table.frame["clip"].iloc[row]) / f"{PurePosixPath(path).stem}_facs.txt"
        values = _numbers(file)
        if values is None:
            continue
        if not len(values) or len(values) % 2 or ((values[1::2] < 0) | (values[1::2] > _GRADES)).any():
            wrong.append(file.name)
            continue
        units[row] = 0
        for unit, grade in values.reshape(-1, 2).tolist():  # lines of: unit, grade
            if unit not in ACTION_UNITS:
                other.add(int(unit))
                continue
            units[row, ACTION_UNITS.index(int(unit))] = grade / _GRADES if grade else _UNGRADED
            ungraded += grade == 0
    coded = int(np.isfinite(units[:, 0]).sum())
    notes = [
        f"action units of {coded} of {len(table)} frames: those at the peak, by FACS, and neutral ones; "
        f"{ungraded} units were not graded and are set to {_UNGRADED}",
        *_named("FACS units besides the 17 are left out", [f"AU{unit}" for unit in sorted(other)]),
        *_named("FACS files that are no list of units and grades 0..5, not used", wrong),
    ]
    return _with_columns(table, AU_COLUMNS, units, notes)


def _peaks(table: FrameTable) -> Iterable[tuple[int, str]]:
    """Row and path of the last frame of every sequence."""
    rows = table.frame.groupby("clip")["frame"].idxmax().to_numpy()
    return ((int(row), table.paths[int(row)]) for row in rows)


def _numbers(file: Path) -> np.ndarray | None:
    """All numbers of a text file, in order; empty if there is something else in it, None if it cannot be read."""
    try:
        values = np.array(file.read_text(encoding="ascii").split(), dtype=np.float64)
    except OSError:
        return None
    except ValueError:
        return np.empty(0)
    return values if np.isfinite(values).all() else np.empty(0)


def _named(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    return [f"{len(names)} {what}: {', '.join(names[:5])}{f' +{len(names) - 5} more' if len(names) > 5 else ''}"]


def _with_columns(table: FrameTable, columns: tuple[str, ...], values: np.ndarray, notes: list[str]) -> FrameTable:
    import pandas as pd

    added = pd.DataFrame(values, columns=list(columns))
    frame = pd.concat([table.frame.drop(columns=[name for name in columns if name in table.frame]), added], axis=1)
    return replace(table, frame=frame, notes=(*table.notes, *notes))
