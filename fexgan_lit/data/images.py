"""Reading one image file into RGB with Pillow, with a reason where that is not possible.

What becomes of the less usual kinds:

- transparency (RGBA, grey with alpha, palette with a transparent entry) is composited onto black;
- grey becomes three equal channels;
- CMYK (JPEG) becomes RGB as the inks would look on white, without a colour profile;
- 16 bits a channel become 8 by division by 257 (65535 -> 255), rounded;
- the EXIF orientation is applied in every format, as image viewers do;
- 16 bits of which only the lower 12 are used are refused, since they would come out black;
- of an animation or a multi-page file, the first picture is read.
"""

from __future__ import annotations

import contextlib
import io
import stat
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

KINDS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".jfif"})
MAX_PIXELS = 100_000_000
#: How the reason begins where the file may be fine and access to it is not.
CANNOT_BE_READ = "cannot be read"
#: Of a file; uncompressed pictures of MAX_PIXELS with 16 bits a channel stay below.
MAX_BYTES = 1 << 30

# Pillow warns, without the file's name, of what FrameError says
warnings.filterwarnings("ignore", module=r"PIL\.")


class FrameError(Exception):
    """A file that cannot become a frame; the message is the reason, without the file's name."""


def read_frame(path: Path | str) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        FrameError: the file cannot be read, is no regular file, empty, truncated, damaged, huge or not an image.
    """
    return decode_frame(read_bytes(path))


def read_bytes(path: Path | str) -> bytes:
    """The content of an image file; raises as `read_frame`."""
    try:
        facts = Path(path).stat()
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for somebody to write to it
            raise FrameError("not a regular file")
        if facts.st_size > MAX_BYTES:
            raise FrameError(f"{facts.st_size >> 20} MiB, more than the {MAX_BYTES >> 20} MiB allowed")
        return Path(path).read_bytes()
    except OSError as error:
        raise FrameError(f"{CANNOT_BE_READ} ({error.strerror})") from error


def decode_frame(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the bytes of one image file; raises as `read_frame`."""
    return to_rgb(load_image(data))


def open_image(data: bytes, kinds: tuple[str, ...] = KINDS, most: int = MAX_PIXELS) -> Image.Image:
    """The picture of the bytes of one image file as far as its header tells; raises as `read_frame`.

    Args:
        data: the bytes.
        kinds: Pillow's names of the formats that are accepted.
        most: pixels.
    """
    if not data:
        raise FrameError("empty file")
    try:
        picture = Image.open(io.BytesIO(data), formats=kinds)
    except Image.DecompressionBombError as error:
        raise FrameError(f"more than the {most // 10**6} megapixels allowed") from error
    except UnidentifiedImageError as error:
        raise FrameError("not a PNG, JPEG, BMP, WebP or TIFF image") from error
    except Exception as error:  # whatever a damaged file makes of Pillow's parsers
        raise FrameError("truncated or damaged image") from error
    if picture.width * picture.height > most:
        raise FrameError(f"{picture.width}x{picture.height} pixels, more than the {most // 10**6} megapixels allowed")
    return picture


def load_image(data: bytes, kinds: tuple[str, ...] = KINDS) -> Image.Image:
    """The decoded picture of the bytes of one image file, upright, 8 bits a channel; raises as `read_frame`."""
    picture = open_image(data, kinds)
    kind, samples = str(picture.format), str(getattr(picture, "tile", ""))
    try:
        picture.load()
    except Exception as error:
        raise FrameError(f"truncated or damaged {kind} file") from error
    shown = picture
    if ";16" in samples and picture.mode != "I;16":  # Pillow keeps the upper 8 bits of colours, without rounding
        colours = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
        order = cv2.COLOR_BGRA2RGBA if colours.shape[2] == 4 else cv2.COLOR_BGR2RGB
        shown = Image.fromarray(cv2.cvtColor(_eight_bits(colours), order))
    with contextlib.suppress(Exception):  # of damaged EXIF data
        if shown is not picture:  # of a TIFF both libraries have applied the orientation, and Pillow forgets it
            shown.getexif()[ExifTags.Base.Orientation] = picture.getexif().get(ExifTags.Base.Orientation, 1)
        ImageOps.exif_transpose(shown, in_place=True)
    return shown


def to_rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded picture.

    Raises:
        FrameError: its pixels have neither 8 nor 16 bits a channel, or 16 of which the upper 4 are empty.
    """
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray(_eight_bits(np.asarray(picture)))
    if picture.mode in ("I", "F"):
        raise FrameError(f"pixels of type {np.asarray(picture).dtype}; expected 8 or 16 bits a channel")
    if not picture.has_transparency_data:
        return np.array(picture.convert("RGB"))
    rgba = np.asarray(picture.convert("RGBA")).astype(np.uint16)
    return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)


def _eight_bits(levels: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) levels of 16 bits as 8; FrameError where they are a camera's 12 bits, unscaled."""
    largest = int((levels[..., :3] if levels.ndim == 3 else levels).max())
    if 0 < largest < 1 << 12:
        raise FrameError(f"16 bits a channel, 12 or fewer of them used (largest {largest}); scale them to 0..65535")
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
