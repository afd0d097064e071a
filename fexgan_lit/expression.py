"""The one way to say what face is wanted: affects, action units and landmarks of a batch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from fexgan_lit.utils.errors import UserError

#: The seven affects of FERG-DB and MH-FED, in the order of the official class indices.
AFFECTS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


#: Every affect name the framework knows how to order: the seven and contempt (CK+, RaFD).
KNOWN_AFFECTS = (*AFFECTS[:1], "contempt", *AFFECTS[1:])


#: Other words data sets use for the same affect.
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


#: The complex expressions both FExGAN papers show: two affects asked for at once.
COMPLEX_PAIRS = (("anger", "sadness"), ("joy", "disgust"), ("fear", "surprise"))


#: Action units in OpenFace's order (GANimation's condition); fields of `Expression.aus`.
ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)


#: What the fields of `Expression` are called in messages.
FIELD_NAMES = {"affect": "affects", "aus": "action units", "landmarks": "landmarks"}


@dataclass(frozen=True)
class Expression:
    """A batch of wanted faces; each field is optional and a system declares which it reads.

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
        """One affect a row: `indices` (B,) in 0..count-1 becomes a (B, count) one-hot scaled by `strength`."""
        index = torch.as_tensor(indices, dtype=torch.long)
        return cls(affect=torch.nn.functional.one_hot(index, count).float() * strength)

    @classmethod
    def blend(cls, weights: Mapping[str, float], affects: Sequence[str], batch: int = 1) -> Expression:
        """A complex expression, for example ``{"anger": 1, "sadness": 1}``, the same for `batch` rows."""
        row = torch.zeros(len(affects))
        for name, weight in weights.items():
            row[affects.index(resolve_affect(name, affects))] = weight
        return cls(affect=row.repeat(batch, 1))  # (K,) -> (B, K)

    @property
    def known(self) -> dict[str, Tensor]:
        """The fields that are given, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def to(self, device: torch.device | str) -> Expression:
        """The same expression with every field on `device`."""
        return replace(self, **{name: value.to(device) for name, value in self.known.items()})

    @classmethod
    def stack(cls, rows: Sequence[Expression]) -> Expression:
        """Batches below one another; a field that one of them lacks is left out."""
        shared = set.intersection(*(set(row.known) for row in rows))
        return cls(**{name: torch.cat([getattr(row, name) for row in rows]) for name in shared})


def normalise_affect(name: str | int, aliases: Mapping[str, str] | None = None) -> str:
    """Lower-case `name` as text, strip it, and follow the user's aliases, then the built-in ones."""
    word = str(name).strip().lower()
    own = {key.strip().lower(): value.strip().lower() for key, value in (aliases or {}).items()}
    word = own.get(word, word)
    return AFFECT_ALIASES.get(word, word)


def resolve_affect(name: str | int, affects: Sequence[str], aliases: Mapping[str, str] | None = None) -> str:
    """The entry of `affects` that `name` means.

    Raises:
        UserError: the name is none of them; the message suggests the nearest.
    """
    word = normalise_affect(name, aliases)
    if word in affects:
        return word
    if str(name) in affects:
        return str(name)
    near = difflib.get_close_matches(word, [*affects, *AFFECT_ALIASES], n=1)
    hint = f" Did you mean '{AFFECT_ALIASES.get(near[0], near[0])}'?" if near else ""
    raise UserError(f"'{name}' is not an affect of this data set; it has: {', '.join(affects)}.{hint}")


def order_affects(names: Iterable[str]) -> tuple[str, ...]:
    """Known affects in the official order, then the others alphabetically; no duplicates."""
    found = set(names)
    known = [name for name in KNOWN_AFFECTS if name in found]
    return (*known, *sorted(found - set(known)))


def rows_of(expression: Expression, index: Sequence[int] | Tensor) -> Expression:
    """The rows at `index` (M,) of a batch (N, ...), repeated where an index is."""
    chosen = torch.as_tensor(index, dtype=torch.long)
    return Expression(**{name: value[chosen] for name, value in expression.known.items()})


def between(start: Expression, end: Expression, share: float) -> Expression:
    """(1 - share) start + share end, for every field that both have; action units stay in 0..1."""
    shared = [name for name in start.known if name in end.known]
    mixed = {name: torch.lerp(start.known[name], end.known[name], share) for name in shared}
    if "aus" in mixed:
        mixed["aus"] = mixed["aus"].clamp(0, 1)
    return Expression(**mixed)


def with_units(aus: Tensor, values: Mapping[int, float]) -> Tensor:
    """Action units (N, 17) with those named in `values` (unit -> 0..1) set, the others as they are."""
    changed = aus.clone()
    for unit, value in values.items():
        changed[:, ACTION_UNITS.index(unit)] = value
    return changed


def raised(aus: Tensor, unit: int, strength: float) -> Tensor:
    """Action units (N, 17) with `unit` at `strength` or, where it is stronger already, as it is.

    Strength 0 so changes nothing, whatever the face shows.
    """
    column = ACTION_UNITS.index(unit)
    changed = aus.clone()
    changed[:, column] = changed[:, column].clamp(min=strength)
    return changed


AU_COLUMNS = tuple(f"au{unit:02d}" for unit in ACTION_UNITS)


LANDMARK_COLUMNS = tuple(f"{axis}{point:02d}" for point in range(68) for axis in "xy")


POSE_COLUMNS = ("yaw", "pitch", "roll")
