"""What is kept of the features of many images: sums for their mean and covariance, and the first rows themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from fexgan_lit.metrics.frechet import frechet_distance

#: Rows of features kept for the metrics that compare images one by one.
ROW_CAP = 10_000


class StreamedMoments:
    """Mean and covariance of features that come in batches: sums in double precision, whatever the number of images.

    Args:
        size: F.
    """

    def __init__(self, size: int) -> None:
        self.n = 0
        self.total = torch.zeros(size, dtype=torch.float64)
        self.outer = torch.zeros(size, size, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add features (B, F)."""
        rows = features.detach().double()
        self.n += len(rows)
        self.total = self.total.to(rows.device) + rows.sum(dim=0)
        self.outer = self.outer.to(rows.device).addmm_(rows.mT, rows)

    def merge(self, other: StreamedMoments) -> StreamedMoments:
        """The moments of both, for example of two processes."""
        merged = StreamedMoments(len(self.total))
        merged.n = self.n + other.n
        merged.total = self.total + other.total.to(self.total.device)
        merged.outer = self.outer + other.outer.to(self.outer.device)
        return merged

    @property
    def mean(self) -> Tensor:
        """(F,) float64."""
        return self.total / self.n

    @property
    def covariance(self) -> Tensor:
        """Unbiased, (F, F) float64; two images or more."""
        return (self.outer - self.n * torch.outer(self.mean, self.mean)) / (self.n - 1)

    def frechet(self, other: StreamedMoments) -> float:
        """Fréchet distance to `other`.

        Raises:
            ValueError: a side has fewer than two images and so no covariance.
        """
        if min(self.n, other.n) < 2:
            raise ValueError(f"a Fréchet distance needs two images a side; got {self.n} and {other.n}")
        mine = self.mean.cpu(), self.covariance.cpu()
        return float(frechet_distance(*mine, other.mean.cpu(), other.covariance.cpu()))


class FeatureReservoir:
    """The first `cap` rows of what comes in batches; later ones are counted and let go.

    Args:
        cap: rows kept at most.
    """

    def __init__(self, cap: int = ROW_CAP) -> None:
        self.cap = cap
        self.seen = 0
        self._kept: Tensor | None = None

    def update(self, rows: Tensor) -> None:
        """Add rows (B, F)."""
        if self._kept is None:
            # One block for all: many small ones among the large ones of images would break up the free memory.
            self._kept = torch.empty(self.cap, *rows.shape[1:])
        begin = min(self.seen, self.cap)
        end = min(self.seen + len(rows), self.cap)
        self._kept[begin:end] = rows[: end - begin].detach().float().cpu()
        self.seen += len(rows)

    @property
    def rows(self) -> Tensor | None:
        """(min(n, cap), F) float32 on the CPU; None before the first batch."""
        return None if self._kept is None else self._kept[: self.seen]
