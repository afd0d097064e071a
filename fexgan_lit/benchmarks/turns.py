"""Taking turns with a Lightning trainer: it pulls its batches, so the other tasks run where it waits for one."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from fexgan_lit.benchmarks.timing import Timing
from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.systems.base import ExpressionSystem


class TurnStream:
    """The iterations of a trainer in turns with other tasks, all timed.

    The clock of the trainer's turn runs from the moment it gets the turn's first batch until it asks for the batch
    after the last: everything it does for an iteration is inside, moving the batch to the device included. One more
    batch follows the last turn, to stop the clock.

    Args:
        batch: what every iteration is given.
        system: what is trained.
        cycle: iterations a turn.
        stances: the trainer's turns of a round, by name, each under a stance of `torch.compiler.set_stance`; None
            leaves the stance alone.
        others: the other tasks by name.
        rounds: that are timed.
        warm_up: rounds before them.

    Attributes:
        first: seconds of every task in the first round of all.
    """

    def __init__(
        self, batch: PairBatch, system: ExpressionSystem, cycle: int, stances: Mapping[str, str | None],
        others: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1,
    ) -> None:  # fmt: skip
        turns = (rounds + warm_up) * len(stances)
        #: iterations of the trainer
        self.iterations = turns * cycle + 1
        self.system, self.cycle, self.stances, self.others, self.rounds = system, cycle, stances, others, rounds
        self.pairs, self.warm_up = batch, warm_up
        self.first: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def __len__(self) -> int:
        """Iterations of the trainer."""
        return self.iterations

    def __iter__(self) -> Iterator[PairBatch]:
        for number in range(self.warm_up + self.rounds):
            self._timed = number >= self.warm_up
            for name, task in self.others.items():
                started = self._now()
                task()
                self._keep(name, started)
            for name, stance in self.stances.items():
                if stance is not None:
                    torch.compiler.set_stance(stance)
                started = self._now()
                for _ in range(self.cycle):
                    yield self.pairs
                self._keep(name, started)
        yield self.pairs

    @property
    def compile_s(self) -> float:
        """Seconds that the first compiled turn took longer than the others, or 0 where there was none."""
        if "compiled" not in self.first:
            return 0.0
        return max(0.0, self.first["compiled"] - self.timings["compiled"].median)

    @property
    def timings(self) -> dict[str, Timing]:
        """Seconds of every round of every task; the trainer's are those of a whole turn."""
        return {name: Timing(np.array(seconds)) for name, seconds in self._seconds.items()}

    def _keep(self, name: str, started: float) -> None:
        seconds = self._now() - started
        self.first.setdefault(name, seconds)
        if self._timed:
            self._seconds[name].append(seconds)

    def _now(self) -> float:
        if self.system.device.type == "cuda":
            torch.cuda.synchronize(self.system.device)
        return time.perf_counter()
