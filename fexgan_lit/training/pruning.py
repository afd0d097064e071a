"""Stop a run that the other runs of its sweep leave behind in everything that counts.

Optuna's own pruners refuse a search with several objectives, and know nothing of a grid. This rule needs no server and
no launcher: every run reads what the others wrote to their metrics.csv at the same iteration.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from fexgan_lit.runs.config import PruningSettings

#: A metric after training and its name during it.
_FINAL, _DURING = "final/val/", "val/"


class Pruning(Callback):
    """Compare the run with its siblings after every measurement on the validation pairs.

    Args:
        settings: when a run is hopeless.
        directions: metric after training -> minimize or maximize.
        folder: of the run; its siblings lie beside it.

    Attributes:
        reason: why the run was stopped; None while it was not.
        numbers: the last measurement, named as in metrics.csv.
    """

    def __init__(self, settings: PruningSettings, directions: Mapping[str, str], folder: Path) -> None:
        self.settings = settings
        self.directions = {during(name): way for name, way in directions.items()}
        self.folder = folder
        self.reason: str | None = None
        self.numbers: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the training to stop where the run is behind; its checkpoint is still written."""
        iteration = trainer.global_step
        if trainer.state.fn != "fit" or not self.settings.warmup < iteration < trainer.max_steps:
            return  # at its end a run is measured as every other
        self.numbers = {k: v for k, v in row_at(self.folder, iteration).items() if k.startswith(_DURING)}
        others = [row_at(place, iteration) for place in siblings(self.folder)]
        if behind(self.numbers, others, self.directions, self.settings):
            self.reason = f"stopped at iteration {iteration}: behind the other runs in {', '.join(self.directions)}"
        self.reason = trainer.strategy.broadcast(self.reason)  # several processes see the files at several moments
        trainer.should_stop = trainer.should_stop or self.reason is not None


def during(name: str) -> str:
    """A metric's name during training (`final/val/ssim` -> `val/ssim`)."""
    return _DURING + name.removeprefix(_FINAL) if name.startswith(_FINAL) else name


def siblings(folder: Path) -> list[Path]:
    """The other run folders of the sweep."""
    return sorted(path.parent for path in folder.parent.glob("*/metrics.csv") if path.parent != folder)


def row_at(folder: Path, iteration: int) -> dict[str, float]:
    """What a run logged at an iteration; empty where it was never there. Another process may be writing the file."""
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
    """Whether more than the share `quantile` of the others is better than `mine` in every objective.

    An objective counts only with `min_runs` others that have it; where one cannot be compared, nothing is behind.
    """
    for name, way in directions.items():
        theirs = [row[name] for row in others if name in row]
        if name not in mine or len(theirs) < settings.min_runs:
            return False
        better = sum(value < mine[name] if way == "minimize" else value > mine[name] for value in theirs)
        if better <= settings.quantile * len(theirs):
            return False
    return bool(directions)
