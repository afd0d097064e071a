"""The doctor's search for pictures that are there twice: all that were planted, and no others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fexgan_lit.data.checks import duplicates
from fexgan_lit.data.checks.duplicates import Lookalikes, exact_groups
from fexgan_lit.data.checks.images import scan_pixels
from tests.data.test_doctor import smooth


def planted(count: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 96, 96, 3) random frames and (pairs, 2) rows made alike: half JPEG copies, half exact ones."""
    rng = np.random.default_rng(7)
    images = smooth(rng, count, size=96)
    rows = rng.choice(count, (pairs, 2), replace=False)
    for number, (source, copy) in enumerate(rows):
        encoded = cv2.imencode(".jpg", images[source], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        images[copy] = images[source] if number % 2 else cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return images, rows


@pytest.mark.parametrize("block", [4096, 100])
def test_planted_duplicates_are_found_among_2000_frames_and_no_others(block, monkeypatch):
    """A small block takes the path that bounds the memory of large sets."""
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    images, rows = planted(2000, 60)
    scan = scan_pixels(images)
    expected = {tuple(sorted(pair)) for pair in rows.tolist()}
    search = Lookalikes(scan.thumbs, images)
    across = search.across(np.arange(2000))
    assert pairs_of(across) == expected
    exact = {tuple(sorted(pair)) for pair in rows[1::2].tolist()}
    assert pairs_of(across.where(across.exact)) == exact
    assert {tuple(group.tolist()) for group in exact_groups(scan.thumbs, images)} == exact
    left, right = rows[:, 0], np.setdiff1d(np.arange(2000), rows[:, 0])
    assert pairs_of(search.between(left, right)) == expected


def pairs_of(pairs: duplicates.Pairs) -> set[tuple[int, ...]]:
    return {tuple(sorted(pair)) for pair in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)}


def test_labels_that_agree_are_not_in_conflict():
    images, rows = planted(400, 20)
    label = np.arange(400)
    label[rows[:, 1]] = label[rows[:, 0]]
    assert len(Lookalikes(scan_pixels(images).thumbs, images).across(label)) == 0


def test_a_crowd_of_equal_frames_stays_small():
    """All frames equal: neighbours are bounded, not all pairs of them."""
    images = np.full((1500, 16, 16, 3), 90, np.uint8)
    search = Lookalikes(scan_pixels(images).thumbs, images)
    pairs = search.across(np.arange(1500) % 2)
    assert 1500 <= 2 * len(pairs) <= 2 * 1500
    assert pairs.exact.all()
    assert len(exact_groups(scan_pixels(images).thumbs, images)) == 1


def test_equal_thumbnails_are_not_equal_frames():
    images = np.zeros((2, 64, 64, 3), np.uint8)
    images[0, ::2], images[1, 1::2] = 100, 100
    scan = scan_pixels(images)
    assert (scan.thumbs[0] == scan.thumbs[1]).all()
    assert exact_groups(scan.thumbs, images) == []
    pairs = Lookalikes(scan.thumbs, images).across(np.array([0, 1]))
    assert pairs.exact.tolist() == [False]
