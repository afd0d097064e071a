"""A run seen again: how it stands, the tables of its report.md, and where everything lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fexgan_lit.reporting.sweeps import SweepRun, read_run
from fexgan_lit.tables import TextTable

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from fexgan_lit.runfolder import RunFolder


def print_run(run: RunFolder, console: Console) -> None:
    """Print the status, the tables and the places of a run."""
    state = read_run(run.path, {}, old=True)
    text = run.report.read_text(encoding="utf-8") if run.report.is_file() else ""
    for line in status_lines(run, state):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    for fact in report_facts(text):
        console.print(f"  {fact}", markup=False, soft_wrap=True)
    for table in tables_of(text):
        console.print()
        console.print(table.rich())
    console.print()
    for name, place in places(run).items():
        console.print(f"  {name:<12} {place}", markup=False, soft_wrap=True)


def status_lines(run: RunFolder, state: SweepRun) -> list[str]:
    """How the run stands, and what to do where it is not finished."""
    result = state.result
    lines = [f"status: {state.status}" + (f" at iteration {result.iteration}" if result and result.iteration else "")]
    if result is not None and result.seconds:
        lines[0] += f", {result.seconds / 60:.1f} minutes"
    if result is not None and result.machine:
        lines.append(f"machine: {result.machine}; torch {result.torch}; fexgan_lit {result.version}")
    if state.error:
        lines.append(f"error: {state.error}")
    if (run.path / "error.txt").is_file():
        lines.append(f"traceback: {run.path / 'error.txt'}")
    if not state.finished and run.last.is_file():
        lines.append(f"go on with: python -m fexgan_lit.train run={run.path}")
    return lines


def report_facts(text: str) -> list[str]:
    """The list of what was run, from the top of a report.md."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("- ")), len(lines))
    stop = next((i for i in range(start, len(lines)) if not lines[i].startswith("- ")), len(lines))
    return [line[2:].replace("`", "") for line in lines[start:stop]]


def places(run: RunFolder) -> dict[str, Path]:
    """What the folder holds, by what it is."""
    known = {
        "report": run.report, "config": run.config, "numbers": run.metrics, "weights": run.weights,
        "checkpoint": run.last, "best": run.best, "pictures": run.figures,
    }  # fmt: skip
    return {name: path for name, path in known.items() if path.exists()}


def tables_of(text: str) -> list[TextTable]:
    """The tables of a Markdown text that `TextTable.markdown` wrote, in their order."""
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("|---|")]
    return [_table(lines, start) for start in starts if start >= 1]


def _table(lines: list[str], rule: int) -> TextTable:
    """The table whose rule under the header is the line `rule`."""
    body = list(_while(lines, rule + 1, "| "))
    above = lines[rule - 3] if rule >= 3 else ""
    title = above.strip("*") if above.startswith("**") else ""
    notes = list(_while(lines, rule + len(body) + 2, "- "))
    rows = [_cells(line) for line in body]
    quoted = sum(all(cell.startswith("*") and not cell.startswith("**") for cell in row) for row in rows)
    plain = [row if i < len(rows) - quoted else tuple(cell.strip("*") for cell in row) for i, row in enumerate(rows)]
    return TextTable(title, _cells(lines[rule - 1]), tuple(plain), quoted, tuple(note[2:] for note in notes))


def _while(lines: list[str], start: int, prefix: str) -> Iterator[str]:
    """The lines from `start` on, as long as they begin with `prefix`."""
    for line in lines[start:]:
        if not line.startswith(prefix):
            return
        yield line


def _cells(line: str) -> tuple[str, ...]:
    inner = line.strip().removeprefix("|").removesuffix("|").replace("\\|", "\0")
    return tuple(cell.strip().replace("\0", "|") for cell in inner.split("|"))
