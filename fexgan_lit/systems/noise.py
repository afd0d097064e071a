"""Noise of a whole batch, of which each process takes its share."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from fexgan_lit.data.pairs import Share

# ---------------------------------------------------------------------- sharing a batch


class BatchNoise:
    """Draws one row of random numbers a pair of the batch.

    One process draws from torch's own generator. Of several, each draws the numbers of the whole batch from a
    generator that all seed alike, and keeps the rows of its own pairs; so the noise of a pair does not depend on the
    number of processes. Dropout draws from torch's own generator, which every process seeds differently.

    Attributes:
        share: which rows are this process's.
    """

    def __init__(self) -> None:
        self.share = Share()
        self._generator: torch.Generator | None = None

    @property
    def together(self) -> bool:
        """Whether several processes share the batch."""
        return self.share.world > 1

    def seed(self, seed: int, device: torch.device) -> None:
        """Begin an iteration; `seed` is the same on all processes."""
        if self.together:
            if self._generator is None or self._generator.device != device:
                self._generator = torch.Generator(device)
            self._generator.manual_seed(seed)

    def normal(self, rows: int, *shape: int, device: torch.device) -> Tensor:
        """(rows, *shape) from N(0, 1)."""
        return self._mine(torch.randn(rows * self.share.world, *shape, generator=self._generator, device=device), rows)

    def uniform(self, rows: int, *shape: int, device: torch.device) -> Tensor:
        """(rows, *shape) from 0 to 1."""
        return self._mine(torch.rand(rows * self.share.world, *shape, generator=self._generator, device=device), rows)

    def shuffled(self, values: Tensor) -> Tensor:
        """The rows of the whole batch in random order, this process's part of them; `values` (B, ...) are its own."""
        rows, everyone = len(values), values
        if self.together:
            parts = [torch.empty_like(values) for _ in range(self.share.world)]
            dist.all_gather(parts, values.contiguous())
            everyone = torch.cat(parts)
        order = torch.randperm(len(everyone), generator=self._generator, device=values.device)
        return everyone[self._mine(order, rows)]

    def _mine(self, values: Tensor, rows: int) -> Tensor:
        return values[self.share.rank * rows : (self.share.rank + 1) * rows]
