"""Figures of every image, averaged by affect or by identity; a class without images says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: What stands in the place of a figure of a class without images.
ABSENT = "absent"


@dataclass(frozen=True)
class BreakdownRow:
    """One class.

    Attributes:
        name: of the affect or the identity.
        n: images.
        values: mean of each metric; empty where n is 0.
    """

    name: str
    n: int
    values: dict[str, float]

    @property
    def absent(self) -> str | None:
        """Why there are no figures, or None where there are."""
        return None if self.n else f"no generated image of {self.name}"


@dataclass(frozen=True)
class Breakdown:
    """Means by class.

    Attributes:
        by: `affect` or `identity`.
        metrics: columns.
        rows: one a class of the data set, in its order.
    """

    by: str
    metrics: tuple[str, ...]
    rows: tuple[BreakdownRow, ...]

    def cells(self, digits: int = 3) -> tuple[tuple[str, ...], ...]:
        """Rows of text: name, n, and a figure or `ABSENT` for every metric."""
        return tuple(
            (row.name, str(row.n), *(f"{row.values[m]:.{digits}f}" if row.n else ABSENT for m in self.metrics))
            for row in self.rows
        )

    def as_json(self) -> dict[str, dict[str, float | int | str]]:
        """For a JSON file: n and the means of each class, or n and why there are none."""
        found: dict[str, dict[str, float | int | str]] = {}
        for row in self.rows:
            found[row.name] = {"n": row.n, **row.values} if row.absent is None else {"n": row.n, ABSENT: row.absent}
        return found


def break_down(by: str, names: Sequence[str], classes: np.ndarray, values: Mapping[str, np.ndarray]) -> Breakdown:
    """Average `values` by class.

    Args:
        by: what the classes are.
        names: C class names.
        classes: (n,) int64 in 0..C-1.
        values: metric -> (n,).
    """
    counts = np.bincount(classes, minlength=len(names))
    rows = []
    for index, name in enumerate(names):
        chosen = classes == index
        means = {metric: float(column[chosen].mean()) for metric, column in values.items()} if counts[index] else {}
        rows.append(BreakdownRow(name, int(counts[index]), means))
    return Breakdown(by, tuple(values), tuple(rows))
