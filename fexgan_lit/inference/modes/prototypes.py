"""`mode=prototypes`: the run's affects at several strengths, with their action units."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import ACTION_UNITS, Expression, resolve_affect
from fexgan_lit.inference.conditions import of_affects
from fexgan_lit.inference.output import file_name, sheet_of_identities, sheet_of_one
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession

TABLE = "prototypes.csv"


@dataclass
class PrototypeOptions(Options):
    """Affects and strengths.

    Attributes:
        affects: names of affects; None uses all of the run.
        strengths: 1 is the affect as in the data; action units are limited to 1.
    """

    affects: list[str] | None = option(None, "some affects, or null for all", empty=False)
    strengths: list[float] = option([1.0], "numbers, 0 to 10, 1 for the affect", at_least=0, at_most=10, empty=False)


def prototypes(session: GenerationSession, options: PrototypeOptions) -> None:
    """Generate every face with every affect at every strength, as PNG and on a sheet; write prototypes.csv."""
    names = options.affects or list(session.system.affects)
    names = list(dict.fromkeys(resolve_affect(name, session.system.affects) for name in names))
    strengths = sorted(set(options.strengths))
    asked = [[of_affects(session, {name: strength}) for strength in strengths] for name in names]
    faces = session.paint_columns([wanted for row in asked for wanted in row], "generating affects")
    faces = faces.unflatten(1, (len(names), len(strengths)))  # (N, K * L, ...) -> (N, K, L, 3, S, S)
    _write_faces(session, asked, faces, names, strengths)
    _write_sheet(session, faces, names, strengths)
    _write_table(session, names)


def _write_faces(
    session: GenerationSession,
    asked: list[list[Expression]],
    faces: Tensor,
    names: Sequence[str],
    strengths: Sequence[float],
) -> None:
    inputs = to_uint8(session.sources.images)
    for i, who in enumerate(session.sources.names):
        session.output.face(f"faces/{file_name(who)}/input", inputs[i], who, None)
        for k, affect in enumerate(names):
            pixels = to_uint8(faces[i, k])
            for s, strength in enumerate(strengths):
                place = f"faces/{file_name(who)}/{file_name(affect)}_{strength:.2f}"
                session.output.face(place, pixels[s], who, asked[k][s], i)


def _write_sheet(session: GenerationSession, faces: Tensor, names: Sequence[str], strengths: Sequence[float]) -> None:
    shows = "affects as their prototypes"
    if len(session.sources) == 1 and len(strengths) > 1:
        columns = [f"{strength:g}" for strength in strengths]
        sheet_of_one(session.output, session.sources.images[0], faces[0], names, columns, shows)
        return
    labels = [
        session.marked(name if strength == 1 else f"{name} {strength:g}", strength)
        for name in names for strength in strengths
    ]  # fmt: skip
    sheet_of_identities(session.output, session.sources, faces.flatten(1, 2), labels, shows)


def _write_table(session: GenerationSession, names: Sequence[str]) -> None:
    """Write the action units of each affect's prototype if the run has prototypes."""
    units = session.system.expression([session.system.affects.index(name) for name in names]).aus
    if units is None:
        session.say(f"{session.system.settings.name} defines no action units for affects, so {TABLE} is not written")
        return
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(["affect", *(f"AU{unit:02d}" for unit in ACTION_UNITS)])
    rows = [[round(value, 4) for value in row] for row in units.tolist()]
    writer.writerows([name, *row] for name, row in zip(names, rows, strict=True))
    session.output.text(TABLE, page.getvalue(), "action units of each affect's prototype, 0..1")
    session.output.measured["prototypes"] = {
        name: {f"AU{unit:02d}": value for unit, value in zip(ACTION_UNITS, row, strict=True)}
        for name, row in zip(names, rows, strict=True)
    }
