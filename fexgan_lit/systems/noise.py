"""Random numbers of a whole batch, of which each process takes its rows."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from fexgan_lit.data.pairs import Share


class BatchNoise:
    """Draw random numbers, one row per pair of the batch.

    A single process draws from torch's global generator. With several processes, each draws the numbers of the whole
    batch from a generator with the same seed on all processes, and keeps the rows of its own pairs. The noise of a pair
    therefore does not depend on the number of processes. Dropout draws from torch's global generator, whose seed
    differs between processes.

    Attributes:
        share: rank and number of processes.
    """

    def __init__(self) -> None:
        self.share = Share()
        self._generator: torch.Generator | None = None

    @property
    def together(self) -> bool:
        """Return whether several processes share the batch."""
        return self.share.world > 1

    def seed(self, seed: int, device: torch.device) -> None:
        """Seed the generator for an iteration; `seed` must be the same on all processes."""
        if self.together:
            if self._generator is None or self._generator.device != device:
                self._generator = torch.Generator(device)
            self._generator.manual_seed(seed)

    def normal(self, rows: int, *shape: int, device: torch.device) -> Tensor:
        """Draw (rows, *shape) from N(0, 1)."""
        return self._mine(torch.randn(rows * self.share.world, *shape, generator=self._generator, device=device), rows)

    def uniform(self, rows: int, *shape: int, device: torch.device) -> Tensor:
        """Draw (rows, *shape) uniformly from [0, 1)."""
        return self._mine(torch.rand(rows * self.share.world, *shape, generator=self._generator, device=device), rows)

    def shuffled(self, values: Tensor) -> Tensor:
        """Shuffle the rows of the whole batch and return this process's part; `values` (B, ...) are its own rows."""
        rows, everyone = len(values), values
        if self.together:
            parts = [torch.empty_like(values) for _ in range(self.share.world)]
            dist.all_gather(parts, values.contiguous())
            everyone = torch.cat(parts)
        order = torch.randperm(len(everyone), generator=self._generator, device=values.device)
        return everyone[self._mine(order, rows)]

    def _mine(self, values: Tensor, rows: int) -> Tensor:
        return values[self.share.rank * rows : (self.share.rank + 1) * rows]
