"""Run a system over pairs, its prior or a grid of references and give the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.expression import Expression

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.suite import TrainingSuite
    from fexgan_lit.systems.base import ExpressionSystem


#: Rows of the picture: more are not looked at.
MOST_IDENTITIES = 16


@torch.no_grad()
def measure(system: ExpressionSystem, batches: Iterable[PairBatch], suite: TrainingSuite) -> dict[str, float]:
    """Every metric of `suite` for `system` on the pairs of `batches`; draws no random number."""
    suite.to(system.device)
    suite.reset()
    for batch in batches:
        pairs = batch.to(system.device)
        made = system.assess(pairs)
        suite.update(
            made.generated, pairs.target, pairs.target_affect, pairs.identity, pairs.source_affect,
            made.real_realness, made.real_affect, made.fake_realness, made.fake_affect,
        )  # fmt: skip
    return suite.compute()


@dataclass(frozen=True)
class AffectGrid:
    """One reference frame of every identity turned into every affect (Figure 5 of FExGAN, 7 of FExGAN-Meta).

    Attributes:
        identities: I names.
        references: (I, 3, S, S), neutral where the data set has neutral frames.
        reference_affect: (I,) int64.
        generated: (I, K, 3, S, S).
        truth: (I, K, 3, S, S), the strongest true frame of each cell; NaN where the cell is empty.
    """

    identities: tuple[str, ...]
    references: Tensor
    reference_affect: Tensor
    generated: Tensor
    truth: Tensor

    @property
    def present(self) -> Tensor:
        """(I, K) bool: cells with a true frame."""
        return ~self.truth.flatten(2).isnan().any(2)


def strongest_row(frames: FrameSet, identity: int, affect: int) -> int | None:
    """The row of the cell with the highest intensity.

    Of neutral frames the first, since takes blink later; where intensities are unknown the middle one, where takes
    have their apex.
    """
    rows = np.flatnonzero((frames.identity == identity) & (frames.affect == affect))
    if not len(rows):
        return None
    if frames.affects[affect] == "neutral":
        return int(rows[0])
    if frames.intensity is None:
        return int(rows[len(rows) // 2])
    return int(rows[np.argmax(np.nan_to_num(frames.intensity[rows], nan=-1.0))])


def reference_rows(frames: FrameSet) -> list[int]:
    """A row for each identity of the split: its neutral frame, else the first affect it has."""
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else 0
    order = [neutral, *(k for k in range(len(frames.affects)) if k != neutral)]
    rows = []
    for identity in range(len(frames.identities)):
        found = (strongest_row(frames, identity, affect) for affect in order)
        rows.append(next((row for row in found if row is not None), -1))
    return [row for row in rows if row >= 0]


@torch.no_grad()
def affect_grid(system: ExpressionSystem, frames: FrameSet, most: int = MOST_IDENTITIES) -> AffectGrid:
    """Turn a reference frame of every identity of `frames` (the first `most`) into every affect."""
    size, K = system.image_size, len(frames.affects)
    rows = np.asarray(reference_rows(frames)[:most])
    references = frames.floats(rows, size)  # (I, 3, S, S)
    affect = torch.from_numpy(frames.affect[rows])  # (I,)
    generated = torch.stack([to_affect(system, references, affect, k) for k in range(K)], dim=1)  # (I, K, 3, S, S)
    truth = torch.full_like(generated, float("nan"))
    for i, row in enumerate(rows):
        for k in range(K):
            true_row = strongest_row(frames, int(frames.identity[row]), k)
            if true_row is not None:
                truth[i, k] = frames.floats(np.asarray([true_row]), size)[0]
    names = tuple(frames.identities[i] for i in frames.identity[rows])
    return AffectGrid(names, references, affect, generated, truth)


def to_affect(system: ExpressionSystem, references: Tensor, source_affect: Tensor, affect: int) -> Tensor:
    """All `references` (I, 3, S, S) with one affect; on the CPU."""
    target = system.expression(torch.full((len(references),), affect))
    return system.synthesize(references.to(system.device), system.expression(source_affect), target).cpu()


@torch.no_grad()
def complex_faces(
    system: ExpressionSystem, grid: AffectGrid, pairs: list[tuple[str, str]], strength: float = 1.0
) -> Tensor:
    """The references with two affects asked for at once, (I, P, 3, S, S); both entries are `strength`."""
    faces = []
    for first, second in pairs:
        weights = {first: strength, second: strength}
        target = Expression.blend(weights, system.affects, len(grid.references)).to(system.device)
        source = system.expression(grid.reference_affect)
        faces.append(system.synthesize(grid.references.to(system.device), source, target).cpu())
    return torch.stack(faces, dim=1)


def grid_similarity(grid: AffectGrid) -> float:
    """Mean SSIM of the generated cells of the grid against the true frames of the same cells."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    made, true = grid.generated[grid.present], grid.truth[grid.present]  # (I, K, 3, S, S) -> (n, 3, S, S)
    return torch.as_tensor(ssim((made + 1) / 2, (true + 1) / 2, data_range=1.0)).item()
