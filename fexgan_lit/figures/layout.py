"""Layout and drawing of a sheet of images: cells in rows and columns, labels, a rule and marks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


Box = tuple[int, int, int, int]


#: Side of a cell in pixels: smaller images are enlarged, larger images are reduced.
MIN_CELL, MAX_CELL = 128, 256


MARGIN, GAP, GROUP_GAP, RULE_GAP = 20, 4, 14, 22


PAPER, INK, FAINT_INK, RULE, BLANK, ALARM = "#ffffff", "#1f2328", "#6b7280", "#c9ced6", "#eef0f3", "#c62828"


@dataclass(frozen=True)
class Layout:
    """Positions on a sheet in pixels.

    Attributes:
        cell: side of a cell.
        columns: left edge of each column.
        rows: top edge of each row.
        size: width and height of the sheet.
        header_bottom: lower end of the column labels.
        rule: x of the vertical rule after the reference column, or None.
    """

    cell: int
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    size: tuple[int, int]
    header_bottom: int
    rule: int | None

    def box(self, row: int, column: int) -> Box:
        """Return left, top, right and bottom of a cell."""
        left, top = self.columns[column], self.rows[row]
        return left, top, left + self.cell, top + self.cell


@lru_cache(maxsize=32)
def font(size: int) -> Font:
    """Return Pillow's built-in sans serif font at `size` pixels, which is the same on every machine."""
    return ImageFont.load_default(size)


def cell_side(image_size: int) -> int:
    """Return the side of a cell for images of `image_size` pixels."""
    return max(MIN_CELL, min(MAX_CELL, image_size))


def to_picture(image: Tensor, side: int) -> Image.Image:
    """Convert an image (3, S, S) in [-1, 1] to an RGB picture of `side` pixels."""
    pixels = ((image.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())  # (3, S, S) -> (S, S, 3)
    return picture if picture.width == side else picture.resize((side, side), Image.Resampling.LANCZOS)


def plan(
    cell: int,
    columns: int,
    row_labels: Sequence[str],
    header_lines: int,
    *,
    reference: bool,
    title: bool,
    footnote: bool,
    group: int = 1,
) -> Layout:
    """Place `columns` cells per row, the first as reference column if `reference`; `group` rows are close together."""
    label_size = text_size(cell)
    label_width = max((int(font(label_size).getlength(label)) for label in row_labels), default=0)
    left = MARGIN + (label_width + 12 if label_width else 0)
    header_bottom = MARGIN + (round(label_size * 2.1) if title else 0) + round(header_lines * label_size * 1.25)
    top = header_bottom + 8
    gap_after_reference = RULE_GAP if reference else GAP
    lefts = [left + c * (cell + GAP) + (gap_after_reference - GAP if c else 0) for c in range(columns)]
    tops = [
        top + r * (cell + GAP) + (r // group) * (GROUP_GAP - GAP if group > 1 else 0) for r in range(len(row_labels))
    ]
    bottom = (tops[-1] + cell if tops else top) + (round(label_size * 1.8) if footnote else 0)
    return Layout(
        cell=cell,
        columns=tuple(lefts),
        rows=tuple(tops),
        size=(lefts[-1] + cell + MARGIN, bottom + MARGIN),
        header_bottom=header_bottom,
        rule=lefts[0] + cell + RULE_GAP // 2 if reference else None,
    )


def text_size(cell: int) -> int:
    """Return the label size in pixels for a cell."""
    return max(14, round(cell * 0.125))


def wrap(text: str, width: int, size: int) -> list[str]:
    """Break `text` at spaces and after underscores into lines of at most `width` pixels; cut longer words."""
    lines: list[str] = []
    for word in re.findall(r"[^\s_]+_*|_+", text):
        joined = f"{lines[-1]}{'' if lines[-1].endswith('_') else ' '}{word}" if lines else word
        if lines and font(size).getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(_shortened(word, width, size))
    return lines or [""]


def _shortened(word: str, width: int, size: int) -> str:
    if font(size).getlength(word) <= width:
        return word
    while word and font(size).getlength(word + "...") > width:
        word = word[:-1]
    return word + "..."


def draw_header(draw: ImageDraw.ImageDraw, layout: Layout, column: int, text: str, colour: str = INK) -> None:
    """Draw a column label, centred over its cells, with its last line at the header's bottom."""
    size = text_size(layout.cell)
    lines = wrap(text, layout.cell, size)
    centre = layout.columns[column] + layout.cell // 2
    for i, line in enumerate(reversed(lines)):
        draw.text((centre, layout.header_bottom - i * size * 1.25), line, colour, font(size), anchor="ms")


def draw_row_label(draw: ImageDraw.ImageDraw, layout: Layout, row: int, text: str, colour: str = INK) -> None:
    """Draw a row label, right-aligned before the first cell and vertically centred."""
    middle = layout.rows[row] + layout.cell // 2
    draw.text((layout.columns[0] - 12, middle), text, colour, font(text_size(layout.cell)), anchor="rm")


def draw_verdict(draw: ImageDraw.ImageDraw, layout: Layout, row: int, column: int, verdict: str) -> None:
    """Mark a cell where the judge predicts `verdict` instead of the target affect."""
    left, top, right, bottom = layout.box(row, column)
    size = max(11, round(layout.cell * 0.09))
    width = int(font(size).getlength(verdict)) + 10
    draw.rectangle((left, top, right - 1, bottom - 1), outline=ALARM, width=2)
    draw.rectangle((left, bottom - size - 8, left + width, bottom - 1), fill=ALARM)
    draw.text((left + 5, bottom - size // 2 - 4), verdict, "#ffffff", font(size), anchor="lm")


_BAR = "#1f77b4"


def unit_card(units: Mapping[str, float], side: int) -> Image.Image:
    """Draw bars for `units` (name -> 0..1), one below the other, on a square of `side` pixels."""
    card = Image.new("RGB", (side, side), BLANK)
    draw = ImageDraw.Draw(card)
    size = max(9, round(side * 0.09))
    longest = max((font(size).getlength(name) for name in units), default=0)
    left = max(round(side * 0.32), round(longest) + 9)
    full = side - left - round(side * 0.06)
    for row, (name, value) in enumerate(units.items()):
        middle = round(side * (row + 0.5) / len(units))
        draw.text((left - 5, middle), name, INK, font(size), anchor="rm")
        width = round(full * min(max(value, 0.0), 1.0))
        draw.rectangle((left, middle - size // 2, left + max(width, 1), middle + size // 2), fill=_BAR)
    return card
