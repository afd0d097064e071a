"""Parse and validate the page's requests: untrusted JSON and uploads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fexgan_lit.data.images import FrameError
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.inference.images import Picture, decode_picture
from fexgan_lit.utils.errors import UserError

#: Largest strength of an affect; training covers at most 1.
STRONGEST = 1.5


MOST_AFFECTS = 64
#: A bound on numbers, because integers in JSON may be too large for a float.
_HUGE = 10**9


_UNITS = {str(unit): unit for unit in ACTION_UNITS}


@dataclass(frozen=True)
class FaceRequest:
    """A request for one face.

    Attributes:
        weights: weights of affects by name, 0 to `STRONGEST`; missing affects have weight 0.
        units: action units by number, 0..1; they replace those of the affects.
    """

    weights: dict[str, float] = field(default_factory=dict)
    units: dict[int, float] = field(default_factory=dict)


def read_asked(tree: Any, affects: Sequence[str]) -> FaceRequest:
    """Parse ``{"weights": {"joy": 0.7}, "units": {"12": 0.5}}``.

    Args:
        tree: parsed JSON.
        affects: the known affects.

    Raises:
        UserError: the form is different, a name is unknown, or a number is out of range.
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
    """Return the object at `name`, or an empty one if it is missing.

    Raises:
        UserError: the value is not an object, or has more than `MOST_AFFECTS` entries.
    """
    if not isinstance(tree, Mapping):
        raise UserError(f"expected an object with {name}")
    found = tree.get(name) or {}
    if not isinstance(found, Mapping) or len(found) > MOST_AFFECTS:
        raise UserError(f"{name}: expected an object of at most {MOST_AFFECTS} numbers by name")
    return found


def number(value: Any, name: str, most: float, least: float = 0.0) -> float:
    """Return `value` as a float from `least` to `most`.

    Raises:
        UserError: the value is not a number or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_HUGE < value < _HUGE:
        raise UserError(f"{name}: expected a number from {least:g} to {most:g}")
    if not least <= value <= most:
        raise UserError(f"{name} is {value:g}; expected {least:g} to {most:g}")
    return float(value)


def words(tree: Any, name: str, default: str = "") -> str:
    """Return the short text at `name`.

    Raises:
        UserError: the value is not text, or has more than 200 characters.
    """
    found = tree.get(name, default) if isinstance(tree, Mapping) else None
    if not isinstance(found, str) or len(found) > 200:
        raise UserError(f"{name}: expected a short text")
    return found


#: Largest size of an upload in bytes.
MOST_BYTES = 20 << 20


#: Largest number of pixels: accepts cameras of 24 or 36 megapixels and rejects decompression bombs.
MOST_PIXELS = 40_000_000


#: Smallest side in pixels of a box around a face.
SMALLEST = 8


KINDS = "a PNG, JPEG, WebP, BMP or TIFF picture"


def read_upload(data: bytes, keep_alpha: bool = False) -> Picture:
    """Decode an uploaded image.

    The type is detected from the content. Transparency, grey, CMYK and EXIF orientation are converted as in
    `fexgan_lit.data.images`.

    Args:
        data: the bytes of the file.
        keep_alpha: whether to read the alpha channel.

    Raises:
        UserError: the file is too large, damaged or of another type, or its header announces more than `MOST_PIXELS`.
    """
    if len(data) > MOST_BYTES:
        raise UserError(too_large(len(data)))
    try:
        return decode_picture(data, keep_alpha, most=MOST_PIXELS)
    except FrameError as error:
        raise UserError(f"The file cannot be used: {error}. Expected {KINDS}.") from error


def read_box(tree: Any, width: int, height: int) -> list[float]:
    """Parse ``{"box": [left, top, right, bottom]}``, shares of an image, as pixels of the image.

    Raises:
        UserError: the form is different, or the box is smaller than 8 pixels.
    """
    given = tree.get("box") if isinstance(tree, Mapping) else None
    if not isinstance(given, list) or len(given) != 4:
        raise UserError("box: expected [left, top, right, bottom] from 0 to 1")
    left, top, right, bottom = (number(value, "box", 1.0) for value in given)
    box = [left * width, top * height, right * width, bottom * height]
    if box[2] - box[0] < SMALLEST or box[3] - box[1] < SMALLEST:
        raise UserError(f"The box is smaller than {SMALLEST} pixels of the picture; draw it around the face.")
    return box


def too_large(size: int) -> str:
    """Return the message for a file of `size` bytes."""
    return f"The file has {size / 2**20:.0f} MiB; expected at most {MOST_BYTES >> 20} MiB. Make the picture smaller."
