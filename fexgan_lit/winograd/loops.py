"""The sums of minimal filtering in bf16 as compiled loops, which keep what lies between in the nearest cache.

torch's operations go through memory once each; these loops take a quarter of their time and give the same bits. Two
values of bf16 are one uint32 here, and arrays are flat. Every loop takes its `sizes`, the first of them the images (or
output channels) of the batch, and does those from `first` until `last`. `ENTRIES` are the loops for threads that share
a batch (`fexgan_lit.winograd.team`). Importing this module compiles it, or loads what an earlier process compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import carray, int64, types, uint32, uint64, void

from fexgan_lit.machine_code import kept
from fexgan_lit.winograd.team import THREAD, THREADS

_LOW, _HIGH, _HALF, _ONE = np.uint32(16), np.uint32(0xFFFF0000), np.uint32(0x7FFF), np.uint32(1)
_PAIRS, _SIZES = uint32[::1], int64[::1]
_LOOP = void(_PAIRS, _PAIRS, _SIZES, int64, int64)
#: Longer than any array: loops know how far they may go.
_LENGTH = 1 << 40


def _compiled(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: machine code for that signature."""
    return lambda function: kept(
        numba.njit, function, signature, nogil=True, error_model="numpy", boundscheck=False
    )  # fmt: skip


# ---------------------------------------------------------------------- two values at once


@numba.njit(inline="always")
def _low(pair: np.uint32) -> np.float32:
    return np.uint32(pair << _LOW).view(np.float32)


@numba.njit(inline="always")
def _high(pair: np.uint32) -> np.float32:
    return np.uint32(pair & _HIGH).view(np.float32)


@numba.njit(inline="always")
def _rounded(value: np.float32) -> np.uint32:
    """Bits of a float32 of which the upper half is the value in bf16, rounded to nearest even as torch does."""
    bits = np.float32(value).view(np.uint32)
    return np.uint32(bits + (_HALF + ((bits >> _LOW) & _ONE)))


@numba.njit(inline="always")
def _pair(low: np.float32, high: np.float32) -> np.uint32:
    return np.uint32((_rounded(low) >> _LOW) | (_rounded(high) & _HIGH))


@numba.njit(inline="always")
def _plus(a: np.uint32, b: np.uint32) -> np.uint32:
    return _pair(_low(a) + _low(b), _high(a) + _high(b))


@numba.njit(inline="always")
def _minus(a: np.uint32, b: np.uint32) -> np.uint32:
    return _pair(_low(a) - _low(b), _high(a) - _high(b))


# ---------------------------------------------------------------------- runs of values
# Places are unsigned: numba would ask of signed ones whether they count from the end, and not vectorise.


@_compiled(void(_PAIRS, uint64, _PAIRS, uint64, uint64))
def _copy(a: np.ndarray, i: int, out: np.ndarray, o: int, n: int) -> None:
    for k in range(n):
        out[o + k] = a[i + k]


@_compiled(void(_PAIRS, uint64, _PAIRS, uint64, _PAIRS, uint64, uint64))
def _add(a: np.ndarray, i: int, b: np.ndarray, j: int, out: np.ndarray, o: int, n: int) -> None:
    for k in range(n):
        out[o + k] = _plus(a[i + k], b[j + k])


@_compiled(void(_PAIRS, uint64, _PAIRS, uint64, _PAIRS, uint64, uint64))
def _subtract(a: np.ndarray, i: int, b: np.ndarray, j: int, out: np.ndarray, o: int, n: int) -> None:
    for k in range(n):
        out[o + k] = _minus(a[i + k], b[j + k])


@_compiled(void(_PAIRS, uint64, _PAIRS, uint64, _PAIRS, uint64, _PAIRS, uint64, uint64))
def _middle(
    m0: np.ndarray, h: int, m1: np.ndarray, i: int, m2: np.ndarray, j: int, out: np.ndarray, o: int, n: int
) -> None:
    for k in range(n):
        out[o + k] = _minus(_minus(m1[i + k], m0[h + k]), m2[j + k])


@_compiled(void(_PAIRS, uint64, uint64, _PAIRS, uint64, uint64, uint64))
def _cut_pair(a: np.ndarray, i: int, gap: int, out: np.ndarray, o: int, part: int, n: int) -> None:
    """What m0, m1 and m2 are made of, of two values `gap` apart."""
    _copy(a, i, out, o, n)
    _add(a, i, a, i + gap, out, o + part, n)
    _copy(a, i + gap, out, o + 2 * part, n)


@_compiled(void(_PAIRS, uint64, uint64, _PAIRS, uint64, uint64, uint64))
def _cut_triple(a: np.ndarray, i: int, gap: int, out: np.ndarray, o: int, part: int, n: int) -> None:
    """What they are made of, of three."""
    _subtract(a, i, a, i + gap, out, o, n)
    _copy(a, i + gap, out, o + part, n)
    _subtract(a, i + 2 * gap, a, i + gap, out, o + 2 * part, n)


# ---------------------------------------------------------------------- maps and weights


@_compiled(_LOOP)
def cut_pairs(x: np.ndarray, out: np.ndarray, sizes: np.ndarray, first: int, last: int) -> None:
    """Parts of pairs of lines and of pairs of runs in them: of a small map, or of weights.

    Args:
        x: `count` images of `image` uint32 each.
        out: (9, count, heights, widths, run).
        sizes: `count`, `image`, `heights` (pairs of lines in an image), `step` (from one pair to the next), `gap` (from
            the first line of a pair to the second), `widths` (pairs of runs in a line) and `run`, their length.
        first: image to begin with.
        last: image to end before.
    """
    count, image, heights, step, gap = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    widths, run = sizes[5], sizes[6]
    line = 2 * widths * run
    sums = np.empty(line, np.uint32)
    part = count * heights * widths * run
    for b in range(first, last):
        for t in range(heights):
            upper = b * image + t * step
            _add(x, upper, x, upper + gap, sums, 0, line)
            for u in range(widths):
                o = ((b * heights + t) * widths + u) * run
                i = 2 * u * run
                _cut_pair(x, upper + i, run, out, o, part, run)
                _cut_pair(sums, i, run, out, o + 3 * part, part, run)
                _cut_pair(x, upper + gap + i, run, out, o + 6 * part, part, run)


@_compiled(_LOOP)
def cut_large(x: np.ndarray, out: np.ndarray, sizes: np.ndarray, first: int, last: int) -> None:
    """(count, height, width, n) -> (9, count, height/4, width/4, 2, 2, n): parts of framed triples of pixels."""
    count, height, width, n = sizes[0], sizes[1], sizes[2], sizes[3]
    line, framed = width * n, (width + 2) * n
    nothing, lines = np.zeros(line, np.uint32), np.zeros((3, 2 * framed), np.uint32)
    part = count * (height // 4) * width * n
    for b in range(first, last):
        for t in range(height // 4):
            for i in range(2):
                middle, o = (b * height + 4 * t + 1 + i) * line, i * framed + n
                above, below = middle - 2 * line, middle + 2 * line
                if t == 0 and i == 0:
                    _subtract(nothing, 0, x, middle, lines[0], o, line)
                else:
                    _subtract(x, above, x, middle, lines[0], o, line)
                _copy(x, middle, lines[1], o, line)
                if 4 * t + 3 + i == height:
                    _subtract(nothing, 0, x, middle, lines[2], o, line)
                else:
                    _subtract(x, below, x, middle, lines[2], o, line)
            for u in range(width // 4):
                o = ((b * (height // 4) + t) * (width // 4) + u) * 4 * n
                for a in range(3):
                    for i in range(2):
                        where = o + 3 * a * part + 2 * i * n
                        _cut_triple(lines[a], i * framed + 4 * u * n, 2 * n, out, where, part, 2 * n)


@_compiled(_LOOP)
def sum_small(parts: np.ndarray, out: np.ndarray, sizes: np.ndarray, first: int, last: int) -> None:
    """(9, count, heights, widths, n) -> (count, 2 * heights, 2 * widths, n)."""
    count, heights, widths, n = sizes[0], sizes[1], sizes[2], sizes[3]
    line = widths * n
    part, rows = count * heights * line, np.empty((3, line), np.uint32)
    for b in range(first, last):
        for t in range(heights):
            i = (b * heights + t) * line
            for row in range(2):
                for a in range(3):
                    _add(parts, i + (3 * row + a) * part, parts, i + (3 * row + 3 + a) * part, rows[a], 0, line)
                o = ((b * heights + t) * 2 + row) * 2 * line
                for u in range(widths):
                    _add(rows[0], u * n, rows[1], u * n, out, o + 2 * u * n, n)
                    _add(rows[1], u * n, rows[2], u * n, out, o + (2 * u + 1) * n, n)


@_compiled(void(_PAIRS, uint64[::1], _SIZES, int64, int64))
def sum_weight(parts: np.ndarray, out: np.ndarray, sizes: np.ndarray, first: int, last: int) -> None:
    """(9, outputs, 2, 2, n) -> (outputs, 4, 4, n) pairs of float32 as uint64, summed in float32."""
    outputs, n = sizes[0], sizes[1]
    part, run = outputs * 4 * n, uint64(2 * n)
    for o in range(first, last):
        for row in range(4):
            tap, line = row // 2, row % 2
            for column in range(2):
                i = uint64((3 * tap + column) * part + (o * 2 + line) * 2 * n)
                right, below, across = i + uint64(part), i + uint64(3 * part), i + uint64(4 * part)
                where = uint64(((o * 4 + row) * 4 + 2 * column) * n)
                for m in range(run):
                    a, b, c, d = parts[i + m], parts[below + m], parts[right + m], parts[across + m]
                    low = np.float32((_low(a) + _low(b)) + (_low(c) + _low(d))).view(np.uint32)
                    high = np.float32((_high(a) + _high(b)) + (_high(c) + _high(d))).view(np.uint32)
                    out[where + m] = np.uint64(low) | (np.uint64(high) << np.uint64(32))


@_compiled(void(_PAIRS, int64, int64, _PAIRS, int64, int64))
def _overlap(parts: np.ndarray, tile: int, part: int, out: np.ndarray, widths: int, n: int) -> None:
    """The parts of a line of tiles, each with two stacked pixels -> the line, as `operations._overlap` does."""
    for u in range(widths):
        m0, o = tile + 4 * u * n, 4 * u * n
        m2 = m0 + 2 * part
        _middle(parts, m0, parts, m0 + part, parts, m2, out, o + n, 2 * n)
        if u == 0:
            _copy(parts, m0 + n, out, o, n)
        else:
            _add(parts, m0 + n, parts, m2 + n - 4 * n, out, o, n)
        if u == widths - 1:
            _copy(parts, m2, out, o + 3 * n, n)
        else:
            _add(parts, m0 + 4 * n, parts, m2, out, o + 3 * n, n)


@_compiled(_LOOP)
def sum_large(parts: np.ndarray, out: np.ndarray, sizes: np.ndarray, first: int, last: int) -> None:
    """(9, count, height/4, width/4, 2, 2, n) -> (count, height, width, n): overlapping triples without their frame."""
    count, height, width, n = sizes[0], sizes[1], sizes[2], sizes[3]
    heights, widths, line = height // 4, width // 4, width * n
    part = count * heights * width * n
    lines, before = np.empty((3, 2, line), np.uint32), np.empty((2, line), np.uint32)
    for b in range(first, last):
        for t in range(heights):
            for a in range(3):
                for i in range(2):
                    tile = ((b * heights + t) * widths * 2 + i) * 2 * n + 3 * a * part
                    _overlap(parts, tile, part, lines[a, i], widths, n)
            o = (b * height + 4 * t) * line
            for i in range(2):
                _middle(lines[0, i], 0, lines[1, i], 0, lines[2, i], 0, out, o + (1 + i) * line, line)
            if t == 0:
                _copy(lines[0, 1], 0, out, o, line)
            else:
                _add(lines[0, 0], 0, before[0], 0, out, o - line, line)
                _add(lines[0, 1], 0, before[1], 0, out, o, line)
            before[:] = lines[2]
        _copy(before[0], 0, out, (b + 1) * height * line - line, line)


# ---------------------------------------------------------------------- shared by threads


def _entry(loop: Callable[..., None], out: type) -> Any:
    """A loop as a function of C that does the calling thread's share, given [x, out, sizes]."""

    def share(arguments: Any) -> None:
        sizes = carray(arguments[2], (8,), np.int64)
        count, thread, threads = sizes[0], THREAD(), THREADS()
        x: np.ndarray = carray(arguments[0], (_LENGTH,), np.uint32)
        written: np.ndarray = carray(arguments[1], (_LENGTH,), out)
        loop(x, written, sizes, count * thread // threads, count * (thread + 1) // threads)

    return kept(numba.cfunc, share, void(types.CPointer(types.voidptr)))


#: By name.
ENTRIES = {
    loop.__name__: _entry(loop, np.uint64 if loop is sum_weight else np.uint32)
    for loop in (cut_pairs, cut_large, sum_small, sum_weight, sum_large)
}
