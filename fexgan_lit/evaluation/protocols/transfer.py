"""`protocol=transfer`: the expression of one person on the face of another, measured against rendered true frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.rendered import studio_of
from fexgan_lit.evaluation.figures import comparison_sheet
from fexgan_lit.evaluation.measure import judge_bench
from fexgan_lit.evaluation.protocols.quality import score_all
from fexgan_lit.evaluation.protocols.rendered import Directed, mixture, prepared, rendered_suite, with_unit_judge
from fexgan_lit.evaluation.report import Findings
from fexgan_lit.evaluation.tables import class_table, group_table
from fexgan_lit.inference.modes.animate import carried_over
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.evaluation.methods import Trained
    from fexgan_lit.evaluation.test_set import TestSet
    from fexgan_lit.utils.console import Stages


def drivers_of(identity: np.ndarray) -> np.ndarray:
    """Return for every source (S,) the next source of another person, in a circle: (S,) int64.

    Raises:
        UserError: all sources show one person.
    """
    S = len(identity)
    found = [next((j % S for j in range(i + 1, i + S) if identity[j % S] != identity[i]), None) for i in range(S)]
    if None in found:
        raise UserError(
            "protocol=transfer: the sources show one person; expected frames of two people or more, or more sources "
            "(transfer.sources)"
        )
    return np.array(found, np.int64)


def told_landmarks(landmarks: Tensor, drivers: Tensor, fuses: bool) -> Tensor:
    """Return the landmarks that a system is told for each of n frames, the first S of which are the sources.

    Frames S + a * S + i are those of expression a on source i. Their driver is `drivers[i]` with the same expression.

    Args:
        landmarks: (n, 68, 2) true landmarks.
        drivers: (S,) sources.
        fuses: whether the system fits the driver's landmarks to the face itself; if not, the motion of the driver from
            rest is carried over to the face (`carried_over`).
    """
    S = len(drivers)
    told = landmarks.clone()
    for source, driver in enumerate(drivers.tolist()):
        shown = landmarks[S + driver :: S]  # the driver with every expression, (A, 68, 2)
        told[S + source :: S] = shown if fuses else carried_over(shown, landmarks[driver], landmarks[source])
    return told


def find_transfer(
    methods: Sequence[Trained], test_set: TestSet, settings: EvaluationSettings, command: str, stage: Stages
) -> Findings:
    """Score all methods on the affects of one person, rendered on the faces of others."""
    affects = [name for name in test_set.data.affects if name != "neutral"]
    asked = [mixture({name: strength}) for name in affects for strength in settings.transfer.strengths]
    studio = studio_of(test_set.data.config, "protocol=transfer")
    judges = with_unit_judge(judge_bench(test_set, settings.metrics, stage), test_set, studio, stage)
    there, weights, sources = prepared(test_set, studio, asked, settings.transfer.sources, judges, settings, stage)
    S, frames = len(there.pairs) // len(asked), there.frames
    if frames.landmarks is None:
        raise UserError("protocol=transfer: the rendered frames have no landmarks")
    drivers, true = drivers_of(frames.identity[:S]), torch.from_numpy(frames.landmarks)
    told = {fuses: told_landmarks(true, torch.from_numpy(drivers), fuses) for fuses in (False, True)}
    directed = [Directed(m.name, m.loaded, weights, told[m.system.fuses_landmarks]) for m in methods]
    scores = score_all(directed, there, lambda: rendered_suite(judges, there, sources), stage)

    def pixels(points: Tensor) -> float:
        """Return the mean distance of the points of all targets from the true ones, in pixels."""
        return float((points - true[S:]).norm(dim=2).mean()) * there.image_size / 2

    findings = Findings.of(
        scores, methods, judges, settings, title="Expressions of other people by", command=command,
        where=there.describe(f"{len(there.pairs)} true frames of {len(asked)} expressions on {S} neutral sources"),
        notes={
            "true frames": "person, pose, gaze, light and blink of the source; muscles exactly as in the driver",
            "what systems are told": "the affect and the action units of the driver, another person; landmarks are "
            "its motion from rest carried over to the face, or its own where a system fuses landmarks itself",
            "landmarks carried over": f"{pixels(told[False][S:]):.2f} px from the true ones on average, those of the "
            f"untouched sources {pixels(true[:S].repeat(len(asked), 1, 1)):.2f} px",
        },
    )  # fmt: skip
    rows = findings.rows
    label = np.repeat([each.label for each in asked], S)
    findings.tables.append(group_table(rows, {name: label == name for name in affects}, "affect", "By affect"))
    index = np.array([affects.index(name) for name in label.tolist()])
    findings.breakdowns += [class_table(row, "affect", affects, index) for row in rows]
    stage("drawing")
    shown = np.unique(np.linspace(0, len(there.pairs) - 1, settings.shown).round().astype(int))
    who = [frames.identities[k] for k in frames.identity[:S]]
    labels = [f"{who[row % S]} after {who[drivers[row % S]]}, {label[row]}" for row in shown]
    findings.add(
        "transfer", comparison_sheet(there, directed, shown, labels),
        "Sources, the true frames with the driver's muscles, and the image that each system (first seed) generates.",
    )  # fmt: skip
    findings.draw_standings("faces")
    return findings
