"""Filter frames: by `dataset.only`, and duplicate files of the same frame."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from fexgan_lit.data.datasets.base import COMMON, Sheet
from fexgan_lit.data.table import Drop
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def drop_twins(sheet: Sheet) -> Sheet:
    """Keep only the first file of each frame, in the order of the sheet.

    Two files belong to the same frame if their paths differ only in the extension, in upper and lower case, or in the
    Unicode form: other file systems could not store both.
    """
    frame = sheet.frame
    keys = frame["key"] if "key" in frame else frame["path"].map(_without_extension)
    keys = keys.map(_folded)
    twin = keys.duplicated()
    if not twin.any():
        return sheet
    first = frame["path"].groupby(keys).transform("first")
    pairs = zip(frame.loc[twin, "path"], first[twin], strict=True)
    drops = [Drop(path, _reason(path, kept)) for path, kept in pairs]
    return Sheet(frame[~twin].reset_index(drop=True), [*sheet.drops, *drops], sheet.notes)


def unify_identities(sheet: Sheet) -> Sheet:
    """Merge identities whose names differ only in case or Unicode form; the first name in sorted order is kept."""
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(sheet.frame["identity"].unique()):
        spellings[_folded(name)].append(name)
    chosen = {name: unicodedata.normalize("NFC", names[0]) for names in spellings.values() for name in names}
    frame = sheet.frame.assign(identity=sheet.frame["identity"].map(chosen))
    several = [names for names in spellings.values() if len(names) > 1]
    notes = [f"{' and '.join(names)} are one identity: the names differ in case or Unicode form only"
             for names in several]  # fmt: skip
    return Sheet(frame, sheet.drops, [*sheet.notes, *notes])


def _reason(path: str, kept: str) -> str:
    if PurePosixPath(path).suffix.lower() != PurePosixPath(kept).suffix.lower():
        return "second file for one frame, with another extension; the first is used"
    if _folded(path) == _folded(kept):
        same_case = unicodedata.normalize("NFC", path) == unicodedata.normalize("NFC", kept)
        return f"name differs from another file's in {'Unicode form' if same_case else 'upper and lower case'} only"
    return "second file for one frame, in another folder; the first is used"


def _folded(text: str) -> str:
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def _without_extension(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


_LISTED = 12


def keep_only(sheet: Sheet, only: Mapping[str, Any]) -> Sheet:
    """Keep the rows whose columns have one of the requested values; values are compared as text, without case.

    Raises:
        UserError: the layout does not read a column, or no frame has a value; the error lists the available ones.
    """
    frame = sheet.frame
    if not only or frame.empty:
        return sheet
    for column, wanted in only.items():
        values = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
        matching = _matching(frame, column, values)
        frame = frame[frame[column].isin(matching)]
    note = f"dataset.only={_shown(only)}: {len(frame)} of {len(sheet.frame)} frames"
    return Sheet(frame.reset_index(drop=True), sheet.drops, [*sheet.notes, note])


def _matching(frame: pd.DataFrame, column: str, values: list[Any]) -> list[Any]:
    """Return the entries of `column` that match one of `values`."""
    usable = [name for name in frame if name in ("identity", "take") or name not in COMMON]
    if column not in usable:
        raise UserError(
            f"dataset.only={{{column}: {values}}}: there is no column '{column}' here; expected one of "
            f"{', '.join(usable)}. To use every frame: dataset.only=null."
        )
    # `frame` is already filtered by earlier columns, so the message lists values that can be combined.
    there = frame[column].dropna().unique().tolist()
    missing = {_text(value) for value in values} - {_text(entry) for entry in there}
    if missing:
        listed = ", ".join(sorted(map(str, there))[:_LISTED])
        more = f" +{len(there) - _LISTED} more" if len(there) > _LISTED else ""
        raise UserError(f"dataset.only: no frame has {column} {', '.join(sorted(missing))}; found: {listed}{more}.")
    return [entry for entry in there if _text(entry) in {_text(value) for value in values}]


def _text(value: Any) -> str:
    """Normalize a value: 90, "90", "090" and 90.0 are equal, and so are VL and vl."""
    text = str(value).strip().casefold().removesuffix(".0")
    return text.lstrip("0") or "0" if text.isdigit() else text


def _shown(only: Mapping[str, Any]) -> str:
    parts = [
        f"{column}: [{', '.join(map(str, values))}]" if isinstance(values, (list, tuple)) else f"{column}: {values}"
        for column, values in only.items()
    ]
    return "{" + ", ".join(parts) + "}"
