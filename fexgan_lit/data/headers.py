"""What the first bytes of an image file tell: its kind, its size, and whether its end is there.

OpenCV fills the missing part of a truncated JPEG with grey and says nothing, and libpng writes to stderr; so
completeness is checked here, before anything is decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass


class FrameError(Exception):
    """A file that cannot become a frame; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class Header:
    """`kind` of the file, its size in pixels, the bytes to decode, and whether they are 8-bit colours without alpha."""

    kind: str
    width: int
    height: int
    data: bytes
    plain: bool = False


def inspect(data: bytes) -> Header:
    """The header of a PNG, JPEG, BMP, WebP or TIFF file.

    Raises:
        FrameError: empty, of another kind, truncated, or damaged as far as checksums tell.
    """
    if not data:
        raise FrameError("empty file")
    for kind, magic, read in _KINDS:
        if data.startswith(magic):
            try:
                return read(data)
            except (struct.error, IndexError) as error:
                raise FrameError(f"truncated {kind} file") from error
    raise FrameError("not a PNG, JPEG, BMP, WebP or TIFF image")


def _png(data: bytes) -> Header:
    """Walk the chunks, check their sums; leave the colour profile out, about which libpng complains on stderr."""
    width, height, depth, colours = struct.unpack_from(">IIBB", data, 16)
    plain = (depth, colours) == (8, 2)
    position, end, profiles = 8, False, []
    while not end:
        length, name = struct.unpack_from(">I4s", data, position)
        after = position + 12 + length
        (checksum,) = struct.unpack_from(">I", data, after - 4)
        if zlib.crc32(memoryview(data)[position + 4 : after - 4]) != checksum:
            raise FrameError("damaged PNG file (checksum)")
        if name == b"iCCP":
            profiles.append((position, after))
        if name in (b"tRNS", b"eXIf"):  # a transparent colour; an orientation, which some readers apply and some not
            plain = False
        end, position = name == b"IEND", after
    for start, stop in reversed(profiles):
        data = data[:start] + data[stop:]
    return Header("PNG", width, height, data, plain)


def _jpeg(data: bytes) -> Header:
    """Walk the segments up to the first scan; an end marker must follow it (a thumbnail's lies before)."""
    position, size = 2, (0, 0)
    while True:
        if data[position] != 0xFF:
            raise FrameError("damaged JPEG file")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (width, height)
        if marker == 0xDA:  # start of scan
            break
        position += 2 + length
    if data.rfind(b"\xff\xd9", position) < 0:
        raise FrameError("truncated JPEG file")
    return Header("JPEG", *size, data, plain=True)


def _bmp(data: bytes) -> Header:
    (declared,) = struct.unpack_from("<I", data, 2)
    core = struct.unpack_from("<I", data, 14)[0] == 12  # OS/2's header has 16-bit sizes
    width, height = struct.unpack_from("<HH" if core else "<ii", data, 18)
    if len(data) < declared:
        raise FrameError("truncated BMP file")
    return Header("BMP", abs(width), abs(height), data)


def _riff(data: bytes) -> Header:
    if data[8:12] != b"WEBP":
        raise FrameError("not a PNG, JPEG, BMP, WebP or TIFF image")
    if len(data) < struct.unpack_from("<I", data, 4)[0] + 8:
        raise FrameError("truncated WebP file")
    return Header("WebP", *_pillow_size(data, "WebP"), data)


def _tiff(data: bytes) -> Header:
    return Header("TIFF", *_pillow_size(data, "TIFF"), data)


def _pillow_size(data: bytes, kind: str) -> tuple[int, int]:
    """Size by Pillow, which reads the header only; for the two kinds whose headers are long to parse."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except Image.DecompressionBombError as error:
        raise FrameError("more than the 100 megapixels allowed") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise FrameError(f"truncated or damaged {kind} file") from error


_KINDS = (
    ("PNG", b"\x89PNG\r\n\x1a\n", _png),
    ("JPEG", b"\xff\xd8", _jpeg),
    ("BMP", b"BM", _bmp),
    ("WebP", b"RIFF", _riff),
    ("TIFF", b"II*\x00", _tiff),
    ("TIFF", b"MM\x00*", _tiff),
)
