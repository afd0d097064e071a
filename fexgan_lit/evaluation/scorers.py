"""Which metrics an evaluation takes, and the distances to the true frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from fexgan_lit.evaluation.verdicts import Discriminator, Verdicts
from fexgan_lit.systems.base import Outcome

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.evaluation.scores import Scorer
    from fexgan_lit.metrics.judge import Judge


def make_scorers(ground: Ground, judge: Judge) -> list[Scorer]:
    """Fresh scorers for one contender."""
    return [Pixels(ground.where), Verdicts(judge, ground.where), Discriminator(ground.where)]


class Pixels:
    """SSIM and PSNR of every generated face against the true frame."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._ssim: list[np.ndarray] = []
        self._psnr: list[np.ndarray] = []

    def update(self, batch: PairBatch, generated: Tensor, outcome: Outcome | None) -> None:
        """See `Scorer`."""
        made, true = (generated.float() + 1) / 2, (batch.target + 1) / 2
        ssim = structural_similarity_index_measure(made, true, data_range=1.0, reduction="none")
        self._ssim.append(ssim.cpu().numpy())
        error = (made - true).square().flatten(1).mean(1).clamp_min(1e-10)  # (B, 3, S, S) -> (B,)
        self._psnr.append((-10 * error.log10()).cpu().numpy())

    def columns(self) -> dict[str, np.ndarray]:
        """One value a pair."""
        return {"ssim": np.concatenate(self._ssim), "psnr": np.concatenate(self._psnr)}

    def numbers(self) -> dict[str, float]:
        """None."""
        return {}

    def recipes(self) -> dict[str, str]:
        """See `Scorer`."""
        return {"ssim": self.where, "psnr": self.where}

    def notes(self) -> dict[str, str]:
        """None."""
        return {}
