"""Parts of maps and weights, and what they are summed up to, by torch's operations (`fexgan_lit.kernels.winograd`)."""

from __future__ import annotations

import torch
from torch import Tensor

from fexgan_lit.kernels.memory import new_map

#: Bytes of a map that are cut into parts at a time, so that what lies between stays in the caches.
AT_A_TIME = 4 << 20


def parts_of_weight(weight: Tensor, precision: torch.dtype) -> Tensor:
    """(O, C, 4, 4), channels last -> W (9, O, 4C) in that precision."""
    o, c = weight.shape[:2]
    taps = weight.to(precision).permute(0, 2, 3, 1).view(o, 2, 2, 2, 2, c)  # (O, tap, row, tap, column, C)
    parts = taps.new_empty(3, 3, o, 2, 2, c)
    _cut_pairs(taps, 1, 2, parts)
    return parts.view(9, o, 4 * c)


def parts_of_small(small: Tensor) -> Tensor:
    """(B, O, h, w) -> Y (9, T, O)."""
    b, o, h, w = small.shape
    tiles = small.permute(0, 2, 3, 1).reshape(b, h // 2, 2, w // 2, 2, o)
    parts = small.new_empty(3, 3, b, h // 2, w // 2, o)
    _cut_pairs(tiles, 2, 3, parts)
    return parts.view(9, -1, o)


def parts_of_large(large: Tensor) -> Tensor:
    """(B, C, 2h, 2w) -> S (9, T, 4C)."""
    b, c, height, width = large.shape
    parts = large.new_empty(3, 3, b, height // 4, width // 4, 2, 2, c)
    images = at_a_time(large)
    framed = large.new_zeros(images, height + 2, width + 2, c)
    between = large.new_empty(2, images, height // 4, 2, width + 2, c)
    for some, out in zip(large.permute(0, 2, 3, 1).split(images), parts.split(images, dim=2), strict=True):
        framed[: len(some), 1:-1, 1:-1] = some
        above, middle, below = framed[: len(some)].unfold(1, 6, 4).movedim(-1, 2).split(2, dim=2)
        first, last = between[:, : len(some)]
        torch.sub(above, middle, out=first)  # (b, h/2, 2, 2w+2, C), every one of them
        torch.sub(below, middle, out=last)
        for part, rows in zip(out, (first, middle, last), strict=True):
            _cut_triple(rows.unfold(3, 6, 4).movedim(-1, 4), part.transpose(3, 4))
    return parts.view(9, -1, 4 * c)


def sum_small(parts: Tensor, shape: torch.Size) -> Tensor:
    """Parts (9, T, O) -> (B, O, h, w) of that shape."""
    b, o, h, w = shape
    rows = _two_of_three(parts.view(3, 3, b, h // 2, w // 2, o))  # (row, 3, B, h/2, w/2, O)
    small = new_map(parts, shape)
    tiles = small.permute(0, 2, 3, 1).view(b, h // 2, 2, w // 2, 2, o)
    for column in (0, 1):
        torch.add(rows[:, column], rows[:, column + 1], out=tiles[:, :, :, :, column].movedim(2, 0))
    return small


def sum_weight(parts: Tensor, shape: torch.Size) -> Tensor:
    """Parts in pieces (9 * pieces, O, 4C) -> (O, C, 4, 4) of that shape, channels last, in float32 or finer."""
    o, c = shape[:2]
    exact = parts.to(torch.promote_types(parts.dtype, torch.float32))
    weight = exact.new_zeros(o, 2, 2, 2, 2, c)
    for piece in exact.view(3, 3, -1, o, 2, 2, c).unbind(2):
        taps = _two_of_three(piece)  # (tap, 3, O, row, column, C)
        weight += (taps[:, :2] + taps[:, 1:]).permute(2, 0, 3, 1, 4, 5)
    return weight.view(o, 4, 4, c).permute(0, 3, 1, 2)


def sum_large(parts: Tensor, shape: torch.Size) -> Tensor:
    """Parts (9, T, 4C) -> (B, C, 2h, 2w) of that shape."""
    b, c, height, width = shape
    large = new_map(parts, shape)
    lines = large.permute(0, 2, 3, 1).view(b, height // 4, 4, width * c)
    images = at_a_time(large)
    between = parts.new_empty(3, images, height // 4, 2, width // 4, 4, c)
    tiles = parts.view(3, 3, b, height // 4, width // 4, 2, 2, c)
    for some, out in zip(tiles.split(images, dim=2), lines.split(images), strict=True):
        rows = between[:, : len(out)]  # (3, b, h/2, row, w/2, 4, C)
        _overlap(some.transpose(4, 5).unbind(1), rows)
        _overlap(rows.flatten(4).unbind(0), out)
    return large


def at_a_time(large: Tensor) -> int:
    """Images (B, ...) out of a batch that are worked on together."""
    return max(1, min(len(large), AT_A_TIME * len(large) // (large.numel() * large.element_size())))


def _cut_pairs(x: Tensor, row: int, column: int, out: Tensor) -> None:
    """What m0, m1 and m2 are made of, of two taps or (as gradients) of two outputs, down and across: (3, 3, ...).

    `row` is the dimension of the two rows, `column` that of the two columns when the rows are taken out.
    """
    upper, lower = x.unbind(row)
    for part, line in zip(out, (upper, upper + lower, lower), strict=True):
        left, right = line.unbind(column)
        part[0], part[2] = left, right
        torch.add(left, right, out=part[1])


def _cut_triple(pixels: Tensor, out: Tensor) -> None:
    """What they are made of, of three stacked pixels: (..., 6, C) -> thrice (..., 2, C)."""
    left, middle, right = pixels.split(2, dim=-2)
    torch.sub(left, middle, out=out[0])
    out[1] = middle
    torch.sub(right, middle, out=out[2])


def _two_of_three(parts: Tensor) -> Tensor:
    """(3, ...) -> (2, ...): m0 + m1, m1 + m2."""
    return parts[:2] + parts[1:]


def _overlap(parts: tuple[Tensor, ...], out: Tensor) -> None:
    """Three parts (..., tiles, 2, n) of stacked pixels -> their sums (..., tiles, 4, n), without a frame of one pixel.

    Stacked pixel 2t of a line gets m0 of tile t and m2 of the tile before, 2t + 1 gets m1 - m0 - m2 of tile t.
    """
    m0, m1, m2 = parts
    torch.sub(m1, m0, out=out[..., 1:3, :]).sub_(m2)
    out[..., 0, 0, :] = m0[..., 0, 1, :]
    torch.add(m0[..., 1:, 1, :], m2[..., :-1, 1, :], out=out[..., 1:, 0, :])
    torch.add(m0[..., 1:, 0, :], m2[..., :-1, 0, :], out=out[..., :-1, 3, :])
    out[..., -1, 3, :] = m2[..., -1, 0, :]
