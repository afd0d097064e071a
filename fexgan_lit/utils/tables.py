"""Text tables as Markdown and for the terminal."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text as RichText


#: Characters that Markdown interprets, except in numbers and names such as [0.1, 0.2] and fd_judge.
_MARKUP = re.compile(r"[\\`*]|\](?=[\[(:])|(?<!\w)_|_(?!\w)|~~")


def escaped(text: str) -> str:
    """Escape untrusted text, such as the name of a person, so that Markdown and HTML show it unchanged."""
    return _MARKUP.sub(r"\\\g<0>", html.escape(" ".join(text.split()), quote=False))


def unescaped(text: str) -> str:
    """Invert `escaped`."""
    return html.unescape(re.sub(r"\\([\\`*\]_~])", r"\1", text))


@dataclass(frozen=True)
class TextTable:
    """A small table of text.

    Attributes:
        title: title of the table.
        header: column names; the first column holds the row names.
        rows: cells, one per column in each row.
        quoted: number of rows at the end with quoted values of other authors, which are set apart.
        notes: lines below the table.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    quoted: int = 0
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return a GitHub-flavoured table with a bold title, quoted rows in italics, and notes as a list."""
        own = len(self.rows) - self.quoted
        lines = [
            f"**{escaped(self.title)}**",
            "",
            _line(self.header),
            "|---|" + "---:|" * (len(self.header) - 1),
            *(_line(row) for row in self.rows[:own]),
            *(_line(row, "*{}*") for row in self.rows[own:]),
        ]
        if self.notes:
            lines += ["", *(f"- {escaped(note)}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def rich(self) -> Table:
        """Return the table for a rich console, with quoted rows dim below a rule."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        caption = Text("\n".join(self.notes)) if self.notes else None
        table = Table(title=Text(self.title), caption=caption, box=SIMPLE_HEAD, title_justify="left")
        table.caption_justify = "left"
        for index, name in enumerate(self.header):
            table.add_column(Text(name), justify="right" if index else "left")
        own = len(self.rows) - self.quoted
        for index, row in enumerate(self.rows):
            table.add_row(
                *(_plain(cell) for cell in row),
                style="dim italic" if index >= own else "",
                end_section=index == own - 1 and self.quoted > 0,
            )
        return table


def _plain(cell: str) -> RichText:
    """Return a cell for the terminal, with Markdown's bold as a style."""
    from rich.text import Text

    bold = cell.startswith("**") and cell.endswith("**")
    return Text(cell.strip("*"), style="bold") if bold else Text(cell)


def _line(cells: Sequence[str], form: str = "{}") -> str:
    """Format a row; a cell between pairs of asterisks is bold."""
    bold = [cell.startswith("**") and cell.endswith("**") for cell in cells]
    shown = [f"**{escaped(cell[2:-2])}**" if b else escaped(cell) for b, cell in zip(bold, cells, strict=True)]
    return "| " + " | ".join(form.format(cell.replace("|", "\\|")) for cell in shown) + " |"
