"""One finding of the data doctor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from fexgan_lit.data.table import FrameTable

#: Worst first: `problem` is an error in the data, `warning` a probable error, `info` is worth knowing.
SEVERITIES = ("problem", "warning", "info")

#: Maximum number of names in a sentence; the report's files list all of them.
NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One finding of the data doctor.

    Attributes:
        severity: one of `SEVERITIES`.
        topic: training, cells, drops, pictures, pixels, duplicates, values or split.
        found: what was found.
        expected: what was expected; empty if `found` says it.
        advice: what to do; empty if nothing needs to be done.
        examples: names of the first few frames, cells or columns.
    """

    severity: str
    topic: str
    found: str
    expected: str = ""
    advice: str = ""
    examples: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The finding in sentences on one line."""
        named = f" ({', '.join(self.examples)})" if self.examples else ""  # file names may contain line breaks
        parts = [f"{self.found}{named}.", f"Expected {self.expected}." if self.expected else "", self.advice]
        return " ".join(" ".join(parts).split())


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings by severity, worst first; the order is otherwise kept."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def first_few(names: Sequence[str], limit: int = NAMED) -> tuple[str, ...]:
    """Return the first `limit` names, and the number of the others."""
    more = (f"+{len(names) - limit} more",) if len(names) > limit else ()
    return (*names[:limit], *more)


def some_paths(table: FrameTable, rows: np.ndarray, limit: int = NAMED) -> tuple[str, ...]:
    """Return the paths of the first `limit` of `rows` (n,), and the number of the others, without listing all paths."""
    named = tuple(table.frame["path"].to_numpy()[rows[:limit]].tolist())
    return (*named, f"+{len(rows) - limit} more") if len(rows) > limit else named


def counted(number: int, noun: str) -> str:
    """Format a number with its noun: `1 frame`, `2 frames`, `2 identities`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("ty") else f"{number} {noun}s"
