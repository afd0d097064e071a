"""`protocol=intensity`: affects and action units at rising strengths, measured against rendered true frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from fexgan_lit import figures
from fexgan_lit.data.rendered import studio_of
from fexgan_lit.evaluation.figures import comparison_sheet
from fexgan_lit.evaluation.measure import judge_bench
from fexgan_lit.evaluation.methods import FLOOR
from fexgan_lit.evaluation.protocols.quality import score_all
from fexgan_lit.evaluation.protocols.rendered import (
    Asked,
    Directed,
    mixture,
    prepared,
    rendered_suite,
    single_unit,
    with_unit_judge,
)
from fexgan_lit.evaluation.report import Findings
from fexgan_lit.evaluation.summary import Row, standings
from fexgan_lit.evaluation.tables import class_table, group_table, standings_table
from fexgan_lit.metrics.expression import au_intensity, control_linearity
from fexgan_lit.metrics.statistics import draw_resamples
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.evaluation.measure import Scores
    from fexgan_lit.evaluation.methods import Trained
    from fexgan_lit.evaluation.test_set import TestSet
    from fexgan_lit.metrics.judges.panel import JudgePanel
    from fexgan_lit.synthetic.base import Studio
    from fexgan_lit.utils.console import Stages


class Ramps(NamedTuple):
    """All methods on the ramps of some affects or action units, from the same sources.

    Attributes:
        names: C affects or action units.
        levels: L commanded intensities.
        test_set: C * L * S pairs: the sources of one level after the other, level by level.
        scores: scores of every pair, by method and seed; those of the true frames come first.
        measured: measured intensities (C, L, S) of each of the scores.
        methods: the systems.
    """

    names: list[str]
    levels: list[float]
    test_set: TestSet
    scores: list[Scores]
    measured: list[np.ndarray]
    methods: list[Directed]

    def by_series(self) -> list[Scores]:
        """Return the scores of the C * S series: means along the ramp, and linearity and error of the intensity."""
        C, L = len(self.names), len(self.levels)
        found = []
        for scores, measured in zip(self.scores, self.measured, strict=True):
            columns = {name: values.reshape(C, L, -1).mean(axis=1).ravel() for name, values in scores.columns.items()}
            ramps = torch.from_numpy(measured).transpose(1, 2).reshape(-1, L)  # (C, L, S) -> (C * S, L)
            columns["control_linearity"] = control_linearity(torch.tensor(self.levels), ramps).numpy()
            columns["intensity_error"] = np.abs(measured - self.measured[0]).mean(axis=1).ravel()
            found.append(replace(scores, columns=columns))
        return found


def measure_ramps(
    kinds: Sequence[Sequence[Asked]], levels: Sequence[float], methods: Sequence[Trained], test_set: TestSet,
    studio: Studio, judges: JudgePanel, settings: EvaluationSettings, stage: Stages,
) -> Ramps:  # fmt: skip
    """Render the ramps `kinds`, C lists of L expressions each, score all methods on them and read the intensities.

    The intensity of an affect is the projection of the judge's action units on those of the affect at its apex, that
    of an action unit is the judge's estimate.
    """
    asked = [each for ramp in kinds for each in ramp]
    there, weights, sources = prepared(test_set, studio, asked, settings.intensity.sources, judges, settings, stage)
    directed = [Directed(m.name, m.loaded, weights) for m in methods]
    scores = score_all(directed, there, lambda: rendered_suite(judges, there, sources), stage)
    apex = torch.from_numpy(np.stack([ramp[-1].units / max(ramp[-1].units.max(), 1e-9) for ramp in kinds]))
    measured = []
    for s in scores:
        if s.units is None:
            raise UserError("protocol=intensity: no judge reads action units; leave metrics.au_judge.path=null")
        units = s.units.nan_to_num(0.0).view(len(kinds), -1, s.units.shape[1])  # (C, L * S, 17)
        values = torch.stack([au_intensity(u, torch.zeros(()), p) for u, p in zip(units, apex, strict=True)])
        measured.append(values.view(len(kinds), len(levels), -1).numpy())
    return Ramps([ramp[0].label for ramp in kinds], list(levels), there, scores, measured, directed)


def find_intensity(
    methods: Sequence[Trained], test_set: TestSet, settings: EvaluationSettings, command: str, stage: Stages
) -> Findings:
    """Score all systems on the ramps of the affects, and those that read action units on the ramps of these."""
    options = settings.intensity
    studio = studio_of(test_set.data.config, "protocol=intensity")
    names = [name for name in test_set.data.affects if name != "neutral"]
    if not names:
        raise UserError("protocol=intensity: the data have no affect besides neutral; expected one or more")
    judges = with_unit_judge(judge_bench(test_set, settings.metrics, stage), test_set, studio, stage)
    levels = sorted(options.strengths)
    kinds = [[mixture({name: level}) for level in levels] for name in names]
    affects = measure_ramps(kinds, levels, methods, test_set, studio, judges, settings, stage)
    findings = _findings(affects, methods, judges, settings, command)
    _add(findings, affects, findings.rows, "affect", settings)
    readers = [m for m in methods if "aus" in m.system.reads]
    if readers and options.units:
        levels = sorted({0.0, *options.unit_levels})
        kinds = [[single_unit(unit, level) for level in levels] for unit in options.units]
        units = measure_ramps(kinds, levels, readers, test_set, studio, judges, settings, stage)
        series = units.by_series()
        rows = standings(series, draw_resamples(len(series[0].columns["ssim"]), settings.bootstrap, settings.seed))
        columns = [
            m
            for m in ("ssim", "psnr", "au_error", "landmark_error", "control_linearity", "intensity_error")
            if m in rows[0].figures
        ]
        note = f"Single action units at {', '.join(f'{level:g}' for level in levels)}, for systems that read them."
        findings.tables.append(standings_table(rows, columns, "Action units", (note,)))
        _add(findings, units, rows, "action unit", settings)
    elif options.units:
        findings.notes["action units"] = "no system reads action units, so only the affects were raised"
    stage("drawing")
    return findings


def _findings(
    ramps: Ramps, methods: Sequence[Trained], judges: JudgePanel, settings: EvaluationSettings, command: str
) -> Findings:  # fmt: skip
    series = ramps.by_series()
    G = len(series[0].columns["control_linearity"])
    steps = ", ".join(f"{level:g}" for level in ramps.levels)
    found = Findings.of(
        series, methods, judges, settings, title="Intensity of", command=command, over="ramps",
        where=ramps.test_set.describe(
            f"{G} ramps ({len(ramps.names)} affects on {G // len(ramps.names)} neutral sources, strengths {steps})"
        ),
        notes={
            "true frames": "person, pose, gaze, light and blink of the source; muscles are those of the affect times "
            "the strength",
            "other columns": "means along the ramp, against the true frame of the same strength",
        },
    )  # fmt: skip
    found.recipes["control_linearity"] = (
        "Pearson's correlation of commanded and measured intensity along a ramp (one source, one affect or action "
        "unit), 0 if nothing changes, mean over the ramps; the intensity of an affect is the projection of the judge's "
        f"action units on those of the affect, that of a unit is the judge's estimate; {judges.describe()[1]}"
    )
    found.recipes["intensity_error"] = (
        "mean absolute difference of the measured intensity from that measured in the true frame of the same strength; "
        "unlike the linearity it sees a slope that is too small"
    )
    return found


def _add(
    findings: Findings, ramps: Ramps, rows: Sequence[Row], kind: str, settings: EvaluationSettings
) -> None:  # fmt: skip
    """Add the tables by affect or unit and along the ramp, the curves and the faces to `findings`."""
    C, L = len(ramps.names), len(ramps.levels)
    series = np.arange(C).repeat(len(rows[0].columns["control_linearity"]) // C)
    groups = {name: series == number for number, name in enumerate(ramps.names)}
    linearity = ("control_linearity",)
    findings.tables.append(group_table(rows, groups, kind, f"Control linearity by {kind}", linearity))
    findings.breakdowns += [class_table(row, kind, ramps.names, series, "ramps") for row in rows]
    pairs = standings(ramps.scores, draw_resamples(len(ramps.test_set.pairs), 1, settings.seed))
    level = np.tile(np.arange(L).repeat(len(ramps.test_set.pairs) // (C * L)), C)
    along = {f"{value:g}": level == number for number, value in enumerate(ramps.levels)}
    findings.breakdowns.append(group_table(pairs, along, "strength", f"Along the ramps of the {kind}s"))
    curves: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in ramps.names}
    for scores, measured in zip(ramps.scores, ramps.measured, strict=True):
        if scores.name != FLOOR:
            for name, values in zip(ramps.names, measured.mean(axis=2), strict=True):  # (C, L, S) -> (C, L)
                curves[name].setdefault(scores.name, []).append(values)
    means = {name: {who: np.mean(seeds, axis=0) for who, seeds in lines.items()} for name, lines in curves.items()}
    kinds = f"{kind.replace(' ', '_')}s"
    findings.add(
        f"intensity_{kinds}", figures.line_panels(ramps.levels, means, "commanded", "measured", diagonal=True),
        "Measured against commanded intensity, mean over the sources; the dotted line is equality.",
    )  # fmt: skip
    S = len(ramps.test_set.pairs) // (C * L)
    shown = np.unique(np.linspace(0, L - 1, min(4, L)).round().astype(int))
    chosen = [(c, step) for c in range(min(C, max(1, settings.shown // len(shown)))) for step in shown]
    picked = np.array([(c * L + step) * S + c % S for c, step in chosen])
    labels = [f"{ramps.names[c]} {ramps.levels[step]:g}" for c, step in chosen]
    findings.add(
        f"faces_{kinds}", comparison_sheet(ramps.test_set, ramps.methods, picked, labels),
        "Sources, the true frames at rising strengths, and the image that each system (first seed) generates.",
    )  # fmt: skip
