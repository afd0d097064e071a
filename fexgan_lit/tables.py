"""The papers' Table 1 and the table of image quality, once as Markdown for reports and once for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fexgan_lit.metrics.registry import DISCRIMINATOR_METRICS, metric_info

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text as RichText

    from fexgan_lit.metrics.judge import Judge

#: Table 1 of both papers, in the order of `DISCRIMINATOR_METRICS`: reference values, never thresholds.
PAPERS_TABLE1 = {
    "FExGAN, FERG-DB, Train": (0.981, 1.0, 0.998, 0.994),
    "FExGAN, FERG-DB, Validation": (0.913, 0.997, 1.0, 0.995),
    "FExGAN-Meta, MH-FED, Train": (1.0, 0.995, 1.0, 0.997),
    "FExGAN-Meta, MH-FED, Validation": (1.0, 0.996, 1.0, 0.998),
}
ABSENT = "-"


@dataclass(frozen=True)
class TextTable:
    """A small table of text.

    Attributes:
        title: what it shows.
        header: column names; the first column holds the row names.
        rows: cells, as many a row as the header has.
        quoted: how many rows at the end are other people's figures, set apart.
        notes: lines below.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    quoted: int = 0
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """A GitHub-flavoured table under its title in bold, quoted rows in italics, notes as a list."""
        own = len(self.rows) - self.quoted
        lines = [
            f"**{self.title}**",
            "",
            _line(self.header),
            "|---|" + "---:|" * (len(self.header) - 1),
            *(_line(row) for row in self.rows[:own]),
            *(_line([f"*{cell}*" for cell in row]) for row in self.rows[own:]),
        ]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def rich(self) -> Table:
        """The same for a rich console, quoted rows dim below a rule."""
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
    """A cell for the terminal, where Markdown's bold is a style."""
    from rich.text import Text

    bold = cell.startswith("**") and cell.endswith("**")
    return Text(cell.strip("*"), style="bold") if bold else Text(cell)


def table1(train: Mapping[str, float] | None, val: Mapping[str, float] | None, *, classes: int = 7) -> TextTable:
    """Table 1 of the papers: how often the discriminator is right about real and generated frames.

    Args:
        train: what `MetricSuite.compute` gave for the training split, or None.
        val: the same for the validation split, or None where there is none.
        classes: K.
    """
    header = ("", "Real binary", f"Real {classes}-way", "Fake binary", f"Fake {classes}-way")
    rows = [
        (name, *(_number(values, metric) for metric in DISCRIMINATOR_METRICS))
        for name, values in (("Train", train), ("Validation", val))
        if values is not None
    ]
    papers = [(f"{name} (paper)", *(f"{value:.3f}" for value in row)) for name, row in PAPERS_TABLE1.items()]
    notes = ["Rows in italics are the papers' own figures, on their data."]
    if any("d_fake_affect" in (values or {}) for values in (train, val)):
        flattery = (
            "The discriminator learns to name generated frames as asked (equation 6), so its own "
            f"{classes}-way accuracy on them flatters; the judge's verdict stands in the next table."
        )
        notes.insert(0, flattery)
    if val is None:
        notes.insert(0, "No validation frames, so no validation row.")
    return TextTable("Discriminator accuracy (Table 1)", header, (*rows, *papers), len(papers), tuple(notes))


def quality_table(
    train: Mapping[str, float] | None,
    val: Mapping[str, float] | None,
    judge: Judge | None,
    *,
    notes: Mapping[str, str] | None = None,
) -> TextTable:
    """Distances to the true frames and the judge's verdict, generated frames above the real ones (the ceiling).

    Args:
        train: what `MetricSuite.compute` gave for the training split, or None.
        val: the same for the validation split, or None.
        judge: whose verdict it is, or None.
        notes: what `MetricSuite.notes` gave.
    """
    names = ["ssim", "psnr", "fd_judge", "judge_affect_accuracy", "judge_identity_accuracy"]
    if any("fid" in (values or {}) for values in (train, val)):
        names.insert(2, "fid")
    columns = [metric_info(name) for name in names]
    rows = []
    for name, values in (("Train", train), ("Validation", val)):
        if values is None:
            continue
        rows.append((f"{name}, generated", *(_number(values, column.name, column.digits) for column in columns)))
        if "real_judge_affect_accuracy" in values:
            ceiling = (_number(values, f"real_{column.name}", column.digits) for column in columns)
            rows.append((f"{name}, real frames (ceiling)", *ceiling))
    lines = [judge.describe() if judge is not None else "no judge"]
    lines += [f"{name}: {note}" for name, note in (notes or {}).items()]
    return TextTable(
        "Image quality and the judge's verdict",
        ("", *(column.label for column in columns)),
        tuple(rows),
        0,
        tuple(lines),
    )


def _number(values: Mapping[str, float], metric: str, digits: int = 3) -> str:
    return f"{values[metric]:.{digits}f}" if metric in values else ABSENT


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
