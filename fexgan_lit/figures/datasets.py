"""Figures of a data set: a heat map of its frame counts and a contact sheet with one frame per identity and affect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from fexgan_lit.figures.curves import INK, _figure, _picture
from fexgan_lit.figures.layout import (
    BLANK,
    FAINT_INK,
    MARGIN,
    PAPER,
    cell_side,
    draw_header,
    draw_row_label,
    font,
    plan,
    text_size,
    to_picture,
    wrap,
)

#: Most identities with a row each; a heat map of more has no numbers in its cells.
MOST_ROWS = 40


def cell_heatmap(
    counts: np.ndarray, identities: Sequence[str], affects: Sequence[str], *, title: str | None = None
) -> Image.Image:
    """Plot the number of frames per identity (rows) and affect (columns); empty cells are marked.

    Args:
        counts: (I, K) int.
        identities: I names.
        affects: K names.
        title: title above the map; None shows the number of frames.
    """
    if counts.shape != (len(identities), len(affects)):
        raise ValueError(f"counts must be {(len(identities), len(affects))}, got {counts.shape}")
    legible = len(identities) <= MOST_ROWS
    height = 1.8 + (0.34 * len(identities) if legible else 11.0)
    figure = _figure(3.0 + 0.8 * len(affects), height)
    axes = figure.add_subplot(1, 1, 1)
    axes.imshow(counts, cmap="Blues", vmin=0, vmax=max(1.0, 1.6 * counts.max(initial=0)), aspect="auto")
    axes.set_xticks(range(len(affects)), affects, rotation=40, ha="right", rotation_mode="anchor")
    shown = range(0, len(identities), 1 if legible else -(-len(identities) // MOST_ROWS))
    axes.set_yticks(shown, [identities[row] for row in shown])
    axes.tick_params(length=0, colors=INK, labelsize=9 if legible else 7)
    axes.spines[:].set_visible(False)
    for (row, column), count in np.ndenumerate(counts):
        if not count:
            axes.plot(column, row, marker="x", color="#c62828", markersize=7 if legible else 2)
        elif legible:
            colour = "#ffffff" if count > 0.85 * counts.max() else INK
            axes.text(column, row, f"{int(count)}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_title(title or f"{int(counts.sum())} frames", fontsize=11, color=INK)
    return _picture(figure)


def contact_sheet(
    frames: np.ndarray, present: np.ndarray, identities: Sequence[str], affects: Sequence[str], *,
    title: str | None = None, footnote: str = "",
) -> Image.Image:  # fmt: skip
    """Draw one frame of every identity and affect; cells without a frame stay blank.

    Args:
        frames: (I, K, S, S, 3) uint8 RGB.
        present: (I, K) bool, cells with a frame.
        identities: I row labels.
        affects: K column labels.
        title: title above the sheet.
        footnote: text below the sheet.
    """
    if frames.shape[:2] != (len(identities), len(affects)) or present.shape != frames.shape[:2]:
        raise ValueError(f"frames must be {(len(identities), len(affects), 'S', 'S', 3)}, got {frames.shape}")
    side = cell_side(frames.shape[2])
    lines = max(len(wrap(name, side, text_size(side))) for name in affects)
    page_plan = plan(
        side, len(affects), identities, lines, reference=False, title=title is not None, footnote=bool(footnote)
    )
    page = Image.new("RGB", page_plan.size, PAPER)
    draw = ImageDraw.Draw(page)
    if title is not None:
        draw.text((MARGIN, MARGIN), title, INK, font(round(text_size(side) * 1.25)), anchor="la")
    for column, name in enumerate(affects):
        draw_header(draw, page_plan, column, name)
    for row, name in enumerate(identities):
        draw_row_label(draw, page_plan, row, name)
    for row, column in np.ndindex(*present.shape):
        box = page_plan.box(row, column)
        if present[row, column]:
            image = torch.from_numpy(frames[row, column]).permute(2, 0, 1).float() / 127.5 - 1  # (S, S, 3) -> (3, S, S)
            page.paste(to_picture(image, side), box)
        else:
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=BLANK)
    if footnote:
        place = (page_plan.columns[0], page_plan.size[1] - MARGIN)
        draw.text(place, footnote, FAINT_INK, font(round(text_size(side) * 0.85)), anchor="ld")
    return page
