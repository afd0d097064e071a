"""Clips as strips: the same moments of a true clip and of its imitations below one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from fexgan_lit.figures.grids import _sheet


def clip_strips(
    sources: Tensor, strips: Tensor, clips: Sequence[str], makers: Sequence[str], moments: Sequence[str]
) -> Image.Image:
    """For every clip its source, then a row a maker: the true frames first, those of systems below.

    Args:
        sources: (C, 3, S, S) in [-1, 1], what the clips are made from.
        strips: (C, M, T, 3, S, S) in [-1, 1].
        clips: C names.
        makers: M names.
        moments: T labels of the columns.

    Raises:
        ValueError: names and pictures do not agree in number.
    """
    if strips.ndim != 6 or strips.shape[:3] != (len(clips), len(makers), len(moments)) or len(sources) != len(clips):
        raise ValueError(
            f"strips must be {(len(clips), len(makers), len(moments), 3, 'S', 'S')}, got {tuple(strips.shape)}"
        )
    cells = torch.flatten(strips, 0, 1)  # (C, M, T, 3, S, S) -> (C*M, T, 3, S, S)
    labels = [f"{clip}: {maker}" if i == 0 else maker for clip in clips for i, maker in enumerate(makers)]
    return _sheet(cells, labels, moments, sources, "source", group=len(makers))
