"""Grids of generated images: every reference with every affect, and with two affects at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.reference import affect_expression, both, frame_expression, reference_rows, strongest_row
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.pixels import ssim

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.systems.base import ExpressionSystem


#: Most rows in the figure.
MOST_IDENTITIES = 16


@dataclass(frozen=True)
class AffectGrid:
    """Generated images of one reference frame of every identity with every affect.

    Figure 5 of FExGAN, Figure 7 of FExGAN-Meta.

    Attributes:
        identities: I names.
        references: (I, 3, S, S), neutral where the data set has neutral frames.
        reference_affect: (I,) int64.
        generated: (I, K, 3, S, S).
        truth: (I, K, 3, S, S), the strongest real frame of each cell; NaN where the cell is empty.
        shown: expressions of the references, (I, ...).
        wanted: K target expressions (I, ...).
    """

    identities: tuple[str, ...]
    references: Tensor
    reference_affect: Tensor
    generated: Tensor
    truth: Tensor
    shown: Expression
    wanted: tuple[Expression, ...]

    @property
    def present(self) -> Tensor:
        """Return (I, K) bool: the cells with a real frame."""
        return ~self.truth.flatten(2).isnan().any(2)


@torch.no_grad()
def affect_grid(system: ExpressionSystem, frames: FrameSet, most: int = MOST_IDENTITIES) -> AffectGrid:
    """Generate every affect from a reference frame of every identity of `frames` (the first `most`).

    The target expression of a cell is the expression of its strongest real frame, so that a system that reads action
    units or landmarks gets as much information as a system that reads labels.
    """
    size, K = system.image_size, len(frames.affects)
    rows = np.asarray(reference_rows(frames)[:most])
    references, shown = frames.floats(rows, size), frame_expression(frames, rows)  # (I, 3, S, S)
    wanted = tuple(Expression.stack([affect_expression(frames, int(row), k) for row in rows]) for k in range(K))
    generated = torch.stack([_synthesize(system, references, shown, w) for w in wanted], dim=1)  # (I, K, 3, S, S)
    truth = torch.full_like(generated, float("nan"))
    for i, row in enumerate(rows):
        for k in range(K):
            true_row = strongest_row(frames, int(frames.identity[row]), k)
            if true_row is not None:
                truth[i, k] = frames.floats(np.asarray([true_row]), size)[0]
    names = tuple(frames.identities[i] for i in frames.identity[rows])
    return AffectGrid(names, references, torch.from_numpy(frames.affect[rows]), generated, truth, shown, wanted)


def _synthesize(system: ExpressionSystem, source: Tensor, shown: Expression, wanted: Expression) -> Tensor:
    """Run the system on its device; inputs and output are on the CPU."""
    device = system.device
    return system.synthesize(source.to(device), shown.to(device), wanted.to(device)).cpu()


@torch.no_grad()
def complex_faces(
    system: ExpressionSystem, grid: AffectGrid, pairs: list[tuple[str, str]], strength: float = 1.0
) -> Tensor:
    """Generate the references with two affects at once, each at `strength`, (I, P, 3, S, S); see `both`."""
    wanted = dict(zip(system.affects, grid.wanted, strict=True))
    asked = [both(grid.shown, wanted[first], wanted[second], strength) for first, second in pairs]
    return torch.stack([_synthesize(system, grid.references, grid.shown, a) for a in asked], dim=1)


def grid_similarity(grid: AffectGrid) -> float:
    """Return the mean SSIM between the generated cells of the grid and the real frames of the same cells."""
    return float(ssim(grid.generated[grid.present], grid.truth[grid.present]).mean())  # (I, K, 3, S, S) -> (n, 3, S, S)
