"""Check annotations in CSV files (intensity, action units, landmarks, pose) and join them to the frames."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.datasets.csv_files import WHOLE, check_scales, to_numbers
from fexgan_lit.data.datasets.openface import (
    FEWEST_POINTS,
    lost_faces,
    name_pictures,
    one_row_each,
    read_annotations,
)
from fexgan_lit.data.images import FrameError, open_image, read_bytes
from fexgan_lit.data.table import Drop, FrameTable, some
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


#: Number of frames whose image size is read to check that their landmarks lie inside the image.
_SAMPLE = 64


#: If no action unit (0..1, a fifth of the file's value) is above this, the file was probably already divided by 5.
_FAINT = 0.2


def suspicions(values: pd.DataFrame, root: Path | None, source: str) -> list[str]:
    """Return one warning for each implausible property of the rows joined from the file `source`.

    Args:
        values: column path and, if the file has them, `AU_COLUMNS` (0..1) and `LANDMARK_COLUMNS` (pixels).
        root: the folder that the paths are relative to, from which image sizes are read. If None, landmarks are not
            compared with image sizes.
        source: the file name that the warnings start with.
    """
    found: list[str] = []
    if AU_COLUMNS[0] in values:
        found += _about_units(values[list(AU_COLUMNS)].dropna().to_numpy())
    if LANDMARK_COLUMNS[0] in values and values[LANDMARK_COLUMNS[0]].notna().any():
        found += _about_landmarks(values.dropna(subset=list(LANDMARK_COLUMNS)), root)
    return [f"{source}: {text}" for text in found]


def _about_units(units: np.ndarray) -> list[str]:
    """Check action units (n, 17) in 0..1."""
    if len(units) < 2:
        return []
    found = []
    if (units == units[:1]).all():
        found.append("suspicious: the action units are the same in every row")
    elif (units == units[:, :1]).all():
        found.append("suspicious: all 17 columns of action units are equal")
    if 0 < units.max() <= _FAINT:
        found.append("suspicious: no action unit is above 1, expected 0..5; they may already be divided by 5")
    return found


def _about_landmarks(values: pd.DataFrame, root: Path | None) -> list[str]:
    points = values[list(LANDMARK_COLUMNS)].to_numpy().reshape(len(values), -1, 2)  # (n, 136) -> (n, 68, 2)
    found = []
    if len(points) > 1 and (points == points[:1]).all():
        found.append("suspicious: the landmarks are the same in every row")
    if points.min() >= 0 and points.max() <= 1:
        found.append("suspicious: no landmark is above 1, expected pixels; they may be fractions of the image size")
    negative = (points < 0).any(axis=(1, 2))
    if negative.any():
        found.append(f"suspicious: landmarks left of or above the image in {int(negative.sum())} of {len(points)} rows")
    if root is not None:
        found += _beyond_size(values["path"].tolist(), points, root)
    return found


def _beyond_size(paths: list[str], points: np.ndarray, root: Path) -> list[str]:
    """Check a sample of the frames for landmarks (n, 68, 2) beyond the right or lower edge of the image."""
    rows = np.unique(np.linspace(0, len(paths) - 1, _SAMPLE).astype(np.int64)).tolist()
    sizes = [(row, _size(root / paths[row])) for row in rows]
    known = [(row, size) for row, size in sizes if size is not None]
    outside = [paths[row] for row, size in known if (points[row] > size).any()]
    if not outside:
        return []
    return [f"suspicious: landmarks right of or below the image in {len(outside)} of {len(known)} sampled frames, "
            f"such as {outside[0]}"]  # fmt: skip


def _size(path: Path) -> np.ndarray | None:
    """Return width and height (2,) from the header of an image, or None if the image cannot be opened."""
    try:
        return np.array(open_image(read_bytes(path)).size)
    except FrameError:
        return None


#: OpenFace's action units go up to 5; the table stores a fifth of them.
AU_SCALE = 5.0


OPTION = "dataset.annotations"


_FLOATS = ("time_s", "intensity", *POSE_COLUMNS)


_LIMITS = {"intensity": 1.0, **dict.fromkeys(AU_COLUMNS, AU_SCALE)}


#: A group of columns is joined as a whole or not at all: no system can use a face with 16 action units or 60 points.
_GROUPS = {"action units": AU_COLUMNS, "landmarks": LANDMARK_COLUMNS}


def join_annotations(table: FrameTable, csv: Path) -> FrameTable:
    """Join the known columns of `csv` to `table`, in the units of `FrameTable`.

    The CSV, or the CSVs of a folder, has a column `path`, relative to its own folder or to the root, and any of take,
    frame, time_s, intensity (0..1), AU01..AU45 (all 17, 0..5), yaw, pitch, roll (degrees), x00,y00..x67,y67 (pixels).
    The column names of OpenFace (AU01_r, x_0, timestamp) and its numbered rows are accepted too. Rows that match no
    file become drops. Frames without a row, and frames whose face was lost, keep NaN. The notes count these frames and
    list implausible values.

    Raises:
        UserError: the file does not exist or names no image, an image has two rows, a group of columns is incomplete,
            or a value is not a number or out of range.
    """
    rows, notes = read_annotations(csv, OPTION)
    if rows.empty:
        raise UserError(f"{OPTION}={csv} has no rows.")
    given = rows["path"].iloc[0] if "path" in rows else ""
    rows, said = name_pictures(rows, ("path",), table, csv, OPTION)
    known_columns(rows, csv)
    if not rows["path"].isin(table.paths).any():
        raise UserError(
            f"{OPTION}={csv}: none of its {len(rows)} rows names a frame of {table.root}; its first path is "
            f"{given}, the first frame {table.paths[0]}. Paths are relative to the CSV's folder or the root."
        )
    return join_rows(replace(table, notes=(*table.notes, *notes, *said)), rows, csv)


def join_rows(table: FrameTable, rows: pd.DataFrame, csv: Path) -> FrameTable:
    """Join `rows`, whose column path names frames of `table`; raises and notes as `join_annotations`."""
    columns = known_columns(rows, csv)
    lost, notes = lost_faces(rows, csv, OPTION)
    rows = one_row_each(rows, lost, csv, OPTION)
    known = rows["path"].isin(table.paths)
    values = to_numbers(rows.loc[known, ["path", *columns]], columns, csv, OPTION, gaps=True)
    values, gaps = _measured(values, lost[values.index], csv)
    check_scales(values, _LIMITS, csv, OPTION)
    values[[name for name in columns if name in AU_COLUMNS]] /= AU_SCALE
    kept = table.frame.drop(columns=[name for name in columns if name in table.frame])
    joined = kept.merge(values, on="path", how="left", validate="one_to_one")
    for name in set(WHOLE) & set(columns):
        joined[name] = joined[name].astype("Int64" if joined[name].isna().any() else "int64")
    drops = tuple(Drop(path, f"row of {csv.name} without a frame") for path in rows.loc[~known, "path"])
    notes = [_note(table, values, csv), *notes, *gaps, *_scaled(values, csv)]
    notes += [*_unread(rows, csv), *suspicions(values, table.root, csv.name)]
    return replace(table, frame=joined, drops=(*table.drops, *drops), notes=(*table.notes, *notes))


def _measured(values: pd.DataFrame, lost: np.ndarray, csv: Path) -> tuple[pd.DataFrame, list[str]]:
    """Replace the values of lost faces, and groups of columns with a missing value, by NaN.

    Args:
        values: the rows (N) to join.
        lost: (N,) true where OpenFace lost the face.
        csv: the file that messages name.

    Returns:
        The changed rows, and one note for each group of columns with missing values.

    Raises:
        UserError: no measurement is left.
    """
    groups = {**_GROUPS, **{name: (name,) for name in ("intensity", *POSE_COLUMNS)}}
    values, notes, there = values.copy(), [], []
    for what, names in groups.items():
        columns = [name for name in names if name in values]
        if not columns:
            continue
        without = values[columns].isna().any(axis=1).to_numpy()
        if (without & ~lost).any():
            paths = values.loc[without & ~lost, "path"].tolist()
            notes.append(f"{csv.name}: {len(paths)} rows lack a number in {what}, which is left out: {some(paths)}")
        values.loc[without | lost, columns] = np.nan
        there.append(not (without | lost).all())
    if there and not any(there):
        raise UserError(
            f"{OPTION}={csv}: no row has usable values: the face was lost in {int(lost.sum())} of {len(values)} rows, "
            "and the others lack numbers."
        )
    return values, notes


def _unread(rows: pd.DataFrame, csv: Path) -> list[str]:
    """Return a note on the columns that look like action units but are not among the 17."""
    others = sorted(name for name in rows if re.fullmatch(r"au\W?\d.*", name) and name not in AU_COLUMNS)
    others = [name for name in others if not name.endswith("_c")]  # OpenFace's binary presence, not an intensity
    return [f"{csv.name}: columns besides the 17 action units are not used: {some(others)}"] if others else []


def _note(table: FrameTable, values: pd.DataFrame, csv: Path) -> str:
    text = f"{csv.name}: joined to {len(values)} of {len(table)} frames"
    without = table.frame.loc[~table.frame["path"].isin(values["path"]), "path"].tolist()
    return f"{text}; {len(without)} have no row: {some(without)}" if without else text


def _scaled(values: pd.DataFrame, csv: Path) -> list[str]:
    """Return a note on the scaling of the action units, with the largest value to compare with the file."""
    if AU_COLUMNS[0] not in values or values[AU_COLUMNS[0]].isna().all():
        return []
    largest = float(np.nanmax(values[list(AU_COLUMNS)].to_numpy()))
    found = f"0..{AU_SCALE:g} (largest {AU_SCALE * largest:.2f})"
    return [f"{csv.name}: action units read as {found} and divided by {AU_SCALE:g}, once, to 0..1"]


def known_columns(rows: pd.DataFrame, csv: Path) -> list[str]:
    """Return the names of the columns to join, in the order of the table.

    Raises:
        UserError: a group of columns is incomplete, the number of landmarks is not 68, or no column can be joined.
    """
    for group, names in _GROUPS.items():
        if group == "landmarks":
            _check_points(rows, csv)
        missing = [name for name in names if name not in rows]
        if missing and len(missing) < len(names):
            raise UserError(
                f"{OPTION}={csv}: of the {len(names)} columns of the {group}, {len(missing)} are missing: "
                f"{', '.join(missing[:8])}. Give all or none."
            )
    columns = [name for name in (*WHOLE, *_FLOATS, *AU_COLUMNS, *LANDMARK_COLUMNS) if name in rows]
    if not columns:
        raise UserError(f"{OPTION}={csv}: besides 'path' there is no column to join, such as intensity.")
    return columns


def _check_points(rows: pd.DataFrame, csv: Path) -> None:
    """Raise a UserError unless the landmarks are the 68: other schemes number the points of the face differently."""
    found = {name for name in rows.columns if re.fullmatch(r"[xy]\d{2,3}", name)}
    wanted = set(LANDMARK_COLUMNS)
    numbers = sorted({int(name[1:]) for name in found})
    count = len(numbers)
    if count < FEWEST_POINTS or found == wanted or (found < wanted and count == len(wanted) // 2):
        return  # a missing column of the 68 points is reported by `known_columns`
    raise UserError(
        f"{OPTION}={csv}: the landmarks have {count} points, numbered {numbers[0]} to {numbers[-1]}; expected the "
        f"{len(wanted) // 2} Multi-PIE points of dlib and OpenFace, x00,y00 to x67,y67. Other schemes number other "
        "points of the face: leave these columns out and detect the 68 with `python -m fexgan_lit.prepare ... "
        "dataset.detector=mediapipe`, or give those of OpenFace."
    )
