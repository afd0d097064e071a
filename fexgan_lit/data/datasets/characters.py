"""Layouts of FERG-DB and MH-FED, the data sets of the two FExGAN papers, and of folders with a pattern of paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.base import Layout, PathRule, Sheet
from fexgan_lit.data.datasets.labels import AffectReader, wanted_affects
from fexgan_lit.data.table import FrameTable
from fexgan_lit.expression import AFFECT_ALIASES, AFFECTS, KNOWN_AFFECTS
from fexgan_lit.utils.errors import UserError

FIELDS = ("identity", "affect", "take", "frame")


_TOKEN = re.compile(r"\{([^{}]*)\}")


_DIGITS = re.compile(r"(\d+)$")


class PathPattern:
    """Read labels from paths.

    Args:
        pattern: the path below the root with {identity} and {affect}, and optionally {take} and {frame}. A field that
            occurs twice must have the same value in both places. `*` matches any part of a name.
        affect_words: words known to be affects; they decide where `{identity}_{affect}` is split.

    Raises:
        UserError: a field is unknown or missing.
    """

    def __init__(self, pattern: str, affect_words: Sequence[str] = ()) -> None:
        self.pattern = pattern.strip("/")
        self.depth = self.pattern.count("/") + 1
        found = _TOKEN.findall(self.pattern)
        unknown = [field for field in found if field not in FIELDS]
        missing = [field for field in FIELDS[:2] if field not in found]
        if unknown or missing:
            problem = f"{{{unknown[0]}}} is no field" if unknown else f"{{{missing[0]}}} is missing"
            raise UserError(
                f"dataset.pattern={pattern}: {problem}; expected {{identity}} and {{affect}}, and if the names have "
                "them {take} and {frame}, for example {identity}/{affect}/{frame}.png."
            )
        words = sorted({*affect_words, *KNOWN_AFFECTS, *AFFECT_ALIASES}, key=len, reverse=True)
        self._known = self._compile("|".join(map(re.escape, words)))
        self._any = self._compile(None)

    def read(self, parts: tuple[str, ...]) -> tuple[str, str, int | None, int | None] | None:
        """Return identity, affect word, take and frame (None where there is no number), or None if the path differs."""
        path = "/".join(parts)
        match = self._known.fullmatch(path) or self._any.fullmatch(path)
        if match is None:
            return None
        labels = match.groupdict()
        return labels["identity"], labels["affect"], _number(labels.get("take")), _number(labels.get("frame"))

    def _compile(self, words: str | None) -> re.Pattern[str]:
        """Compile the pattern with one of `words` as the affect; None allows any word that is not part of another."""
        # Literal text between the tokens is escaped; the tokens are replaced.
        pieces = re.split(r"(\{[^{}]*\}|\*)", self.pattern)
        seen: set[str] = set()
        made = []
        for place, piece in enumerate(pieces):
            if place % 2 == 0:
                made.append(re.escape(piece))
                continue
            # the adjacent token on each side, or "" where text lies between
            before = pieces[place - 2] if place > 1 and not pieces[place - 1] else ""
            after = pieces[place + 2] if place + 2 < len(pieces) and not pieces[place + 1] else ""
            field = piece.strip("{}")
            if field in seen:
                made.append(f"(?P={field})")
            elif field == "*":
                made.append("[^/]*")
            else:
                seen.add(field)
                body = _affect_body(words, before, after) if field == "affect" else _body(field, before)
                made.append(f"(?P<{field}>{body})")
        return re.compile("".join(made), re.IGNORECASE)


#: A letter of any alphabet, and a separator of words.
_LETTER, _GAP = r"[^\W\d_]", r"(?:[^\w/]|_)"
#: A number directly after a word, or `_3`, `_t3`, `_take_3`.
_AFTER_WORD = rf"(?:{_GAP}+(?:take|t)?{_GAP}*)?\d"


def _body(field: str, before: str) -> str:
    """Return the regular expression of a field; `before` is the adjacent token before it, or empty."""
    if field == "identity":
        return "[^/]+"  # greedy: in "mary_ann_joy_001" the extra part belongs to the name, not to the frame
    start = _AFTER_WORD if before == "{affect}" else ""
    if field == "take":
        return rf"{start}\d*" if start else r"[^/]*?\d+"
    return f"{start}[^/]*?" if start else "[^/]+?"


def _affect_body(words: str | None, before: str, after: str) -> str:
    """Return the regular expression of {affect}: one of `words`, or any whole word if `words` is None.

    Args:
        words: alternatives, separated by `|`.
        before: the adjacent token before the field, or empty.
        after: the adjacent token after the field, or empty.
    """
    start = rf"(?<!{_LETTER})" if before == "*" or (before and words is None) else ""
    end = rf"(?!{_LETTER})" if after == "*" or (after and words is None) else ""
    if words is not None:
        return f"{start}(?:{words}){end}"
    if after in ("{take}", "{frame}"):
        return f"{start}[^/]*?{_LETTER}"  # everything before the number
    return f"{start}{_LETTER}+{end}" if before or after else "[^/]+?"


def _number(text: str | None) -> int | None:
    found = _DIGITS.search(text) if text else None
    return int(found.group(1)) if found else None


_COLUMNS = ("identity", "word", "take", "frame")


_NUMBER = re.compile(r"(\d+)$")


def _ferg_labels(parts: tuple[str, ...]) -> tuple[str, str, int | None, int | None]:
    """Read `<character>/<character>_<affect>/<character>_<affect>_<n>.png`."""
    character, folder_name, file_name = parts
    prefix = f"{character}_".lower()
    word = folder_name[len(prefix) :] if folder_name.lower().startswith(prefix) else folder_name
    return character, word, None, trailing_number(file_name)


def _mhfed_labels(parts: tuple[str, ...]) -> tuple[str, str, int | None, int | None]:
    """Read `<character>/<affect>/*` with any image extension."""
    character, word, file_name = parts
    return character, word, None, trailing_number(file_name)


def trailing_number(file_name: str) -> int | None:
    """Return the number at the end of a file name, before its extension, or None."""
    found = _NUMBER.search(file_name.rpartition(".")[0])
    return int(found.group(1)) if found else None


def rule_layout(rule: PathRule) -> Layout:
    """Return the layout of a data set whose paths alone give the identity and one of the seven affects."""

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
    """Raise a UserError if no affect has two identities: the pattern has mistaken the identity for the affect."""
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
