"""Settings of a sweep (runs that differ only in the seed): group, rank, and find the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fexgan_lit.evaluation.sweep_report.read import SEED, Sweep, SweepRun
from fexgan_lit.metrics.registry import MetricInfo


@dataclass(frozen=True)
class Figure:
    """One metric of one setting.

    Attributes:
        mean: mean over the seeds.
        deviation: standard deviation between the seeds (n - 1 in the denominator); None for one seed.
        by_seed: the value of each seed.
    """

    mean: float
    deviation: float | None
    by_seed: Mapping[Any, float]


@dataclass(frozen=True)
class Setting:
    """Runs that agree in every axis but the seed.

    Attributes:
        values: values by axis, without the seed.
        label: the values as text.
        runs: all planned runs.
        figures: figures by metric, for metrics that all finished runs have.
        lacking: metrics that only some finished runs have.
    """

    values: Mapping[str, Any]
    label: str
    runs: tuple[SweepRun, ...]
    figures: Mapping[str, Figure]
    lacking: tuple[str, ...] = ()

    @property
    def finished(self) -> list[SweepRun]:
        """The finished runs."""
        return [run for run in self.runs if run.finished]

    @property
    def minutes(self) -> float | None:
        """Mean duration of the finished runs; None if it is not known."""
        seconds = [run.result.seconds for run in self.finished if run.result is not None and run.result.seconds]
        return float(np.mean(seconds)) / 60 if seconds else None


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """Shorten every axis to the fewest trailing parts that are unique."""
    names = {}
    for axis in axes:
        parts = axis.split(".")
        rest = [other.split(".") for other in axes if other != axis]
        length = next((n for n in range(1, len(parts)) if all(o[-n:] != parts[-n:] for o in rest)), len(parts))
        names[axis] = ".".join(parts[-length:])
    return names


def value_text(value: Any) -> str:
    """Format a value of an axis for tables and figures."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def label_of(values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Format the values of a setting, such as ``alpha 0.5, beta 1``."""
    return ", ".join(f"{names[axis]} {value_text(value)}" for axis, value in values.items()) or "one setting"


def settings_of(sweep: Sweep) -> list[Setting]:
    """Return the settings of a sweep in order of appearance, including those without a finished run."""
    names = short_names([axis for axis in sweep.axes if axis != SEED])
    groups: dict[str, list[SweepRun]] = {}
    for run in sweep.runs:
        groups.setdefault(repr(_values(run, sweep)), []).append(run)
    return [_setting(runs, _values(runs[0], sweep), names) for runs in groups.values()]


def _values(run: SweepRun, sweep: Sweep) -> dict[str, Any]:
    return {axis: run.values.get(axis) for axis in sweep.axes if axis != SEED}


def _setting(runs: Sequence[SweepRun], values: dict[str, Any], names: Mapping[str, str]) -> Setting:
    finished = [run for run in runs if run.finished]
    measured = list(dict.fromkeys(name for run in finished for name in run.metrics))
    whole = [name for name in measured if all(name in run.metrics for run in finished)]
    seeds = [run.values.get(SEED) for run in finished]
    keys = seeds if len(set(seeds)) == len(seeds) else [run.name for run in finished]  # a run made twice counts twice
    figures = {
        name: _figure({key: run.metrics[name] for key, run in zip(keys, finished, strict=True)}) for name in whole
    }
    return Setting(
        values, label_of(values, names), tuple(runs), figures, tuple(name for name in measured if name not in whole)
    )


def _figure(by_seed: Mapping[Any, float]) -> Figure:
    values = list(by_seed.values())
    return Figure(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None, by_seed)


def ranked(settings: Sequence[Setting], by: MetricInfo) -> list[Setting]:
    """Sort settings best first; those without the metric follow in order of appearance."""
    known = [setting for setting in settings if by.name in setting.figures]
    rest = [setting for setting in settings if by.name not in setting.figures]
    return sorted(known, key=lambda setting: -by.sign * setting.figures[by.name].mean) + rest


def pareto_front(settings: Sequence[Setting], objectives: Sequence[MetricInfo]) -> list[Setting]:
    """Return the settings that no other setting dominates; of equal settings, all.

    A setting that lacks one of the objectives is not on the front.
    """
    known = [setting for setting in settings if all(by.name in setting.figures for by in objectives)]
    points = [np.array([by.sign * setting.figures[by.name].mean for by in objectives]) for setting in known]
    return [
        setting
        for setting, point in zip(known, points, strict=True)
        if not any((other >= point).all() and (other > point).any() for other in points)
    ]
