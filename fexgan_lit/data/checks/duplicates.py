"""Duplicate images: identical pixels, or so similar that no network could distinguish them.

Frames are compared by their 16 x 16 thumbnails. Two frames are near-duplicates if their thumbnails differ by at most
`RMS` grey levels (root mean square) and `LARGEST` at any pixel: another JPEG quality or a resize stays within these
limits, a changed mouth does not. Neighbours are found in a tree over the leading principal components, whose distances
never exceed those of the thumbnails, so a near-duplicate is missed only if nearer candidates displace it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

RMS, LARGEST = 1.5, 6
#: Components of the tree, frames for the components, neighbours per query, frames per block.
_COMPONENTS, _SAMPLE, _NEIGHBOURS, _BLOCK = 12, 4096, 4, 4096


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of similar frames.

    Attributes:
        a: (P,) int64 rows.
        b: (P,) int64 rows, the nearest frame to `a` of those it was compared with.
        largest: (P,) uint8, largest difference of the thumbnails, grey levels.
        exact: (P,) bool, whether the packed pixels are identical.
    """

    a: np.ndarray
    b: np.ndarray
    largest: np.ndarray
    exact: np.ndarray

    def __len__(self) -> int:
        return len(self.a)

    def where(self, chosen: np.ndarray) -> Pairs:
        """Return the pairs where `chosen` (P,) is true."""
        return Pairs(self.a[chosen], self.b[chosen], self.largest[chosen], self.exact[chosen])


class Lookalikes:
    """Finds near-duplicates between groups of frames.

    Args:
        thumbs: (N, 16, 16, 3) uint8.
        images: (N, L, L, 3) uint8, read only if thumbnails are equal.
    """

    def __init__(self, thumbs: np.ndarray, images: np.ndarray) -> None:
        self.thumbs = thumbs.reshape(len(thumbs), -1)  # (N, 16, 16, 3) -> (N, 768)
        self.images = images.view(np.ndarray)  # indexing np.memmap is much slower
        self.components = principal_components(self.thumbs)
        self.first = np.empty(len(thumbs), np.int64)  # (N,) the first row with an equal thumbnail
        for rows in _equal(self.thumbs, np.arange(len(thumbs))):
            self.first[rows] = rows[0]

    def between(self, left: np.ndarray, right: np.ndarray) -> Pairs:
        """Return the nearest row of `right` (m,) for each row of `left` (n,) that has a near-duplicate there."""
        return self._pairs(*self._matches(left, right))

    def _matches(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return (2, p) int64: rows of `left` and their near-duplicates in `right`."""
        if not len(left) or not len(right):
            return np.empty((2, 0), np.int64)
        from scipy.spatial import cKDTree

        # Without unique thumbnails, a query would visit thousands of equal points.
        right = right[np.unique(self.first[right], return_index=True)[1]]
        tree = cKDTree(self.components[right])
        reach = RMS * self.thumbs.shape[1] ** 0.5 + 1e-3
        k = min(_NEIGHBOURS, len(right))
        found = []
        for start in range(0, len(left), _BLOCK):
            rows = left[start : start + _BLOCK]
            _, near = tree.query(self.components[rows], k=[*range(1, k + 1)], distance_upper_bound=reach)
            found.append(self._nearest(rows, near, right))
        return np.concatenate(found, axis=1)

    def across(self, label: np.ndarray) -> Pairs:
        """Return near-duplicates with different labels (N,) int64 >= 0, each frame at least once if it has one.

        Two different labels differ in some binary digit, so one search per digit, between its two halves, finds all.
        """
        digits = range(max(1, int(label.max(initial=0)).bit_length()))
        halves = [(label >> digit) & 1 for digit in digits]
        sides = [(np.flatnonzero(bit == 1), np.flatnonzero(bit == 0)) for bit in halves]
        found = [self._matches(*side) for one, other in sides for side in ((one, other), (other, one))]
        once = np.unique(np.sort(np.concatenate(found, axis=1), axis=0), axis=1)  # (2, P), the smaller row first
        return self._pairs(once[0], once[1])

    def alike(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return (P,) bool: whether the rows `a` and `b` (P,) are near-duplicates."""
        return np.concatenate([
            _close(*_differences(self.thumbs[a[start : start + _BLOCK]], self.thumbs[b[start : start + _BLOCK]]))
            for start in range(0, max(len(a), 1), _BLOCK)
        ])  # fmt: skip

    def _nearest(self, rows: np.ndarray, near: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return (2, p): rows and their nearest near-duplicate among the candidates `near` (n, k) in `right` (m,)."""
        best, distance = np.full(len(rows), -1), np.full(len(rows), np.inf)
        for column in near.T:  # (n,)
            there = np.flatnonzero(column < len(right))  # the tree returns m if there is no neighbour
            rms, largest = _differences(self.thumbs[rows[there]], self.thumbs[right[column[there]]])
            better = _close(rms, largest) & (rms < distance[there])
            best[there[better]], distance[there[better]] = column[there[better]], rms[better]
        hit = best >= 0
        return np.stack([rows[hit], right[best[hit]]])

    def _pairs(self, a: np.ndarray, b: np.ndarray) -> Pairs:
        blocks = range(0, len(a), _BLOCK)
        parts = [_differences(self.thumbs[a[s : s + _BLOCK]], self.thumbs[b[s : s + _BLOCK]])[1] for s in blocks]
        largest = np.concatenate([np.empty(0, np.uint8), *parts]).astype(np.uint8)
        exact = largest == 0
        for index in np.flatnonzero(exact):
            exact[index] = np.array_equal(self.images[a[index]], self.images[b[index]])
        return Pairs(a, b, largest, exact)


def principal_components(thumbs: np.ndarray) -> np.ndarray:
    """Project `thumbs` (N, 768) uint8 on their leading principal components, (N, 12) float32."""
    step = max(1, len(thumbs) // _SAMPLE)
    sample = thumbs[::step].astype(np.float32)
    centre = sample.mean(axis=0)
    spread = (sample - centre).T @ (sample - centre)  # (768, 768)
    axes = np.linalg.eigh(spread)[1][:, -_COMPONENTS:].astype(np.float32)  # (768, 12)
    blocks = [(thumbs[s : s + _BLOCK] - centre) @ axes for s in range(0, len(thumbs), _BLOCK)]
    return np.concatenate([np.empty((0, axes.shape[1]), np.float32), *blocks])


def exact_groups(thumbs: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each image that occurs more than once, ascending; reads only frames with equal thumbnails."""
    images = images.view(np.ndarray)
    suspects = [rows for rows in _equal(thumbs, np.arange(len(thumbs))) if len(rows) > 1]
    groups = [group for rows in suspects for group in _equal(images, rows) if len(group) > 1]
    return sorted(groups, key=lambda group: int(group[0]))


def _equal(arrays: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Group `rows` by the content of their arrays, compared by a 128-bit hash."""
    groups: dict[bytes, list[int]] = {}
    for row in rows.tolist():
        digest = hashlib.blake2b(np.ascontiguousarray(arrays[row]).data, digest_size=16).digest()
        groups.setdefault(digest, []).append(row)
    return [np.array(members) for members in groups.values()]


def _differences(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the root mean square (P,) and largest absolute difference (P,) of two (P, 768) uint8 arrays."""
    apart = np.abs(a.astype(np.int16) - b)
    return np.sqrt(np.mean(np.square(apart, dtype=np.float32), axis=1)), apart.max(axis=1, initial=0)


def _close(rms: np.ndarray, largest: np.ndarray) -> np.ndarray:
    return (rms <= RMS) & (largest <= LARGEST)
