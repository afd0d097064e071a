"""Boxes of eyes and mouth from the 68 landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.expression import SQUARE_BELOW, SQUARE_SIDE

#: Indices of the regions among the 68 Multi-PIE points: brows with eyes, and lips.
REGIONS = {"eyes": (*range(17, 27), *range(36, 48)), "mouth": tuple(range(48, 68))}
BOX_COLUMNS = tuple(f"{region}_{edge}" for region in REGIONS for edge in ("left", "top", "right", "bottom"))

#: Margin on each side as a fraction of a region's extent; LGP-GAN's local networks need some skin around.
MARGIN = 0.15

#: Margin of `dataset.framing=face` on each side, as a share of the side; the default of `dataset.crop_margin`.
FACE_MARGIN = 0.25


def region_boxes(points: NDArray[np.floating], size: float) -> NDArray[np.float64]:
    """Return left, top, right and bottom of the eyes with brows, and of the mouth.

    Args:
        points: (N, 68, 2) landmarks in pixels.
        size: side of the image; boxes are clipped to it.

    Returns:
        (N, 2, 4) pixels.
    """
    boxes = np.empty((len(points), len(REGIONS), 4))
    for k, chosen in enumerate(REGIONS.values()):
        part = points[:, list(chosen)]  # (N, P, 2)
        low, high = part.min(axis=1), part.max(axis=1)
        margin = MARGIN * (high - low)
        boxes[:, k, :2], boxes[:, k, 2:] = low - margin, high + margin
    return np.clip(boxes, 0, size)


def face_square(points: NDArray[np.floating]) -> tuple[float, float, float]:
    """Return centre x, centre y and side of the square around a face, with `FACE_MARGIN` on each side.

    It is that of `fexgan_lit.data.faces.geometry.face_squares` for heads that are not turned.

    Args:
        points: (68, 2) landmarks.
    """
    width = float(np.hypot(*(points[16] - points[0])))
    down = float(points[[36, 39, 42, 45], 1].mean()) + SQUARE_BELOW * width
    return float(points[0, 0] + points[16, 0]) / 2, down, SQUARE_SIDE * width * (1 + 2 * FACE_MARGIN)
