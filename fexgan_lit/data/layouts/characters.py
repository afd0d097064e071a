"""FERG-DB and MH-FED, the sets of characters of the two FExGAN papers, and the user's own by a pattern."""

from __future__ import annotations

import re
from pathlib import Path

from fexgan_lit.data.labels import AffectReader, wanted_affects
from fexgan_lit.data.layouts.sheet import Layout, PathRule, Sheet
from fexgan_lit.data.patterns import PathPattern
from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.data.table import FrameTable
from fexgan_lit.errors import UserError
from fexgan_lit.expression import AFFECTS, KNOWN_AFFECTS

_COLUMNS = ("identity", "word", "take", "frame")
_NUMBER = re.compile(r"(\d+)$")


def _ferg_labels(parts: tuple[str, ...]) -> tuple[str, str, int | None, int | None]:
    """`<character>/<character>_<affect>/<character>_<affect>_<n>.png`."""
    character, folder_name, file_name = parts
    prefix = f"{character}_".lower()
    word = folder_name[len(prefix) :] if folder_name.lower().startswith(prefix) else folder_name
    return character, word, None, trailing_number(file_name)


def _mhfed_labels(parts: tuple[str, ...]) -> tuple[str, str, int | None, int | None]:
    """`<character>/<affect>/*`, any image extension."""
    character, word, file_name = parts
    return character, word, None, trailing_number(file_name)


def trailing_number(file_name: str) -> int | None:
    """The number a file name ends with, before its extension."""
    found = _NUMBER.search(file_name.rpartition(".")[0])
    return int(found.group(1)) if found else None


def rule_layout(rule: PathRule) -> Layout:
    """The layout of a set whose seven affects stand in the path, without more to it."""

    def read(root: Path, config: DatasetConfig) -> Sheet:
        return rule.sheet(root)

    def fits(folder: Path, config: DatasetConfig) -> bool:
        return rule.fits(folder, AffectReader(None, AFFECTS, config.aliases))

    return Layout(read, fits)


def _pattern_rule(config: DatasetConfig) -> PathRule:
    wanted = wanted_affects(config.affects, config.aliases)
    pattern = PathPattern(config.pattern, [*(wanted or ()), *config.aliases])
    return PathRule(_COLUMNS, pattern.read, pattern.depth)


def _read_pattern(root: Path, config: DatasetConfig) -> Sheet:
    return _pattern_rule(config).sheet(root)


def _fits_pattern(folder: Path, config: DatasetConfig) -> bool:
    allowed = None if config.affects is None else KNOWN_AFFECTS
    wanted = wanted_affects(config.affects, config.aliases)
    return _pattern_rule(config).fits(folder, AffectReader(wanted, allowed, config.aliases))


def check_shared_affects(table: FrameTable, config: DatasetConfig) -> FrameTable:
    """Refuse a table in which every affect belongs to one identity: the pattern took the identity for an affect."""
    owners = table.frame.groupby("affect")["identity"].nunique()
    if config.manifest is not None or len(table.identities) < 2 or owners.max() > 1:
        return table
    first = table.frame.iloc[0]
    raise UserError(
        f"dataset.pattern={config.pattern}: read so, every affect belongs to one identity only; for example "
        f"'{first['path']}' shows the affect '{first['affect']}' of '{first['identity']}'. "
        "Expected affects that several identities share. Say where the name ends and the affect begins, for example "
        "'dataset.pattern=\"{identity}/{identity}_{affect}/{frame}.*\"'."
    )


FERG = rule_layout(PathRule(_COLUMNS, _ferg_labels, 3))
MHFED = rule_layout(PathRule(_COLUMNS, _mhfed_labels, 3))
FOLDER = Layout(_read_pattern, _fits_pattern, affects=None, finish=check_shared_affects)
