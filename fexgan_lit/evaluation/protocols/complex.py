"""`protocol=complex`: mixtures of two and three affects, measured against the true frames that a studio renders."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from fexgan_lit.data.rendered import studio_of
from fexgan_lit.evaluation.figures import comparison_sheet
from fexgan_lit.evaluation.measure import judge_bench
from fexgan_lit.evaluation.protocols.quality import score_all
from fexgan_lit.evaluation.protocols.rendered import (
    Asked,
    Directed,
    mixture,
    prepared,
    rendered_suite,
    with_unit_judge,
)
from fexgan_lit.evaluation.report import Findings
from fexgan_lit.evaluation.tables import class_table, group_table
from fexgan_lit.expression import COMPLEX_PAIRS
from fexgan_lit.metrics.expression import SEEN_WEIGHT, decompose, mixture_scores
from fexgan_lit.synthetic.prototypes import prototype
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.evaluation.config import ComplexSettings, EvaluationSettings
    from fexgan_lit.evaluation.measure import Scores
    from fexgan_lit.evaluation.methods import Trained
    from fexgan_lit.evaluation.test_set import TestSet
    from fexgan_lit.utils.console import Stages


def mixtures(affects: Sequence[str], settings: ComplexSettings) -> list[Asked]:
    """Return the mixtures of all pairs, the papers' three first, and of all triples, at every strength.

    The stronger affect of a pair has the strength as its weight; a ratio r gives the second affect r times the weight
    of the first. The affects of a triple have equal weights.

    Raises:
        UserError: the data have fewer than two affects besides neutral.
    """
    names = [name for name in affects if name != "neutral"]
    if len(names) < 2:
        raise UserError(f"protocol=complex: the data have {len(names)} affect besides neutral; expected two or more")
    papers = [pair for pair in COMPLEX_PAIRS if set(pair) <= set(names)]
    known = {frozenset(pair) for pair in papers}
    pairs = [*papers, *(pair for pair in itertools.combinations(names, 2) if frozenset(pair) not in known)]
    parts: list[tuple[tuple[str, ...], tuple[float, ...]]] = [
        ((first, second), (1.0, ratio)) for first, second in pairs for ratio in settings.ratios
    ]
    parts += [(three, (1.0, 1.0, 1.0)) for three in itertools.combinations(names, 3)] if settings.triples else []
    return [
        mixture({name: strength * share / max(shares) for name, share in zip(chosen, shares, strict=True)})
        for chosen, shares in parts
        for strength in settings.strengths
    ]


def find_complex(
    methods: Sequence[Trained], test_set: TestSet, settings: EvaluationSettings, command: str, stage: Stages
) -> Findings:
    """Score all methods on the rendered mixtures and compare them."""
    asked = mixtures(test_set.data.affects, settings.complex)
    studio = studio_of(test_set.data.config, "protocol=complex")
    judges = with_unit_judge(judge_bench(test_set, settings.metrics, stage), test_set, studio, stage)
    there, weights, sources = prepared(test_set, studio, asked, settings.complex.sources, judges, settings, stage)
    S = len(there.pairs) // len(asked)
    directed = [Directed(m.name, m.loaded, weights) for m in methods]
    scores = score_all(directed, there, lambda: rendered_suite(judges, there, sources), stage)
    for s in scores:
        add_mixture_scores(s, there, weights)
    findings = Findings.of(
        scores, methods, judges, settings, title="Complex expressions of", command=command,
        where=there.describe(f"{len(there.pairs)} true frames of {len(asked)} mixtures on {S} neutral sources"),
        notes={
            "true frames": "person, pose, gaze, light and blink of the source; muscles are the weighted sum of those "
            "of the affects, clipped to [0, 1]",
            "what systems are told": "the weights of the affects, the action units and the landmarks of the true "
            "frame, as far as they read them",
        },
    )  # fmt: skip
    rows = findings.rows
    labels = np.repeat([each.label for each in asked], S)
    count = np.repeat([len(each.weights) for each in asked], S)
    papers = [" + ".join(pair) for pair in COMPLEX_PAIRS]
    groups = {name: labels == name for name in papers} | {"all pairs": count == 2, "all triples": count == 3}
    findings.tables.append(group_table(rows, groups, "mixture", "The papers' complex expressions, and all mixtures"))
    strength = np.repeat([f"{max(each.weights.values()):g}" for each in asked], S)
    share = np.repeat([":".join(f"{w / max(a.weights.values()):g}" for w in a.weights.values()) for a in asked], S)
    for row in rows:
        for name, values in (("mixture", labels), ("strength", strength), ("ratio", share)):
            classes = list(dict.fromkeys(values.tolist()))
            index = np.array([classes.index(value) for value in values.tolist()])
            findings.breakdowns.append(class_table(row, name, classes, index))
    stage("drawing")
    draw_complex(findings, directed, there, asked, settings)
    return findings


def add_mixture_scores(scores: Scores, test_set: TestSet, weights: torch.Tensor) -> None:
    """Add whether the asked affects are seen, and the error of their shares, where action units were estimated."""
    if scores.units is None or test_set.frames.aus is None:
        return
    names = [(k, name) for k, name in enumerate(test_set.data.affects) if name != "neutral"]
    patterns = torch.from_numpy(np.stack([prototype(name) for _, name in names]))
    target = test_set.pairs.target
    true = decompose(torch.from_numpy(test_set.frames.aus[target]), patterns)
    asked = weights[target][:, [k for k, _ in names]] > 0
    seen, error = mixture_scores(decompose(scores.units, patterns), true, asked)
    scores.columns |= {"mixture_seen": seen.numpy(), "mixture_share_error": error.numpy()}
    how = (
        "the judge's action units are taken apart into non-negative weights of the affects' action units (least "
        f"squares); n={len(target)}, {test_set.where}"
    )
    scores.recipes |= {
        "mixture_seen": "share of faces in which the asked affects are the strongest ones, each with a weight of "
        f"{SEEN_WEIGHT:g} or more; {how}",
        "mixture_share_error": "mean absolute difference of the asked affects' shares, with a sum of 1 among them, "
        f"from those in the true units by the same decomposition; {how}",
    }


def draw_complex(
    findings: Findings, methods: Sequence[Directed], test_set: TestSet, asked: Sequence[Asked],
    settings: EvaluationSettings,
) -> None:  # fmt: skip
    """Add the papers' mixtures, or the first ones of the data, at full strength and equal shares to the figures."""
    S = len(test_set.pairs) // len(asked)
    strongest = max(settings.complex.strengths)
    even = [n for n, a in enumerate(asked) if len({strongest, *a.weights.values()}) == 1] or list(range(len(asked)))
    chosen = even[: len(COMPLEX_PAIRS)]
    people = min(S, max(1, settings.shown // len(chosen)))
    rows = np.array([number * S + source for number in chosen for source in range(people)])
    frames = test_set.frames
    names = [frames.identities[frames.identity[test_set.pairs.source[row]]] for row in rows]
    labels = [f"{name}, {asked[row // S].label}" for name, row in zip(names, rows, strict=True)]
    findings.add(
        "complex", comparison_sheet(test_set, methods, rows, labels),
        f"Sources, the true frames of the mixtures (equal weights of {strongest:g}), and the image that each system "
        "(first seed) generates.",
    )  # fmt: skip
    findings.draw_standings("faces")
