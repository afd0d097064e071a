"""Stop a run of a sweep that is worse than the other runs in every objective.

Optuna's pruners support neither several objectives nor grids. This rule needs no server and works with every launcher:
each run reads the values that the others wrote to their metrics.csv at the same iteration.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from fexgan_lit.runs.config import PruningSettings

#: Prefixes of a metric after training and during training.
_FINAL, _DURING = "final/val/", "val/"


class Pruning(Callback):
    """Compares the run with the other runs of the sweep after every validation.

    Args:
        settings: the pruning rule.
        directions: "minimize" or "maximize", by final metric.
        folder: the run folder; the other run folders are beside it.

    Attributes:
        reason: why the run was stopped; None if it was not.
        numbers: the last validation metrics, by their names in metrics.csv.
    """

    def __init__(self, settings: PruningSettings, directions: Mapping[str, str], folder: Path) -> None:
        self.settings = settings
        self.directions = {during(name): way for name, way in directions.items()}
        self.folder = folder
        self.reason: str | None = None
        self.numbers: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the training if the run is behind; its checkpoint is still written."""
        iteration = trainer.global_step
        if trainer.state.fn != "fit" or not self.settings.warmup < iteration < trainer.max_steps:
            return  # a run at its end is never pruned
        self.numbers = {k: v for k, v in row_at(self.folder, iteration).items() if k.startswith(_DURING)}
        others = [row_at(place, iteration) for place in siblings(self.folder)]
        if behind(self.numbers, others, self.directions, self.settings):
            self.reason = f"stopped at iteration {iteration}: behind the other runs in {', '.join(self.directions)}"
        self.reason = trainer.strategy.broadcast(self.reason)  # processes read the files at different times
        trainer.should_stop = trainer.should_stop or self.reason is not None


def during(name: str) -> str:
    """Return a metric's name during training (`val/ssim` for `final/val/ssim`)."""
    return _DURING + name.removeprefix(_FINAL) if name.startswith(_FINAL) else name


def siblings(folder: Path) -> list[Path]:
    """Return the other run folders of the sweep."""
    return sorted(path.parent for path in folder.parent.glob("*/metrics.csv") if path.parent != folder)


def row_at(folder: Path, iteration: int) -> dict[str, float]:
    """Return the metrics that a run logged at an iteration; empty if there are none or the file is being written."""
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("iteration") == str(iteration):
                    return {name: float(value) for name, value in row.items() if name and value}
    except (OSError, ValueError):
        return {}
    return {}


def behind(
    mine: Mapping[str, float], others: Sequence[Mapping[str, float]], directions: Mapping[str, str],
    settings: PruningSettings,
) -> bool:  # fmt: skip
    """Return whether, in every objective, more than the share `quantile` of the others is better than `mine`.

    Each objective needs `min_runs` others that have it; if one cannot be compared, the result is False.
    """
    for name, way in directions.items():
        theirs = [row[name] for row in others if name in row]
        if name not in mine or len(theirs) < settings.min_runs:
            return False
        better = sum(value < mine[name] if way == "minimize" else value > mine[name] for value in theirs)
        if better <= settings.quantile * len(theirs):
            return False
    return bool(directions)
