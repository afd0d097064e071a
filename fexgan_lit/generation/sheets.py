"""Faces on labelled sheets: a row an identity, or for one identity a row of what is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fexgan_lit.generation.album import Album
    from fexgan_lit.generation.sources import Sources

#: Columns of a sheet; more are spread over several.
MOST_COLUMNS = 16


def sheet_of_identities(album: Album, sources: Sources, cells: Tensor, columns: Sequence[str], shows: str) -> None:
    """Write sheet.png, or sheet_1.png and so on: a row an identity, the input first.

    Args:
        album: where it goes.
        sources: N faces.
        cells: (N, C, 3, S, S) in [-1, 1].
        columns: C labels.
        shows: what the sheet shows, for the record.
    """
    from fexgan_lit.figures import face_sheet

    most = math.ceil(len(columns) / math.ceil(len(columns) / MOST_COLUMNS))
    pages = [slice(start, start + most) for start in range(0, len(columns), most)]
    for number, page in enumerate(pages, 1):
        name = "sheet.png" if len(pages) == 1 else f"sheet_{number}.png"
        picture = face_sheet(cells[:, page], sources.names, columns[page], references=sources.images)
        album.picture(name, picture, shows)


def sheet_of_one(
    album: Album, source: Tensor, cells: Tensor, rows: Sequence[str], columns: Sequence[str], shows: str
) -> None:
    """Write sheet.png for one identity: a row for each thing asked for, a column a strength.

    Args:
        album: where it goes.
        source: the input, (3, S, S) in [-1, 1].
        cells: (R, C, 3, S, S) in [-1, 1].
        rows: R labels.
        columns: C labels.
        shows: what the sheet shows, for the record.
    """
    from fexgan_lit.figures import face_sheet

    references = source.expand(len(rows), -1, -1, -1)
    album.picture("sheet.png", face_sheet(cells, rows, columns, references=references), shows)


def grey_levels(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of two batches of images (N, 3, S, S) in [-1, 1], a number an image, of 255."""
    return (a - b).abs().flatten(1).mean(1) * torch.tensor(127.5)
