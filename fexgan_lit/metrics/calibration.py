"""Calibration of a judge: expected calibration error and Brier score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

#: Number of equal confidence bins, as in Guo et al. (2017).
BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Calibration of a judge: how much its confidence differs from its accuracy.

    Attributes:
        ece: expected calibration error: mean of |accuracy - confidence| over bins, weighted by their frames, in [0, 1].
        brier: mean squared distance of the probabilities to the one-hot truth, summed over classes, in [0, 2].
        accuracy: fraction of correctly classified frames.
        confidence: mean probability of the predicted class.
        n: number of frames.
        bins: number of equal confidence bins for `ece`.
    """

    ece: float
    brier: float
    accuracy: float
    confidence: float
    n: int
    bins: int = BINS

    def describe(self) -> str:
        """Return the calibration for reports, with the direction of the error."""
        way = "too sure" if self.confidence > self.accuracy else "not sure enough"
        return (
            f"calibration error {self.ece:.3f} ({self.bins} bins, n={self.n}, {way}: confidence "
            f"{self.confidence:.1%}, right {self.accuracy:.1%}), Brier score {self.brier:.3f}"
        )


def calibration(probabilities: Tensor, truth: Tensor, bins: int = BINS) -> Calibration:
    """Return expected calibration error and Brier score of a judge (Guo et al., 2017; Brier, 1950).

    Args:
        probabilities: (N, K), rows sum to 1.
        truth: (N,) int64 in 0..K-1.
        bins: number of bins of equal width on [0, 1].

    Raises:
        ValueError: there are no frames, or rows are not probabilities.
    """
    from torchmetrics.functional.classification import multiclass_calibration_error

    _check(probabilities, truth)
    p, K = probabilities.double(), probabilities.shape[1]
    confidence, verdict = p.max(dim=1)
    return Calibration(
        ece=float(multiclass_calibration_error(p, truth, num_classes=K, n_bins=bins, norm="l1")),
        brier=float((p - F.one_hot(truth, K)).square().sum(dim=1).mean()),
        accuracy=float((verdict == truth).double().mean()),
        confidence=float(confidence.mean()),
        n=len(truth),
        bins=bins,
    )


def _check(probabilities: Tensor, truth: Tensor) -> None:
    if probabilities.ndim != 2 or not len(probabilities) or len(probabilities) != len(truth):
        found = f"probabilities {tuple(probabilities.shape)}, truth {tuple(truth.shape)}"
        raise ValueError(f"{found}: expected (N, K) and (N,)")
    sums = probabilities.double().sum(dim=1)
    if (probabilities < 0).any() or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError("rows must be probabilities (non-negative, sum 1); apply softmax to logits first")
