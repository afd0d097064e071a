"""Windows of chunks: who is a source when, which targets it may have, and what is fetched for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fexgan_lit.data.pairs import Share
from fexgan_lit.data.streaming.format import Geometry
from fexgan_lit.data.streaming.reader import ChunkedImages
from fexgan_lit.data.streaming.sampler import WindowSampler, stream_lines, window_count
from fexgan_lit.data.targets import AnyTargets, TargetCells
from fexgan_lit.utils.errors import UserError


class NoChunks:
    """Stands in where nothing is read."""


@pytest.fixture
def streamed_set(frame_set):
    """A split whose frames lie, in random order, in chunks of `chunk_frames`."""

    def make(counts, chunk_frames=10, **options):
        frames = frame_set(counts, **options)
        stored = np.random.default_rng(1).permutation(len(frames))
        return replace(frames, images=ChunkedImages(Geometry(len(frames), 8, chunk_frames), stored, NoChunks()))

    return make


def batches(sampler, epoch=0):
    return [sampler.indices(epoch, number) for number in range(len(sampler))]


def test_every_frame_is_a_source_once_and_pairs_stay_in_a_window(streamed_set):
    frames = streamed_set(np.full((3, 4), 10))  # 120 frames in 12 chunks
    sampler = WindowSampler(frames, 3, batch_size=8, seed=5)
    chunk = frames.images.chunk_of(frames.rows)
    for epoch in (0, 1):
        windows = sampler.chunks(epoch)
        assert sorted(np.concatenate(windows).tolist()) == list(range(12))
        assert [len(window) for window in windows] == [4, 4, 4]
        window = np.array([next(w for w in range(3) if c in windows[w]) for c in chunk])
        source, target = (np.concatenate(each) for each in zip(*batches(sampler, epoch), strict=True))
        assert sorted(source.tolist()) == list(range(120))
        assert (np.diff(window[source]) >= 0).all()  # window after window
        assert (window[source] == window[target]).all()
        assert (frames.identity[source] == frames.identity[target]).all()
    assert [w.tolist() for w in sampler.chunks(0)] != [w.tolist() for w in sampler.chunks(1)]


def test_targets_within_a_window_are_uniform_over_affects(streamed_set):
    counts = np.array([[60, 20, 20]])
    sampler = WindowSampler(streamed_set(counts), 2, batch_size=50, seed=0)
    drawn = np.concatenate([sampler.indices(epoch, 0)[1] for epoch in range(80)])
    share = np.bincount(sampler.cells._cell[drawn], minlength=3) / len(drawn)
    assert share == pytest.approx([1 / 3] * 3, abs=0.03)
    frequent = WindowSampler(streamed_set(counts), 2, batch_size=50, seed=0, uniform_affects=False)
    drawn = np.concatenate([frequent.indices(epoch, 0)[1] for epoch in range(80)])
    share = np.bincount(sampler.cells._cell[drawn], minlength=3) / len(drawn)
    assert share == pytest.approx([0.6, 0.2, 0.2], abs=0.03)


def test_a_batch_depends_on_seed_epoch_and_number_alone(streamed_set):
    frames = streamed_set(np.full((3, 4), 10))
    first, again = (WindowSampler(frames, 4, batch_size=7, seed=2) for _ in range(2))
    whole = [batches(first, epoch) for epoch in (0, 1)]
    for epoch, number in ((1, 9), (0, 3), (1, 0), (0, 16)):  # any order, as after a restart
        for one, other in zip(again.indices(epoch, number), whole[epoch][number], strict=True):
            assert (one == other).all()
    other = WindowSampler(frames, 4, batch_size=7, seed=3)
    assert (other.indices(0, 0)[0] != whole[0][0][0]).any()


def test_two_processes_see_together_what_one_sees(streamed_set):
    frames = streamed_set(np.full((3, 4), 10))
    one = WindowSampler(frames, 3, batch_size=32, seed=1)
    parts = [WindowSampler(frames, 3, batch_size=16, seed=1, share=Share(rank, 2)) for rank in range(2)]
    assert len(one) == len(parts[0]) == 3
    for number in range(3):
        together = [np.concatenate(each) for each in zip(*(part.indices(1, number) for part in parts), strict=True)]
        for mine, whole in zip(together, one.indices(1, number), strict=True):
            assert (mine == whole).all()
        assert parts[0].span(1, number) == parts[1].span(1, number) == one.span(1, number)
    assert parts[0].wanted(1, 0, 1) == parts[1].wanted(1, 0, 1) == one.wanted(1, 0, 1)


def test_what_is_wanted_covers_a_batch_and_the_window_after_it(streamed_set):
    frames = streamed_set(np.full((3, 4), 10))
    sampler = WindowSampler(frames, 3, batch_size=16, seed=0)  # windows of 40: batch 2 straddles two
    seen = set()
    for number in range(len(sampler)):
        first, last = sampler.span(0, number)
        now, soon = sampler.wanted(0, first, last)
        rows = np.concatenate(sampler.indices(0, number))
        assert set(frames.images.chunk_of(rows)) <= set(now)
        assert len(now) == 4 * (last - first + 1)
        assert not set(now) & set(soon) or last == 2
        seen.add((first, last))
    assert seen == {(0, 0), (0, 1), (1, 1), (2, 2)}
    assert sampler.wanted(0, 2, 2)[1] == sampler.chunks(1)[0].tolist()


def test_cells_that_a_window_lacks_are_not_drawn_and_counted(streamed_set):
    sampler = WindowSampler(streamed_set(np.array([[30, 30, 1], [30, 0, 1]]), chunk_frames=8), 6, batch_size=4, seed=0)
    missing = sampler.missing_cells(0)
    assert missing.sum() >= 8  # each of the two rare cells is in one window of six
    for source, target in batches(sampler):
        assert (sampler.cells._identity[source] == sampler.cells._identity[target]).all()
    text = "\n".join(stream_lines(sampler, "s3://faces/set"))
    assert "12 chunks" in text
    assert "in 6 windows of up to 2 chunks" in text
    assert "of the 5 cells (identity, affect) have no target" in text
    assert "increase dataset.window_gb" in text


def test_weak_frames_are_no_targets_in_a_window_either(frame_set):
    intensity = np.tile(np.array([0.1, 0.9], np.float32), 12)
    cells = TargetCells(frame_set(np.full((2, 3), 4), intensity=intensity), 0.5)
    some = cells.within(
        np.array([1, 2, 4, 6, 8, 14, 16])
    )  # of the first person: strong 1; of the other: weak ones only
    assert some.eligible.tolist() == [1, 14, 16]
    drawn = some.sample(np.random.default_rng(0), np.repeat([2, 16], 100), True)
    assert set(drawn[:100]) == {1}
    assert set(drawn[100:]) == {14, 16}
    assert cells.eligible.tolist() == list(range(1, 24, 2))


def test_unpaired_targets_come_from_the_window(frame_set):
    cells = AnyTargets(frame_set(np.full((2, 3), 4)))
    some = cells.within(np.array([3, 17]))
    assert set(some.sample(np.random.default_rng(0), np.zeros(50, np.int64), True)) == {3, 17}


def test_windows_hold_no_more_than_they_may():
    geometry = Geometry(1000, 32, 10)  # 100 chunks of 30,808 bytes
    assert window_count(geometry, 4) == 1
    assert window_count(geometry, geometry.total_bytes / 1e9) == 1
    assert window_count(geometry, 20 * 30_808 / 1e9) == 5
    assert window_count(geometry, 19.9 * 30_808 / 1e9) == 6
    assert window_count(geometry, 1e-9) == 100


def test_exact_targets_need_one_window(streamed_set):
    frames = replace(streamed_set(np.full((1, 2), 20)), moment=np.arange(40) % 20)
    with pytest.raises(UserError, match=r"another of the 2 windows.*larger dataset\.window_gb"):
        WindowSampler(frames, 2, batch_size=4, seed=0, exact=True)
    assert len(WindowSampler(frames, 1, batch_size=4, seed=0, exact=True)) == 10
