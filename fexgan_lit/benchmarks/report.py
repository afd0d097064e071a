"""A benchmark's rows as a table on the screen, as Markdown and as JSON, with the machine they belong to."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.benchmarks.timing import Spread
from fexgan_lit.cores import cpu_name
from fexgan_lit.files import write_atomic

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("what", "measured", "quartiles", "target", "met", "how")


@dataclass(frozen=True)
class Result:
    """One measured figure.

    Attributes:
        name: what was measured.
        value: median and quartiles of the rounds; all the same where there was one.
        unit: of the three.
        how: what exactly, in few words.
        target: what the library promises, or None.
        at_most: the target is a bound from above.
    """

    name: str
    value: Spread
    unit: str
    how: str = ""
    target: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the promise; None without one."""
        if self.target is None:
            return None
        return self.value.median <= self.target if self.at_most else self.value.median >= self.target

    def cells(self) -> tuple[str, ...]:
        """One for each of COLUMNS."""
        value = self.value
        spread = "" if value.low == value.high else f"{number(value.low)} .. {number(value.high)}"
        target = "" if self.target is None else f"{'<=' if self.at_most else '>='} {number(self.target)}"
        met = {None: "", True: "yes", False: "no"}[self.met]
        return self.name, f"{number(value.median)} {self.unit}".strip(), spread, target, met, self.how


@dataclass(frozen=True)
class Table:
    """Results as they are shown where the figures of one subject belong side by side.

    Attributes:
        columns: their names.
        rows: one cell for each column.
        notes: lines below the table.
    """

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def single(value: float) -> Spread:
    """A figure that was measured once."""
    return Spread(value, value, value)


def listed(results: list[Result]) -> Table:
    """A row a result."""
    return Table(COLUMNS, [result.cells() for result in results])


def print_table(console: Console, settings: BenchmarkSettings, shown: Table) -> None:
    """The table and the machine, on the screen."""
    from rich import table

    grid = table.Table(*shown.columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    colours = {"yes": "[green]yes[/]", "no": "[red]no[/]"}
    for row in shown.rows:
        grid.add_row(*(colours.get(cell, cell) for cell in row))
    console.print(grid)
    for note in shown.notes:
        console.print(f"  {note}", markup=False)
    console.print("\n  " + machine_line(machine_facts(settings)), markup=False)
    if settings.quick:
        console.print("  quick=true: the amounts are too small for the figures to mean anything")


def write_results(folder: Path, settings: BenchmarkSettings, results: list[Result], shown: Table) -> None:
    """benchmark.json with every result and benchmark.md with the table, in `folder`."""
    facts = machine_facts(settings)
    rows = [asdict(result) | {"met": result.met} for result in results]
    content = {"machine": facts, "options": asdict(settings), "results": rows}
    write_atomic(folder / "benchmark.json", json.dumps(content, indent=1) + "\n")
    table = [shown.columns, ("---",) * len(shown.columns), *shown.rows]
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in table]
    options = " ".join(f"{name}={_written(value)}" for name, value in asdict(settings).items() if value is not None)
    command = f"`python -m fexgan_lit.benchmark {options}`"
    note = "Medians of rounds in which the compared things took turns; ratios are formed round by round."
    text = [f"# Benchmark: {settings.suite}", machine_line(facts), command, "\n".join(lines), *shown.notes, note]
    write_atomic(folder / "benchmark.md", "\n\n".join(text) + "\n")


def machine_facts(settings: BenchmarkSettings) -> dict[str, Any]:
    """What the figures depend on besides the library."""
    import cv2
    import torch

    return {
        "date": datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": settings.cores,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "opencv": cv2.__version__,
        "system": platform.system(),
    }


def machine_line(facts: dict[str, Any]) -> str:
    """The machine in one line."""
    where = "; ".join(name for name in (facts["gpu"], facts["cpu"]) if name)
    return (
        f"{where}, {facts['cores']} cores, {facts['system']}; Python {facts['python']}, torch {facts['torch']} "
        f"({facts['torch_threads']} threads), OpenCV {facts['opencv']}; {facts['date']}"
    )


def _written(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
