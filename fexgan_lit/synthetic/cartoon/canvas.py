"""Drawing primitives in head units on a supersampled canvas: smooth curves, tapered strokes, masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

#: Scale from head units to fractions of the image, and position of the origin.
SCALE, ORIGIN = 0.265, (0.5, 0.53)

#: Bits of sub-pixel precision for OpenCV.
_SHIFT = 4


def frame_of(framing: tuple[float, float, float]) -> tuple[float, Points]:
    """Return the scale from head units to fractions of the image, and the origin (2,), see `FaceState.framing`."""
    zoom, *shift = framing
    return SCALE * zoom, np.array(ORIGIN) * zoom + 0.5 * (1 - zoom) + np.array(shift)


@dataclass(frozen=True)
class View:
    """Mapping from the head frame to a square canvas of `n` pixels.

    The head frame has its origin between the eyes, x to the right, y down; an average face extends from -1 to 1 in x,
    and its chin is near y = 1.3. The canvas covers x in [-1.89, 1.89] and y in [-2, 1.77] in the usual framing.
    """

    n: int
    framing: tuple[float, float, float] = (1.0, 0.0, 0.0)

    @cached_property
    def unit(self) -> float:
        """Pixels per head unit."""
        return frame_of(self.framing)[0] * self.n

    @cached_property
    def centre(self) -> Points:
        """The origin of the head frame in pixels, (2,) (whole numbers are pixel centres, as in OpenCV)."""
        return frame_of(self.framing)[1] * self.n - 0.5

    def px(self, points: Points) -> Points:
        """Convert head units (..., 2) to canvas pixels."""
        return points * self.unit + self.centre

    def axes(self) -> tuple[Points, Points]:
        """Return the head-frame x of every column (n,) and y of every row (n,)."""
        ticks = np.arange(self.n, dtype=np.float64)
        return (ticks - self.centre[0]) / self.unit, (ticks - self.centre[1]) / self.unit


def points_of(x: Points, y: Points) -> Points:
    """Return points (n, 2) from n x and y coordinates; much faster than `numpy.stack` for a few points."""
    out = np.empty((len(x), 2))
    out[:, 0], out[:, 1] = x, y
    return out


@lru_cache(maxsize=256)
def _spline_weights(count: int, steps: int, closed: bool) -> Points:
    """Return the weights (samples, count) of a Catmull-Rom spline's control points."""
    segments = count if closed else count - 1
    identity = np.eye(count)
    rows: list[Points] = []
    for k in range(segments):
        around = [(k + d) % count if closed else min(max(k + d, 0), count - 1) for d in (-1, 0, 1, 2)]
        a, b, c, d = (identity[i] for i in around)
        cubic = (2 * b, c - a, 2 * a - 5 * b + 4 * c - d, 3 * b - a - 3 * c + d)
        rows += [sum(0.5 * s**k * term for k, term in enumerate(cubic)) for s in np.arange(steps) / steps]
    if not closed:
        rows.append(identity[-1])
    return np.stack(rows)


def spline(points: Points | Sequence[Any], *, steps: int = 6, closed: bool = False) -> Points:
    """Return a smooth curve through `points` (n, 2) with `steps` samples between neighbours."""
    control = np.asarray(points, dtype=np.float64)
    return _spline_weights(len(control), steps, closed) @ control


def ribbon(line: Points, width: float | Points) -> Points:
    """Return the outline of a stroke along `line` (n, 2); `width` is its full width, a number or one per point."""
    tangent = np.empty_like(line)
    tangent[1:-1] = line[2:] - line[:-2]
    tangent[0], tangent[-1] = line[1] - line[0], line[-1] - line[-2]
    length = np.maximum(np.hypot(tangent[:, 0], tangent[:, 1]), 1e-9)
    half = 0.5 * width / length
    offset = points_of(-tangent[:, 1] * half, tangent[:, 0] * half)
    return np.concatenate([line + offset, (line - offset)[::-1]])


@lru_cache(maxsize=64)
def taper(count: int, start: float = 0.0, end: float = 0.0) -> Points:
    """Return (count,) widths of a brush stroke from `start` through 1 in the middle to `end`."""
    t = np.linspace(0.0, 1.0, count)
    belly = np.sqrt(np.clip(1 - (2 * t - 1) ** 2, 0.0, 1.0))
    return np.maximum(belly, start * (1 - t) + end * t)


@lru_cache(maxsize=8)
def _circle(count: int) -> Points:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float | None = None, tilt: float = 0.0, count: int = 28) -> Points:
    """Return (count, 2) points of an ellipse; `tilt` is in radians."""
    points = _circle(count) * np.array((rx, rx if ry is None else ry))
    if tilt:
        c, s = np.cos(tilt), np.sin(tilt)
        points = points @ np.array([[c, s], [-s, c]])
    return points + np.array((x, y))


def fill(image: Image, pixels: Points, colour: Colour | int) -> None:
    """Fill a polygon in canvas pixels, anti-aliased."""
    fixed = np.rint(pixels * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(image, [fixed], colour, cv2.LINE_AA, _SHIFT)


def mask_of(view: View, *outlines: Points) -> Image:
    """Return the coverage (n, n) uint8 of the union of polygons in head units."""
    mask = np.zeros((view.n, view.n), np.uint8)
    for outline in outlines:
        fill(mask, view.px(outline), 255)
    return mask


def blur(image: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Apply a Gaussian blur; `sigma` is in pixels, values below a third of a pixel have no effect."""
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.3 else image


def mix(low: Image, high: Image, weight: NDArray[Any]) -> Image:
    """Blend from `low` to `high` by `weight` (uint8 0..255, or float 0..1)."""
    w = weight.astype(np.float32) * np.float32(1 / 255) if weight.dtype == np.uint8 else weight
    return np.asarray(cv2.blendLinear(high, low, w, 1 - w), np.uint8)


def box_of(view: View, outline: Points, margin: float = 0.06) -> tuple[slice, slice]:
    """Return the rows and columns of the canvas around a polygon in head units, with a margin."""
    pixels = view.px(outline)
    pad = margin * view.unit
    low = np.clip(np.floor(pixels.min(axis=0) - pad), 0, view.n - 2).astype(int)
    high = np.clip(np.ceil(pixels.max(axis=0) + pad) + 1, low + 2, view.n).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def glaze(image: Image, view: View, outline: Points, colour: Colour, opacity: float, soft: float = 0.0) -> None:
    """Draw a translucent polygon (head units) over `image`; `soft` is the blur of its edge in head units."""
    if opacity <= 0.01:
        return
    rows, columns = box_of(view, outline, 0.05 + 2.5 * soft)
    patch = image[rows, columns]
    mask = np.zeros(patch.shape[:2], np.uint8)
    fill(mask, view.px(outline) - np.array((columns.start, rows.start)), round(255 * min(opacity, 1.0)))
    mask = blur(mask, soft * view.unit)
    image[rows, columns] = mix(patch, np.full_like(patch, colour), mask)


def shade_colour(colour: Sequence[float], factor: float) -> Colour:
    """Darken (factor < 1) or lighten towards white (factor > 1) an RGB colour of 0..255."""
    base = np.asarray(colour, dtype=np.float64)
    out = base * factor if factor <= 1 else base + (255 - base) * (factor - 1)
    r, g, b = (int(v) for v in np.clip(np.rint(out), 0, 255))
    return r, g, b
