"""`mode=grid`: every face with every affect at every strength, on one labelled picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import Expression
from fexgan_lit.inference.conditions import of_affects, read_affects
from fexgan_lit.inference.modes.transform import STRONGEST
from fexgan_lit.inference.output import file_name

if TYPE_CHECKING:
    from fexgan_lit.inference.session import Workbench


@dataclass
class GridOptions:
    """Which affects, how strong.

    Attributes:
        affects: `all`, a name, or names.
        strengths: a row of each face for each.
    """

    affects: Any = "all"
    strengths: list[float] = field(default_factory=lambda: [1.0])

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        fine = bool(self.strengths) and all(0 <= strength <= STRONGEST for strength in self.strengths)
        return [] if fine else [f"strengths={list(self.strengths)}: expected numbers in 0..{STRONGEST:g}"]


def grid(bench: Workbench, options: GridOptions) -> None:
    """A row a face (and strength), a column an affect, as grid.png; each face as PNG."""
    names = read_affects(options.affects, "affects", bench.system.affects)
    strengths = sorted(set(options.strengths))
    asked = [[of_affects(bench, {name: strength}) for name in names] for strength in strengths]
    faces = bench.paint_columns([wanted for row in asked for wanted in row], "painting the grid")
    faces = faces.unflatten(1, (len(strengths), len(names)))  # (N, L * K, ...) -> (N, L, K, 3, S, S)
    _write_faces(bench, asked, faces, names, strengths)
    _write_picture(bench, faces, names, strengths)


def _write_faces(
    bench: Workbench, asked: list[list[Expression]], faces: Tensor, names: list[str], strengths: list[float]
) -> None:
    inputs = to_uint8(bench.sources.images)
    for i, who in enumerate(bench.sources.names):
        bench.album.face(f"faces/{file_name(who)}/input", inputs[i], who, None)
        for s, strength in enumerate(strengths):
            pixels = to_uint8(faces[i, s])
            for k, affect in enumerate(names):
                place = f"faces/{file_name(who)}/{file_name(affect)}_{strength:.2f}"
                bench.album.face(place, pixels[k], who, asked[s][k], i)


def _write_picture(bench: Workbench, faces: Tensor, names: list[str], strengths: list[float]) -> None:
    from fexgan_lit.figures import clip_strips, face_sheet

    sources, shows = bench.sources, "every face with every affect"
    if len(strengths) == 1:
        labels = [name if strengths[0] == 1 else f"{name} {strengths[0]:g}" for name in names]
        labels = [bench.marked(label, strengths[0]) for label in labels]
        page = face_sheet(faces[:, 0], sources.names, labels, references=sources.images)
    else:
        rows = [bench.marked(f"{strength:g}", strength) for strength in strengths]
        page = clip_strips(sources.images, faces, sources.names, rows, names)
        shows += f", rows at strengths {', '.join(f'{strength:g}' for strength in strengths)}"
    bench.album.picture("grid.png", page, shows)
