"""Reading one image file into RGB with Pillow, with a reason where that is not possible.

What becomes of the less usual kinds:

- transparency (RGBA, grey with alpha, palette with a transparent entry) is composited onto black;
- grey becomes three equal channels;
- CMYK (JPEG) becomes RGB as the inks would look on white, without a colour profile;
- of 16 bits a channel the upper 8 are kept; files that use 12 bits or fewer of them are refused, since their images
  would be almost black;
- the EXIF orientation is applied in every format, as image viewers do;
- of an animation or a multi-page file, the first picture is read.

Nothing but Pillow decodes, so that what was checked is what is read. A small file may ask for hours or for all of the
memory; such files are refused before Pillow comes to the costly part.
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
#: How the reason begins where the file may be fine and access to it is not.
CANNOT_BE_READ = "cannot be read"
#: Of a file; uncompressed pictures of MAX_PIXELS with 16 bits a channel stay below.
MAX_BYTES = 1 << 30
#: Of a JPEG; libjpeg's progressive files have ten, and each costs as much as a picture.
MAX_SCANS = 50

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


def decode_frame(data: bytes, most: int = MAX_PIXELS) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the bytes of one image file of at most `most` pixels; raises as `read_frame`."""
    return to_rgb(load_image(data, most=most))


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
    except Exception as error:  # whatever a damaged file makes of Pillow's parsers
        raise FrameError("truncated or damaged image") from error
    if picture.width * picture.height > most:
        raise FrameError(f"{picture.width}x{picture.height} pixels, more than the {most // 10**6} megapixels allowed")
    if "bmp_rle" in str(getattr(picture, "tile", "")):  # decoded in Python, and of a few bytes it makes gigabytes
        raise FrameError("a run-length coded BMP; expected a plain BMP, or a PNG")
    return picture


def load_image(data: bytes, kinds: tuple[str, ...] = KINDS, most: int = MAX_PIXELS) -> Image.Image:
    """The decoded picture of the bytes of one image file, upright, 8 bits a channel; arguments as of `open_image`."""
    picture = open_image(data, kinds, most)
    kind, deep = str(picture.format), ";16" in str(getattr(picture, "tile", ""))
    try:
        picture.load()
        _check_tags(picture.info.get("exif", b""))
    except FrameError:
        raise
    except Exception as error:
        raise FrameError(f"truncated or damaged {kind} file") from error
    if deep and picture.mode != "I;16":  # Pillow keeps the upper 8 bits of colours
        _check_depth(np.asarray(picture)[..., :3])
    with contextlib.suppress(Exception):  # of damaged EXIF data
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def to_rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a decoded picture.

    Raises:
        FrameError: its pixels have neither 8 nor 16 bits a channel, or 16 of which the upper 4 are empty.
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
    """Refuse an image whose 16 bits a channel hold 12 or fewer, by the `upper` 8 of them."""
    if 0 < upper.max() < 1 << 4:
        raise FrameError("16 bits a channel, 12 or fewer of them used; scale them to 0..65535")


_CRUMBS = "made of too many tiny parts"


class _Bytes(io.BytesIO):
    """A file that is not read crumb by crumb, as Pillow's Python reads chunks of a few bytes: a second a megabyte."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = 10_000 + len(data) // 64

    def read(self, size: int | None = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise FrameError(_CRUMBS)
        return super().read(size)


#: A marker that something may belong to: neither a byte 255 of the picture nor a restart within it.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
#: Of a JPEG; Pillow handles each in Python.
_MOST_SEGMENTS = 10_000


def _check_jpeg(data: bytes) -> None:
    """Refuse a JPEG of more than `MAX_SCANS` scans, or whose EXIF data `_check_tags` refuses."""
    at, segments, scans, exif = 2, 0, 0, b""
    while found := _MARKER.search(data, at):
        marker, at, segments = found[1][0], found.end(), segments + 1
        if segments > _MOST_SEGMENTS:
            raise FrameError(_CRUMBS)
        if marker == 0xD9 and scans:  # the end of the picture
            break
        if MARKER.get(0xFF00 + marker, ("", "", None))[2] is None:  # nothing belongs to it
            continue
        content = data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")]
        at += 2 + len(content)
        scans += marker == 0xDA
        if scans > MAX_SCANS:
            raise FrameError(f"a JPEG of more than the {MAX_SCANS} scans allowed")
        if marker == 0xE1 and not scans:
            exif += content.removeprefix(b"Exif\0\0") if content.startswith(b"Exif\0\0") else b""
    _check_tags(exif)


#: Bytes of a value by its type in a TIFF directory, and the tags whose value is the place of another directory.
_UNITS, _DIRECTORIES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), (34665, 34853, 40965)


def _check_tags(tiff: bytes, repeated: bool = True) -> None:
    """Refuse a TIFF, or EXIF data, whose tags claim many times the bytes there are: Pillow copies each of them.

    Args:
        tiff: the bytes, from the byte order on.
        repeated: whether its first directory may hold a tag twice, of which readers take the one or the other.
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
