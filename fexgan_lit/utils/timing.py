"""Timing several tasks in turns, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray | float) -> Spread:
        """Return the median and the quartiles of one value per round, or of a single value."""
        low, median, high = np.percentile(values, (25, 50, 75)).tolist()
        return cls(median, low, high)


@dataclass(frozen=True, eq=False)
class Timing:
    """Seconds of every round of one task."""

    seconds: np.ndarray

    def ms(self) -> Spread:
        """Return the milliseconds per round."""
        return Spread.of(1e3 * self.seconds)

    def rate(self, amount: float) -> Spread:
        """Return `amount` per second."""
        return Spread.of(amount / self.seconds)

    def times_faster(self, other: Timing, amount: float = 1.0) -> Spread:
        """Return the speed-up over `other`, round by round; this task does `amount` times as much per round."""
        return Spread.of(amount * other.seconds / self.seconds)


def take_turns(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Run every task once untimed, then run all of them in turn for `rounds` timed rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(np.array(values)) for name, values in seconds.items()}
