"""SRVFs of landmark clips: exact inverses, the unit sphere, and motions on other faces."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.systems.motion_texture.srvf import (
    apply_motion,
    as_landmarks,
    as_vectors,
    displacement,
    exp_map,
    face_size,
    geodesic,
    inner,
    karcher_mean,
    log_map,
    motions_of,
    nearest,
    normalised,
    resample,
    size,
    srvf,
    tangent,
)
from fexgan_lit.utils.errors import UserError


def curves(count=6, points=31, seed=0):
    """Smooth random curves (count, points, 136) of landmark vectors, moving by a tenth of a face."""
    g = torch.Generator().manual_seed(seed)
    t = torch.linspace(0, 1, points)[:, None]
    start, first, second = torch.randn(3, count, 1, 136, generator=g)
    return start / 12 + 0.01 * (t * first + (math.pi * t).sin() * second)


def points_on_sphere(count=6, seed=0):
    return srvf(curves(count, seed=seed))[0]


def test_curves_come_back_from_their_srvf():
    given = curves()
    q, length = srvf(given)
    assert q.shape == (6, 30, 136)
    torch.testing.assert_close(given[:, :1] + displacement(q, length), given, atol=1e-6, rtol=0)
    torch.testing.assert_close(length, given.diff(dim=1).norm(dim=2).sum(1))
    torch.testing.assert_close(inner(q, q).flatten(), torch.ones(6))
    # the place and the size of a curve are not part of its SRVF
    torch.testing.assert_close(srvf(3 * given + 1)[0], q, atol=1e-4, rtol=1e-4)
    still, none = srvf(given[:, :1].expand(-1, 31, -1))
    assert still.abs().max() == none.abs().max() == 0


def test_landmarks_and_vectors_are_two_views_of_one_face():
    landmarks = torch.rand(2, 68, 2)
    vectors = as_vectors(landmarks)
    assert torch.equal(vectors[:, :68], landmarks[..., 0])
    assert torch.equal(as_landmarks(vectors), landmarks)
    shape = normalised(5 * landmarks + 7)
    torch.testing.assert_close(shape, normalised(landmarks), atol=1e-5, rtol=0)
    assert as_landmarks(shape).mean(1).abs().max() < 1e-6
    torch.testing.assert_close(shape.norm(dim=1), torch.ones(2))


def test_a_motion_on_another_face_starts_with_exactly_that_face():
    q, length = srvf(curves())
    face = 100 + 40 * torch.rand(6, 68, 2)
    moved = apply_motion(q, length, face)
    assert moved.shape == (6, 31, 68, 2)
    assert torch.equal(moved[:, 0], face)
    assert not torch.allclose(moved[:, -1], face)
    # the motion that the other face makes is that of the first, in units of its own size
    travelled = (moved - face[:, None]) / face_size(face)[:, None]
    torch.testing.assert_close(as_vectors(travelled), displacement(q, length), atol=1e-5, rtol=0)
    still = apply_motion(q, torch.zeros(6), face)
    assert torch.equal(still, face[:, None].expand_as(still))
    half = apply_motion(q, length / 2, face)
    torch.testing.assert_close(half - face[:, None], (moved - face[:, None]) / 2, atol=1e-4, rtol=0)


def test_resampling_keeps_the_ends_and_spaces_points_by_arc_length_or_time():
    line = torch.tensor([0.0, 0.1, 0.3, 1.0])[:, None] * torch.tensor([3.0, 4.0])  # faster and faster
    by_length, by_time = resample(line, 11), resample(line, 7, by_arc_length=False)
    torch.testing.assert_close(by_length.diff(dim=0).norm(dim=1), torch.full((10,), 0.5))
    torch.testing.assert_close(by_time[::2], line)
    for made in (by_length, by_time):
        assert torch.equal(made[0], line[0])
        assert torch.equal(made[-1], line[-1])
    held = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    torch.testing.assert_close(resample(held, 5)[:, 0], torch.linspace(0, 1, 5))
    assert torch.equal(resample(torch.ones(4, 2), 5), torch.ones(5, 2)), "a still curve stays where it is"


@pytest.mark.parametrize("angle", [1e-3, 0.5, 3.0])
def test_exp_and_log_are_inverses_within_pi(angle):
    mean, v = points_on_sphere(1)[0], tangent(points_on_sphere(1)[0], torch.randn(4, 30, 136))
    v = angle * v / size(v)
    q = exp_map(mean, v)
    torch.testing.assert_close(inner(q, q).flatten(), torch.ones(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(geodesic(q, mean), torch.full((4,), angle), rtol=2e-3, atol=0)
    torch.testing.assert_close(log_map(mean, q), v, atol=1e-5 + 2e-4 * angle, rtol=2e-3)
    assert inner(log_map(mean, q), mean).abs().max() < 1e-5
    assert log_map(mean, mean).abs().max() == 0
    assert torch.equal(exp_map(mean, torch.zeros_like(mean)), mean)


def test_geodesics_are_a_metric_also_where_points_nearly_coincide():
    a, b, c = (points_on_sphere(5, seed=seed) for seed in (1, 2, 3))
    assert torch.equal(geodesic(a, b), geodesic(b, a))
    assert (geodesic(a, c) <= geodesic(a, b) + geodesic(b, c) + 1e-5).all()
    assert geodesic(a, a).abs().max() < 1e-6
    torch.testing.assert_close(geodesic(a, -a), torch.full((5,), math.pi))
    torch.testing.assert_close(geodesic(a, b), inner(a, b).flatten().acos(), atol=1e-4, rtol=0)
    # to first order, the distance is that in the tangent space
    mean = a[0]
    near = exp_map(mean, 1e-2 * tangent(mean, b) / size(tangent(mean, b)))
    assert geodesic(near, mean).tolist() == pytest.approx([1e-2] * 5, rel=1e-3)


def test_no_gradient_is_nan_where_points_coincide():
    mean = points_on_sphere(1)[0]
    v = torch.zeros(2, 30, 136, requires_grad=True)
    q = exp_map(mean, tangent(mean, v))
    (geodesic(q, mean).sum() + log_map(mean, q).abs().sum()).backward()
    assert v.grad.isfinite().all()


def test_the_karcher_mean_is_nearest_to_all_points():
    q = points_on_sphere(40)
    mean = karcher_mean(q, tolerance=1e-4)
    assert float(size(log_map(mean, q).mean(0))) < 1e-4
    cost = geodesic(q, mean).square().mean()
    for other in (q.mean(0) / size(q.mean(0)), exp_map(mean, 0.05 * tangent(mean, q[0]))):
        assert cost <= geodesic(q, other).square().mean() + 1e-7
    # of two points it lies in the middle
    middle = karcher_mean(q[:2], tolerance=1e-5)
    torch.testing.assert_close(geodesic(middle, q[:2]), geodesic(*q[:2]).expand(2) / 2, rtol=1e-3, atol=0)


def test_the_nearest_motion_is_found_in_blocks(monkeypatch):
    from fexgan_lit.systems.motion_texture import srvf as module

    real = points_on_sphere(20)
    drawn = torch.cat((points_on_sphere(6, seed=9), real[3:5]))
    distance, index = nearest(drawn, real)
    every = torch.stack([geodesic(one, real) for one in drawn])
    torch.testing.assert_close(distance, every.amin(1), atol=1e-5, rtol=1e-4)
    assert index.tolist() == every.argmin(1).tolist()
    assert distance[-2:].max() < 1e-5
    monkeypatch.setattr(module, "_BLOCK", 40)
    assert torch.equal(nearest(drawn, real)[1], index)


AFFECTS = ("joy", "neutral")


def takes(*strengths, affect=0, intensity=True, neutral=False):
    """Frames of one take per list of strengths; the landmarks move by a hundredth of the strength in one direction."""
    rng = np.random.default_rng(0)
    face, way = rng.normal(size=(2, 68, 2)).astype(np.float32)
    level = np.concatenate([np.asarray(each, np.float32) for each in strengths])
    take = np.repeat(np.arange(len(strengths)), [len(each) for each in strengths])
    labels = np.where(neutral & (level == 0), 1, affect)
    return FrameSet(
        np.zeros((len(level), 8, 8, 3), np.uint8), np.arange(len(level)), labels, np.zeros(len(level), np.int64),
        level if intensity else None, AFFECTS, ("nora",), landmarks=face + 0.01 * level[:, None, None] * way, take=take,
    )  # fmt: skip


def test_motions_run_from_neutral_to_the_apex():
    up_and_down = [0.0, 0.3, 0.9, 1.0, 0.4, 0.0]
    for known in (True, False):  # without intensities the landmarks tell the apex
        made = motions_of(takes(up_and_down, intensity=known), 30)
        assert made.q.shape == (1, 30, 136)
        assert made.affect.tolist() == [0]
        assert made.rows[0].tolist() == [0, 1, 2, 3]
        assert made.left_out == {}
    straight, full = made.length, motions_of(takes([0, 1.0]), 30).length
    torch.testing.assert_close(straight, full, rtol=0.05, atol=0)


def test_takes_without_a_motion_are_named_with_the_reason():
    data = takes([0, 1.0], [1.0], [0.7, 1.0], [0.0, 0.0])
    made = motions_of(data, 30)
    assert len(made.q) == 1
    assert made.left_out == {
        "have a single frame": ["nora/joy"],
        "do not start neutral": ["nora/joy"],
        "do not move away from their first frame": ["nora/joy"],
    }
    with pytest.raises(UserError, match=r"no take .*1 show a neutral face throughout \(nora/neutral\).*start neutral"):
        motions_of(takes([0.0, 0.5], affect=1), 30)
    # labels tell it where there are no intensities
    assert len(motions_of(takes([0, 0.5, 1.0], intensity=False, neutral=True), 30).q) == 1
    with pytest.raises(UserError, match="1 do not start neutral"):
        motions_of(takes([1.0, 0.0], intensity=False, neutral=True), 30)


def test_frames_without_landmarks_affects_or_takes_are_refused():
    data = takes([0, 1.0])
    with pytest.raises(UserError, match=r"the frames have no landmarks.*model\.part=texture"):
        motions_of(replace(data, landmarks=None), 30)
    with pytest.raises(UserError, match="the frames have no affects"):
        motions_of(replace(data, affects=("unlabelled",)), 30)
    with pytest.raises(UserError, match="this data set has no takes"):
        motions_of(replace(data, take=None), 30)
