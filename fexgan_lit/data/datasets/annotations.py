"""CSV files of annotations (intensity, action units, landmarks, pose): how they are read, checked, joined to frames."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.images import FrameError, open_image, read_bytes
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


#: Columns of whole numbers, kept as float64; the others become float32.
WHOLE = ("take", "frame")


# Measurements; all else is text: a person may be called NA, and 001 is not 1.
_MEASURED = re.compile(r"time_s|timestamp|intensity|yaw|pitch|roll|au\d\d?(_[rc])?|[xyz]_?\d\d?|\w+_[rt][xyz]|success")


def read_csv(csv: Path, option: str) -> pd.DataFrame:
    """The rows of `csv` with lower-case column names; text apart from measurements, "" where a text is missing.

    Raises:
        UserError: it cannot be read as CSV, or two columns have one name.
    """
    import pandas as pd

    try:
        names = pd.read_csv(csv, header=None, nrows=1, dtype=str, skipinitialspace=True, encoding="utf-8-sig")
        columns = [str(name).strip().lower() for name in names.iloc[0]]
        rows = pd.read_csv(
            csv, header=0, names=list(range(len(columns))), skipinitialspace=True, encoding="utf-8-sig",
            index_col=False, keep_default_na=False, low_memory=False,
            dtype={i: str for i, name in enumerate(columns) if not _MEASURED.fullmatch(name)},
            na_values={i: [""] for i, name in enumerate(columns) if _MEASURED.fullmatch(name)},
        )  # fmt: skip
    except (OSError, ValueError) as error:  # ValueError: pandas' parser errors and bytes that are not UTF-8
        raise UserError(f"{option}={csv} cannot be read as CSV ({error}).") from error
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UserError(f"{option}={csv}: the column '{twice[0]}' is there twice.")
    rows.columns = columns
    texts = {name: rows[name].str.strip() for name in columns if not _MEASURED.fullmatch(name)}
    return rows.assign(**texts)


def to_numbers(rows: pd.DataFrame, columns: Sequence[str], csv: Path, option: str) -> pd.DataFrame:
    """`rows` with `columns` as numbers; a UserError names the first entry that is empty, infinite or text."""
    import pandas as pd

    converted = {}
    for name in columns:
        numbers = pd.to_numeric(rows[name], errors="coerce").to_numpy(np.float64)
        bad = np.flatnonzero(~np.isfinite(numbers) | (np.mod(numbers, 1) != 0 if name in WHOLE else False))
        if len(bad):
            first = rows.iloc[int(bad[0])]
            expected = "a whole number" if name in WHOLE else "a number"
            raise UserError(
                f"{option}={csv}: {name} of {first['path']} is '{_shown(first[name])}', not {expected} "
                f"({len(bad)} such entries in this column)."
            )
        converted[name] = numbers if name in WHOLE else numbers.astype(np.float32)
    return pd.concat([rows.drop(columns=list(columns)), pd.DataFrame(converted, index=rows.index)], axis=1)


def check_scales(values: pd.DataFrame, limits: Mapping[str, float], csv: Path, option: str) -> None:
    """Raise a UserError that names the first value outside 0..limit."""
    for name in (name for name in limits if name in values):
        outside = ~values[name].between(0, limits[name])
        if outside.any():
            first = values.loc[outside].iloc[0]
            raise UserError(
                f"{option}={csv}: {name} of {first['path']} is {first[name]:g}; "
                f"expected 0..{limits[name]:g} ({int(outside.sum())} values are outside)."
            )


def _shown(value: object) -> str:
    return str(value) or "nan"


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
        return np.array(open_image(read_bytes(path)).size)
    except FrameError:
        return None


#: OpenFace's scale of an action unit; the table stores a fifth of it.
AU_SCALE = 5.0


OPTION = "dataset.annotations"


_FLOATS = ("time_s", "intensity", *POSE_COLUMNS)


_LIMITS = {"intensity": 1.0, **dict.fromkeys(AU_COLUMNS, AU_SCALE)}


#: Fewer points than these are no landmarks: a box, perhaps.
_FEWEST_POINTS = 5


#: Columns that are joined all or none: a face with 16 action units or 60 points is of no use to a system.
_GROUPS = {"action units": AU_COLUMNS, "landmarks": LANDMARK_COLUMNS}


# What OpenFace calls them: AU01_r (AU01_c is mere presence), x_0, timestamp.
_OPENFACE_AU, _OPENFACE_POINT = re.compile(r"au(\d\d?)(?:_r)?"), re.compile(r"([xy])_?(\d{1,3})")


def join_annotations(table: FrameTable, csv: Path) -> FrameTable:
    """`table` with the columns of `csv` that it knows, in the units of `FrameTable`.

    The CSV has a column `path`, relative to the CSV's own folder or to the root, and any of take, frame, time_s,
    intensity (0..1), AU01..AU45 (the 17, 0..5), yaw, pitch, roll (degrees), x00,y00..x67,y67 (pixels). OpenFace's own
    names (AU01_r, x_0, timestamp) do as well. Rows that match no file become drops; frames without a row keep NaN
    and are counted in the notes, as are values that can hardly be meant.

    Raises:
        UserError: no such file, no `path`, a file named twice, part of a group of columns, text or NaN where a
            number belongs, or values off their scale.
    """
    rows = read_annotations(csv)
    if "path" not in rows:
        raise UserError(f"{OPTION}={csv}: the column 'path' is missing; found: {', '.join(rows.columns[:8])}.")
    empty = rows["path"] == ""
    if empty.any():
        raise UserError(f"{OPTION}={csv}: line {int(empty.argmax()) + 2} has no path.")
    known_columns(rows, csv)
    if rows.empty:
        raise UserError(f"{OPTION}={csv} has no rows.")
    rows = rows.assign(path=_paths_below_root(rows["path"], csv, table))
    known = rows["path"].isin(table.paths)
    if not known.any():
        raise UserError(
            f"{OPTION}={csv}: none of its {len(rows)} rows names a frame of {table.root}; its first path is "
            f"{rows['path'].iloc[0]}, the first frame {table.paths[0]}. Paths count from the CSV's folder or the root."
        )
    return join_rows(table, rows, csv)


def read_annotations(csv: Path) -> pd.DataFrame:
    """The rows of an annotation file as text, OpenFace's names of columns turned into those of the table."""
    rows = read_csv(csv, OPTION)
    points = {match.group(2) for name in rows.columns if (match := _OPENFACE_POINT.fullmatch(name))}
    names = {name: _own_name(name, len(points) >= _FEWEST_POINTS) for name in rows.columns}
    taken = set(rows.columns)
    return rows.rename(columns={name: own for name, own in names.items() if own != name and own not in taken})


def join_rows(table: FrameTable, rows: pd.DataFrame, csv: Path) -> FrameTable:
    """`table` with `rows`, whose column path names frames of it; raises and notes as `join_annotations`."""
    columns = known_columns(rows, csv)
    _check_unique(rows["path"], csv)
    known = rows["path"].isin(table.paths)
    values = to_numbers(rows.loc[known, ["path", *columns]], columns, csv, OPTION)
    check_scales(values, _LIMITS, csv, OPTION)
    values[[name for name in columns if name in AU_COLUMNS]] /= AU_SCALE
    kept = table.frame.drop(columns=[name for name in columns if name in table.frame])
    joined = kept.merge(values, on="path", how="left", validate="one_to_one")
    for name in set(WHOLE) & set(columns):
        joined[name] = joined[name].astype("Int64" if joined[name].isna().any() else "int64")
    drops = tuple(Drop(path, f"row of {csv.name} without a frame") for path in rows.loc[~known, "path"])
    notes = (_note(table, values, csv), *_scaled(values, csv), *suspicions(values, table.root, csv.name))
    return replace(table, frame=joined, drops=(*table.drops, *drops), notes=(*table.notes, *notes))


def _own_name(name: str, points: bool) -> str:
    """The table's name for a column, as far as OpenFace has another; `points`: there are enough for landmarks."""
    if match := _OPENFACE_AU.fullmatch(name):
        return f"au{int(match.group(1)):02d}"
    if points and (match := _OPENFACE_POINT.fullmatch(name)):
        return f"{match.group(1)}{int(match.group(2)):02d}"
    return {"timestamp": "time_s"}.get(name, name)


def _note(table: FrameTable, values: pd.DataFrame, csv: Path) -> str:
    bare = len(table) - len(values)
    text = f"{csv.name}: joined to {len(values)} of {len(table)} frames"
    if bare == 0:
        return text
    without = table.frame.loc[~table.frame["path"].isin(values["path"]), "path"].head(5)
    return f"{text}; {bare} have no row: {', '.join(without)}{f' +{bare - 5} more' if bare > 5 else ''}"


def _scaled(values: pd.DataFrame, csv: Path) -> list[str]:
    """What was done to the action units, with their largest value to compare with the file's."""
    if AU_COLUMNS[0] not in values:
        return []
    largest = float(values[list(AU_COLUMNS)].to_numpy().max())
    found = f"0..{AU_SCALE:g} (largest {AU_SCALE * largest:.2f})"
    return [f"{csv.name}: action units read as {found} and divided by {AU_SCALE:g}, once, to 0..1"]


def known_columns(rows: pd.DataFrame, csv: Path) -> list[str]:
    """The columns to join, in the table's order.

    Raises:
        UserError: part of a group only, landmarks of another count, or none at all.
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
    """Refuse other points than the 68, whose numbers would mean other places of the face.

    Raises:
        UserError: what was found and what to do.
    """
    found = {name for name in rows.columns if re.fullmatch(r"[xy]\d{2,3}", name)}
    wanted = set(LANDMARK_COLUMNS)
    numbers = sorted({int(name[1:]) for name in found})
    count = len(numbers)
    if count < _FEWEST_POINTS or found == wanted or (found < wanted and count == len(wanted) // 2):
        return  # of the 68 points a column is missing, which is told with the groups
    raise UserError(
        f"{OPTION}={csv}: landmarks of {count} points, numbered {numbers[0]} to {numbers[-1]}; expected the "
        f"{len(wanted) // 2} Multi-PIE points of dlib and OpenFace, x00,y00 to x67,y67. Points of another scheme lie "
        "elsewhere on the face: leave these columns out and let `python -m fexgan_lit.prepare ... "
        "dataset.detector=mediapipe` find the 68, or give those of OpenFace."
    )


def _paths_below_root(paths: Sequence[str], csv: Path, table: FrameTable) -> list[str]:
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
        raise UserError(f"{OPTION}={csv}: {twice.iloc[0]} has more than one row ({len(twice)} such rows).")
