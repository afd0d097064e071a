"""Motions in `protocol=clips`: other landmarks in the frames of a clip, the linear ramp, and what motions are worth."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.evaluation.config import ClipSettings
from fexgan_lit.evaluation.measure import Scores
from fexgan_lit.evaluation.methods import Trained
from fexgan_lit.evaluation.protocols.clips import Clip
from fexgan_lit.evaluation.protocols.clips_report import score_clips
from fexgan_lit.evaluation.protocols.motions import (
    accuracy,
    distance_within_affect,
    drawn_motions,
    fit_classifier,
    generators,
    linear_ramps,
    motions_read,
    motions_table,
    redirected,
    redirections,
    variety,
)
from fexgan_lit.metrics.judges.panel import JudgePanel
from fexgan_lit.systems.motion_texture.srvf import apply_motion, displacement, geodesic, motions_of

AFFECTS = ("joy", "fear", "neutral")
STRENGTHS = np.array([0.0, 0.5, 1.0, 0.6, 0.0], np.float32)


def studio(takes=6, seed=0) -> FrameSet:
    """Takes of five frames of joy and fear, up and down along one way each, and a neutral take at the end."""
    rng = np.random.default_rng(0)
    face, *ways = rng.normal(size=(3, 68, 2)).astype(np.float32)
    rng = np.random.default_rng(seed + 1)
    landmarks, affect = [], []
    for take in range(2 * takes):
        way = ways[take % 2] + rng.normal(scale=0.2, size=(68, 2))
        landmarks.append(face + 0.3 * STRENGTHS[:, None, None] * way)
        affect += [take % 2] * 5
    landmarks.append(np.repeat(face[None], 5, 0))
    n = 5 * (2 * takes + 1)
    return FrameSet(
        np.zeros((n, 8, 8, 3), np.uint8), np.arange(n), np.array(affect + [2] * 5), np.zeros(n, np.int64),
        np.tile(STRENGTHS, 2 * takes + 1), AFFECTS, ("nora",), take=np.repeat(np.arange(2 * takes + 1), 5),
        landmarks=np.concatenate(landmarks).astype(np.float32),
    )  # fmt: skip


@dataclass
class Drawing:
    """A system that draws motions of the given affects from those of real takes."""

    says: tuple[int, ...] = (0, 1)
    moving_affects: tuple[str, ...] = ("joy", "fear")
    affects = AFFECTS
    settings = SimpleNamespace(steps=12, arc_length=True)

    def draw_motions(self, affect, generator=None):
        real = motions_of(studio(seed=5), 12)
        rows = [int((real.affect == self.says[int(k)]).nonzero()[n % 6]) for n, k in enumerate(affect)]
        return real.q[rows], real.length[rows]


def method(**known) -> Trained:
    return Trained("drawer", SimpleNamespace(system=Drawing(**known)))


TEST_SET = SimpleNamespace(frames=studio(seed=1), data=SimpleNamespace(train=studio()), split="val")


def test_a_clip_follows_another_motion_to_its_apex_and_back():
    frames = studio()
    clips = [Clip(0, np.arange(5)), Clip(0, np.arange(5, 10)), Clip(0, np.arange(60, 65))]
    motions = motions_of(frames, 12)
    q, length = motions.q[1], motions.length[1]  # fear, in a clip of joy
    moved = redirected(frames, clips, {0: (q, length)})
    points = torch.from_numpy(frames.landmarks[0])
    apex = apply_motion(q, length, points)[-1]
    assert np.array_equal(moved.landmarks[0], frames.landmarks[0]), "the first frame stays"
    np.testing.assert_allclose(moved.landmarks[2], apex, atol=1e-5)
    np.testing.assert_allclose(moved.landmarks[4], frames.landmarks[0], atol=1e-5)
    np.testing.assert_allclose(moved.landmarks[1], moved.landmarks[3], atol=0.05)
    assert np.array_equal(moved.landmarks[5:], frames.landmarks[5:]), "other clips stay"
    assert np.array_equal(frames.landmarks, studio().landmarks), "the given frames are not changed"


def test_the_ramp_is_the_straight_way_to_the_mean_apex():
    motions = motions_of(studio(), 12)
    ramps = linear_ramps(motions)
    assert ramps.affect.tolist() == [0, 1]
    way = displacement(ramps.q, ramps.length)
    torch.testing.assert_close(way[:, 6], way[:, -1] / 2, atol=1e-6, rtol=1e-4)
    mean = displacement(motions.q, motions.length)[motions.affect == 1, -1].mean(0)
    torch.testing.assert_close(way[1, -1], mean, atol=1e-6, rtol=1e-4)


def test_each_system_that_draws_motions_gets_two_more_rows():
    clips = [Clip(60, np.arange(5 * n, 5 * n + 5)) for n in (0, 1, 12)]
    made = redirections(method(), clips, TEST_SET, seed=0)
    assert set(made) == {"drawer, linear ramp", "drawer, drawn motion"}
    for frames in made.values():
        assert np.array_equal(frames.landmarks[60:], TEST_SET.frames.landmarks[60:]), "neutral clips stay"
        assert not np.allclose(frames.landmarks[2], TEST_SET.frames.landmarks[2])
    only_joy = redirections(method(moving_affects=("joy",)), clips, TEST_SET, seed=0)["drawer, drawn motion"]
    assert np.array_equal(only_joy.landmarks[5:10], TEST_SET.frames.landmarks[5:10])
    others = [method(moving_affects=()), Trained("x", SimpleNamespace(system=object()))]
    assert [m.system.moving_affects for m in generators([*others, method()])] == [("joy", "fear")]


CLIPS = [Clip(60, np.arange(5 * n, 5 * n + 5)) for n in (0, 1, 3, 12)]


def test_motions_are_read_from_the_frames_of_the_clips_alone():
    frames = studio()
    shown = torch.from_numpy(frames.landmarks[np.concatenate([clip.rows for clip in CLIPS])])
    read = motions_read(frames, CLIPS, shown, 12, by_arc_length=True)
    assert read.affect.tolist() == [0, 1, 1]
    torch.testing.assert_close(read.q, motions_of(frames, 12).q[[0, 1, 3]])
    assert motions_read(frames, CLIPS, shown[:1].expand(20, -1, -1), 12, by_arc_length=True).q.shape == (0, 12, 136)


def test_motions_of_the_wrong_affect_are_far_and_not_recognised():
    shown = torch.from_numpy(TEST_SET.frames.landmarks[np.concatenate([clip.rows for clip in CLIPS])])
    scores = [Scores("painter", landmarks=shown), Scores("still", landmarks=shown[:1].expand(20, -1, -1))]
    table = motions_table([method()], [*scores, Scores("unread"), Scores("painter")], CLIPS, TEST_SET, seed=0)
    rows = {row[0]: row[1:] for row in table.rows}
    number, length, distance, spread, recognised, teaches = rows["drawer"]
    assert float(length) == pytest.approx(float(motions_of(studio(seed=5), 12).length[:6].mean()), abs=0.05)
    assert number == "100"
    assert float(distance) < 0.6 < geodesic(*motions_of(studio(), 12).q[:2]).item()
    assert float(spread) > 0.05
    assert float(recognised) == float(teaches) == 1
    assert rows["true motions (training split)"][4] == "–"
    assert float(rows["true motions (training split)"][5]) == 1
    assert rows["linear ramp to the mean apex"][0] == "2"
    assert "1 show a neutral face throughout" in table.notes[0]
    assert rows["read from painter"][::2][:2] == ("3", "0.000"), "its motions are those of the measured split"
    assert rows["read from painter"][4] == "1.000"
    assert rows["read from still"] == ("0", "–", "–", "–", "–", "–")
    assert "read from unread" not in rows
    without = motions_table([], scores[:1], CLIPS, TEST_SET, seed=0)
    assert [row[0] for row in without.rows[2:]] == ["read from painter"], "no system draws motions"
    # motions of the other affect
    real, train = motions_of(TEST_SET.frames, 12), motions_of(TEST_SET.data.train, 12)
    wrong = drawn_motions(Drawing(says=(1, 0)), [0, 1, 2], 4, seed=0)
    assert wrong.affect.tolist() == [0] * 4 + [1] * 4, "there is no motion of neutral"
    assert distance_within_affect(wrong.q, wrong.affect, real) > float(distance) + 0.2
    assert accuracy(fit_classifier(train.q, train.affect, 3, seed=0), wrong.q, wrong.affect) == 0


def test_a_generator_that_repeats_itself_has_no_variety():
    q = motions_of(studio(), 12).q
    assert variety(q[:1].expand(4, -1, -1), torch.zeros(4)) == pytest.approx(0, abs=1e-5)
    assert np.isnan(variety(q[:2], torch.arange(2)))


class Painting(Drawing):
    """A system whose frames are as bright as their landmarks are far apart."""

    reads, device = frozenset({"landmarks"}), torch.device("cpu")

    def synthesize(self, source, source_expression, target):
        return target.landmarks.std((1, 2))[:, None, None, None].expand_as(source).clamp(max=1)


class Brightness:
    def embed(self, images, batch_size=256):
        return images.mean(dim=(1, 2, 3))[:, None]


class NoAffect:
    def read(self, images, batch_size=256):
        return SimpleNamespace(affect_logits=torch.zeros(len(images), 3))


def test_the_clips_of_the_ramp_and_of_drawn_motions_are_scored_beside_the_driven_ones():
    method = Trained("drawer", SimpleNamespace(system=Painting(), folder="run", run=SimpleNamespace(seed=1)))
    test_set = SimpleNamespace(**vars(TEST_SET), image_size=8)
    settings = SimpleNamespace(batch_size=16, clips=ClipSettings(), seed=0)
    clips = [Clip(60, np.arange(5 * n, 5 * n + 5)) for n in (0, 1, 12)]
    judges = JudgePanel(NoAffect(), identity=Brightness())
    scores = {s.name: s for s in score_clips([method], clips, test_set, judges, settings, lambda name: None)}
    assert list(scores)[2:] == ["drawer", "drawer, linear ramp", "drawer, drawn motion"]
    driven, ramp, drawn = (scores[name].columns["acd"] for name in list(scores)[2:])
    assert not np.allclose(driven[:2], ramp[:2])
    assert not np.allclose(ramp[:2], drawn[:2])
    assert driven[2] == ramp[2] == drawn[2] == pytest.approx(0, abs=1e-6), "a neutral clip has no motion"
    assert scores["drawer, linear ramp"].run == "run"
