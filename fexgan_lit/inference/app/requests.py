"""Requests of the page: JSON and uploads that anybody may have written, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fexgan_lit.data.images import FrameError, decode_frame
from fexgan_lit.data.packing.sources import fit_square
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.utils.errors import UserError

#: Strength of an affect, at most; beyond 1 no system was trained.
STRONGEST = 1.5


MOST_AFFECTS = 64
#: JSON may hold integers of hundreds of digits, which are no floating-point number.
_HUGE = 10**9


_UNITS = {str(unit): unit for unit in ACTION_UNITS}


@dataclass(frozen=True)
class FaceRequest:
    """One wanted face.

    Attributes:
        weights: of the affects by name, 0 to `STRONGEST`; one that is not named is 0.
        units: action units by number, 0..1, in place of what the affects mean.
    """

    weights: dict[str, float] = field(default_factory=dict)
    units: dict[int, float] = field(default_factory=dict)


def read_asked(tree: Any, affects: Sequence[str]) -> FaceRequest:
    """A `FaceRequest` from ``{"weights": {"joy": 0.7}, "units": {"12": 0.5}}``.

    Args:
        tree: parsed JSON.
        affects: names that may be asked for.

    Raises:
        UserError: not of that form, an unknown name, or a number out of range.
    """
    weights, units = mapping(tree, "weights"), mapping(tree, "units")
    unknown = [name for name in weights if name not in affects]
    if unknown:
        raise UserError(f"'{unknown[0]}' is not an affect here; expected some of {', '.join(affects)}")
    strange = [name for name in units if name not in _UNITS]
    if strange:
        raise UserError(f"'{strange[0]}' is not an action unit; expected some of {', '.join(map(str, ACTION_UNITS))}")
    return FaceRequest(
        {name: number(value, name, STRONGEST) for name, value in weights.items()},
        {_UNITS[name]: number(value, f"AU{name}", 1.0) for name, value in units.items()},
    )


def mapping(tree: Any, name: str) -> Mapping[str, Any]:
    """The object at `name`, empty where there is none.

    Raises:
        UserError: something else is there.
    """
    if not isinstance(tree, Mapping):
        raise UserError(f"expected an object with {name}")
    found = tree.get(name) or {}
    if not isinstance(found, Mapping) or len(found) > MOST_AFFECTS:
        raise UserError(f"{name}: expected an object of at most {MOST_AFFECTS} numbers by name")
    return found


def number(value: Any, name: str, most: float, least: float = 0.0) -> float:
    """`value` as a number from `least` to `most`.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_HUGE < value < _HUGE:  # NaN is neither
        raise UserError(f"{name}: expected a number from {least:g} to {most:g}")
    if not least <= value <= most:
        raise UserError(f"{name} is {value:g}; expected {least:g} to {most:g}")
    return float(value)


def words(tree: Any, name: str, default: str = "") -> str:
    """The short text at `name`.

    Raises:
        UserError: something else is there.
    """
    found = tree.get(name, default) if isinstance(tree, Mapping) else None
    if not isinstance(found, str) or len(found) > 200:
        raise UserError(f"{name}: expected a short text")
    return found


#: Of a file, bytes.
MOST_BYTES = 20 << 20


#: Of a picture; a camera's 24 or 36 megapixels pass, a bomb does not.
MOST_PIXELS = 40_000_000


#: Edge of the square that is kept, pixels: enough for every system.
KEPT = 512


KINDS = "a PNG, JPEG, WebP, BMP or TIFF picture"


def read_upload(data: bytes) -> np.ndarray:
    """The central square of an uploaded picture, at most `KEPT` pixels wide.

    The name of the file is not looked at. `fexgan_lit.data.images` says what becomes of transparency, grey, CMYK and an
    EXIF orientation.

    Args:
        data: the bytes of the file.

    Returns:
        (S, S, 3) uint8 RGB.

    Raises:
        UserError: too large, of another kind, damaged, or with more pixels than `MOST_PIXELS`, which the header alone
            tells.
    """
    if len(data) > MOST_BYTES:
        raise UserError(too_large(len(data)))
    try:
        picture = decode_frame(data, MOST_PIXELS)
    except FrameError as error:
        raise UserError(f"The file cannot be used: {error}. Expected {KINDS}.") from error
    return fit_square(picture, min(KEPT, *picture.shape[:2]))


def too_large(size: int) -> str:
    """What to say of a file of `size` bytes."""
    return f"The file has {size / 2**20:.0f} MiB; expected at most {MOST_BYTES >> 20} MiB. Make the picture smaller."
