"""`mode=transform`: a PNG for every source image and affect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import Expression
from fexgan_lit.inference.conditions import STRONGEST, of_affects, read_affects
from fexgan_lit.inference.faces import MOST_FACES
from fexgan_lit.inference.output import file_name, sheet_of_identities
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession, Painter

#: What is expected of a strength, for messages.
STRENGTH = f"0..{STRONGEST:g}, 1 for the affect as the data show it"


@dataclass
class TransformOptions(Options):
    """Affects and strength.

    Attributes:
        affects: `all`, a name, or names.
        strength: strength of each affect; 1 is the affect as in the data.
    """

    affects: Any = "all"
    strength: float = option(1.0, STRENGTH, at_least=0, at_most=STRONGEST)


def transform(session: GenerationSession, options: TransformOptions) -> None:
    """Generate every face with every affect, as PNG and on a sheet; with `paste=true` also pasted into its image."""
    names = read_affects(options.affects, "affects", session.system.affects)
    wanted = [of_affects(session, {name: options.strength}) for name in names]
    labels = [name if options.strength == 1 else f"{name} {options.strength:g}" for name in names]
    labels = [session.marked(label, options.strength) for label in labels]
    places = [f"{file_name(name)}_{options.strength:.2f}" for name in names]
    write_columns(session, wanted, places, labels, "the source faces with each affect")


def write_columns(
    session: GenerationSession, wanted: Sequence[Expression], places: Sequence[str], labels: Sequence[str], shows: str,
    makers: Sequence[Painter | None] | None = None,
) -> None:  # fmt: skip
    """Generate every face with each of C expressions, write each image at once, and show the first faces on a sheet.

    Args:
        session: a session with N faces.
        wanted: C expressions (N, ...).
        places: C file names.
        labels: C labels of the sheet.
        shows: description of the sheet, for the record.
        makers: C functions that generate images; None uses the system's own for all.
    """
    sources = session.sources
    inputs = to_uint8(sources.images)
    for i, name in enumerate(sources.names):
        session.output.face(f"faces/{file_name(name)}/input", inputs[i], name, None)
    first = sources.select(range(min(len(sources), MOST_FACES)))
    cells = torch.empty(len(first), len(wanted), *sources.images.shape[1:])
    for c, column in enumerate(wanted):
        make = makers[c] if makers is not None else None
        what = f"generating {labels[c]} ({c + 1} of {len(wanted)})"
        for rows, faces in session.painted(np.arange(len(sources)), column, what, make):
            _write(session, faces, rows, column, places[c])
            on_sheet = max(0, min(rows.stop, len(first)) - rows.start)
            cells[rows.start : rows.start + on_sheet, c] = faces[:on_sheet]
    if len(first) < len(sources):
        session.say(f"the sheet shows the first {len(first)} of {len(sources)} faces")
    sheet_of_identities(session.output, first, cells, labels, shows)
    if session.placed is not None:
        session.placed.put_back(session.output, sources.names, places, session.console)


def _write(session: GenerationSession, faces: Tensor, rows: range, wanted: Expression, place: str) -> None:
    pixels = to_uint8(faces)
    for number, row in enumerate(rows):
        name = session.sources.names[row]
        session.output.face(f"faces/{file_name(name)}/{place}", pixels[number], name, wanted, row)
