"""Batch norm and the activation after it, forward and back (`fexgan_lit.batch_norm.operations` says what they are).

Each is two passes over a map, with a meeting of the threads in between. Sums are added up in the order that
`fexgan_lit.batch_norm.operations.summed` has, so that they do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import float32, int64, uint32

from fexgan_lit.batch_norm.operations import BLOCK, BLOCKS
from fexgan_lit.loops.team import compiled, floats, is_first, meet, my_share, shared, sizes, uints
from fexgan_lit.loops.vectors import LANES, full, high, load, low, packed, put, store, take, where_positive

_UINTS, _FLOATS, _ROWS = uint32[::1], float32[::1], float32[:, ::1]
_ZERO, _ONE = np.float32(0), np.float32(1)
#: Rows in a chunk, which is what threads share.
CHUNK = BLOCK * BLOCKS


@compiled(_FLOATS, int64, _FLOATS, int64)
def _halves(values: np.ndarray, start: int, out: np.ndarray, n: int) -> None:
    """2n values -> those of even channels, then those of odd ones."""
    for k in range(n):
        out[k], out[n + k] = values[start + 2 * k], values[start + 2 * k + 1]


@numba.njit(inline="always")
def _add(vector: Any, out: np.ndarray, place: int) -> None:
    store(load(out, place) + vector, out, place)


@compiled(_UINTS, int64, int64, int64, _FLOATS, _FLOATS)
def _add_moments(x: np.ndarray, start: int, rows: int, n: int, first: np.ndarray, out: np.ndarray) -> None:
    """Add the sums of x - first and of its square over some rows to out, of even and odd channels each."""
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
    """The gradient of what went into a leaky ReLU."""
    return where_positive(z, gradient, gradient * slope)


@compiled(_UINTS, _UINTS, int64, int64, int64, _ROWS, float32, _FLOATS)
def _add_gradients(
    g: np.ndarray, x: np.ndarray, start: int, rows: int, n: int, stats: np.ndarray, slope: float, out: np.ndarray
) -> None:
    """Add the sums of the gradient before the activation, and of its product with x - mean, to out."""
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


@compiled(_FLOATS, int64, int64, _FLOATS)
def _add_chunks(sums: np.ndarray, chunks: int, n: int, out: np.ndarray) -> None:
    """The sums of all chunks (chunks, 4n) -> (4n)."""
    for k in range(0, 4 * n, LANES):
        total = full(_ZERO)
        for chunk in range(chunks):
            total = total + load(sums, 4 * n * chunk + k)
        store(total, out, k)


@compiled(_UINTS, _UINTS, int64, int64, int64, _ROWS, float32)
def _apply(x: np.ndarray, out: np.ndarray, first: int, last: int, n: int, stats: np.ndarray, slope: float) -> None:
    """Scale, shift and activation of rows."""
    scale, shift, leak = stats[2], stats[3], full(slope)
    for row in range(first, last):
        for k in range(0, n, LANES):
            values = take(x, row * n + k)
            a, b = low(values) * load(scale, k) + load(shift, k), high(values) * load(scale, n + k) + load(shift, n + k)
            put(packed(where_positive(a, a, a * leak), where_positive(b, b, b * leak)), out, row * n + k)


@compiled(_UINTS, _UINTS, _UINTS, int64, int64, int64, _ROWS, _ROWS, float32)
def _apply_back(
    g: np.ndarray, x: np.ndarray, out: np.ndarray, first: int, last: int, n: int, stats: np.ndarray,
    means: np.ndarray, slope: float,
) -> None:  # fmt: skip
    """The gradient of rows of x, given the mean gradient and what x - mean takes of it."""
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


@shared
def normalise(addresses: Any) -> None:
    """Rows (rows, n) -> the same, normalised and activated; see `fexgan_lit.batch_norm.compiled.normalise`."""
    rows, n = sizes(addresses)[:2]
    x, out, sums = uints(addresses, 1), uints(addresses, 2), floats(addresses, 3)
    weight, bias, running_mean, running_var = (
        floats(addresses, 4), floats(addresses, 5), floats(addresses, 6), floats(addresses, 7)
    )  # fmt: skip
    told, kept = floats(addresses, 8), floats(addresses, 9)
    epsilon, momentum, slope = told[0], told[1], told[2]
    first, total, stats = np.empty(2 * n, np.float32), np.empty(4 * n, np.float32), np.empty((4, 2 * n), np.float32)
    for k in range(0, n, LANES):
        store(low(take(x, k)), first, k)
        store(high(take(x, k)), first, n + k)

    chunks = -(-rows // CHUNK)
    mine, end = my_share(chunks)
    for c in range(mine, end):
        total[:] = _ZERO
        for start in range(c * CHUNK, min(rows, (c + 1) * CHUNK), BLOCK):
            _add_moments(x, start * n, min(BLOCK, rows - start), n, first, total)
        sums[4 * n * c : 4 * n * (c + 1)] = total
    meet()

    _add_chunks(sums, chunks, n, total)
    count, leader = np.float32(rows), is_first()
    for k in range(2 * n):
        c = 2 * (k % n) + k // n
        away = total[k] / count
        var = max(total[2 * n + k] / count - away * away, _ZERO)
        mean, inverse = first[k] + away, _ONE / np.sqrt(var + epsilon)
        scale = inverse * weight[c]
        stats[0, k], stats[1, k], stats[2, k], stats[3, k] = mean, inverse, scale, bias[c] - mean * scale
        if leader:
            for row in range(4):
                kept[2 * n * row + c] = stats[row, k]
            running_mean[c] += momentum * (mean - running_mean[c])
            running_var[c] += momentum * (var * (count / (count - _ONE)) - running_var[c])
    mine, end = my_share(rows)
    _apply(x, out, mine, end, n, stats, slope)


@shared
def normalise_back(addresses: Any) -> None:
    """The gradient of rows; see `fexgan_lit.batch_norm.compiled.gradients`."""
    rows, n = sizes(addresses)[:2]
    g, x, out, sums = uints(addresses, 1), uints(addresses, 2), uints(addresses, 3), floats(addresses, 4)
    told, kept, made = floats(addresses, 5), floats(addresses, 6), floats(addresses, 7)
    slope = told[2]
    total, stats, means = (
        np.empty(4 * n, np.float32), np.empty((4, 2 * n), np.float32), np.empty((2, 2 * n), np.float32)
    )  # fmt: skip
    for row in range(4):
        _halves(kept, 2 * n * row, stats[row], n)

    chunks = -(-rows // CHUNK)
    mine, end = my_share(chunks)
    for c in range(mine, end):
        total[:] = _ZERO
        for start in range(c * CHUNK, min(rows, (c + 1) * CHUNK), BLOCK):
            _add_gradients(g, x, start * n, min(BLOCK, rows - start), n, stats, slope, total)
        sums[4 * n * c : 4 * n * (c + 1)] = total
    meet()

    _add_chunks(sums, chunks, n, total)
    count, leader = np.float32(rows), is_first()
    for k in range(2 * n):
        inverse = stats[1, k]
        means[0, k] = total[k] / count
        means[1, k] = (stats[2, k] * inverse) * inverse * (total[2 * n + k] / count)
        if leader:
            c = 2 * (k % n) + k // n
            made[c], made[2 * n + c] = total[2 * n + k] * inverse, total[k]
    mine, end = my_share(rows)
    _apply_back(g, x, out, mine, end, n, stats, means, slope)
