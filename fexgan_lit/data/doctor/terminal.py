"""The diagnosis on a terminal: what matters most comes first, and nothing that is as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fexgan_lit.data.doctor.examine import Diagnosis
from fexgan_lit.data.doctor.report import cell_table, headline, split_line, verdict

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"problem": "bold red", "warning": "yellow", "info": "dim"}
#: Identities in the table; frames.csv and the heat map have all.
_ROWS = 12


def print_diagnosis(console: Console, diagnosis: Diagnosis, folder: Path, command: str) -> None:
    """The verdict, the findings worst first, the counts, and where to go from here."""
    from rich.text import Text

    style = "bold red" if not diagnosis.trainable else "bold" if diagnosis.number("problem") else "bold green"
    console.print(Text(f"  {verdict(diagnosis)}", style))
    console.print()
    facts = [("data", headline(diagnosis)), *(("note", note) for note in diagnosis.notes)]
    if diagnosis.trainable:
        facts.append(("split", split_line(diagnosis)))
    known = [ability.name for ability in diagnosis.abilities if ability.known]
    unknown = [ability.name for ability in diagnosis.abilities if not ability.known]
    facts.append(("known", f"{', '.join(known)}" + (f" (not {', '.join(unknown)})" if unknown else "")))
    console.print(_grid(facts, {}))
    if diagnosis.findings:
        console.print()
        console.print(_grid([(finding.severity, finding.text) for finding in diagnosis.findings], _STYLES))
    console.print()
    console.print(cell_table(diagnosis, _ROWS).rich())
    console.print()
    ends = [("pack", f"{diagnosis.pack.folder} ({'reused' if diagnosis.pack.reused else 'new'})")]
    ends.append(("report", f"{folder / 'report.md'} (with frames_per_cell.png, contact_sheet.png, drops.csv, ...)"))
    for word, text in [*ends, *([("train", command)] if diagnosis.trainable else [])]:
        console.print(f"  {word:<9}{text}", markup=False, soft_wrap=True)  # unbroken, so that it can be copied


def _grid(rows: list[tuple[str, str]], styles: dict[str, str]) -> object:
    """Words in a narrow column, wrapped text beside them."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for word, text in rows:
        grid.add_row(Text(word, styles.get(word, "")), Text(text))
    return Padding(grid, (0, 0, 0, 2), expand=False)
