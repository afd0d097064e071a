"""What a sweep says: settings in order, the Pareto front, how sure the order is, and what is not finished."""

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

#: Runs that are named one by one in a message; the rest is counted.
_NAMED = 20
#: In the order of the lists.
STATUSES = (FINISHED, "failed", "unreadable", "pruned", "half-done", "not begun")


@dataclass(frozen=True)
class SweepFindings:
    """Everything the report of a sweep says.

    Attributes:
        sweep: what lies on disk.
        objectives: what settings are judged by, the first for their order.
        further: other columns of the table.
        settings: best first.
        front: those on the Pareto front of the objectives.
        sure: sentences.
        effects: of the axes on the first objective.
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
        """What the settings are in order of."""
        return self.objectives[0]

    @property
    def unfinished(self) -> list[SweepRun]:
        """Runs whose numbers do not count."""
        return in_order_of_need(self.sweep.runs)

    def notes(self) -> list[str]:
        """What to know of the folder and of incomplete settings, a sentence each."""
        incomplete = (setting for setting in self.settings if setting.lacking)
        return [
            *self.sweep.notes,
            *(f"{s.label}: some of its runs have no {', '.join(s.lacking)}, so it has no mean" for s in incomplete),
        ]


def find_sweep(place: str | Path, by: str | None = None) -> SweepFindings:
    """Read a sweep and put its settings in order.

    Raises:
        UserError: it is no sweep, none of its runs is finished, or they have no number `by`.
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
    """The runs that left an error, one by one."""
    lines = [f"  - {unfinished_line(run)}" for run in in_order_of_need(sweep.runs) if run.error]
    return lines[:_NAMED] + ([f"  - {len(lines) - _NAMED} more"] if len(lines) > _NAMED else [])


def in_order_of_need(runs: Iterable[SweepRun]) -> list[SweepRun]:
    """Runs that are not finished, those first that somebody should look at."""
    return sorted((run for run in runs if not run.finished), key=lambda run: STATUSES.index(run.status))


def unfinished_line(run: SweepRun) -> str:
    """Name, status and error of a run."""
    far = f" at iteration {run.result.iteration}" if run.result is not None and run.result.iteration else ""
    return f"{run.name}: {run.status}{far}{f', {run.error}' if run.error else ''}"


def counts(runs: Sequence[SweepRun]) -> str:
    """How many runs there are of each status, such as ``6 finished, 1 failed``."""
    number = {status: sum(run.status == status for run in runs) for status in STATUSES}
    return ", ".join(f"{count} {status}" for status, count in number.items() if count) or "no runs"
