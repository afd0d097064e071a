"""Settings of a sweep: runs that differ in the seed alone taken together, put in order, and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fexgan_lit.evaluation.sweep_report.read import SEED, Sweep, SweepRun
from fexgan_lit.metrics.registry import MetricInfo


@dataclass(frozen=True)
class Figure:
    """One measure of one setting.

    Attributes:
        mean: over the seeds.
        deviation: between the seeds (n - 1 in the denominator); None for one seed.
        by_seed: the values behind it.
    """

    mean: float
    deviation: float | None
    by_seed: Mapping[Any, float]


@dataclass(frozen=True)
class Setting:
    """Runs that agree in every axis but the seed.

    Attributes:
        values: by axis, without the seed.
        label: the values in words.
        runs: all that were planned.
        figures: by measure; without those that one of its finished runs lacks.
        lacking: measures that some finished runs of it have and others lack.
    """

    values: Mapping[str, Any]
    label: str
    runs: tuple[SweepRun, ...]
    figures: Mapping[str, Figure]
    lacking: tuple[str, ...] = ()

    @property
    def finished(self) -> list[SweepRun]:
        """The runs that count."""
        return [run for run in self.runs if run.finished]

    @property
    def minutes(self) -> float | None:
        """Mean length of its finished runs; None where it is not known."""
        seconds = [run.result.seconds for run in self.finished if run.result is not None and run.result.seconds]
        return float(np.mean(seconds)) / 60 if seconds else None


def short_names(axes: Sequence[str]) -> dict[str, str]:
    """The last part of every axis, as long as that tells them apart; else as many parts as it takes."""
    names = {}
    for axis in axes:
        parts = axis.split(".")
        rest = [other.split(".") for other in axes if other != axis]
        length = next((n for n in range(1, len(parts)) if all(o[-n:] != parts[-n:] for o in rest)), len(parts))
        names[axis] = ".".join(parts[-length:])
    return names


def value_text(value: Any) -> str:
    """A value of an axis as tables and pictures show it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def label_of(values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The values of a setting in a line, such as ``alpha 0.5, beta 1``."""
    return ", ".join(f"{names[axis]} {value_text(value)}" for axis, value in values.items()) or "one setting"


def settings_of(sweep: Sweep) -> list[Setting]:
    """The settings of a sweep in order of appearance, those without a finished run included."""
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
    """Best first; those without a number of that measure behind the others, in order of appearance."""
    known = [setting for setting in settings if by.name in setting.figures]
    rest = [setting for setting in settings if by.name not in setting.figures]
    return sorted(known, key=lambda setting: -by.sign * setting.figures[by.name].mean) + rest


def pareto_front(settings: Sequence[Setting], objectives: Sequence[MetricInfo]) -> list[Setting]:
    """The settings that no other beats in one objective without being beaten in another; of equals all.

    A setting that lacks one of the objectives is not on it.
    """
    known = [setting for setting in settings if all(by.name in setting.figures for by in objectives)]
    points = [np.array([by.sign * setting.figures[by.name].mean for by in objectives]) for setting in known]
    return [
        setting
        for setting, point in zip(known, points, strict=True)
        if not any((other >= point).all() and (other > point).any() for other in points)
    ]
