"""Two files for one frame, and two spellings of one person: which is kept, and why the other is not."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import PurePosixPath

from fexgan_lit.data.layouts.sheet import Sheet
from fexgan_lit.data.table import Drop


def drop_twins(sheet: Sheet) -> Sheet:
    """Keep the first file, in the order of the sheet, of each frame.

    Two files are one frame if their paths differ in the extension, in upper and lower case, or in the Unicode form
    only: on other machines they could not lie side by side.
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
    """Names that differ in case or Unicode form only become one name, the first of them in order."""
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
