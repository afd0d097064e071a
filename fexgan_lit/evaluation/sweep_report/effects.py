"""The effect of every axis of a sweep: compare runs that differ only in the value of that axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fexgan_lit.evaluation.sweep_report.read import SEED, Sweep, SweepRun
from fexgan_lit.metrics.registry import MetricInfo
from fexgan_lit.metrics.statistics import Interval, student_interval

#: The most values of an axis that is analysed; with more, it was searched and hardly two runs share a value.
MOST_VALUES = 8


@dataclass(frozen=True)
class Effect:
    """One value of an axis.

    Attributes:
        axis: name of the axis.
        value: value of the axis.
        mean: mean over all finished runs with this value.
        runs: number of those runs.
        against_best: how far the value is behind the best value of the axis, as an interval over pairs of runs that
            differ only in this axis; None for the best value, or with fewer than two such pairs.
    """

    axis: str
    value: Any
    mean: float
    runs: int
    against_best: Interval | None


def effects(sweep: Sweep, by: MetricInfo) -> list[Effect]:
    """Return the effects of all axes that have two to `MOST_VALUES` values and fewer values than runs."""
    found: list[Effect] = []
    measured = [run for run in sweep.finished if by.name in run.metrics]
    for axis in sweep.axes:
        values = list({repr(run.values.get(axis)): run.values.get(axis) for run in measured}.values())
        if axis != SEED and 2 <= len(values) <= MOST_VALUES and len(values) < len(measured):
            found += _of_axis(axis, values, measured, by)
    return found


def _of_axis(axis: str, values: Sequence[Any], runs: Sequence[SweepRun], by: MetricInfo) -> list[Effect]:
    groups = {repr(value): [run for run in runs if repr(run.values.get(axis)) == repr(value)] for value in values}
    best = max(groups, key=lambda key: _ahead(axis, key, groups, by))
    return [
        Effect(axis, value, _mean(groups[repr(value)], by), len(groups[repr(value)]),
               None if repr(value) == best or len(gaps) < 2 else student_interval(gaps))
        for value in values
        for gaps in [_gaps(axis, groups[best], groups[repr(value)], by)]
    ]  # fmt: skip


def _mean(runs: Sequence[SweepRun], by: MetricInfo) -> float:
    return float(np.mean([run.metrics[by.name] for run in runs]))


def _ahead(axis: str, key: str, groups: Mapping[str, Sequence[SweepRun]], by: MetricInfo) -> float:
    """Return how far the value `key` is ahead of the others on average, by pairs of runs, since runs may be missing."""
    ahead = []
    for runs in groups.values():
        gaps = _gaps(axis, groups[key], runs, by)
        ahead.append(float(np.mean(gaps)) if gaps else by.sign * (_mean(groups[key], by) - _mean(runs, by)))
    return float(np.mean(ahead))


def _gaps(axis: str, first: Sequence[SweepRun], second: Sequence[SweepRun], by: MetricInfo) -> list[float]:
    """Return how far each run of `first` is ahead of the run of `second` that differs only in `axis`."""
    twins = {_rest(run, axis): run for run in second}
    pairs = [(run, twins[_rest(run, axis)]) for run in first if _rest(run, axis) in twins]
    return [by.sign * (run.metrics[by.name] - twin.metrics[by.name]) for run, twin in pairs]


def _rest(run: SweepRun, axis: str) -> str:
    return repr(sorted((key, repr(value)) for key, value in run.values.items() if key != axis))
