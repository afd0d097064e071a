"""A driver from a table: OpenFace's output, or any CSV with a time and action units."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.annotations import AU_SCALE, read_annotations
from fexgan_lit.data.csvfiles import check_scales, read_csv, to_numbers
from fexgan_lit.data.table import AU_COLUMNS, LANDMARK_COLUMNS
from fexgan_lit.errors import UserError
from fexgan_lit.generation.drivers import Driver

if TYPE_CHECKING:
    import pandas as pd

_OPTION = "driver"
_RATED = re.compile(r"au\d\d?_r")
_OTHER_UNIT = re.compile(r"au\d\d?(_r)?")


def csv_driver(path: Path, fps: float | None, au_scale: float | None) -> Driver:
    """A row a moment: a time, action units, landmarks where it has them.

    The time is `time_s` or `timestamp` in seconds, or `frame` counted at `fps`. Action units are OpenFace's `AU12_r`
    in 0..5, or `au12` in 0..1 or 0..5, told apart by their largest value; units that are not there are not moved.

    Args:
        path: the file.
        fps: rate at which `frame` counts; not needed beside a time.
        au_scale: what a full action unit is written as (1 or 5); None finds out.

    Raises:
        UserError: no time, no action unit, text or nothing where a number belongs, values off their scale.
    """
    rows, rated = _rows(path)
    rows, notes = _faces(rows)
    units = [name for name in AU_COLUMNS if name in rows]
    marks = list(LANDMARK_COLUMNS) if set(LANDMARK_COLUMNS) <= set(rows) else []
    if not units and not marks:
        raise UserError(f"driver={path}: no action units; expected columns such as AU12_r (OpenFace) or au12")
    clock = _clock(rows, fps, path)
    values = to_numbers(rows[["path", clock, *units, *marks]], [clock, *units, *marks], path, _OPTION)
    aus, said = _scaled(values, units, rated, au_scale, path)
    times = values[clock].to_numpy(np.float64) / (fps if clock == "frame" and fps else 1)
    landmarks = values[marks].to_numpy(np.float32).reshape(-1, 68, 2) if marks else None  # (T, 136) -> (T, 68, 2)
    others = sorted(name for name in rows if _OTHER_UNIT.fullmatch(name) and name not in AU_COLUMNS)
    if others:
        notes.append(f"not among the 17 action units, so not used: {', '.join(others)}")
    return Driver(path.stem, times, aus, landmarks, notes=(*notes, *said))


def _rows(path: Path) -> tuple[pd.DataFrame, bool]:
    """The rows as text with the table's names of columns, and whether the units are OpenFace's `_r`."""
    given = read_csv(path, _OPTION).columns
    rows = read_annotations(path)
    if rows.empty:
        raise UserError(f"driver={path} has no rows")
    lines = [f"line {number}" for number in range(2, len(rows) + 2)]  # what messages name a row by
    return rows.assign(path=lines), any(_RATED.fullmatch(name) for name in given)


def _faces(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """One face, and only where OpenFace found it; sentences about the rest."""
    import pandas as pd

    notes = []
    if "face_id" in rows and rows["face_id"].nunique() > 1:
        first = rows["face_id"].iloc[0]
        notes.append(f"{rows['face_id'].nunique()} faces in the driver; face_id {first} is followed")
        rows = rows[rows["face_id"] == first]
    if "success" in rows:
        lost = pd.to_numeric(rows["success"], errors="coerce").fillna(0) == 0
        if lost.any():
            notes.append(f"{int(lost.sum())} of {len(rows)} rows without a face (success 0) are left out")
            rows = rows[~lost]
    return rows.reset_index(drop=True), notes


def _clock(rows: pd.DataFrame, fps: float | None, path: Path) -> str:
    """The column that says when."""
    if "time_s" in rows:
        return "time_s"
    if "frame" in rows and fps is not None:
        return "frame"
    if "frame" in rows:
        raise UserError(f"driver={path} counts frames; say how many a second with fps=")
    raise UserError(f"driver={path}: no time; expected a column time_s or timestamp (seconds), or frame with fps=")


def _scaled(
    values: pd.DataFrame, units: list[str], rated: bool, au_scale: float | None, path: Path
) -> tuple[np.ndarray | None, list[str]]:
    """(T, 17) in 0..1, NaN in the columns that are not there; sentences about the scale and those columns."""
    if not units:
        return None, []
    largest = float(values[units].to_numpy().max())
    scale = au_scale or (AU_SCALE if rated or largest > 1 else 1.0)
    check_scales(values, dict.fromkeys(units, scale), path, _OPTION)
    aus = np.full((len(values), len(AU_COLUMNS)), np.nan, np.float32)
    for name in units:
        aus[:, AU_COLUMNS.index(name)] = values[name].to_numpy(np.float32) / scale
    why = "as given by au_scale" if au_scale else "OpenFace's columns _r" if rated else f"the largest is {largest:.3g}"
    said = [f"action units of the driver are read as 0..{scale:g} ({why}); au_scale=1|5 says otherwise"]
    missing = [name for name in AU_COLUMNS if name not in units]
    if missing:
        said.append(f"not in the driver, so they stay as the face has them: {', '.join(missing)}")
    return aus, said
