"""`mode=interpolate`: in equal steps from one expression, face or latent code to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import Expression
from fexgan_lit.generation.album import file_name
from fexgan_lit.generation.codes import PATHS
from fexgan_lit.generation.expressions import between
from fexgan_lit.generation.morph import between_identities, between_latents
from fexgan_lit.generation.random_faces import prior_problems
from fexgan_lit.generation.wishes import SOURCE, Wish, granted, read_wish

if TYPE_CHECKING:
    from fexgan_lit.generation.workbench import Workbench

BETWEEN = ("expressions", "identities", "latents")
_INSTEAD = "A start and an end that this run reads work: affects for one that reads affects, and `source`"


@dataclass
class InterpolateOptions:
    """From where to where, in how many steps.

    Attributes:
        start: `source`, an affect, or a mapping of affects or action units to numbers.
        end: likewise; between identities and latents the start's where it is not given.
        steps: pictures, both ends included.
        between: `expressions` of one face, `identities` (each face turns into the next), or `latents` (random codes).
        path: `lerp` or `slerp`, how codes are mixed; None: lerp, and slerp between draws of N(0, I).
        n: ways between latents.
        prior: what latents are drawn from, `fitted` or `normal`.
    """

    start: Any = SOURCE
    end: Any = None
    steps: int = 5
    between: str = "expressions"
    path: str | None = None
    n: int = 4
    prior: str = "fitted"

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = [] if self.steps >= 2 else [f"steps={self.steps}: expected 2 or more, both ends included"]
        if self.between not in BETWEEN:
            found.append(f"between={self.between}: expected one of {', '.join(BETWEEN)}")
        if self.end is None and self.between == "expressions":
            found.append("end= is missing: an affect, `source`, or action units such as 'end={AU12: 0.8, AU25: 0.4}'")
        if self.path not in (None, *PATHS):
            found.append(f"path={self.path}: expected one of {', '.join(PATHS)}")
        if self.path is not None and self.between == "expressions":
            found.append(f"path={self.path}: says how latent codes are mixed; expected between=identities or latents")
        if self.n < 1:
            found.append(f"n={self.n}: expected 1 or more ways")
        return [*found, *prior_problems(self.prior)]


def interpolate(bench: Workbench, options: InterpolateOptions) -> None:
    """`steps` pictures from one expression, face or latent code to another, as PNG and on a strip."""
    {"expressions": between_expressions, "identities": between_identities, "latents": between_latents}[options.between](
        bench, options
    )


def between_expressions(bench: Workbench, options: InterpolateOptions) -> None:
    """Every face in `steps` pictures from `start` to `end`, as PNG and on a strip."""
    affects = bench.system.affects
    start, end = (read_wish(getattr(options, name), name, affects) for name in ("start", "end"))
    for wish in (start, end):
        if wish.units:
            bench.check(Expression(aus=bench.own("aus")), _INSTEAD)
    columns = _columns(bench, start, end, options.steps)
    faces = bench.paint_columns(columns, "painting steps")  # (N, T, 3, S, S)
    _write(bench, columns, faces, start, end)


def _columns(bench: Workbench, start: Wish, end: Wish, steps: int) -> list[Expression]:
    """`steps` expressions (N, ...) in equal distances."""
    first, last = granted(bench, start), granted(bench, end)
    columns = [between(first, last, step / (steps - 1)) for step in range(steps)]
    bench.check(columns[0], _INSTEAD)
    return columns


def _write(bench: Workbench, columns: list[Expression], faces: Tensor, start: Wish, end: Wish) -> None:
    from fexgan_lit.figures import face_sheet

    shares = [step / (len(columns) - 1) for step in range(len(columns))]
    labels = [start.label, *(f"{share:.2g}" for share in shares[1:-1]), end.label]
    inputs = to_uint8(bench.sources.images)
    for i, name in enumerate(bench.sources.names):
        bench.album.face(f"faces/{file_name(name)}/input", inputs[i], name, None)
        for step, pixels in enumerate(to_uint8(faces[i])):
            bench.album.face(f"faces/{file_name(name)}/step_{step:02d}", pixels, name, columns[step], i)
    page = face_sheet(faces, bench.sources.names, labels, references=bench.sources.images)
    bench.album.picture("strip.png", page, f"from {start.label} to {end.label}")
