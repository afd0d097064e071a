"""`mode=interpolate`: interpolation between two expressions, identities or latent codes in equal steps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import Expression, between, rows_of
from fexgan_lit.inference.conditions import SOURCE, TargetSpec, read_target, target_expression
from fexgan_lit.inference.modes.random import PRIORS, check_prior
from fexgan_lit.inference.output import file_name
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession


PATHS = ("lerp", "slerp")


#: Sine of the angle between codes below which `slerp` is replaced by `lerp`, since parallel codes define no arc.
_PARALLEL = 1e-4


def mixed(start: Tensor, end: Tensor, share: float, path: str) -> Tensor:
    """Interpolate codes from `start` (B, n) to `end` (B, n); `share` is 0 at the start and 1 at the end.

    `lerp` is linear. `slerp` follows the arc between the two directions (Shoemake 1985) and interpolates the length
    linearly: a straight line between two samples of N(0, I) passes closer to 0 than samples lie.
    """
    return torch.lerp(start, end, share) if path == "lerp" else _slerp(start, end, share)


def _slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    lengths = start.norm(dim=1, keepdim=True), end.norm(dim=1, keepdim=True)
    a, b = (code / length.clamp(min=1e-12) for code, length in zip((start, end), lengths, strict=True))
    angle = (a * b).sum(1, keepdim=True).clamp(-1, 1).acos()  # (B, 1)
    sine = angle.sin()
    arc = ((1 - share) * angle).sin() / sine * a + (share * angle).sin() / sine * b
    straight = torch.lerp(start, end, share)
    bent = (sine > _PARALLEL) & (lengths[0] > 0) & (lengths[1] > 0)
    return torch.where(bent, arc * torch.lerp(*lengths, share), straight)


def check_codes(session: GenerationSession, what: str) -> None:
    """Check that the system decodes images from latent codes.

    Raises:
        UserError: it does not, but `what` needs it; the message suggests alternatives.
    """
    if not hasattr(session.system, "paint_codes"):
        raise UserError(
            f"{what}: {session.system.settings.name} has no latent codes; it changes pixels. Use "
            "run=cartoon, a run of model=fexgan or model=fexgan_meta, or between=expressions"
        )


@dataclass(frozen=True, eq=False)
class Ends:
    """The ends of R interpolations.

    Attributes:
        names: R labels.
        codes: first and last codes, (R, n) each.
        asked: first and last expressions, (R, ...) each.
        path: `lerp` or `slerp`.
        labels: labels of the first and the last column.
    """

    names: tuple[str, ...]
    codes: tuple[Tensor, Tensor]
    asked: tuple[Expression, Expression]
    path: str
    labels: tuple[str, str]


def between_identities(session: GenerationSession, options: InterpolateOptions) -> None:
    """Interpolate from each face to the next in `steps` images, and from expression `start` to `end`.

    Raises:
        UserError: there is only one face, or the system has no codes.
    """
    check_codes(session, "between=identities")
    if len(session.sources) < 2:
        raise UserError(
            f"between=identities: found one face ({session.sources.names[0]}); expected two, such as who=[NAME,NAME]"
        )
    start, end = _wishes(session, options)
    first, last = target_expression(session, start), target_expression(session, end)
    count = len(session.sources)
    here, there = range(count - 1), range(1, count)
    system: Any = session.system
    with torch.no_grad():
        codes = [
            system.codes(*(part.to(system.device) for part in (session.sources.images, session.shown, wish))).cpu()
            for wish in (first, last)
        ]
    names = session.sources.names
    rows = tuple(f"{a} to {b}" for a, b in pairwise(names))
    ends = Ends(
        rows, (codes[0][list(here)], codes[1][list(there)]), (rows_of(first, here), rows_of(last, there)),
        options.path or "lerp", (start.label, end.label),
    )  # fmt: skip
    session.say(f"mean codes of two faces, interpolated by {ends.path}")
    _paint(session, ends, options.steps, session.sources.images[:-1])


def between_latents(session: GenerationSession, options: InterpolateOptions) -> None:
    """Interpolate `n` times between two random codes, in `steps` images each.

    Raises:
        UserError: the system has no prior, or `prior=fitted` and none was fitted.
    """
    check_codes(session, "between=latents")
    check_prior(session, options.prior)
    start, end = _wishes(session, options)
    system: Any = session.system
    generator = torch.Generator().manual_seed(session.settings.seed)
    drawn = system.draw_prior(2 * options.n, options.prior, generator)
    asked = [Expression.blend(wish.affects, system.affects, options.n) for wish in (start, end)]
    # samples of N(0, I) lie near a sphere; those of the fitted mixture do not
    path = options.path or ("slerp" if options.prior == "normal" else "lerp")
    names = tuple(f"way {i + 1}" for i in range(options.n))
    ends = Ends(names, (drawn[: options.n], drawn[options.n :]), (asked[0], asked[1]), path, (start.label, end.label))
    session.say(f"codes from prior={options.prior} with seed {session.settings.seed}, interpolated by {path}")
    _paint(session, ends, options.steps, None)


def _wishes(session: GenerationSession, options: InterpolateOptions) -> tuple[TargetSpec, TargetSpec]:
    """Return the expressions at both ends; `end` defaults to `start`, and for latents `source` means neutral."""
    affects = session.system.affects
    start = read_target(options.start, "start", affects)
    end = start if options.end is None else read_target(options.end, "end", affects)
    if any(wish.units for wish in (start, end)):
        raise UserError(
            f"between={options.between}: start and end are affects; {session.system.settings.name} reads those"
        )
    if options.between == "latents":
        calm = TargetSpec({"neutral" if "neutral" in affects else affects[0]: 1.0})
        start, end = (wish if wish.affects else calm for wish in (start, end))
    return start, end


def _paint(session: GenerationSession, ends: Ends, steps: int, references: Tensor | None) -> None:
    """Generate, write and show R rows of `steps` images."""
    from fexgan_lit.figures import face_sheet

    system: Any = session.system
    shares, cells = [step / (steps - 1) for step in range(steps)], []
    for step, share in enumerate(shares):
        asked = between(ends.asked[0], ends.asked[1], share)
        session.mark(asked)
        codes = mixed(*ends.codes, share, ends.path)
        with torch.no_grad():
            faces = system.paint_codes(codes.to(system.device), asked.to(system.device)).cpu()
        cells.append(faces)
        for row, name in enumerate(ends.names):
            place = f"faces/{file_name(name)}/step_{step:02d}"
            session.output.face(place, to_uint8(faces[row : row + 1])[0], name, asked, row)
    # columns are labelled by the share, and at the ends also by the expression if it was given
    labels = [f"{share:.2g}" for share in shares]
    labels[0], labels[-1] = (
        share if label == SOURCE else f"{share}: {label}" for share, label in zip("01", ends.labels, strict=True)
    )
    page = face_sheet(torch.stack(cells, dim=1), ends.names, labels, references=references)
    session.output.picture("strip.png", page, f"interpolation between codes by {ends.path}")


BETWEEN = ("expressions", "identities", "latents")


_INSTEAD = "Use a start and an end that this run reads: affects for a run that reads affects, and `source`"


@dataclass
class InterpolateOptions(Options):
    """Ends and steps of an interpolation.

    Attributes:
        start: `source`, an affect, or a mapping of affects or action units to numbers.
        end: as `start`; it defaults to `start` between identities and latents.
        steps: number of images, including both ends.
        between: `expressions` of one face, `identities` (each face turns into the next), or `latents` (random codes).
        path: interpolation of codes, `lerp` or `slerp`; None uses slerp between samples of N(0, I), else lerp.
        n: number of interpolations between latents.
        prior: distribution of latents, `fitted` or `normal`.
    """

    start: Any = SOURCE
    end: Any = None
    steps: int = option(5, "2 to 1000, both ends included", at_least=2, at_most=1000)
    between: str = option("expressions", choices=BETWEEN)
    path: str | None = option(None, choices=PATHS)
    n: int = option(4, "1 to 1000 ways", at_least=1, at_most=1000)
    prior: str = option("fitted", choices=PRIORS)

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        if self.end is None and self.between == "expressions":
            return ["end= is missing: an affect, `source`, or action units such as 'end={AU12: 0.8, AU25: 0.4}'"]
        if self.path is not None and self.between == "expressions":
            return [f"path={self.path}: says how latent codes are mixed; expected between=identities or latents"]
        return []


def interpolate(session: GenerationSession, options: InterpolateOptions) -> None:
    """Interpolate between expressions, faces or latent codes in `steps` images, as PNG and on a strip."""
    {"expressions": between_expressions, "identities": between_identities, "latents": between_latents}[options.between](
        session, options
    )


def between_expressions(session: GenerationSession, options: InterpolateOptions) -> None:
    """Interpolate every face from expression `start` to `end` in `steps` images, as PNG and on a strip."""
    affects = session.system.affects
    start, end = (read_target(getattr(options, name), name, affects) for name in ("start", "end"))
    for wish in (start, end):
        if wish.units:
            session.check(Expression(aus=session.own("aus")), _INSTEAD)
    columns = _columns(session, start, end, options.steps)
    faces = session.paint_columns(columns, "generating steps")  # (N, T, 3, S, S)
    _write(session, columns, faces, start, end)


def _columns(session: GenerationSession, start: TargetSpec, end: TargetSpec, steps: int) -> list[Expression]:
    """Return `steps` equidistant expressions (N, ...)."""
    first, last = target_expression(session, start), target_expression(session, end)
    columns = [between(first, last, step / (steps - 1)) for step in range(steps)]
    session.check(columns[0], _INSTEAD)
    return columns


def _write(
    session: GenerationSession, columns: list[Expression], faces: Tensor, start: TargetSpec, end: TargetSpec
) -> None:
    from fexgan_lit.figures import face_sheet

    shares = [step / (len(columns) - 1) for step in range(len(columns))]
    labels = [start.label, *(f"{share:.2g}" for share in shares[1:-1]), end.label]
    inputs = to_uint8(session.sources.images)
    for i, name in enumerate(session.sources.names):
        session.output.face(f"faces/{file_name(name)}/input", inputs[i], name, None)
        for step, pixels in enumerate(to_uint8(faces[i])):
            session.output.face(f"faces/{file_name(name)}/step_{step:02d}", pixels, name, columns[step], i)
    page = face_sheet(faces, session.sources.names, labels, references=session.sources.images)
    session.output.picture("strip.png", page, f"from {start.label} to {end.label}")
