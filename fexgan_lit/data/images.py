"""Reading one image file into RGB, with a reason where that is not possible.

What becomes of the less usual kinds:

- transparency (RGBA, grey with alpha, palette with a transparent entry) is composited onto black;
- grey becomes three equal channels;
- CMYK (JPEG) becomes RGB as the inks would look on white, without a colour profile;
- 16 bits a channel become 8 by division by 257 (65535 -> 255), rounded;
- the EXIF orientation of a JPEG is applied, as image viewers do; in other formats it is ignored;
- of an animation or a multi-page file, the first picture is read.
"""

from __future__ import annotations

import functools
import io
import os
import stat
from pathlib import Path

import cv2
import numpy as np

from fexgan_lit.data.headers import FrameError, inspect

__all__ = ["EXTENSIONS", "MAX_PIXELS", "FrameError", "decode_frame", "read_frame"]

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
MAX_PIXELS = 100_000_000
#: How the reason begins where the file may be fine and access to it is not.
CANNOT_BE_READ = "cannot be read"
#: Of a file; uncompressed pictures of MAX_PIXELS with 16 bits a channel stay below.
MAX_BYTES = 1 << 30

#: Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
#: Straight to RGB, where OpenCV is new enough (4.11) to know how.
_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)


def read_frame(path: Path | str) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        FrameError: the file cannot be read, is no regular file, empty, truncated, damaged, huge or not an image.
    """
    try:
        data = _read_bytes(path)
    except OSError as error:
        raise FrameError(f"{CANNOT_BE_READ} ({error.strerror})") from error
    return decode_frame(data)


def _read_bytes(path: Path | str) -> bytes:
    """The content of a file, opened once, with as little around it as 162,000 files deserve."""
    handle = os.open(path, _OPEN)
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise FrameError("not a regular file")
        if facts.st_size > MAX_BYTES:
            raise FrameError(f"{facts.st_size >> 20} MiB, more than the {MAX_BYTES >> 20} MiB allowed")
        data = os.read(handle, facts.st_size)
        while len(data) < facts.st_size and (more := os.read(handle, facts.st_size - len(data))):
            data += more  # some network disks give less than is asked for
        return data
    finally:
        os.close(handle)


def decode_frame(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the bytes of one image file; raises as `read_frame`."""
    header = inspect(data)
    if header.width * header.height > MAX_PIXELS:
        raise FrameError(
            f"{header.width}x{header.height} pixels, more than the {MAX_PIXELS // 10**6} megapixels allowed"
        )
    _silence_opencv()
    # IMREAD_COLOR also applies a JPEG's orientation; what is not plain may carry alpha or 16 bits, which it would lose.
    colour = cv2.IMREAD_COLOR if _RGB is None else _RGB
    try:
        image = cv2.imdecode(np.frombuffer(header.data, np.uint8), colour if header.plain else cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise FrameError(f"damaged {header.kind} file") from error
    if image is None:
        raise FrameError(f"truncated or damaged {header.kind} file")
    if header.plain and _RGB is not None:
        return image
    if header.kind == "TIFF" and image.ndim == 3 and image.shape[2] == 4 and image.dtype == np.uint8:
        image = _straight_alpha(header.data)
    return to_rgb(image)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image as OpenCV reads it: grey, BGR or BGRA, 8 or 16 bits a channel."""
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise FrameError(f"pixels of type {image.dtype}; expected 8 or 16 bits a channel")
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 4:
        return _onto_black(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _onto_black(rgba: np.ndarray) -> np.ndarray:
    """Colour * alpha / 255, rounded: (H, W, 4) -> (H, W, 3)."""
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    return ((colour * alpha + 127) // 255).astype(np.uint8)


def _straight_alpha(data: bytes) -> np.ndarray:
    """(H, W, 4) BGRA of a TIFF: OpenCV would hand out colours already multiplied by alpha, Pillow does not."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return cv2.cvtColor(np.asarray(picture.convert("RGBA")), cv2.COLOR_RGBA2BGRA)
    except OSError as error:
        raise FrameError("truncated or damaged TIFF file") from error


@functools.cache
def _silence_opencv() -> None:
    """OpenCV's own log repeats on stderr, without the file's name, what FrameError says."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
