"""Pictures of the user's at full resolution, of more kinds than data sets have: an animated GIF, an alpha channel."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fexgan_lit.data.images import MAX_PIXELS, FrameError, read_frame

GIF = ".gif"


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture, upright.

    Attributes:
        pixels: (H, W, 3) uint8 RGB; what is transparent lies on black.
        alpha: (H, W) uint8, or None where nothing is transparent.
        animated: whether the file has more pictures, of which this is the first.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    animated: bool = False


def read_picture(path: Path, keep_alpha: bool = False) -> Picture:
    """Read a picture as `fexgan_lit.data.images` does, and of a GIF the first picture.

    Args:
        path: the file.
        keep_alpha: whether to look for an alpha channel as well.

    Raises:
        FrameError: the file cannot be read, is damaged, huge or not a picture.
    """
    start = _first_bytes(path)
    if start.startswith((b"GIF87a", b"GIF89a")):
        return _read_gif(path)
    pixels = read_frame(path)
    if not keep_alpha or not start.startswith((b"\x89PNG", b"RIFF")):
        return Picture(pixels)
    alpha = _alpha(path)
    # some readers turn a PNG by its EXIF; an alpha channel that lies otherwise than the colours is of no use
    return Picture(pixels, alpha if alpha is not None and alpha.shape == pixels.shape[:2] else None)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise FrameError(f"cannot be read ({error.strerror})") from error


def _read_gif(path: Path) -> Picture:
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise FrameError(f"more than the {MAX_PIXELS // 10**6} megapixels allowed")
            animated = getattr(picture, "n_frames", 1) > 1
            picture.seek(0)
            layers = np.asarray(picture.convert("RGBA"))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise FrameError("truncated or damaged GIF file") from error
    alpha = layers[..., 3]
    colours = np.where(alpha[..., None] > 0, layers[..., :3], 0).astype(np.uint8)
    return Picture(colours, alpha.copy() if (alpha < 255).any() else None, animated)


def _alpha(path: Path) -> np.ndarray | None:
    """(H, W) uint8 of a file that `read_frame` could read; None where it is opaque."""
    with Image.open(path) as picture:
        if "A" not in picture.getbands() and "transparency" not in picture.info:
            return None
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    return alpha if (alpha < 255).any() else None
