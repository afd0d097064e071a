from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fexgan_lit.data.reference import telling_rows
from fexgan_lit.metrics.judges.affect import JudgeNet, JudgeRecipe, load_or_train_judge, train_judge
from fexgan_lit.metrics.judges.fitting import augment
from fexgan_lit.utils.errors import UserError
from tests.metrics.faces import AFFECTS, make_frames


def test_learns_both_heads_and_says_how_well(judge):
    assert judge.affect_accuracy > 0.9  # chance is 0.25
    assert judge.identity_accuracy > 0.9  # chance is 0.33
    assert judge.n_held_out == 36
    assert judge.n_train == 72
    assert "36 held-out frames" in judge.describe()


def test_reads_larger_and_smaller_images_alike(judge):
    frames = make_frames(2, seed=5)
    rows = np.arange(len(frames))
    for size in (16, 32, 64, 128):
        reading = judge.read(frames.floats(rows, size), batch_size=7)
        assert reading.affect_logits.shape == (24, 4)
        assert (reading.affect.numpy() == frames.affect).mean() > 0.85


def test_batches_do_not_matter(judge):
    images = make_frames(2, seed=5).floats(np.arange(24), 32)
    torch.testing.assert_close(judge.read(images, 5).features, judge.read(images, 24).features, rtol=1e-4, atol=1e-4)


def test_frozen_judge_stays_in_evaluation_mode(judge):
    holder = torch.nn.ModuleList([judge.net])
    holder.train()
    assert not any(module.training for module in judge.net.modules())
    assert not any(parameter.requires_grad for parameter in judge.net.parameters())
    fresh = JudgeNet(2, 2, 32, (8, 8, 8, 8))
    assert fresh.train().training


def test_same_seed_same_judge_and_global_random_state_untouched(small_recipe):
    frames, recipe = make_frames(2), replace(small_recipe, min_images=96, max_images=96)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = train_judge(frames, None, image_size=32, seed=4, recipe=recipe)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    second = train_judge(frames, None, image_size=32, seed=4, recipe=recipe)
    other = train_judge(frames, None, image_size=32, seed=5, recipe=recipe)
    states = [judge.net.state_dict() for judge in (first, second, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["affect_head.weight"], states[2]["affect_head.weight"])


def test_without_held_out_frames_the_accuracy_is_unknown(small_recipe):
    judge = train_judge(make_frames(1), None, image_size=32, recipe=replace(small_recipe, min_images=96, max_images=96))
    assert judge.affect_accuracy is None
    assert judge.identity_accuracy is None
    assert judge.n_held_out == 0
    assert 0.0 <= judge.train_affect_accuracy <= 1.0
    assert "unknown without held-out frames" in judge.describe()


def test_held_out_frames_of_other_people_are_refused():
    other = replace(make_frames(1), identities=("x", "y", "z"))
    with pytest.raises(ValueError, match="other affects or identities"):
        train_judge(make_frames(1), other, image_size=32)


def test_weak_frames_are_left_out_but_neutral_and_unknown_ones_stay():
    frames = make_frames(2)  # 24 frames, 6 an affect
    assert len(telling_rows(frames, 0.3)) == 24
    intensity = np.full(24, 0.9, np.float32)
    intensity[frames.affect == AFFECTS.index("neutral")] = 0.0
    intensity[0:2] = 0.1, np.nan
    kept = telling_rows(replace(frames, intensity=intensity), 0.3)
    assert set(range(24)) - set(kept.tolist()) == {0}


def test_an_affect_with_weak_frames_only_keeps_them():
    frames = make_frames(2)
    weak = np.where(frames.affect == 2, 0.1, 1.0).astype(np.float32)
    assert len(telling_rows(replace(frames, intensity=weak), 0.5)) == 24


def test_augmentation_keeps_shape_and_range_and_repeats_with_its_generator():
    images = make_frames(1).floats(np.arange(12), 32)
    one, two = (augment(images, JudgeRecipe(), torch.Generator().manual_seed(1)) for _ in range(2))
    assert one.shape == images.shape
    assert one.abs().max() <= 1.0
    assert torch.equal(one, two)
    assert not torch.allclose(one, images, atol=0.05)


@pytest.fixture
def cached(tmp_path, small_recipe):
    recipe = replace(small_recipe, min_images=96, max_images=96)

    def get(key="data", seed=0, image_size=32):
        steps: list[int] = []
        judge = load_or_train_judge(
            make_frames(2), make_frames(1, seed=1), image_size=image_size, cache_dir=tmp_path, key=key, seed=seed,
            recipe=recipe, progress=lambda done, total: steps.append(done),
        )  # fmt: skip
        return judge, len(steps)

    return get


def test_found_again_only_for_the_same_data_seed_and_size(cached):
    first, steps = cached()
    assert steps == 4  # 96 images in batches of 24, the number of frames
    again, steps_again = cached()
    assert steps_again == 0
    assert again.from_cache
    assert (again.affect_accuracy, again.seed, again.recipe) == (first.affect_accuracy, first.seed, first.recipe)
    assert (again.affects, again.identities) == (first.affects, first.identities)
    images = make_frames(1).floats(np.arange(12), 32)
    assert torch.equal(first.read(images).features, again.read(images).features)
    for other in ({"key": "other"}, {"seed": 1}, {"image_size": 64}):
        assert cached(**other)[1] > 0


def test_loading_leaves_the_random_state(cached):
    cached()
    before = torch.get_rng_state()
    assert cached()[0].from_cache
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("damage", ["truncate", "flip", "facts", "no facts", "nan facts"])
def test_a_broken_judge_is_trained_again(cached, tmp_path, damage):
    cached()
    folder = next((tmp_path / "judges").iterdir())
    weights, facts = folder / "judge.safetensors", folder / "judge.json"
    content = weights.read_bytes()
    if damage == "truncate":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "facts":
        facts.write_text(facts.read_text()[:40])
    elif damage == "nan facts":
        facts.write_text(json.dumps([1, 2]))
    else:
        facts.unlink()
    judge, steps = cached()
    assert steps > 0
    assert not judge.from_cache
    assert cached()[1] == 0  # and stored whole again
    assert sorted(path.name for path in folder.iterdir()) == ["judge.json", "judge.safetensors"]


def test_a_cache_that_cannot_be_written_is_said_before_training(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(UserError, match="cache folder"):
        load_or_train_judge(make_frames(1), None, image_size=32, cache_dir=blocked, key="k")
