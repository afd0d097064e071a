"""The options of a sweep, typed; `conf/sweep/` explains each field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SAMPLERS = ("tpe", "random", "nsgaii")
DIRECTIONS = ("minimize", "maximize")


@dataclass
class PruningSettings:
    """When a run is hopeless enough to stop it."""

    warmup: int = 0
    min_runs: int = 4
    quantile: float = 0.5

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = [
            f"sweep.pruning.{name}={getattr(self, name)}: expected {least} or more"
            for name, least in (("warmup", 0), ("min_runs", 1))
            if getattr(self, name) < least
        ]
        if not 0 < self.quantile < 1:
            found.append(f"sweep.pruning.quantile={self.quantile}: expected a share between 0 and 1, such as 0.5")
        return found


@dataclass
class SweepSettings:
    """A grid reads `objectives` and `pruning`, a search all of it."""

    objectives: list[str] = field(default_factory=list)
    pruning: PruningSettings | None = None
    trials: int = 50
    jobs: int = 1
    sampler: str = "tpe"
    startup: int = 10
    seed: int = 0
    space: Any = None

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = [
            f"sweep.{name}={getattr(self, name)}: expected 1 or more"
            for name in ("trials", "jobs", "startup")
            if getattr(self, name) < 1
        ]
        if self.sampler not in SAMPLERS:
            found.append(f"sweep.sampler={self.sampler}: expected one of {', '.join(SAMPLERS)}")
        found += [
            f"sweep.objectives: {text}: expected minimize:METRIC or maximize:METRIC"
            for text in self.objectives
            if text.partition(":")[0] not in DIRECTIONS or not text.partition(":")[2].strip()
        ]
        if self.pruning is not None:
            found += self.pruning.problems()
            if not self.objectives:
                found.append("sweep.pruning: a run is compared by sweep.objectives, and there is none")
        return found

    @property
    def directions(self) -> dict[str, str]:
        """Metric, named as in metrics.csv -> minimize or maximize; a bare name means the validation split."""
        parts = [text.partition(":") for text in self.objectives]
        return {(name.strip() if "/" in name else f"final/val/{name.strip()}"): way for way, _, name in parts}
