"""Summarize a sweep: ranked settings, the Pareto front, the significance of the order and unfinished runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fexgan_lit.evaluation.sweep_report.effects import Effect, effects
from fexgan_lit.evaluation.sweep_report.read import FINISHED, Sweep, SweepRun, read_sweep
from fexgan_lit.evaluation.sweep_report.settings import Setting, pareto_front, ranked, settings_of
from fexgan_lit.evaluation.sweep_report.significance import significance
from fexgan_lit.metrics.registry import MetricInfo, further, objectives
from fexgan_lit.utils.errors import UserError

#: The most runs listed in a message; the rest is counted.
_NAMED = 20
#: Statuses in the order of the lists.
STATUSES = (FINISHED, "failed", "unreadable", "pruned", "half-done", "not begun")


@dataclass(frozen=True)
class SweepFindings:
    """The results of a sweep.

    Attributes:
        sweep: the sweep as read from disk.
        objectives: metrics that judge the settings; the first one ranks them.
        further: metrics of the other columns of the table.
        settings: settings, best first.
        front: settings on the Pareto front of the objectives.
        sure: sentences on the significance of the order.
        effects: effects of the axes on the first objective.
    """

    sweep: Sweep
    objectives: list[MetricInfo]
    further: list[MetricInfo]
    settings: list[Setting]
    front: list[Setting]
    sure: list[str]
    effects: list[Effect]

    @property
    def by(self) -> MetricInfo:
        """The metric that ranks the settings."""
        return self.objectives[0]

    @property
    def unfinished(self) -> list[SweepRun]:
        """Runs that are not finished."""
        return in_order_of_need(self.sweep.runs)

    def notes(self) -> list[str]:
        """Return remarks on the folder and on incomplete settings, one sentence each."""
        incomplete = (setting for setting in self.settings if setting.lacking)
        return [
            *self.sweep.notes,
            *(f"{s.label}: some of its runs lack {', '.join(s.lacking)}, so it has no mean" for s in incomplete),
        ]


def find_sweep(place: str | Path, by: str | None = None) -> SweepFindings:
    """Read a sweep and rank its settings.

    Raises:
        UserError: `place` is not a sweep, no run is finished, or no finished run has the metric `by`.
    """
    sweep = read_sweep(place)
    if not sweep.finished:
        first = f"sweep={place}: none of its {len(sweep.runs)} runs is finished: {counts(sweep.runs)}"
        raise UserError("\n".join([first, *_named(sweep)]))
    chosen = objectives(sweep.metrics, by, sweep.objectives)
    settings = ranked(settings_of(sweep), chosen[0])
    return SweepFindings(
        sweep, chosen, further(sweep.metrics, chosen), settings, pareto_front(settings, chosen),
        significance(settings, chosen[0]), effects(sweep, chosen[0]),
    )  # fmt: skip


def _named(sweep: Sweep) -> list[str]:
    """Return a line for each run that left an error."""
    lines = [f"  - {unfinished_line(run)}" for run in in_order_of_need(sweep.runs) if run.error]
    return lines[:_NAMED] + ([f"  - {len(lines) - _NAMED} more"] if len(lines) > _NAMED else [])


def in_order_of_need(runs: Iterable[SweepRun]) -> list[SweepRun]:
    """Return the unfinished runs, those that need attention first."""
    return sorted((run for run in runs if not run.finished), key=lambda run: STATUSES.index(run.status))


def unfinished_line(run: SweepRun) -> str:
    """Return name, status and error of a run in one line."""
    far = f" at iteration {run.result.iteration}" if run.result is not None and run.result.iteration else ""
    return f"{run.name}: {run.status}{far}{f', {run.error}' if run.error else ''}"


def counts(runs: Sequence[SweepRun]) -> str:
    """Count the runs of each status, such as ``6 finished, 1 failed``."""
    number = {status: sum(run.status == status for run in runs) for status in STATUSES}
    return ", ".join(f"{count} {status}" for status, count in number.items() if count) or "no runs"
