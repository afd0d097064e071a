"""What `protocol=complex`, `intensity` and `transfer` share: expressions that a studio renders, and their judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.pairs import FixedPairs
from fexgan_lit.data.rendered import render_frames, studio_rows
from fexgan_lit.evaluation.methods import Trained
from fexgan_lit.evaluation.test_set import TestSet
from fexgan_lit.expression import ACTION_UNITS, with_units
from fexgan_lit.metrics.groups import GeometryMetrics, IdentityMetrics, PixelMetrics, SourceEmbeddings
from fexgan_lit.metrics.judges.geometry import GeometryRecipe, load_or_train_geometry_judge
from fexgan_lit.metrics.suite import MetricGroup, MetricSuite
from fexgan_lit.synthetic.prototypes import prototype
from fexgan_lit.utils.cache import cache_root

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.packing.pack import Progress
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.metrics.judges.panel import JudgePanel
    from fexgan_lit.synthetic.base import Studio
    from fexgan_lit.utils.console import Stages

#: Frames on which the judge of rendered expressions is trained, and on which its errors are measured.
JUDGE_FRAMES, JUDGE_HELD_OUT = 2500, 200

#: Most affects in a training frame of that judge, and most single action units.
_MOST_AFFECTS, _MOST_UNITS = 3, 2


class Asked(NamedTuple):
    """An expression that is asked for.

    Attributes:
        label: name in tables and figures.
        weights: weights of the affects, for systems that read labels; empty for action units alone.
        units: (17,) action units of the true face.
    """

    label: str
    weights: dict[str, float]
    units: np.ndarray


def mixture(weights: Mapping[str, float]) -> Asked:
    """Return the expression whose muscles are the weighted sum of those of the affects, clipped to [0, 1]."""
    units = sum((weight * prototype(name) for name, weight in weights.items()), np.zeros(len(ACTION_UNITS)))
    return Asked(" + ".join(weights), dict(weights), units.clip(0, 1))


def single_unit(unit: int, level: float) -> Asked:
    """Return the expression of one action unit."""
    return Asked(f"AU{unit}", {}, with_units(torch.zeros(1, len(ACTION_UNITS)), {unit: level})[0].numpy())


@dataclass(frozen=True, eq=False)
class Directed(Trained):
    """A system that is told what the true frame shows: the weights of its affects, its action units and landmarks.

    Attributes:
        weights: (n, K), the weights of the affects of every frame of the test set.
        landmarks: (n, 68, 2), the landmarks that the system is told; None for those of the true frames.
    """

    weights: Tensor
    landmarks: Tensor | None = None

    def answer(self, batch: PairBatch) -> Tensor:  # type: ignore[override]
        """Return images (B, 3, S, S) in [-1, 1] for the targets of a batch."""
        system, K = self.system, len(self.system.affects)
        row, device = batch.target_row.cpu(), batch.source.device
        wanted = replace(batch.target_expression(K), affect=self.weights[row].to(device))
        if self.landmarks is not None:
            wanted = replace(wanted, landmarks=self.landmarks[row].to(device))
        return system.synthesize(batch.source, batch.source_expression(K), wanted)


def source_rows(frames: FrameSet, count: int) -> np.ndarray:
    """Return at most `count` neutral frames of a split, the people in turn and evenly over the frames of each.

    All frames count where none is neutral.
    """
    neutral = frames.affect == (frames.affects.index("neutral") if "neutral" in frames.affects else -1)
    rows = np.flatnonzero(neutral) if neutral.any() else np.arange(len(frames))
    people = np.unique(frames.identity[rows])
    each = -(-count // len(people))
    spread = []
    for who in people:
        mine = rows[frames.identity[rows] == who]
        spread.append(mine[np.unique(np.linspace(0, len(mine) - 1, each).round().astype(int))])
    turns = [mine[turn] for turn in range(each) for mine in spread if turn < len(mine)]
    return np.array(turns[:count], np.int64)


def rendered_set(
    test_set: TestSet, studio: Studio, sources: np.ndarray, asked: Sequence[Asked], progress: Progress
) -> tuple[TestSet, Tensor]:  # fmt: skip
    """Render every expression on every source, and pair each true frame with its source.

    Args:
        test_set: the run's test set.
        studio: its studio.
        sources: (S,) rows of the split.
        asked: A expressions.
        progress: called with (frames done, total frames).

    Returns:
        The A * S pairs, the sources of one expression after the other, and the weights of the affects (n, K) of all
        n = (A + 1) * S frames, of which the first S are the sources.
    """
    data, S = test_set.data, len(sources)
    places = studio_rows(data, studio, test_set.frames, sources)
    own = np.full((S, len(ACTION_UNITS)), np.nan)
    units = np.concatenate([own, *(np.tile(a.units, (S, 1)) for a in asked)])  # ((A + 1) * S, 17)
    weights = torch.zeros(len(units), len(data.affects))
    weights[:S] = torch.nn.functional.one_hot(torch.from_numpy(test_set.frames.affect[sources]), len(data.affects))
    for number, each in enumerate(asked, 1):
        for name, weight in each.weights.items():
            weights[number * S : (number + 1) * S, data.affects.index(name)] = weight
    affect = weights.argmax(dim=1).numpy()  # the label of a mixture is its strongest affect; nothing is measured by it
    frames = render_frames(data, studio, np.tile(places, len(asked) + 1), units, affect, progress)
    pairs = FixedPairs(np.tile(np.arange(S), len(asked)), np.arange(S, len(frames)))
    return replace(test_set, frames=frames, pairs=pairs), weights


def varied_units(count: int, affects: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Return random action units (count, 17): mixtures of one to three affects, and none to two units, in turn."""
    names = [name for name in affects if name != "neutral"]
    patterns = np.stack([prototype(name) for name in names])

    def some(width: int, least: int, most: int) -> np.ndarray:
        chosen = rng.random((count, width)).argsort(axis=1) < rng.integers(least, most + 1, (count, 1))
        return rng.uniform(0, 1, (count, width)) * chosen

    # the root makes strong weights more frequent, at which muscles that two affects share saturate
    mixed = (np.sqrt(some(len(names), 1, _MOST_AFFECTS)) @ patterns).clip(0, 1)
    return np.where(np.arange(count)[:, None] % 2 == 0, mixed, some(len(ACTION_UNITS), 0, _MOST_UNITS))


def with_unit_judge(judges: JudgePanel, test_set: TestSet, studio: Studio, stage: Stages) -> JudgePanel:
    """Return the panel with a judge of action units and landmarks that has seen mixtures and single muscles.

    In the run's data every affect moves its muscles together, so that a judge trained on them takes true mixtures for
    the nearest affect. This judge is trained on faces of the training split that the studio renders with
    `varied_units`, and evaluated on such faces of the other split.
    """
    data = test_set.data
    held_out = data.train if data.val is None else data.val
    splits = []
    for number, (frames, count) in enumerate(((data.train, JUDGE_FRAMES), (held_out, JUDGE_HELD_OUT))):
        rng = np.random.default_rng((0, number))
        # in order, since a person of many takes seconds to build anew and few are kept
        rows = studio_rows(data, studio, frames, np.sort(rng.integers(0, len(frames), count)))
        units = varied_units(count, data.affects, rng)
        progress = stage("rendering faces for the judge")
        splits.append(render_frames(data, studio, rows, units, np.zeros(count, np.int64), progress))
    judge = load_or_train_geometry_judge(
        *splits, image_size=test_set.image_size, cache_dir=cache_root(data.config.cache_dir),
        key=f"{data.key}/rendered", recipe=GeometryRecipe(epochs=16.0),
        progress=stage("training the judge of mixtures"),
    )  # fmt: skip
    return replace(judges, geometry=judge)


def rendered_suite(judges: JudgePanel, test_set: TestSet, sources: SourceEmbeddings | None) -> MetricSuite:
    """Return a new suite: pixels, geometry, and identity where there is a judge of it."""
    groups: list[MetricGroup] = [PixelMetrics(), GeometryMetrics(judges)]
    return MetricSuite([*groups, *([] if sources is None else [IdentityMetrics(sources, rates=False)])], test_set.where)


def source_embeddings(judges: JudgePanel, test_set: TestSet, sources: int) -> SourceEmbeddings | None:
    """Return the embeddings of all frames, with the first `sources` as gallery; None without a judge of identity."""
    from fexgan_lit.metrics.judges.identity import embed_rows

    if judges.identity is None:
        return None
    frames = test_set.frames
    embeddings = embed_rows(judges.identity, frames, np.arange(len(frames)), test_set.image_size)
    return SourceEmbeddings(judges.identity, embeddings, np.arange(sources), torch.from_numpy(frames.identity))


def prepared(
    test_set: TestSet, studio: Studio, asked: Sequence[Asked], sources: int, judges: JudgePanel,
    settings: EvaluationSettings, stage: Stages,
) -> tuple[TestSet, Tensor, SourceEmbeddings | None]:  # fmt: skip
    """Render the true frames of a protocol; return the pairs, the weights (`rendered_set`) and the identities."""
    rows = source_rows(test_set.frames, sources)
    rendered, weights = rendered_set(test_set, studio, rows, asked, stage("rendering true frames"))
    stage("computing identity embeddings of the true frames")
    return rendered, weights, source_embeddings(judges.to(settings.device), rendered, len(rows))
