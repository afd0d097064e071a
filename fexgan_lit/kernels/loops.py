"""The compiled loops in bf16: Winograd parts and sums, sums of patches, batch norm with its activation.

Maps are channels last, with two bf16 values in one uint32; n is the number of channel pairs of a pixel, a multiple of
sixteen. torch's own threads run a loop on sixteen lanes at once, whatever the CPU's vector width
(`fexgan_lit.kernels.simd`, `fexgan_lit.kernels.threads`). Every loop gives the same bits as torch's operations for the
same formula, with any number of threads.

Importing this module compiles the loops or loads them from numba's cache. numba compares its cache with this file only:
after a change of `simd` or `threads`, delete `__pycache__/*.nb*`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import float32, int64, types, uint32

from fexgan_lit.kernels.simd import (
    LANES,
    either,
    full,
    high,
    load,
    low,
    packed,
    put,
    store,
    store_in_turn,
    take,
    take_floats,
    take_masked,
    where_positive,
)
from fexgan_lit.kernels.threads import (
    barrier,
    floats,
    is_first_thread,
    jit,
    parallel,
    run,
    sizes,
    thread_range,
    uints,
)

__all__ = [
    "CHUNK",
    "cut_large",
    "cut_small",
    "cut_weight",
    "norm_activation",
    "norm_activation_backward",
    "run",
    "sum_large",
    "sum_patches",
    "sum_small",
    "sum_weight",
]

_UINTS, _FLOATS, _ROWS = uint32[::1], float32[::1], float32[:, ::1]
_PLACES, _MASKS = types.UniTuple(int64, 3), types.UniTuple(uint32, 2)
_ALL, _NONE = np.uint32(0xFFFFFFFF), np.uint32(0)
_ZERO, _ONE = np.float32(0), np.float32(1)
#: Rows (pixels) that are summed at a time, and rows in a chunk, the unit of work of a thread.
BLOCK = 16
CHUNK = BLOCK * 16

# ---------------------------------------------------------------------- Winograd filtering: one tile


@jit(_UINTS, int64, int64, int64, int64, _UINTS, int64, int64)
def _cut_pairs(x: np.ndarray, a: int, b: int, c: int, d: int, out: np.ndarray, o: int, part: int) -> None:
    """Compute the parts of 2x2 values at a, b and (below) c, d: each row, and their sum, gives left, sum, right."""
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


@jit(_UINTS, _PLACES, _MASKS, _PLACES, _MASKS, _UINTS, int64, int64)
def _cut_triples(
    x: np.ndarray, rows: tuple[int, int, int], shown: tuple[int, int], columns: tuple[int, int, int],
    seen: tuple[int, int], out: np.ndarray, o: int, part: int,
) -> None:  # fmt: skip
    """Compute the parts of 3x3 values, vertically and horizontally: first minus middle, middle, last minus middle.

    The first and the last of the `rows` (`columns`) count as zero where `shown` (`seen`) is zero.
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
    """Return one of a tile's four columns from three parts of two stacked pixels each, the first of them at p.

    The two middle columns depend on this tile alone. The outer columns also get a contribution from the neighbouring
    tile if it exists (`left`, `right`).
    """
    if column == 0:
        mine = take(parts, p + n)
        return either(left, mine + take(parts, p + 2 * part - 3 * n if left else p), mine)
    if column == 3:
        mine = take(parts, p + 2 * part)
        return either(right, mine + take(parts, p + 4 * n if right else p), mine)
    p += (column - 1) * n
    return (take(parts, p + part) - take(parts, p)) - take(parts, p + 2 * part)


# ---------------------------------------------------------------------- Winograd filtering: maps and weights


@parallel
def cut_small(addresses: Any) -> None:
    """Compute parts of small maps: (count, 2 * heights, 2 * widths, n) -> (9, count, heights, widths, n)."""
    count, heights, widths, n = sizes(addresses)[:4]
    x, out = uints(addresses, 1), uints(addresses, 2)
    first, last = thread_range(count * heights)
    part, line = count * heights * widths * n, 2 * widths * n
    for t in range(first, last):
        for u in range(widths):
            for k in range(0, n, LANES):
                a, o = 2 * t * line + 2 * u * n + k, (t * widths + u) * n + k
                _cut_pairs(x, a, a + n, a + line, a + line + n, out, o, part)


@parallel
def cut_weight(addresses: Any) -> None:
    """Compute parts of weights, rounded to bf16: (outputs, 4, 4, 2n) in float32 -> (9, outputs, 2, 2, n)."""
    outputs, n = sizes(addresses)[:2]
    x, out = floats(addresses, 1), uints(addresses, 2)
    first, last = thread_range(outputs)
    part, kernel = outputs * 4 * n, np.empty(16 * n, np.uint32)
    for o in range(first, last):
        for i in range(0, 16 * n, LANES):
            put(take_floats(x, 2 * (16 * o * n + i)), kernel, i)
        for row in range(2):
            for i in range(0, 2 * n, LANES):  # (row of a pixel, tap down), (column of a pixel, tap across), n
                a = 4 * row * n + i
                _cut_pairs(kernel, a, a + 2 * n, a + 8 * n, a + 10 * n, out, (2 * o + row) * 2 * n + i, part)


@parallel
def cut_large(addresses: Any) -> None:
    """Compute parts of padded large maps: (count, height, width, n) -> (9, count, height/4, width/4, 2, 2, n)."""
    count, height, width, n = sizes(addresses)[:4]
    x, out = uints(addresses, 1), uints(addresses, 2)
    heights, widths, line = height // 4, width // 4, width * n
    first, last = thread_range(count * heights)
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


@parallel
def sum_small(addresses: Any) -> None:
    """Sum parts to small maps: (9, count, heights, widths, n) -> (count, 2 * heights, 2 * widths, n)."""
    count, heights, widths, n = sizes(addresses)[:4]
    parts, out = uints(addresses, 1), uints(addresses, 2)
    first, last = thread_range(count * heights)
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


@parallel
def sum_weight(addresses: Any) -> None:
    """Sum parts to weights in float32: (9, pieces, outputs, 2, 2, n) -> (outputs, 4, 4, 2n)."""
    outputs, n, pieces = sizes(addresses)[:3]
    parts, out = uints(addresses, 1), floats(addresses, 2)
    first, last = thread_range(outputs)
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


@parallel
def sum_large(addresses: Any) -> None:
    """Sum parts to large maps without padding: (9, count, height/4, width/4, 2, 2, n) -> (count, height, width, n)."""
    count, height, width, n = sizes(addresses)[:4]
    parts, out = uints(addresses, 1), uints(addresses, 2)
    heights, widths, line = height // 4, width // 4, width * n
    first, last = thread_range(count)
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
                        if above or i == 1:  # a line that two tiles share, the first time with the tile above
                            put(either(above, m0 + take(before, i * line + x), m0), out, o + (i - 1) * line)
                        put(m2, before, i * line + x)
        if tile % heights == heights - 1:
            for x in range(0, line, LANES):
                put(take(before, x), out, (4 * tile + 3) * line + x)


# ---------------------------------------------------------------------- patches


@parallel
def sum_patches(addresses: Any) -> None:
    """Sum 4x4 patches at distance 2 in float32: (count, h, w, 4, 4, n) -> (count, 2h, 2w, n)."""
    count, h, w, n = sizes(addresses)[:4]
    patches, out = uints(addresses, 1), uints(addresses, 2)
    first, last = thread_range(count * 2 * h)
    for line in range(first, last):
        image, y = line // (2 * h), line % (2 * h)
        for x in range(2 * w):
            for k in range(0, n, LANES):
                even = odd = full(np.float32(0))
                for i in range((y + 1) % 2, 4, 2):  # rows and columns of the patches that contain this pixel
                    for j in range((x + 1) % 2, 4, 2):
                        down, across = (y + 1 - i) // 2, (x + 1 - j) // 2
                        if 0 <= down < h and 0 <= across < w:
                            patch = (image * h + down) * w + across
                            values = take(patches, (16 * patch + 4 * i + j) * n + k)
                            even, odd = even + low(values), odd + high(values)
                put(packed(even, odd), out, (line * 2 * w + x) * n + k)


# ---------------------------------------------------------------------- batch norm and its activation


@jit(_FLOATS, int64, _FLOATS, int64)
def _halves(values: np.ndarray, start: int, out: np.ndarray, n: int) -> None:
    """Copy 2n values in the order even channels, odd channels."""
    for k in range(n):
        out[k], out[n + k] = values[start + 2 * k], values[start + 2 * k + 1]


@numba.njit(inline="always")
def _add(vector: Any, out: np.ndarray, place: int) -> None:
    store(load(out, place) + vector, out, place)


@jit(_UINTS, int64, int64, int64, _FLOATS, _FLOATS)
def _add_moments(x: np.ndarray, start: int, rows: int, n: int, first: np.ndarray, out: np.ndarray) -> None:
    """Add the sums of x - first and of its square over some rows to `out`, separately for even and odd channels."""
    for k in range(0, n, LANES):
        first_even, first_odd = load(first, k), load(first, n + k)
        even = odd = even_square = odd_square = full(_ZERO)
        for i in range(start + k, start + k + rows * n, n):
            values = take(x, i)
            a, b = low(values) - first_even, high(values) - first_odd
            even, odd, even_square, odd_square = even + a, odd + b, even_square + a * a, odd_square + b * b
        _add(even, out, k)
        _add(odd, out, n + k)
        _add(even_square, out, 2 * n + k)
        _add(odd_square, out, 3 * n + k)


@numba.njit(inline="always")
def _through(z: Any, gradient: Any, slope: Any) -> Any:
    """Return the gradient of a leaky ReLU's input."""
    return where_positive(z, gradient, gradient * slope)


@jit(_UINTS, _UINTS, int64, int64, int64, _ROWS, float32, _FLOATS)
def _add_gradients(
    g: np.ndarray, x: np.ndarray, start: int, rows: int, n: int, stats: np.ndarray, slope: float, out: np.ndarray
) -> None:
    """Add the sums of the gradient before the activation, and of its product with x - mean, to `out`."""
    mean, scale, shift, leak = stats[0], stats[2], stats[3], full(slope)
    for k in range(0, n, LANES):
        o = n + k
        mean_even, scale_even, shift_even = load(mean, k), load(scale, k), load(shift, k)
        mean_odd, scale_odd, shift_odd = load(mean, o), load(scale, o), load(shift, o)
        even = odd = even_product = odd_product = full(_ZERO)
        for i in range(start + k, start + k + rows * n, n):
            values, gradients = take(x, i), take(g, i)
            a, b = low(values), high(values)
            to_a = _through(a * scale_even + shift_even, low(gradients), leak)
            to_b = _through(b * scale_odd + shift_odd, high(gradients), leak)
            even, odd = even + to_a, odd + to_b
            even_product = even_product + to_a * (a - mean_even)
            odd_product = odd_product + to_b * (b - mean_odd)
        _add(even, out, k)
        _add(odd, out, n + k)
        _add(even_product, out, 2 * n + k)
        _add(odd_product, out, 3 * n + k)


@jit(_FLOATS, int64, int64, _FLOATS)
def _add_chunks(sums: np.ndarray, chunks: int, n: int, out: np.ndarray) -> None:
    """Sum the chunks: (chunks, 4n) -> (4n)."""
    for k in range(0, 4 * n, LANES):
        total = full(_ZERO)
        for chunk in range(chunks):
            total = total + load(sums, 4 * n * chunk + k)
        store(total, out, k)


@jit(_UINTS, _UINTS, int64, int64, int64, _ROWS, float32)
def _apply(x: np.ndarray, out: np.ndarray, first: int, last: int, n: int, stats: np.ndarray, slope: float) -> None:
    """Apply scale, shift and activation to rows."""
    scale, shift, leak = stats[2], stats[3], full(slope)
    for row in range(first, last):
        for k in range(0, n, LANES):
            values = take(x, row * n + k)
            a, b = low(values) * load(scale, k) + load(shift, k), high(values) * load(scale, n + k) + load(shift, n + k)
            put(packed(where_positive(a, a, a * leak), where_positive(b, b, b * leak)), out, row * n + k)


@jit(_UINTS, _UINTS, _UINTS, int64, int64, int64, _ROWS, _ROWS, float32)
def _apply_back(
    g: np.ndarray, x: np.ndarray, out: np.ndarray, first: int, last: int, n: int, stats: np.ndarray,
    means: np.ndarray, slope: float,
) -> None:  # fmt: skip
    """Compute the gradient of rows of x from the mean gradient and the mean of its product with x - mean."""
    mean, scale, shift, leak = stats[0], stats[2], stats[3], full(slope)
    gradient, along = means[0], means[1]
    for row in range(first, last):
        for k in range(0, n, LANES):
            o = n + k
            values, gradients = take(x, row * n + k), take(g, row * n + k)
            a, b = low(values), high(values)
            to_a = _through(a * load(scale, k) + load(shift, k), low(gradients), leak)
            to_b = _through(b * load(scale, o) + load(shift, o), high(gradients), leak)
            to_a = load(scale, k) * (to_a - load(gradient, k)) - load(along, k) * (a - load(mean, k))
            to_b = load(scale, o) * (to_b - load(gradient, o)) - load(along, o) * (b - load(mean, o))
            put(packed(to_a, to_b), out, row * n + k)


@parallel
def norm_activation(addresses: Any) -> None:
    """Normalise and activate rows (rows, n); see `fexgan_lit.kernels.blocks`."""
    rows, n = sizes(addresses)[:2]
    x, out, sums = uints(addresses, 1), uints(addresses, 2), floats(addresses, 3)
    weight, bias, running_mean, running_var = (
        floats(addresses, 4), floats(addresses, 5), floats(addresses, 6), floats(addresses, 7)
    )  # fmt: skip
    options, saved = floats(addresses, 8), floats(addresses, 9)
    epsilon, momentum, slope = options[0], options[1], options[2]
    first, total, stats = np.empty(2 * n, np.float32), np.empty(4 * n, np.float32), np.empty((4, 2 * n), np.float32)
    for k in range(0, n, LANES):
        store(low(take(x, k)), first, k)
        store(high(take(x, k)), first, n + k)

    chunks = -(-rows // CHUNK)
    mine, end = thread_range(chunks)
    for c in range(mine, end):
        total[:] = _ZERO
        for start in range(c * CHUNK, min(rows, (c + 1) * CHUNK), BLOCK):
            _add_moments(x, start * n, min(BLOCK, rows - start), n, first, total)
        sums[4 * n * c : 4 * n * (c + 1)] = total
    barrier()

    _add_chunks(sums, chunks, n, total)
    count, leader = np.float32(rows), is_first_thread()
    for k in range(2 * n):
        c = 2 * (k % n) + k // n
        away = total[k] / count
        var = max(total[2 * n + k] / count - away * away, _ZERO)
        mean, inverse = first[k] + away, _ONE / np.sqrt(var + epsilon)
        scale = inverse * weight[c]
        stats[0, k], stats[1, k], stats[2, k], stats[3, k] = mean, inverse, scale, bias[c] - mean * scale
        if leader:
            for row in range(4):
                saved[2 * n * row + c] = stats[row, k]
            running_mean[c] += momentum * (mean - running_mean[c])
            running_var[c] += momentum * (var * (count / (count - _ONE)) - running_var[c])
    mine, end = thread_range(rows)
    _apply(x, out, mine, end, n, stats, slope)


@parallel
def norm_activation_backward(addresses: Any) -> None:
    """Compute the gradient of rows; see `fexgan_lit.kernels.blocks`."""
    rows, n = sizes(addresses)[:2]
    g, x, out, sums = uints(addresses, 1), uints(addresses, 2), uints(addresses, 3), floats(addresses, 4)
    options, saved, made = floats(addresses, 5), floats(addresses, 6), floats(addresses, 7)
    slope = options[2]
    total, stats, means = (
        np.empty(4 * n, np.float32), np.empty((4, 2 * n), np.float32), np.empty((2, 2 * n), np.float32)
    )  # fmt: skip
    for row in range(4):
        _halves(saved, 2 * n * row, stats[row], n)

    chunks = -(-rows // CHUNK)
    mine, end = thread_range(chunks)
    for c in range(mine, end):
        total[:] = _ZERO
        for start in range(c * CHUNK, min(rows, (c + 1) * CHUNK), BLOCK):
            _add_gradients(g, x, start * n, min(BLOCK, rows - start), n, stats, slope, total)
        sums[4 * n * c : 4 * n * (c + 1)] = total
    barrier()

    _add_chunks(sums, chunks, n, total)
    count, leader = np.float32(rows), is_first_thread()
    for k in range(2 * n):
        inverse = stats[1, k]
        means[0, k] = total[k] / count
        means[1, k] = (stats[2, k] * inverse) * inverse * (total[2 * n + k] / count)
        if leader:
            c = 2 * (k % n) + k // n
            made[c], made[2 * n + c] = total[2 * n + k] * inverse, total[k]
    mine, end = thread_range(rows)
    _apply_back(g, x, out, mine, end, n, stats, means, slope)
