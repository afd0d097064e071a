"""Target expressions: affects, action units and landmarks of a batch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from fexgan_lit.utils.errors import UserError

#: The seven affects of FERG-DB and MH-FED, in the order of the official class indices.
AFFECTS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


#: Every affect name with a fixed position: the seven and contempt (CK+, RaFD).
KNOWN_AFFECTS = (*AFFECTS[:1], "contempt", *AFFECTS[1:])


#: Other names that data sets use for the same affects.
AFFECT_ALIASES = {
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "happy": "joy",
    "happiness": "joy",
    "smile": "joy",
    "sad": "sadness",
    "surprised": "surprise",
}


#: The complex expressions that both FExGAN papers show: two affects at once.
COMPLEX_PAIRS = (("anger", "sadness"), ("joy", "disgust"), ("fear", "surprise"))


#: Action units in OpenFace's order (GANimation's condition): the columns of `Expression.aus`.
ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)


#: Names of the fields of `Expression` in messages.
FIELD_NAMES = {"affect": "affects", "aus": "action units", "landmarks": "landmarks"}


@dataclass(frozen=True)
class Expression:
    """The expressions of a batch; each field is optional, and a system declares the fields it reads.

    Attributes:
        affect: (B, K) weights; one-hot for one affect, several entries for a complex one, scaled by lambda.
        aus: (B, 17) action-unit intensities in [0, 1], in the order of `ACTION_UNITS`.
        landmarks: (B, 68, 2) points, x then y, in [-1, 1] from the left/top to the right/bottom edge.
    """

    affect: Tensor | None = None
    aus: Tensor | None = None
    landmarks: Tensor | None = None

    @classmethod
    def of_affects(cls, indices: Tensor | Sequence[int], count: int, strength: float = 1.0) -> Expression:
        """Return one affect per row: `indices` (B,) in 0..count-1 become one-hot (B, count), scaled by `strength`."""
        index = torch.as_tensor(indices, dtype=torch.long)
        return cls(affect=torch.nn.functional.one_hot(index, count).float() * strength)

    @classmethod
    def blend(cls, weights: Mapping[str, float], affects: Sequence[str], batch: int = 1) -> Expression:
        """Return a complex expression, for example ``{"anger": 1, "sadness": 1}``, repeated for `batch` rows."""
        row = torch.zeros(len(affects))
        for name, weight in weights.items():
            row[affects.index(resolve_affect(name, affects))] = weight
        return cls(affect=row.repeat(batch, 1))  # (K,) -> (B, K)

    @property
    def known(self) -> dict[str, Tensor]:
        """Return the fields that are set, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def to(self, device: torch.device | str) -> Expression:
        """Return the same expression with every field on `device`."""
        return replace(self, **{name: value.to(device) for name, value in self.known.items()})

    @classmethod
    def stack(cls, rows: Sequence[Expression]) -> Expression:
        """Concatenate batches; a field that one of the batches lacks is left out."""
        shared = set.intersection(*(set(row.known) for row in rows))
        return cls(**{name: torch.cat([getattr(row, name) for row in rows]) for name in shared})


def normalise_affect(name: str | int, aliases: Mapping[str, str] | None = None) -> str:
    """Lower-case and strip `name` as text, then apply the user's aliases and the built-in ones."""
    word = str(name).strip().lower()
    own = {key.strip().lower(): value.strip().lower() for key, value in (aliases or {}).items()}
    word = own.get(word, word)
    return AFFECT_ALIASES.get(word, word)


def resolve_affect(name: str | int, affects: Sequence[str], aliases: Mapping[str, str] | None = None) -> str:
    """Return the entry of `affects` that `name` means.

    Raises:
        UserError: no entry has this name; the message suggests the nearest one.
    """
    word = normalise_affect(name, aliases)
    if word in affects:
        return word
    if str(name) in affects:
        return str(name)
    known = [alias for alias, affect in AFFECT_ALIASES.items() if affect in affects]
    near = difflib.get_close_matches(word, [*affects, *known], n=1)
    hint = f" Did you mean '{AFFECT_ALIASES.get(near[0], near[0])}'?" if near else ""
    raise UserError(f"'{name}' is not an affect of this data set; it has: {', '.join(affects)}.{hint}")


def order_affects(names: Iterable[str]) -> tuple[str, ...]:
    """Sort affects without duplicates: known affects in the official order, then the others alphabetically."""
    found = set(names)
    known = [name for name in KNOWN_AFFECTS if name in found]
    return (*known, *sorted(found - set(known)))


def rows_of(expression: Expression, index: Sequence[int] | Tensor) -> Expression:
    """Return the rows of a batch (N, ...) at `index` (M,), which may repeat rows."""
    chosen = torch.as_tensor(index, dtype=torch.long)
    return Expression(**{name: value[chosen] for name, value in expression.known.items()})


def between(start: Expression, end: Expression, share: float) -> Expression:
    """Return (1 - share) start + share end for every field that both have, with action units clamped to 0..1."""
    shared = [name for name in start.known if name in end.known]
    mixed = {name: torch.lerp(start.known[name], end.known[name], share) for name in shared}
    if "aus" in mixed:
        mixed["aus"] = mixed["aus"].clamp(0, 1)
    return Expression(**mixed)


def with_units(aus: Tensor, values: Mapping[int, float]) -> Tensor:
    """Return action units (N, 17) with the values from `values` (unit -> 0..1), the others unchanged."""
    changed = aus.clone()
    for unit, value in values.items():
        changed[:, ACTION_UNITS.index(unit)] = value
    return changed


def raised(aus: Tensor, unit: int, strength: float) -> Tensor:
    """Return action units (N, 17) with `unit` raised to at least `strength`.

    A strength of 0 therefore changes nothing.
    """
    column = ACTION_UNITS.index(unit)
    changed = aus.clone()
    changed[:, column] = changed[:, column].clamp(min=strength)
    return changed


AU_COLUMNS = tuple(f"au{unit:02d}" for unit in ACTION_UNITS)


LANDMARK_COLUMNS = tuple(f"{axis}{point:02d}" for point in range(68) for axis in "xy")
#: Side of the square around a face in jaw widths (ear to ear), and the distance of its centre below the eye corners in
#: the same unit: without margin it reaches from the middle of the forehead to the chin.
SQUARE_SIDE, SQUARE_BELOW = 1.2, 0.24


POSE_COLUMNS = ("yaw", "pitch", "roll")
