"""Significance of the order of settings: differences between runs of the same seed, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fexgan_lit.evaluation.sweep_report.settings import Setting
from fexgan_lit.metrics.registry import MetricInfo
from fexgan_lit.metrics.statistics import CONFIDENCE, Interval, _quantile, student_interval


@dataclass(frozen=True)
class PairedDifference:
    """How far one setting is ahead of another in one metric.

    Attributes:
        ahead: difference of the means, positive if the first setting is better.
        interval: interval of that difference over the seeds; None with too few seeds.
        paired: whether the settings share seeds, so that the effect of a seed on both cancels.
    """

    ahead: float
    interval: Interval | None
    paired: bool

    @property
    def settled(self) -> bool:
        """Whether the sign of the difference is settled."""
        return self.interval is not None and self.interval.excludes_zero


def lead(first: Setting, second: Setting, by: MetricInfo) -> PairedDifference:
    """Return how far `first` is ahead of `second`: paired by shared seeds, or else with Welch's interval."""
    a, b = (setting.figures[by.name] for setting in (first, second))
    ahead = by.sign * (a.mean - b.mean)
    shared = [seed for seed in a.by_seed if seed in b.by_seed]
    if len(shared) > 1:
        differences = [by.sign * (a.by_seed[seed] - b.by_seed[seed]) for seed in shared]
        return PairedDifference(ahead, student_interval(differences), True)
    if a.deviation is None or b.deviation is None:
        return PairedDifference(ahead, None, False)
    return PairedDifference(ahead, _welch(list(a.by_seed.values()), list(b.by_seed.values()), by.sign), False)


def _welch(a: Sequence[float], b: Sequence[float], sign: int) -> Interval:
    """Return Welch's interval of the difference of two means, with Satterthwaite's degrees of freedom."""
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (a, b)]
    error = sum(parts) ** 0.5
    mean = sign * float(np.mean(a) - np.mean(b))
    spread = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True))
    reach = _quantile(sum(parts) ** 2 / spread) * error if spread else 0.0
    return Interval(mean, mean - reach, mean + reach, min(len(a), len(b)))


def deviation_between_seeds(settings: Sequence[Setting], by: MetricInfo) -> float | None:
    """Return the deviation pooled over all settings with two seeds or more; None if there is no such setting."""
    figures = [setting.figures[by.name] for setting in settings if by.name in setting.figures]
    parts = [(len(f.by_seed) - 1, f.deviation**2) for f in figures if f.deviation is not None]
    freedom = sum(n for n, _ in parts)
    return (sum(n * variance for n, variance in parts) / freedom) ** 0.5 if freedom else None


def significance(settings: Sequence[Setting], by: MetricInfo) -> list[str]:
    """Describe in sentences how sure it is that the first of `settings` (best first) is the best."""
    known = [setting for setting in settings if by.name in setting.figures]
    if len(known) < 2:
        return ["There is only one setting, so there is nothing to compare."]
    first, second = known[:2]
    step = lead(first, second, by)
    ahead = f"{first.label} is ahead of {second.label} by {by.gap(step.ahead)} in {by.label}"
    spread = deviation_between_seeds(known, by)
    if spread is None:
        return [f"{ahead}. With one seed per setting the significance is unknown."]
    lines = [_beside_spread(ahead, step, spread, by), _interval_line(step, by)]
    open_ = [setting for setting in known[1:] if not lead(first, setting, by).settled]
    if open_:
        names = "; ".join(setting.label for setting in open_[:5])
        more = f" and {len(open_) - 5} more" if len(open_) > 5 else ""
        lines.append(f"Not significantly worse than the best ({len(open_)} of {len(known) - 1}): {names}{more}.")
    else:
        lines.append(f"All {len(known) - 1} others are significantly worse, each comparison taken alone.")
    return lines


def _beside_spread(ahead: str, step: PairedDifference, spread: float, by: MetricInfo) -> str:
    way = "more" if step.ahead > spread else "not more"
    return f"{ahead}, {way} than the standard deviation between seeds ({by.gap(spread)}, over all settings)."


def _interval_line(step: PairedDifference, by: MetricInfo) -> str:
    if step.interval is None:
        return "One of the two has one seed, so their difference has no interval."
    low, high = by.gap(step.interval.low), by.gap(step.interval.high)
    how = f"paired by {step.interval.n} seeds" if step.paired else "not paired, since they do not share two seeds"
    verdict = "its sign is settled" if step.settled else "the interval contains 0, so the order of the two is open"
    return f"The difference is {by.gap(step.interval.mean)} [{low}, {high}] ({CONFIDENCE:.0%}, {how}): {verdict}."
