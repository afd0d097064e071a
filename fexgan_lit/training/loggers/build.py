"""The loggers of a run, and what is sent to all of them.

Pictures and tables go to every logger of Lightning that has the methods `log_image` and `log_table` of its
`WandbLogger`, the user's own among them.
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
    """The loggers of a run: metrics.csv first, then those asked for, then those of the user's own.

    Args:
        settings: which ones.
        run: the run folder.
        config: its configuration.
        resume_at: iteration of the checkpoint that a resumed run goes on from.
        console: where a logger says what it cannot do.
        run_id: of the W&B run that a resumed run goes on in.

    Raises:
        UserError: a package or a key is missing, or a logger of the user's own cannot be built.
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
            raise UserError(f"logger.{name}: it cannot be built: {error.__cause__ or error}") from error
        if not isinstance(loggers[-1], Logger):
            raise UserError(f"logger.{name}: {values.get('_target_')} is no logger of Lightning")
    return loggers


def log_numbers(loggers: Iterable[Logger], values: Mapping[str, float], iteration: int) -> None:
    """Send numbers to every logger with the iteration as their step."""
    for logger in loggers:
        logger.log_metrics(dict(values), step=iteration)


def log_picture(loggers: Iterable[Logger], key: str, picture: Image.Image, iteration: int, caption: str = "") -> None:
    """Send a picture; the same key over the iterations is one panel with a slider."""
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
    """Send a confusion matrix (row the asked class, column the judged one) as a table, to W&B as a chart, too."""
    rows = [[name, *row] for name, row in zip(names, counts, strict=True)]
    log_table(loggers, key, ["asked / judged", *names], rows, iteration)
    for logger in loggers:
        if hasattr(logger, "log_confusion"):
            logger.log_confusion(f"charts/{key.rpartition('/')[2]}", counts, names, iteration)


def log_summary(
    loggers: Iterable[Logger], run: RunFolder, config: Mapping[str, Any], iteration: int, metrics: Mapping[str, float],
    data_key: str,
) -> None:  # fmt: skip
    """Send what a training run came to: W&B keeps the weights, TensorBoard the options beside the final numbers.

    Args:
        loggers: of the run.
        run: its folder, with the portable weights in it.
        config: the resolved configuration, as in config.yaml.
        iteration: the last one.
        metrics: the final numbers by name.
        data_key: what identifies the frames and their split.
    """
    for logger in loggers:
        if hasattr(logger, "log_summary"):
            logger.log_summary(run, config, iteration, metrics, data_key)


def close_loggers(loggers: Iterable[Logger]) -> list[str]:
    """Flush and end; the next run of a sweep in this process must not go on in this run's W&B run.

    Returns:
        The commands that are left to the user, such as the one that uploads an offline run. Called while an error is
        on its way up, the run is marked as failed.
    """
    failed = sys.exc_info()[0] is not None
    left = []
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if hasattr(logger, "close") and (line := logger.close(failed)):
            left.append(line)
    return left
