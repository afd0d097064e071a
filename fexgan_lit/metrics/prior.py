"""Metrics of samples from the prior: affect accuracy, identity distribution, distance to the real frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.metrics.distributions import frechet_distance, small_sample_note
from fexgan_lit.metrics.judges.affect import Judge

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


@dataclass(frozen=True)
class SamplingReport:
    """The judge's predictions for samples from the prior.

    Attributes:
        n: number of samples.
        affect_accuracy: fraction of samples classified as their target affect.
        affect_accuracies: the same for each target affect.
        identities_seen: number of identities predicted at least once.
        identities_total: number I of identities.
        shares: fraction of the samples classified as each identity; sums to 1.
        entropy: entropy of the shares in nats.
        entropy_relative: entropy / log I; 1.0 when all identities are equally frequent (and when I is 1).
        fd_judge: Fréchet distance to the real frames on judge features; None without real features.
        notes: warnings to print beside the numbers.
    """

    n: int
    affect_accuracy: float
    affect_accuracies: dict[str, float]
    identities_seen: int
    identities_total: int
    shares: dict[str, float]
    entropy: float
    entropy_relative: float
    fd_judge: float | None
    notes: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """Return the scalars by the names of the log."""
        numbers = {
            "prior_affect_accuracy": self.affect_accuracy,
            "prior_identities_seen": float(self.identities_seen),
            "prior_identity_entropy": self.entropy,
            "prior_identity_entropy_relative": self.entropy_relative,
            "prior_largest_identity_share": max(self.shares.values()),
        }
        return numbers | ({"prior_fd_judge": self.fd_judge} if self.fd_judge is not None else {})


def cycling_affects(n: int, affects: int) -> Tensor:
    """Return target affects 0, 1, ..., K-1, 0, 1, ... for `n` samples, (n,) int64."""
    return torch.arange(n) % affects


def identity_shares(verdicts: Tensor, identities: int) -> Tensor:
    """Return the fraction of each of `identities` among `verdicts` (n,) int64, as float64 (I,)."""
    return torch.bincount(verdicts.cpu(), minlength=identities).double() / len(verdicts)


def entropy_nats(shares: Tensor) -> float:
    """Return the entropy in nats of `shares` (I,), which sum to 1; identities without samples add 0."""
    return float(torch.special.entr(shares.double()).sum())


def report_samples(judge: Judge, samples: Tensor, asked: Tensor, real_features: Tensor | None = None) -> SamplingReport:
    """Evaluate samples from the prior with a judge.

    Args:
        judge: classifies affects and identities.
        samples: (n, 3, S, S) in [-1, 1], n at least 2.
        asked: target affects, (n,) int64.
        real_features: judge features (N, F) of real frames, from `frame_features`.
    """
    reading = judge.read(samples)
    right = (reading.affect == asked.cpu()).double()
    shares = identity_shares(reading.identity, len(judge.identities))
    entropy = entropy_nats(shares)
    note = small_sample_note(len(samples), judge.net.feature_size) if real_features is not None else None
    return SamplingReport(
        n=len(samples),
        affect_accuracy=float(right.mean()),
        affect_accuracies={
            name: float(right[asked.cpu() == k].mean()) for k, name in enumerate(judge.affects) if (asked == k).any()
        },
        identities_seen=int((shares > 0).sum()),
        identities_total=len(judge.identities),
        shares=dict(zip(judge.identities, shares.tolist(), strict=True)),
        entropy=entropy,
        entropy_relative=entropy / math.log(len(judge.identities)) if len(judge.identities) > 1 else 1.0,
        fd_judge=frechet_distance(real_features, reading.features) if real_features is not None else None,
        notes=(note,) if note else (),
    )


def frame_features(judge: Judge, frames: FrameSet, max_frames: int = 4096) -> Tensor:
    """Return judge features (N, F) of at most `max_frames` frames, evenly spaced over the split."""
    count = min(max_frames, len(frames))
    rows = np.linspace(0, len(frames) - 1, count).round().astype(np.int64)
    chunks = np.array_split(rows, max(1, count // 256))
    # Generated images also have the training size before the judge resizes them.
    return torch.cat([judge.read(frames.floats(chunk, judge.image_size)).features for chunk in chunks])
