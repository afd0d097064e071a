"""Layout of MUG: `subjects3/<id>/<emotion>/take<n>/img_*.jpg`, clips from neutral to the apex and back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.base import Layout, PathRule, Sheet, first_folder
from fexgan_lit.data.datasets.characters import trailing_number
from fexgan_lit.data.datasets.labels import AffectReader
from fexgan_lit.expression import AFFECTS

_TAKE = re.compile(r"take[ _-]?(\d+)", re.IGNORECASE)
_COLUMNS = ("identity", "word", "take", "frame", "clip")


def _labels(parts: tuple[str, ...]) -> tuple[Any, ...] | None:
    person, word, take_name, file_name = parts
    take, number = _TAKE.fullmatch(take_name), trailing_number(file_name)
    if take is None or number is None:
        return None
    return person, word, int(take.group(1)), number, "/".join(parts[:-1])


_RULE = PathRule(_COLUMNS, _labels, depth=4)


def _top(root: Path) -> str:
    return first_folder(root, ("subjects3",)) or ""


def _read(root: Path, config: DatasetConfig) -> Sheet:
    return _RULE.sheet(root, _top(root))


def _fits(folder: Path, config: DatasetConfig) -> bool:
    return _RULE.fits(folder, AffectReader(None, AFFECTS, config.aliases), _top(folder))


MUG = Layout(_read, _fits, clips="full")
