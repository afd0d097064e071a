"""The action units an affect means: an average of the training frames that show it best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


class UnitPrototypes(nn.Module):
    """Action units of K affects, kept with the weights; NaN until learned.

    Buffers:
        units: (K, 17) in [0, 1].
    """

    units: Tensor

    def __init__(self, affects: int) -> None:
        super().__init__()
        self.register_buffer("units", torch.full((affects, len(ACTION_UNITS)), float("nan")))

    @property
    def known(self) -> bool:
        """Whether they were learned."""
        return not bool(self.units.isnan().any())

    def learn(self, frames: FrameSet) -> None:
        """Average each affect's strongest frame of every identity; an affect without frames means a face at rest.

        Nothing is learned of frames that have no affects.
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
        """Weights of the affects (B, K) -> action units (B, 17), at most 1."""
        return (weights @ self.units).clamp(0, 1)
