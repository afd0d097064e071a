"""`mode=action_units`: single action units at several strengths (GANimation's first experiment)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import ACTION_UNITS, Expression, raised
from fexgan_lit.inference.output import file_name, grey_levels, sheet_of_identities, sheet_of_one
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession

_INSTEAD = (
    "For this run use mode=prototypes or mode=interpolate start=AFFECT end=AFFECT; single action units need a run of a "
    "system that reads them, such as model=ganimation"
)
_SHOWS = "single action units at several strengths; 0 keeps those of the face"


@dataclass
class ActionUnitOptions(Options):
    """Action units and their strengths.

    Attributes:
        units: numbers of action units, from OpenFace's 17.
        strengths: strengths in 0..1; 0 keeps the face's own units, so the generated image should equal the source.
    """

    units: list[int] = option(
        [1, 2, 4, 5, 9, 12, 15, 25, 26],
        f"some of {', '.join(map(str, ACTION_UNITS))}",
        choices=ACTION_UNITS,
        empty=False,
    )
    strengths: list[float] = option([0.0, 0.33, 0.66, 1.0], "numbers in 0..1", at_least=0, at_most=1, empty=False)


def action_units(session: GenerationSession, options: ActionUnitOptions) -> None:
    """Generate every face with every unit at every strength, as PNG and on a sheet; compare strength 0 to the source.

    A unit is set to the strength unless the face has more of it; the other units stay unchanged.

    Raises:
        UserError: the run does not read action units.
    """
    units, strengths = list(dict.fromkeys(options.units)), sorted(set(options.strengths))
    session.check(Expression(aus=torch.zeros(1, len(ACTION_UNITS))), _INSTEAD)
    own = session.own("aus")
    asked = [[Expression(aus=raised(own, unit, strength)) for strength in strengths] for unit in units]
    faces = session.paint_columns([wanted for row in asked for wanted in row], "generating action units")
    faces = faces.unflatten(1, (len(units), len(strengths)))  # (N, U * L, ...) -> (N, U, L, 3, S, S)
    _write_faces(session, asked, faces, units, strengths)
    if len(session.sources) == 1:
        rows, columns = [f"AU {unit}" for unit in units], [f"{strength:g}" for strength in strengths]
        sheet_of_one(session.output, session.sources.images[0], faces[0], rows, columns, _SHOWS)
    else:
        cells, labels = _without_repeats(faces, units, strengths)
        sheet_of_identities(session.output, session.sources, cells, labels, _SHOWS)
    if strengths[0] == 0:
        _say_difference(session, faces[:, 0, 0])


def _write_faces(
    session: GenerationSession,
    asked: list[list[Expression]],
    faces: Tensor,
    units: Sequence[int],
    strengths: Sequence[float],
) -> None:
    inputs = to_uint8(session.sources.images)
    for i, name in enumerate(session.sources.names):
        session.output.face(f"faces/{file_name(name)}/input", inputs[i], name, None)
        for u, unit in enumerate(units):
            pixels = to_uint8(faces[i, u])
            for s, strength in enumerate(strengths):
                place = f"faces/{file_name(name)}/au{unit:02d}_{strength:.2f}"
                session.output.face(place, pixels[s], name, asked[u][s], i)


def _without_repeats(faces: Tensor, units: Sequence[int], strengths: Sequence[float]) -> tuple[Tensor, list[str]]:
    """Return cells (N, C, 3, S, S) and C labels; strength 0 is equal for all units, so it occurs only once, first."""
    first = 1 if strengths[0] == 0 else 0
    labels = ["all = 0"] * first
    labels += [f"AU{unit} = {strength:g}" for unit in units for strength in strengths[first:]]
    return torch.cat([faces[:, 0, :first], faces[:, :, first:].flatten(1, 2)], dim=1), labels


def _say_difference(session: GenerationSession, back: Tensor) -> None:
    """Print and record the difference between the images (N, 3, S, S) at strength 0 and the sources."""
    levels = grey_levels(back, session.starts).tolist()
    mean = sum(levels) / len(levels)
    by_face = {name: round(value, 4) for name, value in zip(session.sources.names, levels, strict=True)}
    session.output.measured["strength_0_difference_grey_levels"] = {"mean": round(mean, 4), "by_face": by_face}
    worst = max(by_face, key=by_face.__getitem__)
    session.console.print(
        f"  strength 0 and the input differ by {mean:.2f} grey levels of 255 on average, by at most "
        f"{by_face[worst]:.2f} ({worst}); 0 means identical",
        markup=False,
    )
