"""Layout of Oulu-CASIA: `OriginalImg/VL/Strong/P001/Anger/000.jpeg`, clips from neutral to the apex at 25 fps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.base import Layout, PathRule, Sheet, empty_sheet, first_folder
from fexgan_lit.data.datasets.characters import trailing_number
from fexgan_lit.data.datasets.labels import AffectReader
from fexgan_lit.expression import AFFECTS

FRAMES_A_SECOND = 25.0

#: Folders that contain the spectra, in the original archive and in a mirror.
_TOPS = ("OriginalImg", "Oulu_CASIA_NIR_VIS")
_SPECTRA = ("VL", "NI")
_COLUMNS = ("identity", "word", "frame", "spectrum", "light", "clip")


def _labels(parts: tuple[str, ...]) -> tuple[Any, ...] | None:
    spectrum, light, person, word, file_name = parts
    number = trailing_number(file_name)
    if spectrum.upper() not in _SPECTRA or number is None:
        return None
    return person, word, number, spectrum.upper(), light.capitalize(), "/".join(parts[:-1])


_RULE = PathRule(_COLUMNS, _labels, depth=5)


def _top(root: Path) -> str | None:
    """Return the folder below `root` that contains VL or NI, "" for `root` itself, or None."""
    found = first_folder(root, _TOPS)
    return "" if found is None and first_folder(root, _SPECTRA) is not None else found


def _read(root: Path, config: DatasetConfig) -> Sheet:
    top = _top(root)
    if top is None:
        return empty_sheet()
    sheet = _RULE.sheet(root, top)
    if sheet.frame.empty:
        return sheet
    clips = sheet.frame.groupby("clip")["frame"].transform("min")
    time_s = (sheet.frame["frame"] - clips).astype("float32") / FRAMES_A_SECOND
    # The take distinguishes the clips of a person, because all of them contribute neutral frames.
    take = sheet.frame.groupby("identity")["clip"].rank(method="dense").astype("int64")
    sheet.frame = sheet.frame.assign(take=take, time_s=time_s)
    return sheet


def _fits(folder: Path, config: DatasetConfig) -> bool:
    top = _top(folder)
    return top is not None and _RULE.fits(folder, AffectReader(None, AFFECTS, config.aliases), top)


OULU_CASIA = Layout(_read, _fits, clips="onset")
