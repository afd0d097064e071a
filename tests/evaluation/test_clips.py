"""Clips: distances by hand, the still picture at zero, sources, what is asked of each frame, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fexgan_lit import figures
from fexgan_lit.data.clips import affect_of_take
from fexgan_lit.data.pairs import FixedPairLoader
from fexgan_lit.evaluation.config import ClipSettings, EvaluationSettings
from fexgan_lit.evaluation.methods import RealImages, SourceCopy
from fexgan_lit.evaluation.protocols.clips import (
    Clip,
    clip_scores,
    clips_of,
    film,
    identity_judge,
    pairs_of,
    source_of,
    wanted_of,
)
from fexgan_lit.evaluation.protocols.clips_report import clip_name, film_rate, shown_clips, torn_takes
from fexgan_lit.evaluation.tables import MOCOGAN_ACD, clips_reference
from fexgan_lit.metrics.judges.panel import JudgePanel
from fexgan_lit.utils.errors import UserError
from tests.metrics.faces import AFFECTS, make_frames

JOY, NEUTRAL = AFFECTS.index("joy"), AFFECTS.index("neutral")


def grey(levels: list[int], **known):
    """Frames that are grey all over, one a level of 0..255."""
    images = np.stack([np.full((32, 32, 3), level, np.uint8) for level in levels])
    n = len(levels)
    arrays = {"affect": np.zeros(n, np.int64), "identity": np.zeros(n, np.int64), "rows": np.arange(n), **known}
    return replace(make_frames(1), images=images, **arrays)


class Brightness:
    """An identity judge that tells people by how bright they are: one number in [-1, 1]."""

    def embed(self, images, batch_size=256):
        return images.mean(dim=(1, 2, 3))[:, None]


class SeesJoy:
    """An affect judge that sees joy in everybody."""

    def read(self, images, batch_size=256):
        logits = torch.zeros(len(images), len(AFFECTS))
        logits[:, JOY] = 1.0
        return SimpleNamespace(affect_logits=logits)


def measured(method, frames, clips):
    judges = JudgePanel(SeesJoy(), identity=Brightness())
    filmed = film(method, clips, frames, judges, 32, 2, "follow")
    sources = Brightness().embed(frames.floats(np.array([clip.source for clip in clips]), 32))
    return clip_scores(method, filmed, clips, frames, sources)


def test_distances_by_hand_and_a_still_picture_at_zero():
    # levels 0, 51 and 255 are -1, -0.6 and 1
    frames = grey([0, 51, 255, 51, 51], take=np.array([0, 0, 0, 1, 1]), time_s=np.array([0, 1, 2, 0, 1], np.float32))
    clips = [Clip(1, np.array([0, 1, 2])), Clip(0, np.array([3, 4]))]
    truth = measured(RealImages(), frames, clips)
    np.testing.assert_allclose(truth.columns["acd"], [(0.4 + 2.0 + 1.6) / 3, 0.0], atol=1e-6)
    np.testing.assert_allclose(truth.columns["acd_i"], [(0.4 + 0.0 + 1.6) / 3, 0.4], atol=1e-6)
    still = measured(SourceCopy(), frames, clips)
    np.testing.assert_allclose(still.columns["acd"], 0.0, atol=1e-6)
    np.testing.assert_allclose(still.columns["acd_i"], 0.0, atol=1e-6)


def test_the_inception_score_is_one_where_the_judge_always_says_the_same():
    frames = grey(list(range(0, 240, 12)), take=np.repeat([0, 1], 10))
    clips = [Clip(0, np.arange(10)), Clip(0, np.arange(10, 20))]
    filmed = film(RealImages(), clips, frames, JudgePanel(SeesJoy(), identity=Brightness()), 32, 8, "follow")
    same = clip_scores(RealImages(), filmed, clips, frames, torch.zeros(2, 1))
    assert same.value("is_judge") == pytest.approx(1.0)
    logits = 50 * torch.eye(len(AFFECTS))[torch.arange(20) % 2]  # sure of one affect or of another
    two = clip_scores(RealImages(), filmed._replace(affect_logits=logits), clips, frames, torch.zeros(2, 1))
    assert 1.2 < two.value("is_judge") <= 2.0
    assert two.embeddings[1].tolist() == [0] * 20


def test_affects_count_where_the_true_frame_shows_them():
    affect = np.array([JOY, JOY, JOY, 2, 2, JOY])
    strength = np.array([0.1, 0.6, 1.0, 0.9, 0.1, 1.0], np.float32)
    frames = grey([0] * 6, affect=affect, intensity=strength, take=np.zeros(6, np.int64))
    clips = [Clip(0, np.array([0, 1, 2, 3])), Clip(0, np.array([0, 4]))]
    found = measured(RealImages(), frames, clips).columns["judge_affect_accuracy"]
    assert found[0] == pytest.approx(2 / 3), (
        "two frames of joy are right, one of sadness is not, the weakest is no test"
    )
    assert np.isnan(found[1])


def test_takes_in_the_order_of_time_with_the_persons_first_neutral_frame():
    frames = grey(
        [10, 20, 30, 40, 50, 60, 70],
        take=np.array([5, 5, 5, 2, 2, 9, 8]),
        time_s=np.array([2, 0, 1, 0, 1, 0, 0], np.float32),
        affect=np.array([JOY, JOY, JOY, NEUTRAL, NEUTRAL, 2, 3]),
        identity=np.array([0, 0, 0, 0, 0, 1, 2]),
    )
    clips, single = clips_of(frames)
    assert [clip.rows.tolist() for clip in clips] == [[3, 4], [1, 2, 0]]
    assert [clip.source for clip in clips] == [3, 3]
    assert single == 2
    assert source_of(frames, np.array([5])) == 5, "who is never neutral begins with the take"
    pairs = pairs_of(clips)
    assert pairs.source.tolist() == [3] * 5
    assert pairs.target.tolist() == [3, 4, 1, 2, 0]


def test_as_many_clips_as_asked_for_and_the_same_ones_again():
    frames = grey([0] * 20, take=np.repeat(np.arange(10), 2))
    few = clips_of(frames, most=4, seed=1).clips
    assert len(few) == 4
    assert [c.rows[0] for c in few] == [c.rows[0] for c in clips_of(frames, most=4, seed=1).clips]


def test_data_without_clips_are_refused_with_what_to_give():
    with pytest.raises(UserError, match=r"has no takes.*dataset\.annotations"):
        clips_of(grey([0, 1]))
    with pytest.raises(UserError, match=r"1 of 3 takes in this split have two frames or more.*dataset\.val_fraction"):
        clips_of(grey([0, 1, 2, 3], take=np.array([0, 0, 1, 2])))
    with pytest.raises(UserError, match=r"only one person.*metrics\.identity_judge\.path"):
        identity_judge(JudgePanel(SeesJoy()))


def one_batch(**known):
    frames = grey([0] * 3, affect=np.array([NEUTRAL, JOY, JOY]), **known)
    return next(iter(FixedPairLoader(frames, pairs_of([Clip(0, np.arange(3))]), 3, 32))), frames


def test_a_label_is_as_strong_as_the_true_frame_where_nothing_else_says_how_strong():
    batch, frames = one_batch(intensity=np.array([0.0, 0.25, np.nan], np.float32))
    follow = wanted_of(batch, frames, frozenset({"affect"}), "follow").affect
    assert follow[range(3), [NEUTRAL, JOY, JOY]].tolist() == [1.0, 0.25, 1.0], "neutral and unknown are whole"
    assert follow.sum() == pytest.approx(2.25)
    for reads, strength in ((frozenset({"affect"}), "full"), (frozenset({"affect", "landmarks"}), "follow")):
        assert wanted_of(batch, frames, reads, strength).affect.sum() == 3
    batch, frames = one_batch()
    assert wanted_of(batch, frames, frozenset({"affect"}), "follow").affect.sum() == 3, "intensities are not known"


def test_a_clip_is_called_by_who_shows_what():
    frames = grey([0] * 4, affect=np.array([NEUTRAL, JOY, NEUTRAL, NEUTRAL]), take=np.array([7, 7, 3, 3]))
    assert clip_name(Clip(0, np.array([0, 1])), frames) == "ada, joy, take 7"
    assert affect_of_take(frames, np.array([2, 3])) == NEUTRAL


def test_shown_clips_differ_in_affect_and_person():
    frames = make_frames(2)
    clips = [Clip(0, rows) for rows in np.arange(24).reshape(12, 2)]
    shown = shown_clips(clips, frames, 3, seed=0)
    assert {affect_of_take(frames, clip.rows) for clip in shown} == set(range(4)) - {NEUTRAL}
    assert len({int(frames.identity[clip.rows[0]]) for clip in shown}) == 3
    assert len(shown_clips(clips, frames, 99, seed=0)) == 12


def test_films_take_as_long_as_the_takes():
    frames = grey([0] * 4, time_s=np.array([0, 1, 5, 8], np.float32))
    assert film_rate([Clip(0, np.array([0, 1])), Clip(0, np.array([2, 3]))], frames, 21) == 10
    assert film_rate([Clip(0, np.array([0, 1]))], grey([0, 0]), 21) == Fraction(10)


def test_strips_need_a_picture_for_every_name():
    sources, strips = torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 4, 3, 32, 32)
    picture = figures.clip_strips(sources, strips, ["a", "b"], ["true", "x", "y"], list("1234"))
    assert picture.width > 5 * 128
    with pytest.raises(ValueError, match="strips must be"):
        figures.clip_strips(sources, strips, ["a", "b"], ["true", "x"], list("1234"))


def test_mocogans_figures_are_quoted():
    table = clips_reference()
    assert table.quoted == len(table.rows) == len(MOCOGAN_ACD)
    assert ("MoCoGAN, MUG", "0.201") in table.rows


@pytest.mark.parametrize(
    ("asked", "words"), [(ClipSettings(most=1), "clips.most=1"), (ClipSettings(strength="half"), "clips.strength=half")]
)
def test_options_that_cannot_be_used(asked, words):
    assert any(words in problem for problem in EvaluationSettings(run="a", clips=asked).problems())


def test_torn_takes_are_warned_of():
    def test_set(split: str, held_out: object):
        return SimpleNamespace(data=SimpleNamespace(config=SimpleNamespace(split=split), val=held_out))

    assert "dataset.split=frame divides takes between the splits" in torn_takes(test_set("frame", 1))[0]
    assert torn_takes(test_set("take", 1)) == torn_takes(test_set("frame", None)) == []
