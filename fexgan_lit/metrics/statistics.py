"""Confidence intervals: bootstrap over pairs, Student's t over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

#: (R, N) int64: R resamples of N pairs with replacement.
Resamples: TypeAlias = np.ndarray


#: Confidence level of the intervals.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval.

    Attributes:
        mean: mean over the pairs with a value.
        low: lower end.
        high: upper end.
        n: number of pairs with a value.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Return whether the interval of a difference excludes zero."""
        return self.low > 0 or self.high < 0


def draw_resamples(pairs: int, count: int, seed: int) -> Resamples:
    """Draw `count` resamples of `pairs` pairs; all methods must share them."""
    return np.random.default_rng(seed).integers(0, pairs, (count, pairs))


def bootstrap_mean(values: np.ndarray, resamples: Resamples) -> Interval:
    """Return the mean of `values` (N,) with its bootstrap interval; NaN entries are left out.

    Args:
        values: one value per pair.
        resamples: resamples of the same N pairs.

    Raises:
        ValueError: all values are NaN.
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
    """Return the mean of `first` - `second`, (N,) each, over pairs with both values; shared difficulty cancels."""
    return bootstrap_mean(first - second, resamples)


def student_interval(values: Sequence[float]) -> Interval:
    """Return the mean of two or more values with Student's interval, which assumes a normal distribution.

    Raises:
        ValueError: there are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("a standard deviation needs at least two values")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = _quantile(len(values) - 1) * error
    return Interval(mean, mean - reach, mean + reach, len(values))


def _quantile(freedom: float) -> float:
    """Return the quantile of Student's t for a two-sided interval of `CONFIDENCE`."""
    from scipy.stats import t

    return float(t.ppf(1 - (1 - CONFIDENCE) / 2, freedom))
