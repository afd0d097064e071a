"""Where numbers and pictures go: metrics.csv always, TensorBoard or Weights & Biases when asked for."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from fexgan_lit.errors import UserError
from fexgan_lit.files import write_atomic
from fexgan_lit.runfolder import RunFolder

if TYPE_CHECKING:
    from fexgan_lit.config import LoggerSettings


class RunCsvLogger(Logger):
    """`metrics.csv`: one row an iteration that logged anything; goes on after a resume instead of starting over."""

    def __init__(self, path: Path, resume_at: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, str]] = {}
        self.columns: list[str] = ["iteration"]
        if resume_at is not None and path.is_file():
            self._read(resume_at)

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "csv"

    @property
    def version(self) -> str:
        """Lightning asks for it."""
        return ""

    def _read(self, resume_at: int) -> None:
        """Keep the rows up to the checkpoint; what came after it is about to be computed again."""
        with self.path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if int(row["iteration"]) <= resume_at:
                    self._merge(int(row["iteration"]), {k: v for k, v in row.items() if v})
        write_atomic(self.path, self._text(self.rows.values(), header=True))

    def _merge(self, step: int, values: Mapping[str, str]) -> bool:
        """Add values to the row of `step`; True if the file must be written anew."""
        fresh = [name for name in values if name not in self.columns]
        rewrite = bool(fresh) or step in self.rows
        self.columns += fresh
        self.rows.setdefault(step, {"iteration": str(step)}).update(values)
        return rewrite

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the numbers of iteration `step`."""
        step = int(step or 0)
        if self._merge(step, {name: f"{float(value):.6g}" for name, value in metrics.items()}):
            write_atomic(self.path, self._text(self.rows.values(), header=True))
        else:
            new = not self.path.exists()
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(self._text([self.rows[step]], header=new))

    def _text(self, rows: Any, header: bool) -> str:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self.columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return buffer.getvalue()

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration lies beside metrics.csv."""

    def history(self) -> dict[str, tuple[list[int], list[float]]]:
        """Every column as (iterations, values), for the loss curves."""
        return {
            name: (
                [step for step, row in sorted(self.rows.items()) if name in row],
                [float(row[name]) for _, row in sorted(self.rows.items()) if name in row],
            )
            for name in self.columns[1:]
        }


def make_loggers(
    settings: LoggerSettings, run: RunFolder, config: dict[str, Any], resume_at: int | None
) -> list[Logger]:
    """The loggers of a run: metrics.csv first, then the one asked for."""
    loggers: list[Logger] = [RunCsvLogger(run.metrics, resume_at)]
    if settings.name == "tensorboard":
        _require("tensorboard", "tensorboard")
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(run.path, name="", version="tensorboard"))
    if settings.name == "wandb":
        loggers.append(_wandb_logger(settings, run, config))
    return loggers


def _require(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(f"logger={extra} needs the package {module}: pip install 'fexgan_lit[{extra}]'")


def _wandb_logger(settings: LoggerSettings, run: RunFolder, config: dict[str, Any]) -> Logger:
    _require("wandb", "wandb")
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    if settings.mode == "online" and not wandb.api.api_key:
        raise UserError("logger.mode=online, but Weights & Biases has no key here: run `wandb login`, or stay offline")
    logger = WandbLogger(
        name=run.path.name, save_dir=run.path, project=settings.project, entity=settings.entity,
        group=settings.group, tags=settings.tags, offline=settings.mode == "offline", config=config,
        settings=wandb.Settings(silent=True),
    )  # fmt: skip
    # every panel gets the iteration as its x axis
    logger.experiment.define_metric("iteration")
    logger.experiment.define_metric("*", step_metric="iteration")
    return logger


def log_numbers(loggers: list[Logger], values: Mapping[str, float], iteration: int) -> None:
    """Send numbers to every logger with the iteration as their step."""
    for logger in loggers:
        extra = {"iteration": iteration} if type(logger).__name__ == "WandbLogger" else {}
        logger.log_metrics({**values, **extra}, step=iteration)


def log_picture(loggers: list[Logger], key: str, picture: Image.Image, iteration: int, caption: str = "") -> None:
    """Send a picture to the loggers that show pictures."""
    import numpy as np

    for logger in loggers:
        kind = type(logger).__name__
        if kind == "WandbLogger":
            import wandb

            shown: Any = wandb.Image(picture, caption=caption)
            logger.log_metrics({key: shown, "iteration": iteration}, step=iteration)
        elif kind == "TensorBoardLogger":
            pixels = np.asarray(picture.convert("RGB"))  # (H, W, 3)
            logger.experiment.add_image(key, pixels, iteration, dataformats="HWC")  # type: ignore[attr-defined]


def log_table(loggers: list[Logger], key: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Send a table to Weights & Biases; the other loggers have no tables (report.md has them)."""
    for logger in loggers:
        if type(logger).__name__ == "WandbLogger":
            logger.log_table(key=key, columns=columns, data=rows)  # type: ignore[attr-defined]


def close_loggers(loggers: list[Logger]) -> None:
    """Flush and end; the next run of a sweep in this process must not go on in this run's W&B run."""
    for logger in loggers:
        logger.finalize("success")
        if type(logger).__name__ == "WandbLogger":
            logger.experiment.finish()  # type: ignore[attr-defined]
