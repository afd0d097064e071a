"""`mode=interpolate between=identities|latents`: faces on the way between two people, or between two draws."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.errors import UserError
from fexgan_lit.expression import Expression
from fexgan_lit.generation.album import file_name
from fexgan_lit.generation.codes import check_codes, mixed
from fexgan_lit.generation.expressions import between, rows_of
from fexgan_lit.generation.random_faces import check_prior
from fexgan_lit.generation.wishes import SOURCE, Wish, granted, read_wish

if TYPE_CHECKING:
    from fexgan_lit.generation.interpolate import InterpolateOptions
    from fexgan_lit.generation.workbench import Workbench


@dataclass(frozen=True, eq=False)
class Ends:
    """R ways to go.

    Attributes:
        names: R labels.
        codes: from where and to where, (R, n) each.
        asked: expressions at both ends, (R, ...) each.
        path: `lerp` or `slerp`.
        labels: of the first and the last column.
    """

    names: tuple[str, ...]
    codes: tuple[Tensor, Tensor]
    asked: tuple[Expression, Expression]
    path: str
    labels: tuple[str, str]


def between_identities(bench: Workbench, options: InterpolateOptions) -> None:
    """Each face turns into the next one in `steps` pictures, its expression from `start` to `end` on the way.

    Raises:
        UserError: a single face, or a system without codes.
    """
    check_codes(bench, "between=identities")
    if len(bench.sources) < 2:
        raise UserError(
            f"between=identities: one face ({bench.sources.names[0]}); expected two, such as who=[NAME,NAME]"
        )
    start, end = _wishes(bench, options)
    first, last = granted(bench, start), granted(bench, end)
    count = len(bench.sources)
    here, there = range(count - 1), range(1, count)
    system: Any = bench.system
    with torch.no_grad():
        codes = [
            system.codes(*(part.to(system.device) for part in (bench.sources.images, bench.shown, wish))).cpu()
            for wish in (first, last)
        ]
    names = bench.sources.names
    rows = tuple(f"{a} to {b}" for a, b in pairwise(names))
    ends = Ends(
        rows, (codes[0][list(here)], codes[1][list(there)]), (rows_of(first, here), rows_of(last, there)),
        options.path or "lerp", (start.label, end.label),
    )  # fmt: skip
    bench.say(f"mean codes of two faces mixed by {ends.path}")
    _paint(bench, ends, options.steps, bench.sources.images[:-1])


def between_latents(bench: Workbench, options: InterpolateOptions) -> None:
    """`n` ways of `steps` pictures between two random codes each.

    Raises:
        UserError: a system without a prior, or `prior=fitted` where none was fitted.
    """
    check_codes(bench, "between=latents")
    check_prior(bench, options.prior)
    start, end = _wishes(bench, options)
    system: Any = bench.system
    generator = torch.Generator().manual_seed(bench.settings.seed)
    drawn = system.draw_prior(2 * options.n, options.prior, generator)
    asked = [Expression.blend(wish.affects, system.affects, options.n) for wish in (start, end)]
    # N(0, I) lives near a sphere; the fitted mixture has no such shape
    path = options.path or ("slerp" if options.prior == "normal" else "lerp")
    names = tuple(f"way {i + 1}" for i in range(options.n))
    ends = Ends(names, (drawn[: options.n], drawn[options.n :]), (asked[0], asked[1]), path, (start.label, end.label))
    bench.say(f"codes drawn from prior={options.prior} with seed {bench.settings.seed}, mixed by {path}")
    _paint(bench, ends, options.steps, None)


def _wishes(bench: Workbench, options: InterpolateOptions) -> tuple[Wish, Wish]:
    """The expressions at both ends; without `end` the start's, and for faces of nobody `source` is neutral."""
    affects = bench.system.affects
    start = read_wish(options.start, "start", affects)
    end = start if options.end is None else read_wish(options.end, "end", affects)
    if any(wish.units for wish in (start, end)):
        raise UserError(
            f"between={options.between}: start and end are affects; {bench.system.settings.name} reads those"
        )
    if options.between == "latents":
        calm = Wish({"neutral" if "neutral" in affects else affects[0]: 1.0})
        start, end = (wish if wish.affects else calm for wish in (start, end))
    return start, end


def _paint(bench: Workbench, ends: Ends, steps: int, references: Tensor | None) -> None:
    """Paint, write and show R rows of `steps` pictures."""
    from fexgan_lit.figures import face_sheet

    system: Any = bench.system
    shares, cells = [step / (steps - 1) for step in range(steps)], []
    for step, share in enumerate(shares):
        asked = between(ends.asked[0], ends.asked[1], share)
        bench.mark(asked)
        codes = mixed(*ends.codes, share, ends.path)
        with torch.no_grad():
            faces = system.paint_codes(codes.to(system.device), asked.to(system.device)).cpu()
        cells.append(faces)
        for row, name in enumerate(ends.names):
            place = f"faces/{file_name(name)}/step_{step:02d}"
            bench.album.face(place, to_uint8(faces[row : row + 1])[0], name, asked, row)
    # what a column shows: how far, and at the ends the expression where one was named
    labels = [f"{share:.2g}" for share in shares]
    labels[0], labels[-1] = (
        share if label == SOURCE else f"{share}: {label}" for share, label in zip("01", ends.labels, strict=True)
    )
    page = face_sheet(torch.stack(cells, dim=1), ends.names, labels, references=references)
    bench.album.picture("strip.png", page, f"from code to code by {ends.path}")
