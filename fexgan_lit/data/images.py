"""Read an image file into RGB with Pillow, or raise an error with the reason.

Unusual formats are converted as follows:

- transparency (RGBA, grey with alpha, palette with a transparent entry) is composited onto black;
- grey becomes three equal channels;
- CMYK (JPEG) becomes RGB as the inks would look on white, without a colour profile;
- the upper 8 of 16 bits per channel are kept; files that use 12 bits or fewer of them are rejected, since their
  images would be almost black;
- the EXIF orientation is applied in every format, as image viewers do;
- the first image of an animation or a multi-page file is read.

Pillow is the only decoder, so that checks and decoding see the same data. A small malicious file can take hours or
all memory to decode; such files are rejected before the expensive part.
"""

from __future__ import annotations

import contextlib
import io
import re
import stat
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import MARKER

KINDS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".jfif"})
MAX_PIXELS = 100_000_000
#: The beginning of the reason if the file may be valid but cannot be accessed.
CANNOT_BE_READ = "cannot be read"
#: Largest file size; an uncompressed image of MAX_PIXELS with 16 bits per channel is smaller.
MAX_BYTES = 1 << 30
#: Largest number of scans in a JPEG; libjpeg's progressive files have ten, and each costs as much as an image.
MAX_SCANS = 50

# FrameError reports what Pillow's warnings say, and with the name of the file
warnings.filterwarnings("ignore", module=r"PIL\.")


class FrameError(Exception):
    """A file cannot be read as a frame; the message is the reason, without the file's name."""


def read_frame(path: Path | str) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB.

    Raises:
        FrameError: the file cannot be read, is not a regular file or not an image, or is empty, damaged or too large.
    """
    return decode_frame(read_bytes(path))


def read_bytes(path: Path | str) -> bytes:
    """Read the bytes of an image file; raises as `read_frame`."""
    try:
        facts = Path(path).stat()
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would block
            raise FrameError("not a regular file")
        if facts.st_size > MAX_BYTES:
            raise FrameError(f"{facts.st_size >> 20} MiB, more than the {MAX_BYTES >> 20} MiB allowed")
        return Path(path).read_bytes()
    except OSError as error:
        raise FrameError(f"{CANNOT_BE_READ} ({error.strerror})") from error


def decode_frame(data: bytes, most: int = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of an image file of at most `most` pixels to (H, W, 3) uint8 RGB; raises as `read_frame`."""
    return to_rgb(load_image(data, most=most))


def open_image(data: bytes, kinds: tuple[str, ...] = KINDS, most: int = MAX_PIXELS) -> Image.Image:
    """Open an image without decoding its pixels; raises as `read_frame`.

    Args:
        data: the bytes of the file.
        kinds: Pillow's names of the accepted formats.
        most: largest number of pixels.
    """
    if not data:
        raise FrameError("empty file")
    try:
        if data.startswith(b"\xff\xd8"):
            _check_jpeg(data)
        elif data.startswith((b"II", b"MM")):
            _check_tags(data, repeated=False)
        picture = Image.open(_Bytes(data), formats=kinds)
    except FrameError:
        raise
    except Image.DecompressionBombError as error:
        raise FrameError(f"more than the {most // 10**6} megapixels allowed") from error
    except UnidentifiedImageError as error:
        raise FrameError("not a PNG, JPEG, BMP, WebP or TIFF image") from error
    except Exception as error:  # Pillow's parsers raise many types on damaged files
        raise FrameError("truncated or damaged image") from error
    if picture.width * picture.height > most:
        raise FrameError(f"{picture.width}x{picture.height} pixels, more than the {most // 10**6} megapixels allowed")
    if "bmp_rle" in str(getattr(picture, "tile", "")):  # decoded in Python, and a few bytes become gigabytes
        raise FrameError("a run-length coded BMP; expected a plain BMP, or a PNG")
    return picture


def load_image(data: bytes, kinds: tuple[str, ...] = KINDS, most: int = MAX_PIXELS) -> Image.Image:
    """Decode the bytes of an image file to an upright image, 8 bits per channel; arguments as of `open_image`."""
    picture = open_image(data, kinds, most)
    kind, deep = str(picture.format), ";16" in str(getattr(picture, "tile", ""))
    try:
        picture.load()
        _check_tags(picture.info.get("exif", b""))
    except FrameError:
        raise
    except Exception as error:
        raise FrameError(f"truncated or damaged {kind} file") from error
    if deep and picture.mode != "I;16":  # Pillow keeps the upper 8 bits of colour channels
        _check_depth(np.asarray(picture)[..., :3])
    with contextlib.suppress(Exception):  # the EXIF data are damaged
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def to_rgb(picture: Image.Image) -> np.ndarray:
    """Convert a decoded image to (H, W, 3) uint8 RGB.

    Raises:
        FrameError: a channel does not have 8 or 16 bits, or the upper 4 of its 16 bits are 0.
    """
    if picture.mode.startswith("I;16"):
        upper = (np.asarray(picture) >> 8).astype(np.uint8)
        _check_depth(upper)
        picture = Image.fromarray(upper)
    if picture.mode in ("I", "F"):
        raise FrameError(f"pixels of type {np.asarray(picture).dtype}; expected 8 or 16 bits a channel")
    if not picture.has_transparency_data:
        return np.array(picture.convert("RGB"))
    rgba = picture.convert("RGBA")
    black = Image.new("RGB", picture.size)
    black.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
    return np.array(black)


def _check_depth(upper: np.ndarray) -> None:
    """Raise a FrameError if a 16-bit image uses 12 bits or fewer; `upper` are the upper 8 bits."""
    if 0 < upper.max() < 1 << 4:
        raise FrameError("16 bits a channel, 12 or fewer of them used; scale them to 0..65535")


_CRUMBS = "made of too many tiny parts"


class _Bytes(io.BytesIO):
    """A file with a limit on the number of reads: Pillow needs a second per megabyte for chunks of a few bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = 10_000 + len(data) // 64

    def read(self, size: int | None = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise FrameError(_CRUMBS)
        return super().read(size)


#: A JPEG marker, except escaped bytes 255 of the image data and restart markers.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
#: Largest number of segments in a JPEG; Pillow handles each in Python.
_MOST_SEGMENTS = 10_000


def _check_jpeg(data: bytes) -> None:
    """Raise a FrameError if a JPEG has more than `MAX_SCANS` scans, or if its EXIF data fail `_check_tags`."""
    at, segments, scans, exif = 2, 0, 0, b""
    while found := _MARKER.search(data, at):
        marker, at, segments = found[1][0], found.end(), segments + 1
        if segments > _MOST_SEGMENTS:
            raise FrameError(_CRUMBS)
        if marker == 0xD9 and scans:  # the end of the image
            break
        if MARKER.get(0xFF00 + marker, ("", "", None))[2] is None:  # a marker without a segment
            continue
        content = data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")]
        at += 2 + len(content)
        scans += marker == 0xDA
        if scans > MAX_SCANS:
            raise FrameError(f"a JPEG of more than the {MAX_SCANS} scans allowed")
        if marker == 0xE1 and not scans:
            exif += content.removeprefix(b"Exif\0\0") if content.startswith(b"Exif\0\0") else b""
    _check_tags(exif)


#: Bytes per value for each type in a TIFF directory, and the tags whose value is the offset of another directory.
_UNITS, _DIRECTORIES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), (34665, 34853, 40965)


def _check_tags(tiff: bytes, repeated: bool = True) -> None:
    """Raise a FrameError if the tags of a TIFF or EXIF claim far more bytes than it has: Pillow copies them all.

    Args:
        tiff: the bytes, from the byte order on.
        repeated: whether its first directory may contain a tag twice, which readers resolve differently.
    """
    tiff = re.sub(rb"\A(Exif\0\0)+", b"", tiff)
    order = "<" if tiff.startswith(b"II") else ">"
    counted, word, inline = ("Q", "Q", 8) if tiff[2:3] == b"\x2b" else ("H", "I", 4)
    entry = struct.Struct(f"{order}HH{word}{word}")
    if len(tiff) < 2 * inline:
        return
    places, left = [(struct.unpack_from(order + word, tiff, inline)[0], 0)], 4 * len(tiff) + (1 << 16)
    for place, depth in places:
        start = place + struct.calcsize(counted)
        if start > len(tiff):
            continue
        count = min(struct.unpack_from(order + counted, tiff, place)[0], (len(tiff) - start) // entry.size)
        seen = set()
        for tag, kind, number, value in entry.iter_unpack(tiff[start : start + count * entry.size]):
            if tag in seen and depth == 0 and not repeated:
                raise FrameError(f"a TIFF that has the tag {tag} twice")
            seen.add(tag)
            size = number * _UNITS[kind] if kind < len(_UNITS) else 0
            left -= max(0, min(size, len(tiff) - value)) if size > inline else 0
            if tag in _DIRECTORIES and depth < len(_DIRECTORIES):
                places.append((value, depth + 1))
        if left < 0:
            raise FrameError("tags that claim far more bytes than there are")
