"""The action units of an affect: an average over the training frames that show the affect most strongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


class UnitPrototypes(nn.Module):
    """Mean action units of K affects, stored with the weights; NaN before `learn`.

    Buffers:
        units: (K, 17) in [0, 1].
    """

    units: Tensor

    def __init__(self, affects: int) -> None:
        super().__init__()
        self.register_buffer("units", torch.full((affects, len(ACTION_UNITS)), float("nan")))

    @property
    def known(self) -> bool:
        """Return whether the prototypes were learned."""
        return not bool(self.units.isnan().any())

    def learn(self, frames: FrameSet) -> None:
        """Average each affect's strongest frame of every identity; an affect without frames gets a neutral face.

        Frames without affects leave the prototypes unchanged.
        """
        from fexgan_lit.data.datasets.labels import has_affects
        from fexgan_lit.data.reference import strongest_row

        if frames.aus is None or not has_affects(frames.affects):
            return
        for affect in range(len(self.units)):
            found = (strongest_row(frames, identity, affect) for identity in range(len(frames.identities)))
            rows = [row for row in found if row is not None]
            mean = frames.aus[rows].mean(0) if rows else np.zeros(len(ACTION_UNITS), np.float32)
            self.units[affect] = torch.from_numpy(mean)

    def forward(self, weights: Tensor) -> Tensor:
        """Map affect weights (B, K) to action units (B, 17) in [0, 1]."""
        return (weights @ self.units).clamp(0, 1)
