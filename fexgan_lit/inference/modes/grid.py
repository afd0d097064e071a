"""`mode=grid`: every face with every affect at every strength, on one labelled image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import Expression
from fexgan_lit.inference.conditions import STRONGEST, of_affects, read_affects
from fexgan_lit.inference.output import file_name
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession


@dataclass
class GridOptions(Options):
    """Affects and strengths of the grid.

    Attributes:
        affects: `all`, a name, or names.
        strengths: strengths; each gives a row per face.
    """

    affects: Any = "all"
    strengths: list[float] = option([1.0], f"numbers in 0..{STRONGEST:g}", at_least=0, at_most=STRONGEST, empty=False)


def grid(session: GenerationSession, options: GridOptions) -> None:
    """Write grid.png with a row per face (and strength) and a column per affect, and each face as PNG."""
    names = read_affects(options.affects, "affects", session.system.affects)
    strengths = sorted(set(options.strengths))
    asked = [[of_affects(session, {name: strength}) for name in names] for strength in strengths]
    faces = session.paint_columns([wanted for row in asked for wanted in row], "generating the grid")
    faces = faces.unflatten(1, (len(strengths), len(names)))  # (N, L * K, ...) -> (N, L, K, 3, S, S)
    _write_faces(session, asked, faces, names, strengths)
    _write_picture(session, faces, names, strengths)


def _write_faces(
    session: GenerationSession, asked: list[list[Expression]], faces: Tensor, names: list[str], strengths: list[float]
) -> None:
    inputs = to_uint8(session.sources.images)
    for i, who in enumerate(session.sources.names):
        session.output.face(f"faces/{file_name(who)}/input", inputs[i], who, None)
        for s, strength in enumerate(strengths):
            pixels = to_uint8(faces[i, s])
            for k, affect in enumerate(names):
                place = f"faces/{file_name(who)}/{file_name(affect)}_{strength:.2f}"
                session.output.face(place, pixels[k], who, asked[s][k], i)


def _write_picture(session: GenerationSession, faces: Tensor, names: list[str], strengths: list[float]) -> None:
    from fexgan_lit.figures import clip_strips, face_sheet

    sources, shows = session.sources, "every face with every affect"
    if len(strengths) == 1:
        labels = [name if strengths[0] == 1 else f"{name} {strengths[0]:g}" for name in names]
        labels = [session.marked(label, strengths[0]) for label in labels]
        page = face_sheet(faces[:, 0], sources.names, labels, references=sources.images)
    else:
        rows = [session.marked(f"{strength:g}", strength) for strength in strengths]
        page = clip_strips(sources.images, faces, sources.names, rows, names)
        shows += f", rows at strengths {', '.join(f'{strength:g}' for strength in strengths)}"
    session.output.picture("grid.png", page, shows)
