"""metrics.csv across new columns and a resume."""

from __future__ import annotations

import csv
from pathlib import Path

from fexgan_lit.training.loggers.csv import RunCsvLogger


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_takes_new_columns_and_merges_rows(tmp_path):
    logger = RunCsvLogger(tmp_path / "metrics.csv")
    logger.log_metrics({"a": 1.0}, 10)
    logger.log_metrics({"a": 2.0}, 20)
    logger.log_metrics({"b": 3.0}, 20)
    assert rows(logger.path) == [
        {"iteration": "10", "a": "1", "b": ""},
        {"iteration": "20", "a": "2", "b": "3"},
    ]


def test_csv_goes_on_after_a_resume_without_what_is_computed_again(tmp_path):
    first = RunCsvLogger(tmp_path / "metrics.csv")
    for step in (10, 20, 30):
        first.log_metrics({"a": float(step)}, step)
    second = RunCsvLogger(first.path, resume_at=20)
    second.log_metrics({"a": 31.0}, 30)
    assert [(row["iteration"], row["a"]) for row in rows(first.path)] == [("10", "10"), ("20", "20"), ("30", "31")]
    assert second.history() == {"a": ([10, 20, 30], [10.0, 20.0, 31.0])}
