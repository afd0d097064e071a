"""Read a manifest, a CSV with the identity and affect of each file, instead of the names of files and folders."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fexgan_lit.data.datasets.base import Sheet
from fexgan_lit.data.datasets.csv_files import WHOLE, check_scales, read_csv, to_numbers
from fexgan_lit.data.datasets.scan import file_refusal
from fexgan_lit.data.table import REQUIRED, Drop
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

OPTION = "dataset.manifest"

_NUMBERS = (*WHOLE, "time_s", "intensity")
#: Columns read by `dataset.annotations`, which checks groups of columns as a whole.
_ANNOTATIONS = (*AU_COLUMNS, *LANDMARK_COLUMNS, *POSE_COLUMNS)
_DRIVE = re.compile(r"[A-Za-z]:")
_NO_FILE, _OUTSIDE = "no such file", "path that leaves the root folder"
#: Files of a folder: maps the name in composed Unicode form to the name on disk and the reason for a drop, or None.
_Names = dict[str, tuple[str, str | None]]


def read_manifest(csv: Path, root: Path, annotated: bool = False) -> Sheet:
    """Read the rows of `csv` that name an image file below `root`, sorted by path; the others become drops.

    The columns are path (relative to the root or to the CSV's folder), identity, affect and, if known, take, frame
    (whole numbers), time_s (seconds) and intensity (0..1). Any other column can be used in `dataset.only`. A path is
    dropped if it is absolute and outside the root, contains `..` or follows a link out of the root.

    Args:
        csv: the manifest.
        root: the folder that contains the images.
        annotated: whether `dataset.annotations` is given. If not, a note says that action units, landmarks and pose
            in the manifest are not read.

    Raises:
        UserError: the file does not exist, a column is missing, a value is not a number, or no row can be used.
    """
    rows, said = read_csv(csv, OPTION)
    missing = [name for name in REQUIRED if name not in rows]
    if missing:
        raise UserError(
            f"{OPTION}={csv}: the columns {', '.join(missing)} are missing; expected {', '.join(REQUIRED)} and, if "
            f"known, {', '.join(_NUMBERS)}; found: {', '.join(rows.columns[:8])}."
        )
    if rows.empty:
        raise UserError(f"{OPTION}={csv} has no rows.")
    numbers = [name for name in _NUMBERS if name in rows]
    rows = to_numbers(rows, numbers, csv, OPTION)
    check_scales(rows, {"intensity": 1.0}, csv, OPTION)
    paths, reasons = _find_files(rows, csv, root)
    drops = [Drop(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason is not None]
    kept = rows.assign(path=paths)[[reason is None for reason in reasons]]
    kept, repeated = _first_rows(kept)
    drops += repeated
    if kept.empty:
        seen = "; ".join(f"{drop.path} ({drop.reason})" for drop in drops[:5])
        raise UserError(f"{OPTION}={csv}: none of its {len(rows)} rows can be used: {seen}. Paths count from {root}.")
    unread = [name for name in _ANNOTATIONS if name in kept]
    notes = [*said, f"{csv.name}: {len(kept)} of {len(rows)} rows name a file"]
    if unread and not annotated:
        notes.append(f"{csv.name}: action units, landmarks and pose are read by dataset.annotations={csv} only")
    frame = kept.drop(columns=unread).rename(columns={"affect": "word"})
    return Sheet(frame.sort_values("path", kind="stable").reset_index(drop=True), drops, notes)


def _first_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Drop]]:
    """Keep the first row of each file and drop later ones; the reason states whether their labels differ."""
    again = rows["path"].duplicated()
    if not again.any():
        return rows, []
    labels = rows["identity"] + "\0" + rows["affect"].str.lower()
    differs = labels != labels.groupby(rows["path"]).transform("first")
    texts = {False: "second row for the same file", True: "second row for the same file, with other labels"}
    drops = [Drop(path, texts[other]) for path, other in zip(rows.loc[again, "path"], differs[again], strict=True)]
    return rows[~again], drops


def _find_files(rows: pd.DataFrame, csv: Path, root: Path) -> tuple[list[str], list[str | None]]:
    """Return the path of every row's file below the root, and the reason if it cannot be used (else None)."""
    top, folder = os.path.realpath(root), os.path.realpath(csv.parent)
    plain = [_tidy(path, top) for path in rows["path"]]
    files = _Files(top)
    found = [files.find(path) for path in plain]
    if folder != top:
        from_csv = [files.find(_below(f"{folder}/{path}", top)) for path in plain]
        found = max((found, from_csv), key=lambda candidate: sum(reason is None for _, reason in candidate))
    paths, reasons = [], []
    unnamed = ((rows["identity"] == "") | (rows["affect"] == "")).tolist()
    for given, bare, (path, reason) in zip(rows["path"], unnamed, found, strict=True):
        paths.append(path or given or "(row without a path)")
        reasons.append(reason or ("row without identity or affect" if bare else None))
    return paths, reasons


def _tidy(path: str, top: str) -> str | None:
    """Return `path` relative to the root `top`, or None if it is outside."""
    path = path.replace("\\", "/")
    if "\0" in path or ".." in path.split("/") or (_DRIVE.match(path) and os.name != "nt"):
        return None
    if path.startswith("/"):
        return _below(os.path.normpath(path), top)
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _below(path: str, top: str) -> str | None:
    return path[len(top) + 1 :] if path.startswith(f"{top}/") else None


class _Files:
    """A cache of the files below `top`, one folder at a time: a manifest names many files in few folders."""

    def __init__(self, top: str) -> None:
        self.top = top
        self._folders: dict[str, tuple[str, _Names] | str] = {}

    def find(self, path: str | None) -> tuple[str | None, str | None]:
        """Return the path on disk and None, or the given path and the reason why it cannot be used."""
        if not path:
            return None, _OUTSIDE if path is None else _NO_FILE
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._list(folder)
        listed = self._folders[folder]
        if isinstance(listed, str):
            return path, listed
        actual, names = listed
        on_disk, reason = names.get(_composed(name), (name, _NO_FILE))
        return (f"{actual}/{on_disk}" if actual else on_disk), reason

    def _list(self, folder: str) -> tuple[str, _Names] | str:
        """Return the folder's name on disk and its files, or the reason why it cannot be used."""
        forms: Sequence[str] = (folder, _composed(folder), unicodedata.normalize("NFD", folder))
        actual = next((form for form in forms if os.path.isdir(f"{self.top}/{form}")), None)  # noqa: PTH112
        if actual is None:
            return _NO_FILE
        if not self._inside(f"{self.top}/{actual}"):
            return "link that leaves the root folder"
        try:
            with os.scandir(f"{self.top}/{actual}") as entries:
                return actual, {_composed(entry.name): (entry.name, self._refusal(entry)) for entry in entries}
        except OSError as error:
            return f"folder cannot be read ({error.strerror})"

    def _refusal(self, entry: os.DirEntry[str]) -> str | None:
        if entry.is_symlink() and not self._inside(entry.path):
            return "link that leaves the root folder"
        if not entry.is_file():
            return "link to nothing" if entry.is_symlink() else "not a file"
        return file_refusal(entry.name)

    def _inside(self, path: str) -> bool:
        return os.path.commonpath([self.top, os.path.realpath(path)]) == self.top


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
