"""`mode=random`: images of new identities, decoded from samples of the prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fexgan_lit.expression import Expression
from fexgan_lit.inference.conditions import read_affects
from fexgan_lit.inference.modes.transform import STRENGTH, STRONGEST
from fexgan_lit.inference.output import file_name
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession

PRIORS = ("fitted", "normal")
#: Codes per draw, independent of the batch size, so that a seed always gives the same images.
_DRAWN = 32
#: Maximum number of rows of the sheet; all images are written as PNG.
_MOST_ROWS = 16


@dataclass
class RandomOptions(Options):
    """Number, affects and prior of random images.

    Attributes:
        n: number of images; the affects take turns.
        affects: `all`, a name, or names.
        strength: strength of each affect.
        prior: `fitted`, the mixture fitted to the training codes, or `normal`, N(0, I).
    """

    n: int = option(64, "1 to 100000 faces", at_least=1, at_most=100_000)
    affects: Any = "all"
    strength: float = option(1.0, STRENGTH, at_least=0, at_most=STRONGEST)
    prior: str = option("fitted", choices=PRIORS)


def check_prior(session: GenerationSession, prior: str) -> None:
    """Check that the system has codes, and that the fitted prior exists if it is used.

    Raises:
        UserError: it has not; the message suggests alternatives.
    """
    if not hasattr(session.system, "draw_prior"):
        raise UserError(
            f"mode={session.settings.mode}: {session.system.settings.name} has no prior; it changes given faces. Use "
            "run=cartoon, a run of model=fexgan or model=fexgan_meta, or mode=transform"
        )
    system: Any = session.system
    if prior == "fitted" and not system.prior.fitted:
        raise UserError(
            "prior=fitted: this run has no fitted prior, which is made at the end of training; use prior=normal"
        )


def random_faces(session: GenerationSession, options: RandomOptions) -> None:
    """Generate `n` images from samples of the prior, as PNG and on a sheet with a column per affect."""
    check_prior(session, options.prior)
    names = read_affects(options.affects, "affects", session.system.affects)
    index = [session.system.affects.index(names[i % len(names)]) for i in range(options.n)]
    wanted = Expression.of_affects(index, len(session.system.affects), options.strength)
    faces = _draw(session, wanted, options)
    for i, face in enumerate(faces):
        place = f"faces/{i:04d}_{file_name(names[i % len(names)])}"
        session.output.drawn(place, face, wanted, i)
    _write_sheet(session, faces, names, options)


def _draw(session: GenerationSession, wanted: Expression, options: RandomOptions) -> Tensor:
    """Generate (n, 3, S, S) on the CPU."""
    from fexgan_lit.expression import rows_of
    from fexgan_lit.utils.console import stage_bar

    system: Any = session.system
    generator, made = torch.Generator().manual_seed(session.settings.seed), []
    session.mark(wanted)
    with stage_bar(session.console) as bar:
        task = bar.add_task("drawing faces", total=options.n)
        for start in range(0, options.n, _DRAWN):
            part = range(options.n)[start : start + _DRAWN]
            made.append(system.sample(len(part), rows_of(wanted, part), options.prior, generator).cpu())
            bar.update(task, advance=len(part))
    return torch.cat(made)


def _write_sheet(session: GenerationSession, faces: Tensor, names: list[str], options: RandomOptions) -> None:
    """Write a sheet with a column per affect; with one affect the images fill a square."""
    from fexgan_lit.figures import face_sheet

    columns = len(names) if len(names) > 1 else math.ceil(math.sqrt(len(faces)))
    rows = math.ceil(len(faces) / columns)
    cells = torch.full((rows * columns, *faces.shape[1:]), torch.nan)
    cells[: len(faces)] = faces
    cells = cells.unflatten(0, (rows, columns))[:_MOST_ROWS]
    if rows > _MOST_ROWS:
        session.say(f"the sheet shows the first {_MOST_ROWS * columns} of {len(faces)} faces")
    labels = [session.marked(name, options.strength) for name in names] if len(names) > 1 else [""] * columns
    title = None if len(names) > 1 else session.marked(names[0], options.strength)
    prior = "the fitted prior" if options.prior == "fitted" else "N(0, I)"
    page = face_sheet(cells, [""] * len(cells), labels, title=title)
    session.output.picture("sheet.png", page, f"faces drawn from {prior}, seed {session.settings.seed}")
