"""One thing the doctor has to say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from fexgan_lit.data.table import FrameTable

#: Worst first: `problem` is an error in the data, `warning` probably one, `info` worth knowing.
SEVERITIES = ("problem", "warning", "info")

#: How many names a sentence carries; the rest is counted, and listed in the files of the report.
NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One thing the doctor has to say.

    Attributes:
        severity: one of `SEVERITIES`.
        topic: training, cells, drops, pictures, pixels, duplicates, values or split.
        found: what is there.
        expected: what should be; empty where `found` says it.
        advice: what to do; empty where nothing needs doing.
        examples: frames, cells or columns by name, the first few.
    """

    severity: str
    topic: str
    found: str
    expected: str = ""
    advice: str = ""
    examples: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it in sentences on one line."""
        named = f" ({', '.join(self.examples)})" if self.examples else ""  # file names may hold line breaks, too
        parts = [f"{self.found}{named}.", f"Expected {self.expected}." if self.expected else "", self.advice]
        return " ".join(" ".join(parts).split())


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Worst first, otherwise in the order they came."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def first_few(names: Sequence[str], limit: int = NAMED) -> tuple[str, ...]:
    """The first `limit` names, and how many there are besides."""
    more = (f"+{len(names) - limit} more",) if len(names) > limit else ()
    return (*names[:limit], *more)


def some_paths(table: FrameTable, rows: np.ndarray, limit: int = NAMED) -> tuple[str, ...]:
    """The paths of the first of `rows` (n,), and how many there are besides; no list of all paths is made."""
    named = tuple(table.frame["path"].to_numpy()[rows[:limit]].tolist())
    return (*named, f"+{len(rows) - limit} more") if len(rows) > limit else named


def counted(number: int, noun: str) -> str:
    """`1 frame`, `2 frames`, `2 identities`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("ty") else f"{number} {noun}s"
