"""Path patterns of the layout `folder`: `{identity}/{affect}/{frame}.png` and the like."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fexgan_lit.errors import UserError
from fexgan_lit.expression import AFFECT_ALIASES, KNOWN_AFFECTS

FIELDS = ("identity", "affect", "take", "frame")

_TOKEN = re.compile(r"\{([^{}]*)\}|(\*)")
_DIGITS = re.compile(r"(\d+)$")


class PathPattern:
    """Reads labels off paths.

    Args:
        pattern: path parts below the root with {identity} and {affect}, perhaps {take} and {frame}; a field may
            come twice and then has to read the same; `*` stands for any part of a name.
        affect_words: words that are surely affects; they settle where `{identity}_{affect}` is to be cut.

    Raises:
        UserError: an unknown or a missing field.
    """

    def __init__(self, pattern: str, affect_words: Sequence[str] = ()) -> None:
        self.pattern = pattern.strip("/")
        self.depth = self.pattern.count("/") + 1
        found = [field for field, star in _TOKEN.findall(self.pattern) if not star]
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
        self._any = self._compile("[^/]+?")

    def read(self, parts: tuple[str, ...]) -> tuple[str, str, int | None, int | None] | None:
        """Identity, word for the affect, take and frame number (None where not numbers), or None: does not fit."""
        path = "/".join(parts)
        match = self._known.fullmatch(path) or self._any.fullmatch(path)
        if match is None:
            return None
        labels = match.groupdict()
        return labels["identity"], labels["affect"], _number(labels.get("take")), _number(labels.get("frame"))

    def _compile(self, affect: str) -> re.Pattern[str]:
        # Greedy identity: in "mary_ann_joy_001" what is too much belongs to the name, not to the frame.
        bodies = {"identity": "[^/]+", "affect": affect, "take": r"[^/]*?\d+"}
        seen: set[str] = set()

        def token(match: re.Match[str]) -> str:
            field = match.group(1)
            if match.group(2):
                return "[^/]*"
            if field in seen:
                return f"(?P={field})"
            seen.add(field)
            return f"(?P<{field}>{bodies.get(field, '[^/]+?')})"

        # Literal text between the tokens is escaped; the tokens themselves are replaced.
        pieces, position = [], 0
        for match in _TOKEN.finditer(self.pattern):
            pieces += [re.escape(self.pattern[position : match.start()]), token(match)]
            position = match.end()
        return re.compile("".join([*pieces, re.escape(self.pattern[position:])]), re.IGNORECASE)


def _number(text: str | None) -> int | None:
    found = _DIGITS.search(text) if text else None
    return int(found.group(1)) if found else None
