"""`metrics.csv`, the logger that every run has."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from fexgan_lit.runs.result import read_metrics
from fexgan_lit.utils.files import write_atomic


class RunCsvLogger(Logger):
    """Writes metrics.csv with one row per logged iteration; a resumed run continues the file."""

    def __init__(self, path: Path, resume_at: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, str]] = {}
        self.columns: list[str] = ["iteration"]
        if resume_at is not None and path.is_file():
            self._read(resume_at)

    @property
    def name(self) -> str:
        """Required by Lightning."""
        return "csv"

    @property
    def version(self) -> str:
        """Required by Lightning."""
        return ""

    def _read(self, resume_at: int) -> None:
        """Keep the rows up to the checkpoint; later iterations are computed again."""
        for iteration, row in read_metrics(self.path):
            if iteration <= resume_at:
                self._merge(iteration, row)
        write_atomic(self.path, self._text(self.rows.values(), header=True))

    def _merge(self, step: int, values: Mapping[str, str]) -> bool:
        """Add values to the row of `step`; return whether the file must be rewritten."""
        fresh = [name for name in values if name not in self.columns]
        rewrite = bool(fresh) or step in self.rows
        self.columns += fresh
        self.rows.setdefault(step, {"iteration": str(step)}).update(values)
        return rewrite

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the metrics of iteration `step`."""
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
        """Do nothing: config.yaml is beside metrics.csv."""

    def history(self) -> dict[str, tuple[list[int], list[float]]]:
        """Return every column as (iterations, values) for the loss curves."""
        return {
            name: (
                [step for step, row in sorted(self.rows.items()) if name in row],
                [float(row[name]) for _, row in sorted(self.rows.items()) if name in row],
            )
            for name in self.columns[1:]
        }
