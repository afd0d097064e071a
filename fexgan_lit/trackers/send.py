"""The trackers of a run, and what is sent to all of them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from rich.console import Console

from fexgan_lit.errors import UserError
from fexgan_lit.runfolder import RunFolder
from fexgan_lit.trackers.csv import RunCsvLogger
from fexgan_lit.trackers.tracker import Ending, Tracker

if TYPE_CHECKING:
    from fexgan_lit.config import LoggerSettings


def make_loggers(
    settings: LoggerSettings, run: RunFolder, config: Mapping[str, Any], resume_at: int | None, console: Console,
    run_id: str | None = None,
) -> list[Logger]:  # fmt: skip
    """The trackers of a run: metrics.csv first, then those asked for, then those of the user's own.

    Args:
        settings: which ones.
        run: the run folder.
        config: its configuration.
        resume_at: iteration of the checkpoint that a resumed run goes on from.
        console: where a tracker says what it cannot do.
        run_id: of the W&B run that a resumed run goes on in.

    Raises:
        UserError: a package or a key is missing, or a logger of the user's own cannot be built.
    """
    loggers: list[Logger] = [RunCsvLogger(run.metrics, resume_at)]
    if "tensorboard" in settings.names:
        _require("tensorboard")
        from fexgan_lit.trackers.tensorboard import RunTensorBoard

        loggers.append(RunTensorBoard(run, resume_at))
    # one W&B run, however many processes train
    if "wandb" in settings.names and getattr(rank_zero_only, "rank", 0) == 0:
        _require("wandb")
        from fexgan_lit.trackers.wandb import start_wandb

        loggers.append(start_wandb(settings, run, config, run_id, console))
    for name, values in settings.own.items():
        try:
            loggers.append(instantiate(values))
        except HydraException as error:
            raise UserError(f"logger.{name}: it cannot be built: {error.__cause__ or error}") from error
        if not isinstance(loggers[-1], Logger):
            raise UserError(f"logger.{name}: {values.get('_target_')} is no logger of Lightning")
    return loggers


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(f"logger={package} needs the package {package}: pip install 'fexgan_lit[{package}]'")


def _trackers(loggers: Iterable[Logger]) -> list[Tracker]:
    return [logger for logger in loggers if isinstance(logger, Tracker)]


def log_numbers(loggers: Iterable[Logger], values: Mapping[str, float], iteration: int) -> None:
    """Send numbers to every logger with the iteration as their step."""
    for logger in loggers:
        logger.log_metrics(dict(values), step=iteration)


def log_picture(loggers: Iterable[Logger], key: str, picture: Image.Image, iteration: int, caption: str = "") -> None:
    """Send a picture to the trackers that show pictures."""
    for tracker in _trackers(loggers):
        tracker.picture(key, picture, iteration, caption)


def log_table(
    loggers: Iterable[Logger], key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], iteration: int = 0
) -> None:
    """Send a table to the trackers that show tables."""
    for tracker in _trackers(loggers):
        tracker.table(key, columns, rows, iteration)


def log_confusion(
    loggers: Iterable[Logger], key: str, counts: Sequence[Sequence[int]], names: Sequence[str], iteration: int
) -> None:
    """Send a confusion matrix (row the asked class, column the judged one) to the trackers that show tables."""
    for tracker in _trackers(loggers):
        tracker.confusion(key, counts, names, iteration)


def log_ending(loggers: Iterable[Logger], ending: Ending) -> None:
    """Hand what a training run came to to the trackers that keep models and settings."""
    for tracker in _trackers(loggers):
        tracker.ended(ending)


def close_loggers(loggers: Iterable[Logger]) -> list[str]:
    """Flush and end; the next run of a sweep in this process must not go on in this run's W&B run.

    Returns:
        The commands that are left to the user, such as the one that uploads an offline run. Called while an error is
        on its way up, the run is marked as failed.
    """
    failed = sys.exc_info()[0] is not None
    return [line for tracker in _trackers(loggers) if (line := tracker.close(failed))]
