"""Aggregate scores: seeds of one configuration in one row, with intervals, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fexgan_lit.evaluation.measure import Scores
from fexgan_lit.metrics.registry import in_order, metric_info
from fexgan_lit.metrics.statistics import Interval, Resamples, bootstrap_mean, paired_difference


@dataclass(frozen=True)
class Figure:
    """One metric of one row.

    Attributes:
        mean: mean over the seeds.
        deviation: standard deviation between the seeds (n - 1 in the denominator); None for one seed.
        interval: bootstrap interval over the pairs of the mean over the seeds; None for a metric of the whole set.
        seeds: the value of each seed.
    """

    mean: float
    deviation: float | None
    interval: Interval | None
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One method with all its seeds.

    Attributes:
        name: name of the method.
        figures: one `Figure` per metric.
        runs: run folders; empty for ceiling and floor.
        seeds: seeds of those runs.
        columns: values per pair, averaged over the seeds, (N,) by metric.
    """

    name: str
    figures: dict[str, Figure]
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    columns: dict[str, np.ndarray]

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON-serializable values."""
        figures = {name: _figure_dict(figure) for name, figure in self.figures.items()}
        return {"name": self.name, "runs": list(self.runs), "seeds": list(self.seeds), "metrics": figures}


@dataclass(frozen=True)
class Difference:
    """The paired difference of two rows in one metric.

    Attributes:
        metric: name of the metric.
        first: name of the first row.
        second: name of the second row.
        interval: interval of `first` minus `second` over the pairs.
    """

    metric: str
    first: str
    second: str
    interval: Interval


def standings(scores: Sequence[Scores], resamples: Resamples) -> list[Row]:
    """Return one row for each name in `scores`, in order of appearance."""
    names = list(dict.fromkeys(s.name for s in scores))
    return [_row([s for s in scores if s.name == name], resamples) for name in names]


def _row(seeds: Sequence[Scores], resamples: Resamples) -> Row:
    columns = {}
    for metric in [m for m in seeds[0].columns if all(m in s.columns for s in seeds)]:
        parts = np.stack([s.columns[metric] for s in seeds])  # (seeds, N)
        if not np.isnan(parts).all():
            columns[metric] = parts.mean(0)
    names = in_order({name for s in seeds for name in s.metrics()})
    figures = {name: _figure(name, seeds, columns, resamples) for name in names}
    known = [s for s in seeds if s.run is not None]
    return Row(seeds[0].name, figures, tuple(str(s.run) for s in known), tuple(s.seed or 0 for s in known), columns)


def _figure(name: str, seeds: Sequence[Scores], columns: dict[str, np.ndarray], resamples: Resamples) -> Figure:
    values = tuple(value for s in seeds if (value := s.value(name)) is not None)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    interval = bootstrap_mean(columns[name], resamples) if name in columns else None
    return Figure(float(np.mean(values)), deviation, interval, values)


def _figure_dict(figure: Figure) -> dict[str, Any]:
    interval = asdict(figure.interval) if figure.interval is not None else None
    return {"mean": figure.mean, "deviation": figure.deviation, "interval": interval, "seeds": list(figure.seeds)}


def differences(rows: Sequence[Row], resamples: Resamples) -> list[Difference]:
    """Compare every two systems in every metric that has values per pair and a direction.

    Ceiling and floor are left out.
    """
    systems = [row for row in rows if row.runs]
    found = []
    for number, first in enumerate(systems):
        for second in systems[number + 1 :]:
            for metric in first.columns:
                if metric in second.columns and metric_info(metric).higher_is_better is not None:
                    interval = paired_difference(first.columns[metric], second.columns[metric], resamples)
                    found.append(Difference(metric, first.name, second.name, interval))
    return found


def best(rows: Sequence[Row], metric: str) -> str | None:
    """Return the name of the best system in `metric`; None if the metric has no direction or no system has it."""
    info = metric_info(metric)
    way, goal = info.higher_is_better, info.best_at
    known = [row for row in rows if row.runs and metric in row.figures]
    if goal is not None and known:  # twice as much is as far away as half of it
        return min(known, key=lambda row: abs(math.log(max(row.figures[metric].mean, 1e-9) / goal))).name
    if way is None or not known:
        return None
    sign = 1 if way else -1
    return max(known, key=lambda row: sign * row.figures[metric].mean).name
