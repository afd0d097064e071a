"""Parts and sums of minimal filtering in bf16 (`fexgan_lit.winograd.operations` says what they are).

Nothing that lies between leaves the registers: a tile is read, combined across and down, and written. n are the pairs
of channels of a pixel, a multiple of sixteen.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import int64, types, uint32

from fexgan_lit.loops.team import compiled, floats, my_share, shared, sizes, uints
from fexgan_lit.loops.vectors import (
    LANES,
    either,
    full,
    high,
    low,
    put,
    store_in_turn,
    take,
    take_floats,
    take_masked,
)

_UINTS, _PLACES, _MASKS = uint32[::1], types.UniTuple(int64, 3), types.UniTuple(uint32, 2)
_ALL, _NONE = np.uint32(0xFFFFFFFF), np.uint32(0)


# ---------------------------------------------------------------------- a tile, sixteen pairs of channels


@compiled(_UINTS, int64, int64, int64, int64, _UINTS, int64, int64)
def _cut_pairs(x: np.ndarray, a: int, b: int, c: int, d: int, out: np.ndarray, o: int, part: int) -> None:
    """Parts of 2x2 values at a, b and (below) c, d: each row, and the sum of both, gives left, sum, right."""
    upper_left, upper_right, lower_left, lower_right = take(x, a), take(x, b), take(x, c), take(x, d)
    left, right = upper_left + lower_left, upper_right + lower_right
    put(upper_left, out, o)
    put(upper_left + upper_right, out, o + part)
    put(upper_right, out, o + 2 * part)
    put(left, out, o + 3 * part)
    put(left + right, out, o + 4 * part)
    put(right, out, o + 5 * part)
    put(lower_left, out, o + 6 * part)
    put(lower_left + lower_right, out, o + 7 * part)
    put(lower_right, out, o + 8 * part)


@compiled(_UINTS, _PLACES, _MASKS, _PLACES, _MASKS, _UINTS, int64, int64)
def _cut_triples(
    x: np.ndarray, rows: tuple[int, int, int], shown: tuple[int, int], columns: tuple[int, int, int],
    seen: tuple[int, int], out: np.ndarray, o: int, part: int,
) -> None:  # fmt: skip
    """Parts of 3x3 values: first less middle, middle, last less middle, down and across.

    The first and the last of the `rows` (`columns`) are zero where `shown` (`seen`) is.
    """
    middle = rows[1]
    for a in range(3):
        left, centre, right = (
            take_masked(x, middle + columns[0], seen[0]), take(x, middle + columns[1]),
            take_masked(x, middle + columns[2], seen[1]),
        )  # fmt: skip
        if a != 1:
            row, mask = rows[a], shown[a // 2]
            left = take_masked(x, row + columns[0], mask & seen[0]) - left
            centre = take_masked(x, row + columns[1], mask) - centre
            right = take_masked(x, row + columns[2], mask & seen[1]) - right
        put(left - centre, out, o + 3 * a * part)
        put(centre, out, o + (3 * a + 1) * part)
        put(right - centre, out, o + (3 * a + 2) * part)


@numba.njit(inline="always")
def _across(parts: np.ndarray, p: int, part: int, n: int, column: int, left: bool, right: bool) -> Any:
    """One of a tile's four columns, out of three parts of two stacked pixels each, the first of them at p.

    The two in the middle come of this tile alone. The others also get what the tile beside it gives them, unless there
    is none (`left`, `right`).
    """
    if column == 0:
        mine = take(parts, p + n)
        return either(left, mine + take(parts, p + 2 * part - 3 * n if left else p), mine)
    if column == 3:
        mine = take(parts, p + 2 * part)
        return either(right, mine + take(parts, p + 4 * n if right else p), mine)
    p += (column - 1) * n
    return (take(parts, p + part) - take(parts, p)) - take(parts, p + 2 * part)


# ---------------------------------------------------------------------- maps and weights


@shared
def cut_small(addresses: Any) -> None:
    """(count, 2 * heights, 2 * widths, n) -> (9, count, heights, widths, n)."""
    count, heights, widths, n = sizes(addresses)[:4]
    x, out = uints(addresses, 1), uints(addresses, 2)
    first, last = my_share(count * heights)
    part, line = count * heights * widths * n, 2 * widths * n
    for t in range(first, last):
        for u in range(widths):
            for k in range(0, n, LANES):
                a, o = 2 * t * line + 2 * u * n + k, (t * widths + u) * n + k
                _cut_pairs(x, a, a + n, a + line, a + line + n, out, o, part)


@shared
def cut_weight(addresses: Any) -> None:
    """(outputs, 4, 4, 2n) in float32 -> (9, outputs, 2, 2, n): of weights rounded to bf16."""
    outputs, n = sizes(addresses)[:2]
    x, out = floats(addresses, 1), uints(addresses, 2)
    first, last = my_share(outputs)
    part, kernel = outputs * 4 * n, np.empty(16 * n, np.uint32)
    for o in range(first, last):
        for i in range(0, 16 * n, LANES):
            put(take_floats(x, 2 * (16 * o * n + i)), kernel, i)
        for row in range(2):
            for i in range(0, 2 * n, LANES):  # (row of a pixel, tap down), (column of a pixel, tap across), n
                a = 4 * row * n + i
                _cut_pairs(kernel, a, a + 2 * n, a + 8 * n, a + 10 * n, out, (2 * o + row) * 2 * n + i, part)


@shared
def cut_large(addresses: Any) -> None:
    """(count, height, width, n) -> (9, count, height/4, width/4, 2, 2, n): of framed triples of pixels."""
    count, height, width, n = sizes(addresses)[:4]
    x, out = uints(addresses, 1), uints(addresses, 2)
    heights, widths, line = height // 4, width // 4, width * n
    first, last = my_share(count * heights)
    part = count * heights * line
    for tile in range(first, last):
        t, image = tile % heights, tile // heights * height * line
        for i in range(2):
            above, below = t > 0 or i > 0, t < heights - 1 or i == 0
            row = 4 * t + 1 + i
            rows = (
                image + (row - 2 if above else row) * line, image + row * line,
                image + (row + 2 if below else row) * line,
            )  # fmt: skip
            shown = (_ALL if above else _NONE, _ALL if below else _NONE)
            for u in range(widths):
                for j in range(2):
                    before, after = u > 0 or j > 0, u < widths - 1 or j == 0
                    column, o = 4 * u + 1 + j, ((tile * widths + u) * 4 + 2 * i + j) * n
                    seen = (_ALL if before else _NONE, _ALL if after else _NONE)
                    for k in range(0, n, LANES):
                        columns = (
                            (column - 2 if before else column) * n + k, column * n + k,
                            (column + 2 if after else column) * n + k,
                        )  # fmt: skip
                        _cut_triples(x, rows, shown, columns, seen, out, o + k, part)


@shared
def sum_small(addresses: Any) -> None:
    """(9, count, heights, widths, n) -> (count, 2 * heights, 2 * widths, n)."""
    count, heights, widths, n = sizes(addresses)[:4]
    parts, out = uints(addresses, 1), uints(addresses, 2)
    first, last = my_share(count * heights)
    part, line = count * heights * widths * n, 2 * widths * n
    for t in range(first, last):
        for u in range(widths):
            for k in range(0, n, LANES):
                p, o = (t * widths + u) * n + k, 2 * t * line + 2 * u * n + k
                for _row in range(2):
                    left, middle, right = (
                        take(parts, p) + take(parts, p + 3 * part),
                        take(parts, p + part) + take(parts, p + 4 * part),
                        take(parts, p + 2 * part) + take(parts, p + 5 * part),
                    )
                    put(left + middle, out, o)
                    put(middle + right, out, o + n)
                    p, o = p + 3 * part, o + line


@shared
def sum_weight(addresses: Any) -> None:
    """(9, pieces, outputs, 2, 2, n) -> (outputs, 4, 4, 2n) in float32, in which they are summed."""
    outputs, n, pieces = sizes(addresses)[:3]
    parts, out = uints(addresses, 1), floats(addresses, 2)
    first, last = my_share(outputs)
    piece, part = outputs * 4 * n, pieces * outputs * 4 * n
    for o in range(first, last):
        for row in range(4):
            for column in range(2):
                p = (3 * (row // 2) + column) * part + (2 * o + row % 2) * 2 * n
                where = 2 * ((4 * o + row) * 4 + 2 * column) * n
                for i in range(0, 2 * n, LANES):
                    even = odd = full(np.float32(0))
                    for q in range(p + i, p + i + part, piece):
                        a, b = take(parts, q), take(parts, q + 3 * part)
                        c, d = take(parts, q + part), take(parts, q + 4 * part)
                        even = even + ((low(a) + low(b)) + (low(c) + low(d)))
                        odd = odd + ((high(a) + high(b)) + (high(c) + high(d)))
                    store_in_turn(even, odd, out, where + 2 * i)


@shared
def sum_large(addresses: Any) -> None:
    """(9, count, height/4, width/4, 2, 2, n) -> (count, height, width, n): overlapping triples without their frame."""
    count, height, width, n = sizes(addresses)[:4]
    parts, out = uints(addresses, 1), uints(addresses, 2)
    heights, widths, line = height // 4, width // 4, width * n
    first, last = my_share(count)
    part, before = count * heights * line, np.zeros(2 * line, np.uint32)  # the last parts of the tiles above
    for tile in range(first * heights, last * heights):
        above = tile % heights > 0
        for u in range(widths):
            left, right = u > 0, u < widths - 1
            for i in range(2):
                for column in range(4):
                    for k in range(0, n, LANES):
                        p, x = ((tile * widths + u) * 4 + 2 * i) * n + k, (4 * u + column) * n + k
                        m0 = _across(parts, p, part, n, column, left, right)
                        m1 = _across(parts, p + 3 * part, part, n, column, left, right)
                        m2 = _across(parts, p + 6 * part, part, n, column, left, right)
                        o = 4 * tile * line + x
                        put((m1 - m0) - m2, out, o + (1 + i) * line)
                        if above or i == 1:  # a line that two tiles share, the first of them that of the tile above
                            put(either(above, m0 + take(before, i * line + x), m0), out, o + (i - 1) * line)
                        put(m2, before, i * line + x)
        if tile % heights == heights - 1:
            for x in range(0, line, LANES):
                put(take(before, x), out, (4 * tile + 3) * line + x)
