"""A profile in tables: the parts of an iteration, the operators that take longest, and how far the floor is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fexgan_lit.tables import TextTable

#: Operators in the table.
TOP = 15
UNACCOUNTED = "unaccounted"


class Operator(NamedTuple):
    """One of torch's operators: its calls and seconds of its own in an iteration."""

    name: str
    calls: float
    seconds: float


@dataclass
class Profile:
    """What was found out.

    Attributes:
        iterations: seconds of each of the timed iterations.
        parts: seconds of an iteration, on average, by part.
        operators: the longest first; timed in other iterations, under torch.profiler, which slows them.
        operators_s: seconds of an iteration in all operators.
        gflop: convolutions and matrix products of an iteration; None where they were not counted.
        floor_s: time these would take at the rate of matrix products measured beside it; None likewise.
        notes: on device, precision and the like.
    """

    iterations: np.ndarray
    parts: Mapping[str, float]
    operators: Sequence[Operator] = ()
    operators_s: float = 0.0
    gflop: float | None = None
    floor_s: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def mean_s(self) -> float:
        """Seconds of an iteration."""
        return float(self.iterations.mean())

    @property
    def unaccounted_s(self) -> float:
        """Seconds of an iteration in none of the parts: Lightning's loop and the ranges themselves."""
        return self.mean_s - sum(self.parts.values())


def longest_operators(averages: Any, iterations: int, gpu: bool, ranges: Sequence[str]) -> list[Operator]:
    """All operators that `torch.profiler.profile.key_averages` gives, longest first.

    Args:
        averages: its rows.
        iterations: that were traced.
        gpu: whether the time on the GPU counts, or that on the CPU.
        ranges: names of ranges, which are no operators.
    """
    found = []
    for row in averages:
        seconds = (row.self_device_time_total if gpu else row.self_cpu_time_total) * 1e-6 / iterations
        if row.key not in ranges and not row.key.startswith("Optimizer.") and seconds > 0:
            found.append(Operator(row.key, row.count / iterations, seconds))
    return sorted(found, key=lambda operator: -operator.seconds)


def parts_table(profile: Profile) -> TextTable:
    """Milliseconds and share of every part, adding up to the whole."""
    parts = {**profile.parts, UNACCOUNTED: profile.unaccounted_s}
    rows = [(name, _ms(seconds), _share(seconds / profile.mean_s)) for name, seconds in parts.items()]
    rows.append(("an iteration", _ms(profile.mean_s), _share(1.0)))
    low, median, high = np.percentile(profile.iterations * 1e3, (25, 50, 75))
    notes = [
        f"mean of {len(profile.iterations)} iterations; their median {median:.4g} ms, quartiles {low:.4g}..{high:.4g}",
        f"{UNACCOUNTED}: Lightning's loop and what the clock itself takes",
    ]
    if profile.gflop and profile.floor_s:
        notes.append(
            f"{profile.gflop:.4g} GFLOP in convolutions and matrix products, at the rate of matrix products measured "
            f"beside it {_ms(profile.floor_s)} ms: an iteration takes {profile.mean_s / profile.floor_s:.3g} times that"
        )
    return TextTable("Time of an iteration", ("part", "ms", "share"), tuple(rows), notes=tuple(notes + profile.notes))


def operators_table(profile: Profile) -> TextTable:
    """The operators that take longest."""
    rows = [
        (o.name, f"{o.calls:.4g}", _ms(o.seconds), _share(o.seconds / profile.operators_s))
        for o in profile.operators[:TOP]
    ]
    rest = profile.operators[TOP:]
    if rest:
        seconds = sum(o.seconds for o in rest)
        calls = sum(o.calls for o in rest)
        rows.append((f"{len(rest)} others", f"{calls:.4g}", _ms(seconds), _share(seconds / profile.operators_s)))
    return TextTable(
        "Operators of an iteration", ("operator", "calls", "ms of its own", "share"), tuple(rows),
        notes=("timed under torch.profiler, which slows small operators",),
    )  # fmt: skip


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g}"


def _share(value: float) -> str:
    return f"{value:.1%}"
