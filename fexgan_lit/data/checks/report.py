"""The report of the checks: report.md, report.json, CSV files, two images, and the summary on the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fexgan_lit.data.checks.finding import counted
from fexgan_lit.data.checks.leaks import listed_pairs
from fexgan_lit.data.checks.run import Diagnosis, drops_by_reason
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.tables import TextTable, escaped
from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

    from fexgan_lit.data.table import FrameTable


FILES = (
    "report.md", "report.json", "frames.csv", "drops.csv", "near_duplicates.csv", "frames_per_cell.png",
    "contact_sheet.png",
)  # fmt: skip


BLINK = "au45"


_PAIR_COLUMNS = (
    "kind", "path_a", "identity_a", "affect_a", "path_b", "identity_b", "affect_b", "same_pixels",
    "largest_difference",
)  # fmt: skip


#: Maximum number of identities in the table of report.md; frames.csv has all.
_ROWS = 40


def write_report(folder: Path, diagnosis: Diagnosis, command: str = "") -> None:
    """Write every file of `FILES` into `folder` atomically, and no_face.csv if a frame has no face.

    Args:
        folder: the report folder, created if missing; files of the same names are replaced.
        diagnosis: the findings.
        command: the command that trains on the data set, for the end of report.md.
    """
    table = diagnosis.pack.table
    write_atomic(folder / "frames.csv", _csv(("identity", "affect", "frames", "train", "val"), _cells(diagnosis)))
    write_atomic(folder / "drops.csv", _csv(("path", "reason"), map(asdict, diagnosis.drops)))
    if diagnosis.faceless:
        write_atomic(folder / "no_face.csv", _csv(("path", "reason"), map(asdict, diagnosis.faceless)))
    pairs = listed_pairs(diagnosis.repeats, table)
    write_atomic(folder / "near_duplicates.csv", _csv(_PAIR_COLUMNS, pairs))
    write_atomic(folder / "frames_per_cell.png", _png(_heatmap(diagnosis)))
    write_atomic(folder / "contact_sheet.png", _png(_contact_sheet(diagnosis)))
    write_atomic(folder / "report.json", json.dumps(facts(diagnosis), indent=1, ensure_ascii=False) + "\n")
    write_atomic(folder / "report.md", markdown(diagnosis, command))


def facts(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the report as plain types for report.json."""
    pack, config, table = diagnosis.pack, diagnosis.config, diagnosis.pack.table
    return {
        "fexgan_lit": __version__,
        "name": config.name,
        "layout": config.layout_name,
        "root": str(table.root) if table.root else None,
        "trainable": diagnosis.trainable,
        "refusal": diagnosis.refusal or None,
        "frames": len(table),
        "identities": list(table.identities),
        "affects": list(table.affects),
        "frames_per_cell": diagnosis.counts.tolist(),
        "train_frames": int(diagnosis.train.sum()),
        "val_frames": int(diagnosis.val.sum()),
        "split": {"by": config.split, "val_fraction": config.val_fraction, "seed": config.split_seed},
        "packed_size": pack.images.shape[1],
        "sizes": pack.sizes,
        "pack": str(pack.folder),
        "dropped": {reason: len(paths) for reason, paths in drops_by_reason(diagnosis.drops).items()},
        "near_duplicates": {kind: len(pairs) for kind, pairs in diagnosis.repeats.kinds().items()},
        "known": {ability.name: ability.known for ability in diagnosis.abilities},
        "notes": list(diagnosis.notes),
        "findings": [
            {"severity": f.severity, "topic": f.topic, "found": f.found, "expected": f.expected, "advice": f.advice,
             "examples": list(f.examples)}
            for f in diagnosis.findings
        ],
    }  # fmt: skip


def headline(diagnosis: Diagnosis) -> str:
    """Describe the data set in one line."""
    table, size = diagnosis.pack.table, diagnosis.pack.images.shape[1]
    where = f" in {table.root}" if table.root else ""
    shown = [name for name, count in zip(table.affects, diagnosis.counts.sum(axis=0), strict=True) if count]
    return (
        f"{diagnosis.config.name}{where}: {counted(len(table), 'frame')}, "
        f"{counted(len(table.identities), 'identity')}, {counted(len(shown), 'affect')} ({', '.join(shown)}), "
        f"packed at {size} px"
    )


def verdict(diagnosis: Diagnosis) -> str:
    """Return the conclusion in one sentence."""
    if not diagnosis.trainable:
        return "Training would not start with this data set and these settings."
    problems, warnings = diagnosis.number("problem"), diagnosis.number("warning")
    if problems or warnings:
        kinds = [counted(count, word) for count, word in ((problems, "problem"), (warnings, "warning")) if count]
        return f"Ready to train on, with {' and '.join(kinds)} to look at first."
    return "Ready to train on."


def split_line(diagnosis: Diagnosis) -> str:
    """Return the numbers of training and validation frames as a line."""
    config = diagnosis.config
    return (
        f"{int(diagnosis.train.sum())} frames train, {int(diagnosis.val.sum())} validate "
        f"(dataset.split={config.split}, dataset.val_fraction={config.val_fraction:g})"
    )


def cell_table(diagnosis: Diagnosis, most: int = _ROWS) -> TextTable:
    """Return the frames of every identity and affect, "training + validation"; at most `most` identities."""
    table = diagnosis.pack.table
    rows = [
        (name, *(_cell(int(t), int(v), int(n)) for t, v, n in zip(*row, strict=True)), str(int(row[2].sum())))
        for name, row in zip(
            table.identities[:most], np.stack([diagnosis.train, diagnosis.val, diagnosis.counts], axis=1), strict=False
        )
    ]
    total = ("all", *(str(int(count)) for count in diagnosis.counts.sum(axis=0)), str(len(table)))
    more = len(table.identities) - most
    notes = (f"{more} more identities are in frames.csv.",) if more > 0 else ()
    title = "Frames per identity and affect" + (" (training + validation)" if diagnosis.val.any() else "")
    return TextTable(title, ("", *table.affects, "all"), (*rows, total), 0, notes)


def ability_table(diagnosis: Diagnosis) -> TextTable:
    """Return the kinds of annotation that the frames have, and what each enables."""
    frames = len(diagnosis.pack.table)
    rows = []
    for ability in diagnosis.abilities:
        known = "yes" if ability.known == frames else f"{ability.known} of {frames}" if ability.known else "no"
        rows.append((ability.name, known, ability.enables, "" if ability.known == frames else ability.how))
    return TextTable("What is known of the frames", ("", "known", "enables", "can come from"), tuple(rows))


def markdown(diagnosis: Diagnosis, command: str = "") -> str:
    """Return the text of report.md."""
    pack = diagnosis.pack
    findings = [
        f"- **{finding.severity}** ({finding.topic}): {escaped(finding.text)}" for finding in diagnosis.findings
    ]
    sizes = ", ".join(f"{n} of {size}" for size, n in list(pack.sizes.items())[:8])
    drops = [f"- {len(paths)}: {escaped(reason)}" for reason, paths in drops_by_reason(diagnosis.drops).items()]
    parts = [
        f"# {diagnosis.config.name}: report of the data doctor\n",
        f"**{escaped(verdict(diagnosis))}**\n",
        "\n".join([
            f"- {escaped(headline(diagnosis))}",
            *([f"- {escaped(split_line(diagnosis))}"] if diagnosis.trainable else []),
            f"- sizes of the original images: {sizes}",
            *(f"- {escaped(note)}" for note in diagnosis.notes),
            f"- pack: `{pack.folder}`",
            f"- fexgan_lit {__version__}",
        ]) + "\n",
        "## Findings\n\n" + ("\n".join(findings) or "Nothing to report.") + "\n",
        f"## Frames\n\n{cell_table(diagnosis).markdown()}",
        "![frames per cell](frames_per_cell.png)\n",
        f"## What it can be used for\n\n{ability_table(diagnosis).markdown()}",
        "## Contact sheet\n\n![contact sheet](contact_sheet.png)\n",
        "## Left out\n\n" + ("\n".join(drops) + "\n\n`drops.csv` names every file." if drops else "Nothing.") + "\n",
        f"## Train\n\n```\n{command}\n```\n" if command and diagnosis.trainable else "",
    ]  # fmt: skip
    return "\n".join(part for part in parts if part)


def sheet_rows(diagnosis: Diagnosis) -> np.ndarray:
    """Return the example frame of each cell, (I, K) int64 row: the strongest, else the middle one; -1 if empty."""
    table = diagnosis.pack.table
    rows = np.full(diagnosis.counts.shape, -1)
    cell = table.identity_index * len(table.affects) + table.affect_index
    order = np.argsort(cell, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
        chosen = _showcase(table, members)
        rows[table.identity_index[chosen], table.affect_index[chosen]] = chosen
    return rows


def _showcase(table: FrameTable, rows: np.ndarray) -> int:
    """Return the strongest of `rows` (n,) with open eyes, as far as known; else the middle one."""
    if table.intensity is None or not np.isfinite(table.intensity[rows]).any():
        return int(rows[len(rows) // 2])
    strength = np.nan_to_num(table.intensity[rows], nan=-1.0)
    strong = rows[strength >= 0.95 * strength.max()]
    if BLINK not in table.frame:
        return int(rows[strength.argmax()])
    return int(strong[np.nan_to_num(table.frame[BLINK].to_numpy()[strong], nan=1.0).argmin()])


def _heatmap(diagnosis: Diagnosis) -> Image.Image:
    from fexgan_lit.figures.datasets import cell_heatmap

    table = diagnosis.pack.table
    title = f"{diagnosis.config.name}: {len(table)} frames"
    return cell_heatmap(diagnosis.counts, table.identities, table.affects, title=title)


def _contact_sheet(diagnosis: Diagnosis) -> Image.Image:
    from fexgan_lit.figures.datasets import MOST_ROWS, contact_sheet

    table = diagnosis.pack.table
    rows = sheet_rows(diagnosis)[:MOST_ROWS]
    frames = diagnosis.pack.mapped.view(np.ndarray)[rows]  # (I, K, L, L, 3), an arbitrary frame if a cell is empty
    more = len(table.identities) - len(rows)
    return contact_sheet(
        frames, rows >= 0, table.identities[: len(rows)], table.affects,
        title=diagnosis.config.name, footnote=f"and {more} more identities" if more else "",
    )  # fmt: skip


def _cells(diagnosis: Diagnosis) -> Iterable[dict[str, object]]:
    table = diagnosis.pack.table
    for (i, k), count in np.ndenumerate(diagnosis.counts):
        yield {"identity": table.identities[i], "affect": table.affects[k], "frames": int(count),
               "train": int(diagnosis.train[i, k]), "val": int(diagnosis.val[i, k])}  # fmt: skip


def _cell(train: int, val: int, count: int) -> str:
    if not count:
        return "-"
    return f"{train} + {val}" if val else str(count)


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()


_STYLES = {"problem": "bold red", "warning": "yellow", "info": "dim"}


#: Maximum number of identities in the table on the terminal; frames.csv and the heat map have all.
_TERMINAL_ROWS = 12


def print_diagnosis(console: Console, diagnosis: Diagnosis, folder: Path, command: str) -> None:
    """Print the conclusion, the findings with the worst first, the counts, and the next commands."""
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
    console.print(cell_table(diagnosis, _TERMINAL_ROWS).rich())
    console.print()
    ends = [("pack", f"{diagnosis.pack.folder} ({'reused' if diagnosis.pack.reused else 'new'})")]
    ends.append(("report", f"{folder / 'report.md'} (with frames_per_cell.png, contact_sheet.png, drops.csv, ...)"))
    for word, text in [*ends, *([("train", command)] if diagnosis.trainable else [])]:
        console.print(f"  {word:<9}{text}", markup=False, soft_wrap=True)  # not wrapped, so that it can be copied


def _grid(rows: list[tuple[str, str]], styles: dict[str, str]) -> object:
    """Lay out words in a narrow column with wrapped text beside them."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for word, text in rows:
        grid.add_row(Text(word, styles.get(word, "")), Text(text))
    return Padding(grid, (0, 0, 0, 2), expand=False)
