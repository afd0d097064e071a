"""The findings for Weights & Biases and TensorBoard: standings as a table, pictures as media."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fexgan_lit.loggers.build import close_loggers, log_numbers, log_picture, log_table, make_loggers
from fexgan_lit.metrics.registry import in_order
from fexgan_lit.runfolder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.config import LoggerSettings
    from fexgan_lit.evaluation.findings import Findings
    from fexgan_lit.evaluation.settings import EvaluationSettings

_COLUMNS = ["contender", "metric", "mean", "deviation", "low", "high", "seeds"]


def log_findings(
    findings: Findings, settings: EvaluationSettings, logger: LoggerSettings, folder: Path, console: Console
) -> list[str]:
    """Send everything to the logger that was asked for besides the files; `csv` asks for none.

    Returns:
        The commands that are left to the user, such as the one that uploads an offline run.

    Raises:
        UserError: the logger's package or key is missing.
    """
    if logger.names == ["csv"] and not logger.own:
        return []
    options: dict[str, Any] = {"evaluation": asdict(settings), "command": findings.command, "recipes": findings.recipes}
    _, *loggers = make_loggers(logger, RunFolder(folder), options, None, console)  # the files stand in for metrics.csv
    try:
        numbers = {
            f"evaluation/{row.name}/{metric}": figure.mean
            for row in findings.rows
            for metric, figure in row.figures.items()
        }
        log_numbers(loggers, numbers, 0)
        log_table(loggers, "tables/every_figure", _COLUMNS, standings_rows(findings))
        for table in findings.all_tables():
            log_table(loggers, f"tables/{table.title}", table.header, table.rows)
        for name, picture in findings.pictures.items():
            log_picture(loggers, f"figures/{name}", picture, 0, findings.captions.get(name, ""))
    finally:
        left = close_loggers(loggers)
    return left


def standings_rows(findings: Findings) -> list[list[Any]]:
    """A line a contender and metric, as in evaluation.csv."""
    rows: list[list[Any]] = []
    for row in findings.rows:
        for metric in in_order(row.figures):
            figure = row.figures[metric]
            low, high = (figure.interval.low, figure.interval.high) if figure.interval is not None else (None, None)
            rows.append([row.name, metric, figure.mean, figure.deviation, low, high, len(figure.seeds)])
    return rows
