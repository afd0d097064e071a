"""Joining a CSV of intensity, action units, landmarks and pose to the frames of any layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.table import AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS, Drop, FrameTable
from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

#: OpenFace's scale of an action unit; the table stores a fifth of it.
AU_SCALE = 5.0

_WHOLE = ("take", "frame")
_FLOATS = ("time_s", "intensity", *POSE_COLUMNS)
#: Columns that are joined all or none: a face with 16 action units or 60 points is of no use to a system.
_GROUPS = {"action units": AU_COLUMNS, "landmarks": LANDMARK_COLUMNS}


def join_annotations(table: FrameTable, csv: Path) -> FrameTable:
    """`table` with the columns of `csv` that it knows, in the units of `FrameTable`.

    The CSV has a column `path`, relative to the CSV's own folder or to the root, and any of take, frame, time_s,
    intensity (0..1), AU01..AU45 (the 17, 0..5), yaw, pitch, roll (degrees), x00,y00..x67,y67 (pixels). Rows that
    match no file become drops; frames without a row keep NaN and are counted in the notes.

    Raises:
        UserError: no such file, no `path`, a file named twice, part of a group of columns, text or NaN where a
            number belongs, or values off their scale.
    """
    rows = _read(csv)
    columns = _known_columns(rows, csv)
    if rows.empty:
        raise UserError(f"dataset.annotations={csv} has no rows.")
    rows = rows.assign(path=_paths_below_root(rows["path"], csv, table))
    _check_unique(rows["path"], csv)
    known = rows["path"].isin(table.paths)
    if not known.any():
        raise UserError(
            f"dataset.annotations={csv}: none of its {len(rows)} rows names a frame of {table.root}; its first path is "
            f"{rows['path'].iloc[0]}, the first frame {table.paths[0]}. Paths count from the CSV's folder or the root."
        )
    values = _numbers(rows.loc[known, ["path", *columns]], columns, csv)
    _check_scales(values, columns, csv)
    values[[name for name in columns if name in AU_COLUMNS]] /= AU_SCALE
    kept = table.frame.drop(columns=[name for name in columns if name in table.frame])
    joined = kept.merge(values, on="path", how="left", validate="one_to_one")
    for name in set(_WHOLE) & set(columns):
        joined[name] = joined[name].astype("Int64" if joined[name].isna().any() else "int64")
    drops = tuple(Drop(path, f"row of {csv.name} without a frame") for path in rows.loc[~known, "path"])
    return replace(table, frame=joined, drops=(*table.drops, *drops), notes=(*table.notes, _note(table, values, csv)))


def _note(table: FrameTable, values: pd.DataFrame, csv: Path) -> str:
    bare = len(table) - len(values)
    text = f"{csv.name}: joined to {len(values)} of {len(table)} frames"
    if bare == 0:
        return text
    without = table.frame.loc[~table.frame["path"].isin(values["path"]), "path"].head(5)
    return f"{text}; {bare} have no row: {', '.join(without)}{f' +{bare - 5} more' if bare > 5 else ''}"


def _read(csv: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        rows = pd.read_csv(csv, dtype={"path": str}, skipinitialspace=True)
    except (OSError, ValueError) as error:  # ValueError: pandas' parser errors and bytes that are not UTF-8
        raise UserError(f"dataset.annotations={csv} cannot be read as CSV ({error}).") from error
    rows.columns = [str(name).strip().lower() for name in rows.columns]
    if "path" not in rows:
        found = ", ".join(rows.columns[:8])
        raise UserError(f"dataset.annotations={csv}: the column 'path' is missing; found: {found}.")
    if rows["path"].isna().any():
        raise UserError(f"dataset.annotations={csv}: line {int(rows['path'].isna().argmax()) + 2} has no path.")
    return rows


def _known_columns(rows: pd.DataFrame, csv: Path) -> list[str]:
    """The columns to join, in the table's order."""
    for group, names in _GROUPS.items():
        missing = [name for name in names if name not in rows]
        if missing and len(missing) < len(names):
            raise UserError(
                f"dataset.annotations={csv}: of the {len(names)} columns of the {group}, {len(missing)} are missing: "
                f"{', '.join(missing[:8])}. Give all or none."
            )
    columns = [name for name in (*_WHOLE, *_FLOATS, *AU_COLUMNS, *LANDMARK_COLUMNS) if name in rows]
    if not columns:
        raise UserError(f"dataset.annotations={csv}: besides 'path' there is no column to join, such as intensity.")
    return columns


def _paths_below_root(paths: pd.Series, csv: Path, table: FrameTable) -> list[str]:
    """The paths relative to the root: as they stand, or as relative to the CSV's folder, whichever fits more files."""
    root, folder = os.path.realpath(table.root or "."), os.path.realpath(csv.parent)
    plain = [os.path.normpath(path.replace("\\", "/")) for path in paths]
    # normpath resolves "..", so a path that climbs out of the root fits no file; string work, as relpath is slow.
    from_csv = [os.path.normpath(f"{folder}/{path}").removeprefix(f"{root}/") for path in plain]
    files = set(table.paths)
    return max((plain, from_csv), key=lambda candidate: len(files.intersection(candidate)))


def _check_unique(paths: pd.Series, csv: Path) -> None:
    twice = paths[paths.duplicated()]
    if len(twice):
        raise UserError(f"dataset.annotations={csv}: {twice.iloc[0]} has more than one row ({len(twice)} such rows).")


def _numbers(rows: pd.DataFrame, columns: Sequence[str], csv: Path) -> pd.DataFrame:
    """float32 columns (float64 for counts); a UserError names the first entry that is empty, infinite or text."""
    import pandas as pd

    for name in columns:
        numbers = pd.to_numeric(rows[name], errors="coerce").to_numpy(np.float64)
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            first = rows.iloc[int(bad[0])]
            raise UserError(
                f"dataset.annotations={csv}: {name} of {first['path']} is '{first[name]}', not a number "
                f"({len(bad)} such entries in this column)."
            )
        rows = rows.assign(**{name: numbers if name in _WHOLE else numbers.astype(np.float32)})
    return rows


def _check_scales(values: pd.DataFrame, columns: Sequence[str], csv: Path) -> None:
    limits = {"intensity": 1.0, **dict.fromkeys(AU_COLUMNS, AU_SCALE)}
    for name in (name for name in columns if name in limits):
        outside = ~values[name].between(0, limits[name])
        if outside.any():
            first = values.loc[outside].iloc[0]
            raise UserError(
                f"dataset.annotations={csv}: {name} of {first['path']} is {first[name]:g}; "
                f"expected 0..{limits[name]:g} ({int(outside.sum())} values are outside)."
            )
