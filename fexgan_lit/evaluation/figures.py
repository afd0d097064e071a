"""Figures of a comparison: generated images for the same pairs, metric panels and the identity map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fexgan_lit import figures
from fexgan_lit.evaluation.measure import Scores
from fexgan_lit.evaluation.methods import CEILING, FLOOR, Trained
from fexgan_lit.evaluation.summary import Row
from fexgan_lit.evaluation.test_set import TestSet
from fexgan_lit.metrics.registry import metric_info
from fexgan_lit.metrics.suite import ValidationOutput


def shown_pairs(test_set: TestSet, count: int, seed: int) -> np.ndarray:
    """Return the indices of `count` pairs that cover identities and target affects evenly, (count,) int64."""
    frames, pairs = test_set.frames, test_set.pairs
    order = np.random.default_rng(seed).permutation(len(pairs))
    identity, affect = frames.identity[pairs.source[order]], frames.affect[pairs.target[order]]
    chosen: list[int] = []
    for number in range(count):
        seen = [order[i] for i in range(len(order)) if order[i] not in chosen]
        if not seen:
            break
        wanted_identity = number % len(frames.identities)
        wanted_affect = number % len(frames.affects)
        fit = (identity == wanted_identity).astype(int) + (affect == wanted_affect)
        fit[np.isin(order, chosen)] = -1
        chosen.append(int(order[int(np.argmax(fit))]))
    return np.array(chosen, np.int64)


@torch.no_grad()
def comparison_sheet(
    test_set: TestSet, methods: Sequence[Trained], rows: np.ndarray, labels: Sequence[str] = ()
) -> Image.Image:
    """Draw a row per source: the source, the real target and the generated image of each system (its first seed).

    Args:
        test_set: the test set.
        methods: the systems.
        rows: (R,) int64, the pairs to draw.
        labels: R labels of the rows; by default identity and target affect.
    """
    from fexgan_lit.data.pairs import FixedPairLoader, FixedPairs

    pairs = FixedPairs(test_set.pairs.source[rows], test_set.pairs.target[rows])
    batch = next(iter(FixedPairLoader(test_set.frames, pairs, len(rows), test_set.image_size)))
    firsts = list({method.name: method for method in reversed(methods)}.values())[::-1]
    made = [_faces(method, batch) for method in firsts]
    cells = torch.stack([batch.target, *made], dim=1)  # (R, 1 + systems, 3, S, S)
    frames = test_set.frames
    names = list(labels) or [
        f"{frames.identities[i]}, {frames.affects[a]}"
        for i, a in zip(batch.identity.tolist(), batch.target_affect.tolist(), strict=True)
    ]
    columns = ["true frame", *(method.name for method in firsts)]
    return figures.complex_grid(batch.source, cells, names, columns, reference_label="source")


def _faces(method: Trained, batch: object) -> Tensor:
    answer = method.answer(batch.to(method.system.device))  # type: ignore[attr-defined]
    return (answer.generated if isinstance(answer, ValidationOutput) else answer).cpu()


def standings_figure(rows: Sequence[Row], metrics: Sequence[str]) -> Image.Image:
    """Draw one panel per metric: a dot per seed, a bar for the interval, lines for ceiling and floor."""
    systems = [row for row in rows if row.runs]
    lines = {row.name: row for row in rows if row.name in (CEILING, FLOOR)}
    panels = {}
    for metric in metrics:
        dots = {row.name: row.figures[metric].seeds for row in systems if metric in row.figures}
        if dots:
            # the PSNR of an image with itself is infinite; drawing its cap would squeeze the systems into a corner
            drawn = {name: row for name, row in lines.items() if not (metric == "psnr" and name == CEILING)}
            bounds = {name: row.figures[metric].mean for name, row in drawn.items() if metric in row.figures}
            bars: Mapping[str, tuple[float, float]] = {
                row.name: (interval.low, interval.high)
                for row in systems
                if metric in row.figures and (interval := row.figures[metric].interval) is not None
            }
            panels[metric_info(metric).arrow] = figures.DotPanel(dots, bars, bounds)
    return figures.dot_panels(panels)


def identity_sheet(
    scores: Sequence[Scores], real: tuple[Tensor, Tensor], names: Sequence[str], seed: int,
    method: Literal["mds", "pca"] = "mds", most: int = 160,
) -> tuple[Image.Image, str] | None:  # fmt: skip
    """Map the identity embeddings of real and generated images to 2D.

    Args:
        scores: scores of the systems; only the first seed of each system is drawn.
        real: embeddings (n, E) and identities (n,) of the real images.
        names: names of the identities.
        seed: seed of the scaling and of the choice of faces.
        method: see `identity_map`.
        most: the most faces drawn per group.

    Returns:
        The figure and a note on how the map was made; None if no system has embeddings.
    """
    from fexgan_lit.metrics.identity import identity_map

    firsts = {s.name: s for s in reversed(scores) if s.embeddings is not None and s.run is not None}
    chosen = list(firsts.values())[::-1]
    if not chosen:
        return None
    rng = np.random.default_rng(seed)
    groups = [real, *(s.embeddings for s in chosen if s.embeddings is not None)]
    rows = [np.sort(rng.permutation(len(embeddings))[:most]) for embeddings, _ in groups]
    features = torch.cat([embeddings[r] for (embeddings, _), r in zip(groups, rows, strict=True)])
    people = torch.cat([identity[r] for (_, identity), r in zip(groups, rows, strict=True)])
    group = np.repeat(np.arange(len(groups)), [len(r) for r in rows])
    found = identity_map(features, people, method, seed=seed, most=len(features))
    picture = figures.people_map(found.points, found.labels, names, group[found.rows], [s.name for s in chosen])
    return picture, found.note
