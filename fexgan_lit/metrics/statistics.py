"""Confidence intervals: bootstrap over pairs, Student's t over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

#: (R, N) int64: R resamples of N pairs with replacement.
Resamples: TypeAlias = np.ndarray


#: What the interval covers.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its percentile interval.

    Attributes:
        mean: over the pairs that have a value.
        low: lower end.
        high: upper end.
        n: pairs with a value.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """For a difference: whether its sign is settled."""
        return self.low > 0 or self.high < 0


def draw_resamples(pairs: int, count: int, seed: int) -> Resamples:
    """`count` resamples of `pairs` pairs; drawn once, so that all methods meet the same."""
    return np.random.default_rng(seed).integers(0, pairs, (count, pairs))


def bootstrap_mean(values: np.ndarray, resamples: Resamples) -> Interval:
    """Mean of `values` (N,) with its interval; NaN entries have no value and are left out of every mean.

    Args:
        values: one a pair.
        resamples: of the same N pairs.

    Raises:
        ValueError: no value at all.
    """
    known = ~np.isnan(values)
    if not known.any():
        raise ValueError("no pair has a value")
    filled = np.where(known, values, 0.0)
    counts = known[resamples].sum(1)  # (R, N) -> (R,)
    with np.errstate(invalid="ignore"):
        means = filled[resamples].sum(1) / counts
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(means, (tail, 100 - tail))
    return Interval(float(values[known].mean()), float(low), float(high), int(known.sum()))


def paired_difference(first: np.ndarray, second: np.ndarray, resamples: Resamples) -> Interval:
    """Mean of `first` - `second` over the pairs both have, each (N,); paired, so what is hard for both cancels."""
    return bootstrap_mean(first - second, resamples)


def student_interval(values: Sequence[float]) -> Interval:
    """Mean of two or more values with Student's interval, which takes them for draws from a normal distribution.

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("a deviation takes two values or more")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = _quantile(len(values) - 1) * error
    return Interval(mean, mean - reach, mean + reach, len(values))


def _quantile(freedom: float) -> float:
    """Student's t that a two-sided interval of `CONFIDENCE` reaches to."""
    from scipy.stats import t

    return float(t.ppf(1 - (1 - CONFIDENCE) / 2, freedom))
