"""Print and write the results of a benchmark, with the machine, as a table, Markdown and JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.hardware import cpu_name
from fexgan_lit.utils.timing import Spread

if TYPE_CHECKING:
    from rich.console import Console

#: Called with the name of a stage, the number of stages done and their total.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """One measurement.

    Attributes:
        name: what was measured.
        value: median and quartiles over the rounds.
        unit: unit of the value.
        how: short description of the measurement.
        target: the promised value, or None.
        at_most: whether the target is an upper bound.
    """

    name: str
    value: Spread
    unit: str
    how: str = ""
    target: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None without one."""
        if self.target is None:
            return None
        return self.value.median <= self.target if self.at_most else self.value.median >= self.target


@dataclass(frozen=True)
class Table:
    """A table: column names, rows of as many cells, and notes below."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def number(value: float) -> str:
    """Format a number with three significant digits and without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def quartiles(value: Spread) -> str:
    """Format the quartiles; empty if they are equal, as with one round."""
    return "" if value.low == value.high else f"{number(value.low)} .. {number(value.high)}"


def listed(results: list[Result], notes: Sequence[str] = ()) -> Table:
    """Return a table with a row for every result."""
    rows = []
    for each in results:
        target = "" if each.target is None else f"{'<=' if each.at_most else '>='} {number(each.target)}"
        met = {None: "", True: "yes", False: "no"}[each.met]
        measured = f"{number(each.value.median)} {each.unit}".strip()
        rows.append((each.name, measured, quartiles(each.value), target, met, each.how))
    return Table(("what", "measured", "quartiles", "target", "met", "how"), rows, notes)


def print_table(console: Console, settings: BenchmarkSettings, table: Table) -> None:
    """Print the table and the machine."""
    from rich.table import Table as Grid

    grid = Grid(*table.columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    colours = {"yes": "[green]yes[/]", "no": "[red]no[/]"}
    for row in table.rows:
        grid.add_row(*(colours.get(cell, cell) for cell in row))
    console.print(grid)
    for note in table.notes:
        console.print(f"  {note}", markup=False)
    console.print("\n  " + machine_line(machine_facts(settings)), markup=False)
    if settings.quick:
        console.print("  quick=true: the amounts are too small for meaningful results")


def write_results(folder: Path, settings: BenchmarkSettings, results: list[Result], table: Table) -> None:
    """Write benchmark.json with every result and benchmark.md with the table to `folder`."""
    facts = machine_facts(settings)
    rows = [asdict(result) | {"met": result.met} for result in results]
    content = {"machine": facts, "options": asdict(settings), "results": rows}
    write_atomic(folder / "benchmark.json", json.dumps(content, indent=1) + "\n")

    written = {name: value for name, value in asdict(settings).items() if value is not None}
    written["systems"] = f"[{','.join(settings.systems)}]"
    options = " ".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in written.items()
    )
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    text = [
        f"# Benchmark: {settings.suite}",
        machine_line(facts),
        f"`python -m fexgan_lit.benchmark {options}`",
        "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines),
        *table.notes,
        "Medians over rounds in which the compared tasks alternate; ratios are computed per round.",
    ]
    write_atomic(folder / "benchmark.md", "\n\n".join(text) + "\n")


def machine_facts(settings: BenchmarkSettings) -> dict[str, Any]:
    """Return the facts about machine and software on which the results depend."""
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
    """Format the machine facts in one line."""
    where = "; ".join(name for name in (facts["gpu"], facts["cpu"]) if name)
    return (
        f"{where}, {facts['cores']} cores, {facts['system']}; Python {facts['python']}, torch {facts['torch']} "
        f"({facts['torch_threads']} threads), OpenCV {facts['opencv']}; {facts['date']}"
    )
