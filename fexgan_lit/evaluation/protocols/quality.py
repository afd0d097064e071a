"""`protocol=quality`: compute every metric of every run on the same pairs, and the control of strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import harmonic_mean

import torch
from torch import Tensor

from fexgan_lit import figures
from fexgan_lit.evaluation.config import EvaluationSettings
from fexgan_lit.evaluation.figures import comparison_sheet, identity_sheet, shown_pairs
from fexgan_lit.evaluation.measure import MetricModels, Scores, make_metric_models, score
from fexgan_lit.evaluation.methods import Method, RealImages, SourceCopy, Trained
from fexgan_lit.evaluation.protocols.clips_report import find_clips
from fexgan_lit.evaluation.protocols.motions import generators
from fexgan_lit.evaluation.report import Findings
from fexgan_lit.evaluation.tables import breakdown_tables, discriminator_table, reference_table
from fexgan_lit.evaluation.test_set import TestSet
from fexgan_lit.metrics.expression import (
    affect_margin,
    affect_prototypes,
    au_intensity,
    control_linearity,
    strength_follows,
)
from fexgan_lit.metrics.judges.panel import JudgePanel
from fexgan_lit.metrics.suite import MetricSuite
from fexgan_lit.utils.console import Stages
from fexgan_lit.utils.errors import UserError

#: Target strengths.
ASKED = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Strength:
    """Correlation of the measured strength with the target strength.

    Attributes:
        rho: Spearman's rank correlation, mean over all series.
        linearity: Pearson's correlation, mean over all series.
        by_affect: mean correlation by affect, without neutral.
        flat: number of series in which the strength did not change.
        series: number of series.
        how: description of how strength was measured.
    """

    rho: float
    linearity: float
    by_affect: dict[str, float]
    flat: int
    series: int
    how: str


@torch.no_grad()
def measure_strength(method: Trained, test_set: TestSet, judges: JudgePanel) -> Strength | None:
    """Generate every affect of every identity at rising strengths; None if all affects are neutral."""
    from fexgan_lit.data.reference import at_strength
    from fexgan_lit.systems.grids import affect_grid

    system, affects = method.system, test_set.data.affects
    grid = affect_grid(system, test_set.frames)
    asked_affects = [k for k, name in enumerate(affects) if name != "neutral"]
    if not asked_affects:
        return None
    shown, device = grid.shown, system.device
    faces = torch.stack(
        [
            torch.stack(
                [
                    system.synthesize(
                        grid.references.to(device), shown.to(device), at_strength(shown, grid.wanted[k], s).to(device)
                    ).cpu()
                    for s in ASKED
                ],
                dim=1,
            )
            for k in asked_affects
        ]
    )  # fmt: skip  (A, I, L, 3, S, S)
    A, identities, L = faces.shape[:3]
    index = torch.tensor(asked_affects).repeat_interleave(identities * L)  # (A*I*L,)
    measured, how = intensities(faces.flatten(0, 2), index, test_set, judges)
    series = measured.view(A * identities, L)
    score = strength_follows(torch.tensor(ASKED).expand(A * identities, L), series)
    linearity = float(control_linearity(torch.tensor(ASKED), series).mean())
    by_affect = score.per_series.view(A, identities).mean(1).tolist()
    names = [affects[k] for k in asked_affects]
    return Strength(score.rho, linearity, dict(zip(names, by_affect, strict=True)), score.flat, A * identities, how)


def intensities(faces: Tensor, affect: Tensor, test_set: TestSet, judges: JudgePanel) -> tuple[Tensor, str]:
    """Measure how strongly faces (N, 3, S, S) show the affects (N,).

    Returns:
        Strengths (N,) and a description of how they were measured.
    """
    train = test_set.data.train
    aus = judges.aus(faces) if train.aus is not None else None
    if aus is not None:
        rest, directions = affect_prototypes(train)
        known = ~aus.isnan().any(0)  # a user's judge may not read all units
        values = au_intensity(aus[:, known], rest[known], directions[affect][:, known])
        if values.isfinite().all():
            return values, "the action units of the face, projected on the affect's direction in the training frames"
    return affect_margin(judges.affect_logits(faces), affect), "the judge's logit of the affect minus the next highest"


def find_quality(
    methods: Sequence[Trained], test_set: TestSet, settings: EvaluationSettings, command: str, stage: Stages
) -> Findings:
    """Score all methods on the same pairs and compare them."""
    tools = make_metric_models(test_set, settings, stage)
    judges = tools.judges
    scores = score_all(methods, test_set, lambda: tools.suite(test_set.where), stage)
    add_strengths(scores, methods, test_set, judges, stage("generating rising strengths"))
    add_harmonic_means(scores)
    findings = Findings.of(
        scores, methods, judges, settings, title="Evaluation of", command=command, where=test_set.where,
        notes={name: note for s in scores for name, note in s.notes.items()},
    )  # fmt: skip
    rows = findings.rows
    if tools.trained is not None:
        findings.judges.append(f"trained judge of affects: {tools.trained.describe()}")
    findings.tables += discriminator_table(
        methods, scores, test_set, judges.affect, stage("measuring the training split")
    )
    findings.tables.append(reference_table())
    findings.breakdowns += [table for row in rows if row.runs for table in breakdown_tables(row, test_set, rows[0])]
    if generators(methods):
        try:
            add_clips(findings, find_clips(methods, test_set, settings, command, stage))
        except UserError as error:
            findings.notes["clips"] = f"not measured: {error}"
    stage("drawing")
    draw(findings, scores, methods, test_set, tools, settings)
    return findings


def add_clips(findings: Findings, clips: Findings) -> None:
    """Add tables, pictures, notes and recipes of `protocol=clips` to those of the still images."""
    findings.tables += [replace(clips.headline(), title=f"Clips: {clips.where}"), *clips.tables]
    findings.breakdowns += clips.breakdowns
    findings.add("clips", clips.pictures["clips"], clips.captions["clips"])
    findings.films |= clips.films
    findings.captions |= {name: clips.captions[name] for name in clips.films}
    findings.notes |= {f"clips, {subject}": note for subject, note in clips.notes.items()}
    findings.recipes |= {f"clips/{metric}": recipe for metric, recipe in clips.recipes.items()}


def score_all(
    methods: Sequence[Method], test_set: TestSet, suite: Callable[[], MetricSuite], stage: Stages
) -> list[Scores]:  # fmt: skip
    """Score the real images, the unchanged sources, then every run, each with a new `suite`."""
    found = []
    everyone: list[Method] = [RealImages(), SourceCopy(), *methods]
    for method in everyone:
        count = Counted(stage(f"measuring {method.name}"), len(test_set.pairs))
        found.append(score(method, test_set.loader(), suite(), count))
    return found


class Counted:
    """Turns increments into calls of `progress(done, total)`."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self.progress = progress
        self.total = total
        self.done = 0

    def __call__(self, more: int) -> None:
        """Count `more` as done."""
        self.done += more
        self.progress(self.done, self.total)


def add_strengths(
    scores: Sequence[Scores], methods: Sequence[Trained], test_set: TestSet, judges: JudgePanel,
    progress: Callable[[int, int], None],
) -> None:  # fmt: skip
    """Add the strength correlation of every system to its scores."""
    there = {s.run: s for s in scores}
    for number, method in enumerate(methods):
        progress(number, len(methods))
        found = measure_strength(method, test_set, judges)
        if found is None:
            continue
        mine = there[str(method.loaded.folder)]
        mine.numbers |= {"strength_rho": found.rho, "control_linearity": found.linearity}
        for name, kind in (("strength_rho", "Spearman's rho"), ("control_linearity", "Pearson's correlation")):
            mine.recipes[name] = (
                f"{kind} between the target strengths {', '.join(map(str, ASKED))} and the measured ones, mean "
                f"over {found.series} series (one identity, one affect); strength is measured by {found.how}"
            )
        if found.flat:
            mine.notes[f"strength of {method.name}"] = f"{found.flat} of {found.series} series did not change at all"


#: The terms of the harmonic mean: name, function that maps the metric into [0, 1], and the words of the recipe.
_TERMS: dict[str, tuple[Callable[[float], float], str]] = {
    "judge_affect_accuracy": (float, "affect as asked"),
    "identity_cosine": (lambda cosine: max(0.0, cosine), "identity cosine (0 if negative)"),
    "control_linearity": (lambda r: max(0.0, r), "control linearity (0 if negative)"),
    "sharpness": (
        lambda ratio: min(ratio, 1 / ratio) if ratio > 0 else 0.0,
        "closeness of the sharpness r, min(r, 1/r)",
    ),
}


def add_harmonic_means(scores: Sequence[Scores]) -> None:
    """Add the harmonic mean of the terms that every system has; no good term makes up for a bad one.

    Ceiling and floor lack the control linearity, since nobody asks them for a strength; theirs is the mean of the
    others.
    """
    systems = [s for s in scores if s.run is not None]
    shared = [name for name in _TERMS if systems and all(s.value(name) is not None for s in systems)]
    for s in scores:
        terms = {name: _TERMS[name][0](value) for name in shared if (value := s.value(name)) is not None}
        if len(terms) > 1:
            s.numbers["harmonic_mean"] = harmonic_mean(terms.values())
            s.recipes["harmonic_mean"] = f"harmonic mean of {', '.join(_TERMS[name][1] for name in shared)}"


def draw(
    findings: Findings, scores: Sequence[Scores], methods: Sequence[Trained], test_set: TestSet, tools: MetricModels,
    settings: EvaluationSettings,
) -> None:  # fmt: skip
    """Add the comparison sheet, the standings, the identity map and the confusion matrices to `findings`."""
    findings.add(
        "comparison", comparison_sheet(test_set, methods, shown_pairs(test_set, settings.shown, settings.seed)),
        "Sources, their true targets, and the image that each system (first seed) generates.",
    )  # fmt: skip
    findings.draw_standings()
    real = None if tools.sources is None else (tools.sources.frames, tools.sources.identity)
    if real and (drawn := identity_sheet(scores, real, test_set.frames.identities, settings.seed)):
        picture, note = drawn
        caption = (
            f"Identity features of generated faces, and of untouched frames (faint): {note}. The axes have no meaning."
        )
        findings.add("identity_map", picture, caption)
    for s in scores:
        name = f"confusion_{s.name}"
        if s.confusion is not None and s.run is not None and name not in findings.pictures:
            picture = figures.confusion_figure(s.confusion, test_set.data.affects)
            findings.add(name, picture, f"Target affects of {s.name} against the judge's predictions.")
