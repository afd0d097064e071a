"""Image grids of the papers: affects of references, prior samples, complex expressions, targets, clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fexgan_lit.figures.layout import (
    BLANK,
    FAINT_INK,
    INK,
    MARGIN,
    PAPER,
    RULE,
    Layout,
    cell_side,
    draw_header,
    draw_row_label,
    draw_verdict,
    font,
    plan,
    text_size,
    to_picture,
    wrap,
)


def affect_grid(
    references: Tensor,
    generated: Tensor,
    identities: Sequence[str],
    affects: Sequence[str],
    *,
    verdicts: Tensor | None = None,
    reference_label: str = "reference",
    title: str | None = None,
) -> Image.Image:
    """Draw each identity's reference frame with every affect (Figures 5 and 7 of the papers).

    Args:
        references: (I, 3, S, S) in [-1, 1].
        generated: (I, K, 3, S, S) in [-1, 1].
        identities: I row labels.
        affects: K column labels.
        verdicts: (I, K) int64, the judge's predictions; cells with another affect than their column are marked.
        reference_label: label of the reference column.
        title: title above the grid.
    """
    _expect(generated, (len(identities), len(affects)), "generated")
    asked = torch.arange(len(affects)).expand(len(identities), -1)
    return _sheet(generated, identities, affects, references, reference_label, title, _wrong(verdicts, asked, affects))


def complex_grid(
    references: Tensor,
    generated: Tensor,
    identities: Sequence[str],
    pair_names: Sequence[str],
    *,
    reference_label: str = "reference",
    title: str | None = None,
) -> Image.Image:
    """Draw reference frames with complex expressions (Figures 6 and 8 of the papers).

    Args:
        references: (I, 3, S, S) in [-1, 1].
        generated: (I, P, 3, S, S) in [-1, 1].
        identities: I row labels.
        pair_names: P column labels, for example ``anger + sadness``.
        reference_label: label of the reference column.
        title: title above the grid.
    """
    _expect(generated, (len(identities), len(pair_names)), "generated")
    return _sheet(generated, identities, pair_names, references, reference_label, title)


def sample_grid(
    samples: Tensor, affects: Sequence[str], *, verdicts: Tensor | None = None, title: str | None = None
) -> Image.Image:
    """Draw samples from the prior, one column per affect (Figures 4 and 6 of the papers).

    Args:
        samples: (R, K, 3, S, S) in [-1, 1].
        affects: K column labels.
        verdicts: (R, K) int64, the judge's predictions; see `affect_grid`.
        title: title above the grid.
    """
    _expect(samples, (len(samples), len(affects)), "samples")
    asked = torch.arange(len(affects)).expand(len(samples), -1)
    return _sheet(samples, [""] * len(samples), affects, title=title, wrong=_wrong(verdicts, asked, affects))


def face_sheet(
    cells: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    references: Tensor | None = None,
    reference_label: str = "input",
    title: str | None = None,
) -> Image.Image:
    """Draw images in labelled rows and columns, optionally beside their references.

    Args:
        cells: (R, C, 3, S, S) in [-1, 1]; a cell with NaN stays blank.
        rows: R labels.
        columns: C labels.
        references: (R, 3, S, S) in [-1, 1], before the first column; None leaves the column out.
        reference_label: label of the reference column.
        title: title above the grid.
    """
    _expect(cells, (len(rows), len(columns)), "cells")
    return _sheet(cells, rows, columns, references, reference_label, title)


def truth_grid(
    references: Tensor | None,
    generated: Tensor,
    truth: Tensor,
    identities: Sequence[str],
    affects: Sequence[str],
    *,
    reference_label: str = "reference",
    title: str | None = None,
) -> Image.Image:
    """Draw generated frames above the real ones, two rows per identity.

    Args:
        references: (I, 3, S, S) in [-1, 1], beside the generated rows; None leaves the column out.
        generated: (I, K, 3, S, S) in [-1, 1].
        truth: real frames, (I, K, 3, S, S) in [-1, 1]; a cell with NaN has no real frame and stays blank.
        identities: I names.
        affects: K column labels.
        reference_label: label of the reference column.
        title: title above the grid.
    """
    _expect(generated, (len(identities), len(affects)), "generated")
    _expect(truth, (len(identities), len(affects)), "truth")
    cells = torch.stack([generated.cpu(), truth.cpu()], dim=1).flatten(0, 1)  # (I, 2, K, 3, S, S) -> (2I, K, 3, S, S)
    labels = [label for name in identities for label in (name, "true frame")]
    return _sheet(cells, labels, affects, references, reference_label, title, group=2)


def _wrong(verdicts: Tensor | None, asked: Tensor, affects: Sequence[str]) -> dict[tuple[int, int], str] | None:
    """Return the judge's prediction for each cell where it is not the target; None without `verdicts`."""
    if verdicts is None:
        return None
    verdicts = verdicts.cpu()
    return {(int(r), int(c)): affects[int(verdicts[r, c])] for r, c in (verdicts != asked).nonzero()}


def _expect(images: Tensor, leading: tuple[int, int], name: str) -> None:
    if images.ndim != 5 or tuple(images.shape[:2]) != leading or images.shape[2] != 3:
        raise ValueError(f"{name} must be {(*leading, 3, 'S', 'S')}, got {tuple(images.shape)}")


def _sheet(
    cells: Tensor,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    references: Tensor | None = None,
    reference_label: str = "",
    title: str | None = None,
    wrong: dict[tuple[int, int], str] | None = None,
    group: int = 1,
) -> Image.Image:
    """Draw cells (R, C, 3, S, S); references (R / group, 3, S, S) stand before the first row of each group."""
    side = cell_side(cells.shape[-1])
    headers = [*([reference_label] if references is not None else []), *column_labels]
    lines = max(len(wrap(text, side, text_size(side))) for text in headers)
    layout = plan(
        side,
        len(headers),
        row_labels,
        lines,
        reference=references is not None,
        title=title is not None,
        footnote=wrong is not None,
        group=group,
    )
    page = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(page)
    if title is not None:
        draw.text((MARGIN, MARGIN), title, INK, font(round(text_size(side) * 1.25)), anchor="la")
    _label(draw, layout, row_labels, headers, references is not None, group)
    _paste(page, draw, layout, cells, references, group)
    if wrong is not None:
        _mark(draw, layout, wrong, cells.shape[0] * cells.shape[1], references is not None)
    return page


def _label(
    draw: ImageDraw.ImageDraw,
    layout: Layout,
    row_labels: Sequence[str],
    headers: Sequence[str],
    reference: bool,
    group: int,
) -> None:
    for column, text in enumerate(headers):
        draw_header(draw, layout, column, text, FAINT_INK if reference and column == 0 else INK)
    for row, text in enumerate(row_labels):
        draw_row_label(draw, layout, row, text, FAINT_INK if row % group else INK)
    if layout.rule is not None:
        draw.line((layout.rule, layout.rows[0], layout.rule, layout.rows[-1] + layout.cell - 1), fill=RULE, width=1)


def _paste(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    layout: Layout,
    cells: Tensor,
    references: Tensor | None,
    group: int,
) -> None:
    offset = 0 if references is None else 1
    for row in range(cells.shape[0]):
        if references is not None and row % group == 0:
            page.paste(to_picture(references[row // group], layout.cell), layout.box(row, 0))
        for column in range(cells.shape[1]):
            box = layout.box(row, column + offset)
            if cells[row, column].isnan().any():
                draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=BLANK)
            else:
                page.paste(to_picture(cells[row, column], layout.cell), box)


def _mark(
    draw: ImageDraw.ImageDraw, layout: Layout, wrong: dict[tuple[int, int], str], count: int, reference: bool
) -> None:
    for (row, column), verdict in wrong.items():
        draw_verdict(draw, layout, row, column + int(reference), verdict)
    text = f"the judge classifies {count - len(wrong)} of {count} as the target"
    if wrong:
        text += "; red: other predictions"
    place = (layout.columns[0], layout.size[1] - MARGIN)
    draw.text(place, text, FAINT_INK, font(round(text_size(layout.cell) * 0.85)), anchor="ld")


def clip_strips(
    sources: Tensor, strips: Tensor, clips: Sequence[str], makers: Sequence[str], moments: Sequence[str]
) -> Image.Image:
    """Draw the source of every clip and one row per method: the real frames first, then the systems.

    Args:
        sources: source images of the clips, (C, 3, S, S) in [-1, 1].
        strips: (C, M, T, 3, S, S) in [-1, 1].
        clips: C names.
        makers: M names of the methods.
        moments: T labels of the columns.

    Raises:
        ValueError: the numbers of names and images differ.
    """
    if strips.ndim != 6 or strips.shape[:3] != (len(clips), len(makers), len(moments)) or len(sources) != len(clips):
        raise ValueError(
            f"strips must be {(len(clips), len(makers), len(moments), 3, 'S', 'S')}, got {tuple(strips.shape)}"
        )
    cells = torch.flatten(strips, 0, 1)  # (C, M, T, 3, S, S) -> (C*M, T, 3, S, S)
    labels = [f"{clip}: {maker}" if i == 0 else maker for clip in clips for i, maker in enumerate(makers)]
    return _sheet(cells, labels, moments, sources, "source", group=len(makers))
