"""Timing several things in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Timing:
    """Seconds of every round of one thing."""

    seconds: np.ndarray

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.seconds))

    def spread(self, amount: float) -> Spread:
        """Rate at which `amount` was done."""
        return Spread.of(amount / self.seconds)

    def spread_s(self) -> Spread:
        """Seconds."""
        return Spread.of(self.seconds)

    def times_faster(self, other: Timing, amount: float = 1.0) -> Spread:
        """How many times faster than `other`, round by round, doing `amount` times as much."""
        return Spread.of(amount * other.seconds / self.seconds)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Of one value a round."""
        low, median, high = np.percentile(values, (25, 50, 75)).tolist()
        return cls(median, low, high)


def take_turns(tasks: Mapping[str, Callable[[], object]], rounds: int, warm_up: bool = True) -> dict[str, Timing]:
    """Run the tasks one after the other, `rounds` times over; before that each once untimed, if `warm_up`."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values() if warm_up else ():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(np.array(values)) for name, values in seconds.items()}
