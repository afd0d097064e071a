"""Interpret OpenFace's tables: rename columns, find lost faces, and match rows to images."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.datasets.csv_files import check_scales, read_csv, to_numbers
from fexgan_lit.data.datasets.scan import list_images
from fexgan_lit.data.table import FrameTable, some
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

#: Fewer points than this are not landmarks; they may be the corners of a box.
FEWEST_POINTS = 5
#: Columns that number the faces in an image.
FACES = ("face_id", "face")
#: A face that the tracker found with less confidence counts as lost.
LEAST_CONFIDENCE = 0.5

# AU01_r (AU01_c is binary presence), DISFA's AU_1, x_0
_UNIT, _POINT = re.compile(r"au[ _-]?(\d\d?)(?:_r)?"), re.compile(r"([xy])_?(\d{1,3})")
#: Columns that may number the rows instead of naming images.
_COUNTS = ("frame", "id")


def read_annotations(csv: Path, option: str) -> tuple[pd.DataFrame, list[str]]:
    """Read a file or folder as `read_csv` does, and rename OpenFace's columns to those of `FrameTable`."""
    rows, notes = read_csv(csv, option)
    return own_names(rows), notes


def own_names(rows: pd.DataFrame) -> pd.DataFrame:
    """Rename OpenFace's columns to those of `FrameTable`."""
    points = {match.group(2) for name in rows.columns if (match := _POINT.fullmatch(name))}
    taken, names = set(rows.columns), {}
    for name in rows.columns:
        own = _own_name(name, len(points) >= FEWEST_POINTS)
        if own not in taken:  # keeps the first of two columns for the same unit, such as AU01_r and AU_1
            names[name] = own
            taken.add(own)
    return rows.rename(columns=names)


def _own_name(name: str, points: bool) -> str:
    """Return the table's name of a column; `points` tells whether there are enough points for landmarks."""
    if match := _UNIT.fullmatch(name):
        return f"au{int(match.group(1)):02d}"
    if points and (match := _POINT.fullmatch(name)):
        return f"{match.group(1)}{int(match.group(2)):02d}"
    return {"timestamp": "time_s"}.get(name, name)


def lost_faces(rows: pd.DataFrame, csv: Path, option: str) -> tuple[np.ndarray, list[str]]:
    """Find the rows whose face the tracker lost, so that their values are meaningless.

    A face is lost if `success` is 0, `confidence` is below `LEAST_CONFIDENCE`, or either value is missing.

    Returns:
        (N,) true for lost faces, and at most one note about them.
    """
    lost = np.zeros(len(rows), bool)
    reasons = []
    limits = {"success": (1.0, "success 0"), "confidence": (LEAST_CONFIDENCE, f"confidence below {LEAST_CONFIDENCE:g}")}
    for name, (least, reason) in limits.items():
        if name in rows:
            values = to_numbers(rows[["path", name]], [name], csv, option, gaps=True)
            check_scales(values, {name: 1.0}, csv, option)
            bad = ~(values[name] >= least).to_numpy() & ~lost
            reasons += [f"{int(bad.sum())} with {reason}"] if bad.any() else []
            lost |= bad
    if not reasons:
        return lost, []
    return lost, [
        f"{csv.name}: the face is lost in {int(lost.sum())} of {len(rows)} rows, left out ({', '.join(reasons)}): "
        f"{some(rows.loc[lost, 'path'].tolist())}"
    ]


def one_row_each(rows: pd.DataFrame, lost: np.ndarray, csv: Path, option: str) -> pd.DataFrame:
    """Remove rows of lost faces where the image has another row, so that each image has one row.

    Raises:
        UserError: an image still has more than one row.
    """
    found = rows["path"].isin(rows.loc[~lost, "path"])
    again = rows["path"].duplicated()
    kept = rows[~(lost & (found | again))]
    twice = kept.loc[kept["path"].duplicated(), "path"]
    if twice.empty:
        return kept
    text = f"{option}={csv}: {twice.iloc[0]} has more than one row ({len(twice)} such rows)"
    faces = next((name for name in FACES if name in rows), None)
    if faces is None:
        raise UserError(f"{text}.")
    raise UserError(
        f"{text}: the column '{faces}' numbers the faces in an image, and a frame shows one face. Keep the rows of "
        f"one face per image (such as those with {faces} 0), or crop each face to an image of its own and annotate "
        "those."
    )


def name_pictures(
    rows: pd.DataFrame, columns: Sequence[str], table: FrameTable, csv: Path, option: str
) -> tuple[pd.DataFrame, list[str]]:
    """Match each row to a frame of `table`, and write the frame's path into the column path.

    The first of `columns` that names images is used. If the rows are only numbered, as in OpenFace's tables of
    sequences, they are matched to the images of a single folder in the order of their names.

    Returns:
        The rows, and notes on how they were matched.

    Raises:
        UserError: no column names images, or numbered rows cannot be matched to images.
    """
    counts = [name for name in _COUNTS if name in rows and _counted(name, rows)]
    named = next((name for name in columns if name in rows and name not in counts), None)
    if named is not None:
        if (rows[named] == "").any():
            raise UserError(f"{option}={csv}: row {int((rows[named] == '').argmax()) + 1} has no {named}.")
        paths = _matching(rows[named], csv if csv.is_dir() else csv.parent, table)
        return rows.drop(columns=["frame"] if named == "frame" else []).assign(path=paths), []
    if not counts:
        expected = f"no column names the image; expected one of {', '.join(columns)}"
        missing = expected if len(columns) > 1 else f"the column '{columns[0]}' is missing"
        raise UserError(f"{option}={csv}: {missing}; found: {', '.join(rows.columns[:8])}.")
    return _in_order(rows, counts[0], table, csv, option)


def _counted(name: str, rows: pd.DataFrame) -> bool:
    """Return whether a column numbers the rows: as frames of a sequence, or as 0, 1, 2, ... or 1, 2, 3, ..."""
    values = rows[name]
    if not values.str.fullmatch(r"0|[1-9]\d*").all() or not len(values):
        return False
    if name == "frame" and {"time_s", *FACES} & set(rows):
        return True
    numbers = sorted(set(values.astype(int)))
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _in_order(
    rows: pd.DataFrame, column: str, table: FrameTable, csv: Path, option: str
) -> tuple[pd.DataFrame, list[str]]:
    """Match rows that `column` numbers to the images in the order of their names."""
    problem = f"{option}={csv}: the column '{column}' numbers rows and does not name images"
    cure = "Name the image of each row in a column 'path'."
    folders = {path.rpartition("/")[0] for path in table.paths}
    if len(folders) > 1 or table.root is None:
        raise UserError(f"{problem}, and the images are in {len(folders)} folders. {cure}")
    pictures = ["/".join(parts) for parts in list_images(table.root, 1, below=next(iter(folders))).images]
    numbers = rows[column].astype(int)
    first = min(int(numbers.min()), 1)
    if int(numbers.max()) - first + 1 != len(pictures):
        raise UserError(
            f"{problem}: it runs from {numbers.min()} to {numbers.max()}, but there are {len(pictures)} images. {cure}"
        )
    paths = [pictures[number - first] for number in numbers]
    if not (column == "frame" and {"time_s", *FACES} & set(rows)):
        by_name = _matching(rows[column], csv.parent, table)
        if by_name != paths and set(by_name) & set(pictures):
            place = next(place for place, path in enumerate(paths) if by_name[place] != path)
            raise UserError(
                f"{option}={csv}: {column} {numbers.iloc[place]} may be the image {by_name[place]} by its name, or "
                f"{paths[place]} by the order of the names. {cure}"
            )
    shown = ", ".join(f"{first + place} is {picture}" for place, picture in enumerate(pictures[:3]))
    note = f"{csv.name}: the rows are numbered by '{column}' and were matched to the {len(pictures)} images in the "
    return rows.assign(path=paths), [f"{note}order of their names ({shown})"]


def _matching(names: Sequence[str], folder: Path, table: FrameTable) -> list[str]:
    """Return the frame of `table` that each name refers to, or the normalized name if there is none.

    A name is a path relative to the root, to the common folder of all frames, or to `folder`, whichever matches most
    frames. It may lack the extension. A file name without folders is accepted if no two files have the same name.
    """
    root, top = os.path.realpath(table.root or "."), os.path.realpath(folder)
    plain = [os.path.normpath(name.replace("\\", "/")) for name in names]
    # normpath resolves "..", so a path out of the root matches no file; strings are used because relpath is slow.
    from_csv = [os.path.normpath(f"{top}/{name}").removeprefix(f"{root}/") for name in plain]
    paths = table.paths
    common = os.path.commonpath([path.rpartition("/")[0] for path in paths])
    known = {**_named([path.removeprefix(f"{common}/") for path in paths], paths), **_named(paths, paths)}
    bare, files = [name.rpartition("/")[2] for name in plain], [path.rpartition("/")[2] for path in paths]
    candidates = [plain, from_csv]
    if len(set(files)) == len(files) and len(set(bare)) == len(set(plain)):
        known = {**_named(files, paths), **known}
        candidates.append(bare)
    found = [[known.get(name) for name in candidate] for candidate in candidates]
    best = max(found, key=lambda candidate: len(set(candidate) - {None}))
    return [path or name for path, name in zip(best, plain, strict=True)]


def _named(names: Sequence[str], paths: Sequence[str]) -> dict[str, str]:
    """Map `names`, and their unique stems without the extension, to `paths`."""
    stems = [name.rpartition(".")[0] for name in names]
    often = Counter(stems)
    loose = {stem: path for stem, path in zip(stems, paths, strict=True) if often[stem] == 1}
    return {**loose, **dict(zip(names, paths, strict=True))}
