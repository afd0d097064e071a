from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.metrics.judges.fitting import shifted
from fexgan_lit.metrics.judges.geometry import (
    GeometryRecipe,
    can_read_geometry,
    load_or_train_geometry_judge,
    train_geometry_judge,
)
from tests.metrics.faces import make_frames, make_moving_frames

SMALL = GeometryRecipe(
    working_size=32, widths=(8, 16, 16, 32), min_images=4800, max_images=4800, batch_size=32, light=0.0
)
BRIEF = replace(SMALL, min_images=96, max_images=96)


@pytest.fixture(scope="module")
def geometry():
    return train_geometry_judge(make_moving_frames(192), make_moving_frames(48, seed=1), image_size=32, recipe=SMALL)


def test_learns_what_shows_and_says_what_does_not(geometry):
    errors = dict(zip(ACTION_UNITS, geometry.au_errors, strict=True))
    of_mean = dict(zip(ACTION_UNITS, geometry.au_errors_of_mean, strict=True))
    assert errors[12] < 0.4 * of_mean[12]
    assert of_mean[12] == pytest.approx(0.25, abs=0.06)  # |u - 1/2| of uniform u
    assert geometry.unlearnt_units == (45,)  # drawn by lot; those that never move are not counted
    assert geometry.landmark_error < 0.3 * geometry.landmark_error_of_mean
    assert geometry.au_error < geometry.au_error_of_constant
    assert (geometry.n_train, geometry.n_held_out) == (192, 48)
    assert "on 48 held-out frames" in geometry.describe()


def test_reads_units_in_range_and_landmarks_in_place(geometry):
    frames = make_moving_frames(30, seed=2)
    aus, landmarks = geometry.read(frames.floats(np.arange(30), 32), batch_size=7)
    assert aus.shape == (30, 17)
    assert aus.min() >= 0
    assert aus.max() <= 1
    assert np.corrcoef(aus[:, 8], frames.aus[:, 8])[0, 1] > 0.9
    assert landmarks.shape == (30, 68, 2)
    centres = landmarks.mean(dim=1).numpy() - frames.landmarks.mean(axis=1)
    assert np.abs(centres).mean() < 0.1  # the squares lie up to 0.5 from the middle
    assert not np.allclose(frames.landmarks.mean(axis=(0, 1)), frames.landmarks[0].mean(axis=0), atol=0.1)


def test_shifted_pictures_move_as_their_landmarks_do():
    image = torch.full((1, 3, 32, 32), -1.0)
    image[..., 8:16, 16:24] = 1.0  # centre at x = 2 * 20 / 32 - 1, y = 2 * 12 / 32 - 1
    shift = torch.tensor([[0.125, -0.0625]])
    moved = shifted(image, shift)[0, 0] > 0
    y, x = (2 * (points.double() + 0.5).mean() / 32 - 1 for points in moved.nonzero(as_tuple=True))
    assert (x.item(), y.item()) == pytest.approx((0.25 - 2 * 0.125, -0.25 + 2 * 0.0625))


@pytest.mark.parametrize("missing", ["aus", "landmarks"])
def test_learns_what_the_data_knows(missing):
    train, held_out = (replace(make_moving_frames(48, seed), **{missing: None}) for seed in (0, 1))
    judge = train_geometry_judge(train, held_out, image_size=32, recipe=BRIEF)
    reading = judge.read(held_out.floats(np.arange(4), 32))
    assert (reading.aus is None, reading.landmarks is None) == (missing == "aus", missing == "landmarks")
    assert (judge.au_error is None, judge.landmark_error is None) == (missing == "aus", missing == "landmarks")
    assert judge.n_held_out == 48
    assert ("action units" in judge.describe(), "landmarks" in judge.describe()) == (
        missing != "aus", missing != "landmarks",
    )  # fmt: skip


def test_without_geometry_there_is_nothing_to_learn():
    assert not can_read_geometry(make_frames(1))
    with pytest.raises(ValueError, match="action units or landmarks"):
        train_geometry_judge(make_frames(1), None, image_size=32)


def test_without_held_out_frames_its_errors_are_unknown():
    judge = train_geometry_judge(make_moving_frames(48), None, image_size=32, recipe=BRIEF)
    assert (judge.au_error, judge.au_error_of_constant, judge.landmark_error) == (None, None, None)
    assert "unknown" in judge.describe()


def test_same_seed_same_judge_and_global_random_state_untouched():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = (
        train_geometry_judge(make_moving_frames(48), None, image_size=32, seed=seed, recipe=BRIEF) for seed in (4, 4, 5)
    )
    assert torch.equal(before, torch.get_rng_state())
    states = [judge.net.state_dict() for judge in (first, second, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["au_head.weight"], states[2]["au_head.weight"])
    assert not any(parameter.requires_grad for parameter in first.net.parameters())


def test_found_again_until_the_geometry_changes(tmp_path):
    train, held_out = make_moving_frames(48), make_moving_frames(24, seed=1)

    def get(train=train, held_out=held_out):
        steps: list[int] = []
        judge = load_or_train_geometry_judge(
            train, held_out, image_size=32, cache_dir=tmp_path, key="k", recipe=BRIEF,
            progress=lambda done, total: steps.append(done),
        )  # fmt: skip
        return judge, len(steps)

    first, steps = get()
    again, steps_again = get()
    assert (steps, steps_again, again.from_cache) == (3, 0, True)  # 96 images by 32
    assert (again.au_errors, again.landmark_error, again.recipe) == (
        first.au_errors, first.landmark_error, first.recipe,
    )  # fmt: skip
    images = train.floats(np.arange(5), 32)
    assert torch.equal(first.read(images).aus, again.read(images).aus)
    assert torch.equal(first.read(images).landmarks, again.read(images).landmarks)
    assert get(train=replace(train, aus=train.aus / 2))[1] > 0
    assert get(held_out=replace(held_out, landmarks=held_out.landmarks / 2))[1] > 0
