"""A picture that came over the wire: checked by its content before anything of it is decoded."""

from __future__ import annotations

import numpy as np

from fexgan_lit.data.images import FrameError, decode_frame, open_image
from fexgan_lit.data.sources import fit_square
from fexgan_lit.errors import UserError

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
        open_image(data, most=MOST_PIXELS)
        picture = decode_frame(data)
    except FrameError as error:
        raise UserError(f"The file cannot be used: {error}. Expected {KINDS}.") from error
    return fit_square(picture, min(KEPT, *picture.shape[:2]))


def too_large(size: int) -> str:
    """What to say of a file of `size` bytes."""
    return f"The file has {size / 2**20:.0f} MiB; expected at most {MOST_BYTES >> 20} MiB. Make the picture smaller."
