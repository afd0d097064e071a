"""The papers' Table 1 for any system, with the judge's verdict on the same faces beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fexgan_lit.evaluation.scores import Scores, score
from fexgan_lit.metrics.groups import DiscriminatorMetrics, JudgeMetrics
from fexgan_lit.metrics.registry import DISCRIMINATOR_METRICS
from fexgan_lit.metrics.suite import MetricSuite
from fexgan_lit.tables import ABSENT, PAPERS_TABLE1, TextTable

if TYPE_CHECKING:
    from fexgan_lit.evaluation.contenders import Trained
    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.metrics.judge import Judge
    from fexgan_lit.metrics.own_judges import OwnAffectJudge

#: Pairs of the training split that are measured.
TRAIN_PAIRS = 512


def discriminator_table(
    contenders: Sequence[Trained], scores: Sequence[Scores], ground: Ground, judge: Judge | OwnAffectJudge,
    progress: Callable[[int, int], None],
) -> list[TextTable]:  # fmt: skip
    """How often each discriminator is right, on training and validation pairs; empty where none has a verdict.

    Args:
        contenders: the systems.
        scores: of the measured split, one of each contender among them.
        ground: what they were measured on.
        judge: whose verdict stands beside.
        progress: told of contenders done and in all.
    """
    rows = []
    there = {s.run: s for s in scores}
    for number, contender in enumerate(contenders):
        progress(number, len(contenders))
        measured = there[str(contender.run.path)]
        if not any(name in measured.columns for name in DISCRIMINATOR_METRICS):
            continue
        label = contender.name if len(contenders) == 1 else f"{contender.name}, seed {contender.settings.seed}"
        splits = {"train": measured} if ground.split == "train" else {
            "train": train_scores(contender, ground, judge), ground.split: measured,
        }  # fmt: skip
        words = {"train": "Train", "val": "Validation"}
        rows += [(f"{label}, {words[split]}", *_cells(found)) for split, found in splits.items()]
    if not rows:
        return []
    papers = [(f"{name} (paper)", *(f"{v:.3f}" for v in values), ABSENT) for name, values in PAPERS_TABLE1.items()]
    K = len(judge.affects)
    header = ("", "Real binary", f"Real {K}-way", "Fake binary", f"Fake {K}-way", "Judge on the same fakes")
    notes = (
        "The discriminator learns to name generated frames as asked (equation 6), so its own verdict on them flatters; "
        "the judge never saw a generated frame.",
        "Rows in italics are the papers' own figures, on their data.",
    )
    return [TextTable("Discriminator accuracy (Table 1), and the judge", header, (*rows, *papers), len(papers), notes)]


def train_scores(contender: Trained, ground: Ground, judge: Judge | OwnAffectJudge) -> Scores:
    """The verdicts on pairs of the training split."""
    train = ground.data.train
    pairs = ground.data.measured_pairs(train, TRAIN_PAIRS)
    there = replace(ground, frames=train, pairs=pairs, split="train")
    return score(contender, there.loader(), MetricSuite([JudgeMetrics(judge), DiscriminatorMetrics()], there.where))


def _cells(found: Scores) -> tuple[str, ...]:
    values = found.metrics()
    names = (*DISCRIMINATOR_METRICS, "judge_affect_accuracy")
    return tuple(f"{values[name]:.3f}" if name in values else ABSENT for name in names)
