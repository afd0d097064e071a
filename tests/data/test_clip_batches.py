from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fexgan_lit.data.clips import ClipLoader, ClipSampler
from fexgan_lit.data.pairs import Share
from fexgan_lit.utils.errors import UserError


@pytest.fixture
def takes(frame_set):
    """Four takes of 9 frames and one of 4; frame 5 of each is the strongest; rows are shuffled in time."""
    frames = frame_set(np.array([[9, 9], [9, 9], [4, 0]]), intensity=np.zeros(40, np.float32))
    take = np.repeat(np.arange(5), [9, 9, 9, 9, 4])
    number = np.concatenate([np.arange(n) for n in (9, 9, 9, 9, 4)])
    shuffle = np.random.default_rng(0).permutation(40)
    return dataclasses.replace(
        frames,
        rows=np.arange(40)[shuffle],
        affect=frames.affect[shuffle],
        identity=frames.identity[shuffle],
        take=take[shuffle],
        time_s=(number / 60).astype(np.float32)[shuffle],
        intensity=(1 - np.abs(number - 5) / 10).astype(np.float32)[shuffle],
    )


def epoch_of(sampler, epoch=0):
    return np.concatenate([sampler.indices(epoch, b) for b in range(len(sampler))])


def test_every_long_enough_take_comes_once_in_the_order_of_time(takes):
    sampler = ClipSampler(takes, length=5, batch_size=2, seed=0)
    clips = epoch_of(sampler)
    assert clips.shape == (4, 5)
    assert sorted(takes.take[clips[:, 0]].tolist()) == [0, 1, 2, 3]
    assert (takes.take[clips] == takes.take[clips[:, :1]]).all()
    np.testing.assert_allclose(takes.time_s[clips] * 60, np.tile([0, 2, 4, 6, 8], (4, 1)), atol=1e-4)
    assert sampler.short == ("p2/a (4 frames)",) or sampler.short[0].endswith("(4 frames)")


def test_apex_ends_at_the_strongest_frame_and_window_is_unbroken(takes):
    apex = epoch_of(ClipSampler(takes, length=3, batch_size=1, seed=0, span="apex"))
    long = apex[takes.take[apex[:, 0]] != 4]
    np.testing.assert_allclose(takes.time_s[long][:, [0, -1]] * 60, np.tile([0, 5], (4, 1)), atol=1e-4)
    starts = set()
    window = ClipSampler(takes, length=5, batch_size=2, seed=0, span="window")
    for epoch in range(30):
        times = np.rint(takes.time_s[epoch_of(window, epoch)] * 60)
        assert (np.diff(times, axis=1) == 1).all()
        starts |= set(times[:, 0].tolist())
    assert starts == {0, 1, 2, 3, 4}


def test_clips_repeat_with_the_seed_and_processes_share_a_batch(takes):
    alone = ClipSampler(takes, 5, 4, seed=3)
    parts = [ClipSampler(takes, 5, 2, seed=3, share=Share(rank, 2)) for rank in (0, 1)]
    assert (alone.indices(1, 0) == ClipSampler(takes, 5, 4, seed=3).indices(1, 0)).all()
    assert (np.concatenate([part.indices(1, 0) for part in parts]) == alone.indices(1, 0)).all()
    assert any((alone.indices(e, 0) != alone.indices(0, 0)).any() for e in range(1, 5))


def test_a_batch_holds_the_pixels_of_its_rows(takes):
    batch = ClipLoader(takes, ClipSampler(takes, 5, 2, seed=0), image_size=8).batch(0, 1)
    assert batch.frames.shape == (2, 5, 3, 8, 8)
    want = takes.rows[batch.rows.numpy()] % 251 / 127.5 - 1
    np.testing.assert_allclose(batch.frames[:, :, 0, 0, 0].numpy(), want, atol=1e-6)
    assert batch.affect.tolist() == takes.affect[batch.rows[:, 0].numpy()].tolist()
    assert batch.landmarks is None


def test_what_cannot_be_filmed_is_said(takes, frame_set):
    with pytest.raises(UserError, match="has no takes"):
        ClipSampler(frame_set(np.array([[9, 9]])), 5, 1, 0)
    with pytest.raises(UserError, match="4 takes have the 5 frames"):
        ClipSampler(takes, 5, 9, 0)
    with pytest.raises(UserError, match="intensity of every frame"):
        ClipSampler(dataclasses.replace(takes, intensity=None), 5, 1, 0, span="apex")
