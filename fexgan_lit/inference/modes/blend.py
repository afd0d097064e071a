"""`mode=blend`: several affects at once, with weights chosen by hand or learnt with `mode=lambda`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fexgan_lit.expression import COMPLEX_PAIRS, Expression
from fexgan_lit.inference.conditions import TargetSpec, of_affects, read_target
from fexgan_lit.inference.modes.transform import STRENGTH, STRONGEST, write_columns
from fexgan_lit.inference.output import RECORD, file_name
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession, Painter

COMPLEX = "complex"
#: Key of the results of `mode=lambda` in the record under `measured`.
LEARNT = "lambda"


@dataclass
class BlendOptions(Options):
    """The affects of a blend.

    Attributes:
        affects: `complex` for the three pairs of the FExGAN papers with both weights 1, a mapping such as
            {anger: 0.6, sadness: 0.8}, a list of mappings, or a generation.json of mode=lambda.
        strength: factor on all weights.
    """

    affects: Any = COMPLEX
    strength: float = option(1.0, STRENGTH, at_least=0, at_most=STRONGEST)


@dataclass(frozen=True, eq=False)
class Blend:
    """Weights of affects, and a shift (n,) of the codes if one was learnt."""

    weights: dict[str, float]
    shift: Tensor | None = None

    @property
    def label(self) -> str:
        """Label for a sheet."""
        return TargetSpec(self.weights).label

    def times(self, strength: float) -> Blend:
        """Multiply all weights by `strength`; the shift stays unchanged."""
        return replace(self, weights={name: strength * weight for name, weight in self.weights.items()})


def blend(session: GenerationSession, options: BlendOptions) -> None:
    """Generate every face with every blend, as PNG and on a sheet; with `paste=true` also pasted into its image."""
    blends = [found.times(options.strength) for found in read_blends(options.affects, session.system.affects)]
    wanted = [of_affects(session, found.weights) for found in blends]
    makers = [painter(session, found) for found in blends]
    labels = [session.marked(found.label, max(found.weights.values())) for found in blends]
    places = ["_".join(f"{file_name(name)}_{w:.2f}" for name, w in found.weights.items()) for found in blends]
    if any(len(found.weights) > 1 for found in blends):
        session.say("every training target has a single affect; blends were never in the training data")
    write_columns(session, wanted, places, labels, "complex expressions", makers)


def painter(session: GenerationSession, found: Blend) -> Painter | None:
    """Return the function that generates images with shifted codes, or None if the blend has no shift.

    Raises:
        UserError: the blend has a shift, and this system has no codes of its length.
    """
    if found.shift is None:
        return None
    system: Any = session.system
    length = getattr(system.settings, "latent_size", None)
    if not hasattr(system, "paint_codes") or length != len(found.shift):
        raise UserError(
            f"affects=: this blend was learnt with a shift of {len(found.shift)} numbers, but the codes of this run's "
            f"{system.settings.name} have {length or 'no'} numbers. Use it with the run on which it was learnt"
        )
    shift = found.shift.to(system.device)

    def make(source: Tensor, shown: Expression, asked: Expression) -> Tensor:
        return system.paint_codes(system.codes(source, shown, asked) + shift, asked)

    return make


def read_blends(value: Any, affects: tuple[str, ...]) -> list[Blend]:
    """Parse the option `affects`; see `BlendOptions`.

    Raises:
        UserError: the value has another form, names an unknown affect or action units, or is a damaged file.
    """
    if value == COMPLEX:
        pairs = [pair for pair in COMPLEX_PAIRS if set(pair) <= set(affects)]
        if not pairs:
            raise UserError(
                f"affects=complex: none of the papers' pairs is in this run, which has {', '.join(affects)}"
            )
        return [Blend(dict.fromkeys(pair, 1.0)) for pair in pairs]
    if isinstance(value, str) and value.endswith(".json"):
        return [_learnt(Path(value).expanduser(), affects)]
    given = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(entry, Mapping) and entry for entry in given):
        raise UserError(
            f"affects={value}: expected weights such as '{{anger: 0.6, sadness: 0.8}}', a list of such mappings, "
            f"`complex`, or the {RECORD} of a mode=lambda call"
        )
    wishes = [read_target(entry, "affects", affects) for entry in given]
    if any(wish.units for wish in wishes):
        raise UserError(f"affects={value}: expected affects, not action units; mode=interpolate end=... accepts those")
    if any(not max(wish.affects.values()) for wish in wishes):
        raise UserError(f"affects={value}: all weights are 0; expected at least one above 0")
    return [Blend(wish.affects) for wish in wishes]


def _learnt(path: Path, affects: tuple[str, ...]) -> Blend:
    """Read the blend in a record of `mode=lambda`, with its shift if it has one."""
    if not path.is_file():
        raise UserError(f"affects={path}: there is no such file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["measured"][LEARNT]
        weights = read_target(dict(found["weights"]), "affects", affects).affects
        shift = found.get("shift")
        return Blend(weights, None if shift is None else torch.tensor(shift, dtype=torch.float32))
    except OSError as error:
        raise UserError(f"affects={path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"affects={path}: expected the {RECORD} that mode=lambda wrote; it lacks {error}") from error
