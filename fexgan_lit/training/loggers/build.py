"""Make the loggers of a run, and send metrics, pictures and tables to all of them.

Pictures and tables go to every Lightning logger, including the user's own, that has the methods `log_image` and
`log_table` as in Lightning's `WandbLogger`.
"""

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

from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.training.loggers.csv import RunCsvLogger
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.runs.config import LoggerSettings


def make_loggers(
    settings: LoggerSettings, run: RunFolder, config: Mapping[str, Any], resume_at: int | None, console: Console,
    run_id: str | None = None,
) -> list[Logger]:  # fmt: skip
    """Make the loggers of a run: metrics.csv first, then those in the settings, then the user's own.

    Args:
        settings: the config group `logger`.
        run: the run folder.
        config: configuration of the run.
        resume_at: iteration of the checkpoint that the run resumes from; None for a new run.
        console: the terminal, for warnings.
        run_id: id of the W&B run to resume.

    Raises:
        UserError: a package or a key is missing, or a user's logger cannot be built.
    """
    loggers: list[Logger] = [RunCsvLogger(run.metrics, resume_at)]
    for package in settings.names:
        if package != "csv" and importlib.util.find_spec(package) is None:
            raise UserError(f"logger={package} needs the package {package}: pip install 'fexgan_lit[{package}]'")
    if "tensorboard" in settings.names:
        from fexgan_lit.training.loggers.tensorboard import RunTensorBoard

        loggers.append(RunTensorBoard(run.path, resume_at))
    # one W&B run, however many processes train
    if "wandb" in settings.names and getattr(rank_zero_only, "rank", 0) == 0:
        from fexgan_lit.training.loggers.wandb import start_wandb

        loggers.append(start_wandb(settings, run, config, run_id, console))
    for name, values in settings.own.items():
        try:
            loggers.append(instantiate(values))
        except HydraException as error:
            raise UserError(f"logger.{name} cannot be built: {error.__cause__ or error}") from error
        if not isinstance(loggers[-1], Logger):
            raise UserError(f"logger.{name}: {values.get('_target_')} is not a Lightning logger")
    return loggers


def log_numbers(loggers: Iterable[Logger], values: Mapping[str, float], iteration: int) -> None:
    """Send metrics to every logger with the iteration as step."""
    for logger in loggers:
        logger.log_metrics(dict(values), step=iteration)


def log_picture(loggers: Iterable[Logger], key: str, picture: Image.Image, iteration: int, caption: str = "") -> None:
    """Send a picture; pictures with the same key form one panel with a slider."""
    for logger in loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key, [picture], iteration, caption=[caption])


def log_table(
    loggers: Iterable[Logger], key: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], iteration: int = 0
) -> None:
    """Send a table."""
    data = [list(row) for row in rows]
    for logger in loggers:
        if hasattr(logger, "log_table"):
            logger.log_table(key, list(columns), data, step=iteration)


def log_confusion(
    loggers: Iterable[Logger], key: str, counts: Sequence[Sequence[int]], names: Sequence[str], iteration: int
) -> None:
    """Send a confusion matrix (rows are target classes, columns predictions) as a table, and to W&B also as a chart."""
    rows = [[name, *row] for name, row in zip(names, counts, strict=True)]
    log_table(loggers, key, ["asked / judged", *names], rows, iteration)
    for logger in loggers:
        if hasattr(logger, "log_confusion"):
            logger.log_confusion(f"charts/{key.rpartition('/')[2]}", counts, names, iteration)


def log_summary(
    loggers: Iterable[Logger], run: RunFolder, config: Mapping[str, Any], iteration: int, metrics: Mapping[str, float],
    data_key: str,
) -> None:  # fmt: skip
    """Send the results of a run: W&B stores the weights, TensorBoard the options with the final metrics.

    Args:
        loggers: the loggers.
        run: the run folder with the portable weights.
        config: the resolved configuration, as in config.yaml.
        iteration: the last iteration.
        metrics: final metrics by name.
        data_key: key that identifies the frames and their split.
    """
    for logger in loggers:
        if hasattr(logger, "log_summary"):
            logger.log_summary(run, config, iteration, metrics, data_key)


def close_loggers(loggers: Iterable[Logger]) -> list[str]:
    """Flush and close the loggers, so that the next run of a sweep in this process gets a new W&B run.

    If an exception is being handled, the run is marked as failed.

    Returns:
        Commands that the user still has to run, such as the upload of an offline run.
    """
    failed = sys.exc_info()[0] is not None
    left = []
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if hasattr(logger, "close") and (line := logger.close(failed)):
            left.append(line)
    return left
