"""One finding of the data doctor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Worst first: `problem` is an error in the data, `warning` a probable error, `info` is worth knowing.
SEVERITIES = ("problem", "warning", "info")


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


def counted(number: int, noun: str) -> str:
    """Format a number with its noun: `1 frame`, `2 frames`, `2 identities`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("ty") else f"{number} {noun}s"
