"""The tables of a sweep: settings and axes as text, runs and settings as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from fexgan_lit.evaluation.sweep_report.read import SEED
from fexgan_lit.evaluation.sweep_report.settings import Figure, Setting, short_names, value_text
from fexgan_lit.evaluation.sweep_report.summary import SweepFindings
from fexgan_lit.metrics.registry import MetricInfo
from fexgan_lit.metrics.statistics import CONFIDENCE
from fexgan_lit.metrics.tables import ABSENT
from fexgan_lit.utils.tables import TextTable


def settings_table(findings: SweepFindings, measures: Sequence[MetricInfo]) -> TextTable:
    """Build a table with a row per setting, best first: values, mean ± deviation per metric, front, seeds, minutes."""
    names = short_names(_choices(findings))
    header = ("", *names.values(), *(m.arrow for m in measures), "front", "seeds", "minutes")
    best = {m.name: _best(findings.settings, m) for m in measures}
    rows = []
    for place, setting in enumerate(findings.settings, 1):
        known = findings.by.name in setting.figures
        rows.append((
            str(place) if known else ABSENT,
            *(value_text(setting.values[axis]) for axis in names),
            *(_cell(setting, m, best[m.name]) for m in measures),
            "front" if setting in findings.front else "",
            _seeds(setting),
            ABSENT if setting.minutes is None else f"{setting.minutes:.1f}",
        ))  # fmt: skip
    title = f"Settings, best {findings.by.label} first"
    return TextTable(title, header, tuple(rows), 0, tuple(_reading(findings)))


def _reading(findings: SweepFindings) -> list[str]:
    goals = ", ".join(measure.arrow for measure in findings.objectives)
    seeds = any(len(setting.runs) > 1 for setting in findings.settings)
    lines = ["mean ± standard deviation between seeds (n - 1); - with a single seed" if seeds else
             "each setting has one seed, so there is no deviation between seeds"]  # fmt: skip
    lines.append(
        f"front: the Pareto front of {goals}; no other setting is better in one of them without being worse in another"
    )
    short = [setting for setting in findings.settings if len(setting.finished) < len(setting.runs)]
    if short:
        lines.append("a setting with fewer finished seeds than planned has the mean of those that finished")
    return lines


def _choices(findings: SweepFindings) -> list[str]:
    return [axis for axis in findings.sweep.axes if axis != SEED]


def _best(settings: Sequence[Setting], by: MetricInfo) -> float | None:
    """Return the best mean; None if all means are equal in the digits shown or the metric has no direction."""
    means = [setting.figures[by.name].mean for setting in settings if by.name in setting.figures]
    if by.higher_is_better is None or len({by.text(mean) for mean in means}) < 2:
        return None
    return max(means, key=lambda mean: by.sign * mean)


def _cell(setting: Setting, by: MetricInfo, best: float | None) -> str:
    if by.name not in setting.figures:
        return ABSENT
    figure = setting.figures[by.name]
    text = by.text(figure.mean)
    if len(setting.runs) > 1:
        text += f" ± {ABSENT if figure.deviation is None else by.text(figure.deviation)}"
    return f"**{text}**" if best is not None and by.text(figure.mean) == by.text(best) else text


def _seeds(setting: Setting) -> str:
    done, planned = len(setting.finished), len(setting.runs)
    return str(done) if done == planned else f"{done} of {planned}"


def effects_table(findings: SweepFindings) -> TextTable | None:
    """Build the table of effects of every axis on the first objective; None if no axis can be compared."""
    if not findings.effects:
        return None
    names, by = short_names(_choices(findings)), findings.by
    rows = []
    for effect in findings.effects:
        gap = effect.against_best
        rows.append((
            f"{names[effect.axis]} {value_text(effect.value)}", by.text(effect.mean), str(effect.runs),
            ABSENT if gap is None else f"{by.gap(gap.mean)} [{by.gap(gap.low)}, {by.gap(gap.high)}]",
            ABSENT if gap is None else str(gap.n),
        ))  # fmt: skip
    notes = [
        "behind the best value of the axis: mean difference of pairs of runs that differ only in this axis, with its "
        f"{CONFIDENCE:.0%} interval over the pairs; if the interval contains 0, the order is open"
    ]
    if any(len({e.runs for e in findings.effects if e.axis == axis}) > 1 for axis in names) or findings.unfinished:
        notes.append("some runs are missing, so the means are over different runs; only the pairs are comparable")
    header = ("", by.arrow, "runs", "behind the best value", "pairs")
    return TextTable(f"Effect of each axis on {by.label}", header, tuple(rows), 0, tuple(notes))


def runs_csv(findings: SweepFindings) -> str:
    """Return CSV with a row per run, finished or not, and all its metrics; it holds no times or durations."""
    axes, measured = list(findings.sweep.axes), _measured(findings)
    header = ["run", *axes, "status", "iteration", "error", *measured]
    rows = (
        [run.name, *(run.values.get(axis) for axis in axes), run.status,
         run.result.iteration if run.result is not None else "", run.error or "",
         *(run.metrics.get(name, "") for name in measured)]
        for run in findings.sweep.runs
    )  # fmt: skip
    return _csv(header, rows)


def settings_csv(findings: SweepFindings) -> str:
    """Return CSV with a row per setting, best first: mean and deviation of every metric, empty if missing."""
    axes, measured = _choices(findings), _measured(findings)
    header = [
        "rank",
        *axes,
        "front",
        "n",
        "planned",
        *(f"{name} {part}" for name in measured for part in ("mean", "deviation")),
    ]
    rows = []
    for place, setting in enumerate(findings.settings, 1):
        figures = [setting.figures.get(name) for name in measured]
        rows.append([
            place if findings.by.name in setting.figures else "", *(setting.values[axis] for axis in axes),
            int(setting in findings.front), len(setting.finished), len(setting.runs),
            *(part for figure in figures for part in _parts(figure)),
        ])  # fmt: skip
    return _csv(header, rows)


def _parts(figure: Figure | None) -> tuple[Any, Any]:
    if figure is None:
        return "", ""
    return f"{figure.mean:.6g}", "" if figure.deviation is None else f"{figure.deviation:.6g}"


def _measured(findings: SweepFindings) -> list[str]:
    """Return every metric that any run has, including unfinished runs."""
    return list(dict.fromkeys(name for run in findings.sweep.runs for name in run.metrics))


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([value_text(value) if isinstance(value, bool | None) else value for value in row] for row in rows)
    return buffer.getvalue()
