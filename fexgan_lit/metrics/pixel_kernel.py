"""SSIM on several scales and the squared error of two images in one compiled pass, for processors.

The torch version in `pixels` goes through memory once an operation; here a few rows stay in the nearest cache.
Importing this module takes half a second, the first call on a machine several: `pixels` waits until there is need.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from fexgan_lit.machine_code import kept

#: Reach of the window to either side, and the squares of SSIM's k1 and k2.
_REACH, _C1, _C2 = 5, np.float32(1e-4), np.float32(9e-4)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code."""
    return kept(numba.njit, function, nogil=True, fastmath={"contract", "reassoc"}, error_model="numpy")


@_compiled
def _halved(a: np.ndarray) -> np.ndarray:
    """(H, W * 3) to half the side by averaging pixels in fours."""
    rows, width = a.shape[0] // 2, a.shape[1] // 6
    small = np.empty((rows, 3 * width), np.float32)
    quarter = np.float32(0.25)
    for i in range(rows):
        for j in range(width):
            for c in range(3):
                p = 6 * j + c
                upper, lower = a[2 * i, p] + a[2 * i, p + 3], a[2 * i + 1, p] + a[2 * i + 1, p + 3]
                small[i, 3 * j + c] = quarter * (upper + lower)
    return small


@_compiled
def _across(a: np.ndarray, b: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The window along the rows of a, b, a * b and a^2 + b^2, edges mirrored, (4, H, W * 3)."""
    rows, columns = a.shape
    across = np.zeros((4, rows, columns), np.float32)
    edge = 3 * _REACH
    line = np.empty((4, columns + 2 * edge), np.float32)
    for i in range(rows):
        for j in range(columns):
            p, q = a[i, j], b[i, j]
            line[0, j + edge], line[1, j + edge] = p, q
            line[2, j + edge], line[3, j + edge] = p * q, p * p + q * q
        for m in range(4):
            for k in range(3, edge + 3, 3):
                for c in range(3):
                    line[m, edge - k + c] = line[m, edge + k + c]
                    line[m, edge + columns - 3 + k + c] = line[m, edge + columns - 3 - k + c]
            for t in range(2 * _REACH + 1):
                for j in range(columns):
                    across[m, i, j] += window[t] * line[m, j + 3 * t]
    return across


@_compiled
def _similarity(a: np.ndarray, b: np.ndarray, window: np.ndarray) -> tuple[float, float]:
    """Mean SSIM over the image and mean contrast-structure over its inside, of (H, W * 3) in [-0.5, 0.5]."""
    rows, columns = a.shape
    across = _across(a, b, window)
    total, inside = np.zeros(columns), np.zeros(columns)
    down = np.empty((4, columns), np.float32)
    half, two = np.float32(0.5), np.float32(2)
    for i in range(rows):
        down[:] = np.float32(0)
        for t in range(2 * _REACH + 1):
            r = abs(i + t - _REACH)
            r = r if r < rows else 2 * (rows - 1) - r
            for m in range(4):
                for j in range(columns):
                    down[m, j] += window[t] * across[m, r, j]
        within = _REACH <= i < rows - _REACH
        for j in range(columns):
            mean_a, mean_b = down[0, j], down[1, j]
            variances = down[3, j] - mean_a * mean_a - mean_b * mean_b
            contrast = (two * (down[2, j] - mean_a * mean_b) + _C2) / (max(variances, np.float32(0)) + _C2)
            light_a, light_b = mean_a + half, mean_b + half
            total[j] += contrast * ((two * light_a * light_b + _C1) / (light_a * light_a + light_b * light_b + _C1))
            if within:
                inside[j] += contrast
    edge = 3 * _REACH
    seen = max(1, (rows - 2 * _REACH) * (columns - 2 * edge))
    return total.sum() / a.size, inside[edge : columns - edge].sum() / seen


@_compiled
def _images(a: np.ndarray, b: np.ndarray, window: np.ndarray, exponents: np.ndarray, found: np.ndarray) -> None:
    """One image after the other: `found` (B, 3) of `a` and `b` (B, H, W * 3)."""
    half, most = np.float32(0.5), np.float32(1)
    for k in range(a.shape[0]):
        x, y = np.empty_like(a[k]), np.empty_like(b[k])
        error = 0.0
        for i in range(x.shape[0]):
            row = np.float32(0)
            for j in range(x.shape[1]):
                # Around zero the differences of squares lose the least to rounding.
                x[i, j] = half * min(max(a[k, i, j], -most), most)
                y[i, j] = half * min(max(b[k, i, j], -most), most)
                row += (x[i, j] - y[i, j]) ** 2
            error += float(row)
        found[k, 2] = 4 * error / x.size
        found[k, 1] = 1.0
        for scale in range(exponents.size):
            similarity, contrast = _similarity(x, y, window)
            if scale == 0:
                found[k, 0] = similarity
            last = scale == exponents.size - 1
            found[k, 1] *= max(similarity if last else contrast, 0.0) ** exponents[scale]
            if not last:
                x, y = _halved(x), _halved(y)


def pixel_distances(
    a: np.ndarray, b: np.ndarray, window: np.ndarray, exponents: np.ndarray, threads: int
) -> np.ndarray:
    """SSIM, MS-SSIM and mean squared error of every image, (B, 3) float64.

    Args:
        a: (B, H, W, 3) float32 in [-1, 1], contiguous; values outside are clamped.
        b: the same shape and range.
        window: (11,) float32, sums to 1.
        exponents: (M,) float64 of the scales.
        threads: that share the images.
    """
    found = np.empty((len(a), 3))
    lines = [images.reshape(*images.shape[:2], -1) for images in (a, b)]  # (B, H, W * 3)
    if threads == 1 or len(a) == 1:
        _images(*lines, window, exponents, found)
        return found
    edges = np.linspace(0, len(a), min(threads, len(a)) + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        parts = [slice(*edge) for edge in pairwise(edges)]
        list(pool.map(lambda part: _images(lines[0][part], lines[1][part], window, exponents, found[part]), parts))
    return found
