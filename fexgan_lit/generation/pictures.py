"""Pictures of the user's at full resolution, of more kinds than data sets have: an animated GIF, an alpha channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fexgan_lit.data.images import KINDS, load_image, read_bytes, to_rgb

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
    picture = load_image(read_bytes(path), (*KINDS, "GIF"))
    alpha = (
        np.asarray(picture.convert("RGBA").getchannel("A")) if keep_alpha and picture.has_transparency_data else None
    )
    seen = alpha if alpha is not None and (alpha < 255).any() else None
    return Picture(to_rgb(picture), seen, picture.format == "GIF" and getattr(picture, "n_frames", 1) > 1)
