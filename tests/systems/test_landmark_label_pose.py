"""Heads turned or rolled further than the training frames: measured by hand, warned of once, counted."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.synthetic import make_studio
from fexgan_lit.data.transforms import MIRROR
from fexgan_lit.expression import Expression
from fexgan_lit.runs.weights import load_weights, save_weights
from fexgan_lit.synthetic.base import FaceState
from fexgan_lit.systems.landmark_label.pose import PoseRange, head_turn
from tests.systems.helpers import NoisePairs
from tests.systems.landmark_label import awake, make_system, wanted


def heads(*poses):
    """Landmarks (B, 68, 2) of a head of solid points, turned by yaw, then rolled, in degrees; seen from far away."""
    solid = np.random.default_rng(0).uniform(-0.3, 0.3, (68, 3))
    solid[36], solid[45], solid[30] = (
        (-0.4, -0.2, 0),
        (0.4, -0.2, 0),
        (0, 0.1, 0.46),
    )  # the nose 1.15 half lengths before
    seen = []
    for yaw, roll in poses:
        a, b = math.radians(yaw), math.radians(roll)
        x = solid[:, 0] * math.cos(a) + solid[:, 2] * math.sin(a)
        y = solid[:, 1]
        seen.append(np.stack((x * math.cos(b) - y * math.sin(b), x * math.sin(b) + y * math.cos(b)), 1))
    return np.stack(seen).astype(np.float32)


def test_yaw_and_roll_of_a_solid_head():
    poses = [(0, 0), (30, 0), (-20, 15), (10, -40), (45, 30)]
    found = head_turn(torch.from_numpy(heads(*poses)))
    np.testing.assert_allclose(found, poses, atol=1e-3)
    smaller = head_turn(torch.from_numpy(0.3 * heads(*poses) + 0.4))
    np.testing.assert_allclose(smaller, poses, atol=1e-2)
    mirrored = heads(*poses)[:, MIRROR] * np.array((-1, 1), np.float32)
    np.testing.assert_allclose(head_turn(torch.from_numpy(mirrored)), -np.array(poses), atol=1e-3)


def trained():
    system = awake()
    system.pose_range.learn(heads((-10, -3), (12, 4), (0, 0)))
    return system


def ask(system, *poses, source=None):
    points = torch.from_numpy(heads(*poses))
    n = len(points)
    target = replace(wanted(n), landmarks=points)
    shown = None if source is None else Expression(landmarks=torch.from_numpy(heads(*source)))
    return system.synthesize(torch.zeros(n, 3, 32, 32), shown, target)


def test_a_head_within_the_range_or_near_it_is_no_matter():
    system = trained()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(system, (-14, 8), (16, -7), (0, 0), source=[(0, 0), (3, 3), (12, 0)])
    assert system.condition_warnings() == []


def test_heads_beyond_are_warned_of_once_and_counted():
    system = trained()
    with pytest.warns(
        UserWarning, match=r"2 of 3 wanted faces have a stronger yaw .*yaw 0 to 35, roll 0 to 20"
    ) as said:
        ask(system, (35, 0), (0, 20), (0, 0), source=[(0, 0), (0, 0), (-40, 0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(system, (50, 0))
    assert len(said) == 1
    assert "trained on yaw -10 to 12, roll -3 to 4" in str(said[0].message)
    first, second = system.condition_warnings()
    assert first.startswith("3 of 4 wanted faces")
    assert "yaw 0 to 50" in first
    assert second.startswith("1 of 3 source faces")
    assert system.condition_warnings() == [], "told once"


def test_nothing_is_said_before_the_range_is_known():
    system = awake()
    assert not system.pose_range.known
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(system, (60, 60))
    system.pose_range.learn(None)
    assert not system.pose_range.known


def test_the_range_travels_with_the_weights_and_older_weights_lack_it(tmp_path):
    system, other, older = trained(), make_system(), make_system()
    save_weights(system, tmp_path)
    load_weights(other, tmp_path)
    assert torch.equal(other.pose_range.limits, system.pose_range.limits)
    (tmp_path / "pose_range.safetensors").unlink()
    load_weights(older, tmp_path)
    assert not older.pose_range.known
    state = {name: value for name, value in system.state_dict().items() if "pose_range" not in name}
    older.load_state_dict(state)
    assert not PoseRange().known


def test_measuring_a_system_counts_the_faces_it_was_asked_for():
    system, batch = trained(), NoisePairs(batch=3).batch(0, 0)
    batch.source_landmarks, batch.target_landmarks = (
        torch.from_numpy(heads((0, 0), (0, 0), (turn, 0))) for turn in (0, 30)
    )
    with pytest.warns(UserWarning, match="1 of 3 wanted faces"):
        system.validation_step(batch)
    assert [notice[:22] for notice in system.condition_warnings()] == ["1 of 3 wanted faces ha"]


def test_the_yaw_of_drawn_heads_follows_the_true_one():
    studio = make_studio(DatasetConfig(image_size=32, identities=2, takes=1, frames=1))
    yaw = np.linspace(-30, 30, 7)
    for person in (0, 1):
        points = [studio.landmarks(person, FaceState(np.zeros((2, 17)), pose=(y, 0, 5)), 128) for y in yaw]
        found = head_turn(torch.from_numpy(np.stack(points).astype(np.float32))).numpy()
        assert np.corrcoef(found[:, 0], yaw)[0, 1] > 0.99
        assert 0.3 < np.polyfit(yaw, found[:, 0], 1)[0] < 0.5, "understated on flat faces, as stated"
        np.testing.assert_allclose(found[:, 1], 5, atol=0.5)
