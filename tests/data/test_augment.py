from __future__ import annotations

import os
import re

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from fexgan_lit import load
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.transforms import MIRROR, PairAugmentation, PairPipeline, crop
from fexgan_lit.utils.errors import UserError
from tests.conftest import TINY, run_train


def coordinates(pairs, length):
    """(2B, L, L, 3) uint8 frames holding the row and the column of each pixel; blue marks targets."""
    pixels = np.zeros((2 * pairs, length, length, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.indices((length, length))
    pixels[pairs:, ..., 2] = 255
    return pixels


def test_source_and_target_are_cropped_and_flipped_alike():
    pairs = 64
    out, _ = PairAugmentation(16)(coordinates(pairs, 20), (0, 1))
    source, target = out[:pairs], out[pairs:]
    assert out.shape == (128, 16, 16, 3)
    assert (source[..., :2] == target[..., :2]).all()
    assert (source[..., 2] == 0).all()
    assert (target[..., 2] == 255).all()
    flipped = source[:, 0, 0, 1] > source[:, 0, -1, 1]
    assert 0.25 < flipped.mean() < 0.75
    top, left = source[:, 0, 0, 0], np.minimum(source[:, 0, 0, 1], source[:, 0, -1, 1])
    assert set(top.tolist()) == set(left.tolist()) == {0, 1, 2, 3, 4}
    # Crop and flip are drawn apart from each other.
    assert abs(np.corrcoef(flipped, left)[0, 1]) < 0.4
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.4


def test_equal_keys_give_equal_pixels_whatever_came_before():
    pixels = coordinates(8, 20)
    one, other = PairAugmentation(16), PairAugmentation(16)
    one(pixels, (9, 9))
    assert (one(pixels, (0, 3))[0] == other(pixels, (0, 3))[0]).all()
    assert (one(pixels, (0, 3))[0] != one(pixels, (0, 4))[0]).any()


def test_a_row_does_not_depend_on_the_size_of_the_batch():
    augment = PairAugmentation(16)
    few, _ = augment(coordinates(2, 20), (5,))
    many, _ = augment(coordinates(6, 20), (5,))
    assert (few[:2] == many[:2]).all()


@pytest.mark.parametrize(("flip", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_flip_is_an_option(flip, share):
    out = PairAugmentation(16, flip)(coordinates(16, 16), (0,))[0][:16]
    assert (out[:, 0, 0, 1] > out[:, 0, -1, 1]).mean() == share


def test_jitter_changes_colours_alike_in_both_frames():
    grey = np.full((32, 16, 16, 3), 100, np.uint8)
    plain, out = (PairAugmentation(16, jitter=j)(grey, (0,))[0] for j in (0.0, 0.2))
    assert (plain == 100).all()
    levels = out[:, 0, 0, 0]
    assert (levels[:16] == levels[16:]).all()
    assert len(set(levels.tolist())) > 8
    assert np.abs(levels.astype(int) - 100).max() <= 0.2 * 255 + 0.2 * 120


def test_load_size_is_that_of_fexgan():
    sizes = [DatasetConfig(image_size=size, augmentation="fexgan").load_size for size in (64, 128, 256)]
    assert sizes == [72, 143, 286]
    assert DatasetConfig(image_size=128).load_size == 128


def test_landmarks_follow_crop_and_flip_and_change_names_in_the_mirror():
    pairs, length, size = 32, 20, 16
    place = np.random.default_rng(0).integers(3, 17, (68, 2))  # pixels that every crop keeps
    pixels = np.zeros((2 * pairs, length, length, 3), np.uint8)
    pixels[:, place[:, 1], place[:, 0]] = 255
    points = np.broadcast_to((2 * (place + 0.5) / length - 1).astype(np.float32), (2 * pairs, 68, 2)).copy()
    out, moved = PairAugmentation(size)(pixels, (4,), points=points)
    found = np.rint((moved + 1) * size / 2 - 0.5).astype(int)
    rows = np.arange(2 * pairs)[:, None]
    inside = ((found >= 0) & (found < size)).all(-1)
    assert inside.mean() > 0.8
    clipped = np.clip(found, 0, size - 1)
    assert (out[rows, clipped[..., 1], clipped[..., 0], 0][inside] == 255).all()
    flipped = moved[:, 0, 0] != moved[0, 0, 0]
    assert flipped.any()  # crop or flip moved them


def test_the_mirror_maps_left_points_to_right_ones():
    assert sorted(MIRROR.tolist()) == list(range(68))
    assert (MIRROR[MIRROR] == np.arange(68)).all()
    same = {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}
    assert set(np.flatnonzero(np.arange(68) == MIRROR).tolist()) == same


def test_the_part_of_a_process_is_cropped_as_in_the_whole_batch():
    whole, _ = PairAugmentation(16)(coordinates(6, 20), (5,))
    part, _ = PairAugmentation(16)(coordinates(2, 20), (5,), first=4)
    assert (part[:2] == whole[4:6]).all()


def test_flips_alone_keep_every_pixel_and_mirror_both_frames():
    pairs, length = 64, 6
    pixels = coordinates(pairs, length)
    points = np.random.default_rng(1).uniform(-1, 1, (2 * pairs, 68, 2)).astype(np.float32)
    out, moved = PairAugmentation()(pixels, (3, 1), points=points)
    flipped = out[:, 0, 0, 1] == length - 1
    assert 0.25 < flipped.mean() < 0.75
    assert (flipped[:pairs] == flipped[pairs:]).all()
    assert (out[flipped] == pixels[flipped, :, ::-1]).all()
    assert (out[~flipped] == pixels[~flipped]).all()
    assert (moved[~flipped] == points[~flipped]).all()
    assert (moved[flipped][:, 36, 0] == -points[flipped][:, 45, 0]).all()  # the corners of the eyes change places
    assert (moved[flipped][:, 36, 1] == points[flipped][:, 45, 1]).all()
    assert (pixels == coordinates(pairs, length)).all(), "the frames given are not changed"


def test_flips_are_reproducible_row_by_row_and_an_option():
    pixels = coordinates(6, 4)
    whole = PairAugmentation()(pixels, (5,))[0]
    part = PairAugmentation()(pixels[[4, 5, 10, 11]], (5,), first=4)[0]
    assert (part[:2] == whole[4:6]).all()
    for probability, share in ((0.0, 0.0), (1.0, 1.0)):
        out, none = PairAugmentation(None, probability)(pixels, (0,))
        assert (out[:, 0, 0, 1] == 3).mean() == share
        assert none is None


def test_flips_need_no_larger_frames():
    assert DatasetConfig(image_size=64, augmentation="flip").load_size == 64
    assert DatasetConfig(augmentation="flip").problems() == []


def noise(pairs, length):
    return np.random.default_rng(2).integers(0, 256, (2 * pairs, length, length, 3), dtype=np.uint8)


def test_pixels_are_those_of_albumentations():
    """Crop, flip and jitter with the numbers drawn, one transform after the other."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A

    pairs, length, size = 16, 23, 16
    augment, pixels = PairAugmentation(size, jitter=0.3), noise(pairs, length)
    draws = augment.draw((7, 1), pairs, length)
    ours, _ = augment(pixels, (7, 1))
    tables = draws.tables()
    for frame, done in enumerate(ours):
        row = frame % pairs
        top, left = draws.corner[row].tolist()
        theirs = A.RandomCrop(size, size).apply(pixels[frame], crop_coords=(left, top, left + size, top + size))
        theirs = A.HorizontalFlip().apply(theirs) if draws.flip[row] else theirs
        assert (crop(pixels, draws)[frame] == theirs).all()
        factor, added = float(draws.contrast[row]), float(draws.brightness[row])
        theirs = A.RandomBrightnessContrast().apply(theirs, alpha=factor, beta=added)
        assert (done == theirs).all()
        assert (tables[row][crop(pixels, draws)[frame]] == theirs).all()
    assert (pixels == noise(pairs, length)).all(), "the frames given are not changed"


def test_tables_saturate():
    draws = PairAugmentation(8, jitter=1.0).draw((0,), 256, 8)
    tables = draws.tables()
    assert tables.min() == 0
    assert tables.max() == 255
    assert (np.diff(tables.astype(int), axis=1) >= 0).all()  # a level too bright does not begin at black again


@pytest.mark.parametrize("augment", [PairAugmentation(None, 0.3), PairAugmentation(16, 0.3, 0.2)])
def test_draws_of_a_pair_depend_on_its_place_alone(augment):
    whole = augment.draw((3, 2, 0, 9), 12, 20)
    for first, pairs in ((0, 4), (4, 4), (8, 4), (5, 7)):
        part, mine = augment.draw((3, 2, 0, 9), pairs, 20, first), slice(first, first + pairs)
        for name in ("corner", "flip", "contrast", "brightness"):
            values = getattr(whole, name)
            assert values is None or (getattr(part, name) == values[mine]).all(), name


def test_draws_are_uniform_and_independent_of_each_other():
    pairs, jitter = 4000, 0.2
    draws = PairAugmentation(16, 0.3, jitter).draw((11,), pairs, 19)
    for axis in (0, 1):
        np.testing.assert_allclose(np.bincount(draws.corner[:, axis]) / pairs, 0.25, atol=0.03)
    assert abs(draws.flip.mean() - 0.3) < 0.03
    share = np.stack([(draws.contrast - 1) / jitter, draws.brightness / (255 * jitter)])  # (2, B) in -1..1
    assert np.abs(share).max() <= 1
    quarters = np.stack([np.histogram(row, 4, (-1, 1))[0] for row in share])
    np.testing.assert_allclose(quarters / pairs, 0.25, atol=0.03)
    related = np.corrcoef(np.column_stack([draws.corner, draws.flip, *share]).T)
    assert np.abs(related - np.eye(5)).max() < 0.06
    other = PairAugmentation(16, 0.3, jitter).draw((12,), pairs, 19)
    assert abs(np.corrcoef(draws.flip, other.flip)[0, 1]) < 0.06


def test_frames_smaller_than_the_crop_are_refused():
    with pytest.raises(ValueError, match="frames of 12 px are smaller than the crop of 16"):
        PairAugmentation(16)(coordinates(2, 12), (0,))


FIVE = [
    {"_target_": "albumentations.HorizontalFlip", "p": 0.5},
    {"_target_": "albumentations.Affine", "rotate": [-10, 10], "scale": [0.9, 1.1], "p": 1.0},
    {"_target_": "albumentations.OneOf", "transforms": [
        {"_target_": "albumentations.GaussNoise", "p": 1.0}, {"_target_": "albumentations.MotionBlur", "p": 1.0},
    ]},
    {"_target_": "albumentations.ColorJitter", "p": 0.7},
    {"_target_": "albumentations.RandomResizedCrop", "size": [32, 32], "scale": [0.8, 1.0], "p": 1.0},
]  # fmt: skip


def test_a_list_changes_both_frames_of_a_pair_alike_and_pairs_apart():
    one = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    out, _ = PairPipeline(FIVE, 32)(one.repeat(16, 0), (4,))
    assert (out[:8] == out[8:]).all()
    assert len({frame.tobytes() for frame in out[:8]}) == 8


def test_a_list_depends_on_the_key_and_the_place_in_the_batch_alone():
    pixels, pipeline = noise(6, 32), PairPipeline(FIVE, 32)
    whole, _ = pipeline(pixels, (5, 0, 3))
    pipeline(pixels, (9,))
    part, _ = pipeline(pixels[[4, 5, 10, 11]], (5, 0, 3), first=4)
    assert (part[:2] == whole[4:6]).all()
    assert (part[2:] == whole[10:]).all()
    assert (pipeline(pixels, (5, 0, 4))[0] != whole).any()
    assert (pixels == noise(6, 32)).all(), "the frames given are not changed"


def test_landmarks_are_those_of_the_presets_where_the_geometry_is():
    pixels, points = noise(4, 20), np.random.default_rng(1).uniform(-1, 1, (8, 68, 2)).astype(np.float32)
    flip = [{"_target_": "albumentations.HorizontalFlip", "p": 1.0}]
    ours, theirs = (
        augment(pixels, (0,), points=points) for augment in (PairPipeline(flip, 20), PairAugmentation(None, 1))
    )
    assert (ours[0] == theirs[0]).all()
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


def test_left_and_right_change_places_in_every_mirror_and_in_no_turn():
    points = np.random.default_rng(1).uniform(-1, 1, (2, 68, 2)).astype(np.float32)

    def moved(*names):
        transforms = [{"_target_": f"albumentations.{name}", "p": 1.0} for name in names]
        return PairPipeline(transforms, 20)(noise(1, 20), (0,), points=points)[1]

    np.testing.assert_allclose(moved("VerticalFlip"), (points * [1, -1])[:, MIRROR], atol=1e-5)
    np.testing.assert_allclose(moved("HorizontalFlip", "VerticalFlip"), -points, atol=1e-5)
    np.testing.assert_allclose(moved("Transpose"), points[..., ::-1][:, MIRROR], atol=1e-5)
    np.testing.assert_allclose(moved("ToGray"), points, atol=1e-5)


def test_landmarks_follow_a_rotation_of_the_picture():
    place = np.array([[20, 40], [44, 40], [32, 20]])
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    for x, y in place:
        pixels[:, y - 1 : y + 2, x - 1 : x + 2] = 255
    points = np.zeros((2, 68, 2), np.float32)
    points[:, :3] = 2 * (place + 0.5) / 64 - 1
    turn = [{"_target_": "albumentations.Affine", "rotate": [25, 25], "p": 1.0}]
    out, moved = PairPipeline(turn, 64)(pixels, (0,), points=points)
    for x, y in np.rint((moved[1, :3] + 1) * 32 - 0.5).astype(int):
        assert out[1, y, x, 0] > 200
    assert np.abs(moved - points).max() > 0.1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"_target_": "albumentations.HorizontalFlp"},
            r"HorizontalFlp is not a transform.*Did you mean albumentations.Hor",
        ),
        ({"_target_": "albumentations.core.utils.os.system"}, "is not a transform"),
        ({"_target_": "albumentations.BboxParams"}, "is not a transform"),
        ({"_target_": "os.system", "command": "true"}, "os.system is refused"),
        ({"_target_": "albumentations.OneOf", "transforms": [{"_target_": "os.system"}]}, "os.system is refused"),
        ({"_target_": "albumentations.Affine", "rotat": [1, 2]}, r"Affine cannot be built: Argument\(s\) 'rotat'"),
        ({"_target_": "albumentations.HorizontalFlip", "p": 3}, "HorizontalFlip cannot be built"),
        ({"_target_": "albumentations.RandomCrop"}, "RandomCrop cannot be built"),
        ({"_target_": "albumentations.CenterCrop3D", "size": [3, 3, 3]}, "CenterCrop3D needs image"),
        ({"_target_": "albumentations.MaskDropout"}, "MaskDropout needs mask"),
        ({"_target_": "albumentations.Mosaic"}, "Mosaic needs mosaic_metadata"),
        ("albumentations.HorizontalFlip", "expected a mapping with _target_"),
        ({"_target_": "albumentations.OneOf", "transforms": ["Blur"]}, "expected mappings with _target_"),
        ({"_target_": "albumentations.BasicTransform"}, r"BasicTransform cannot be built: \w+"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(entry, words):
    good = {"_target_": "albumentations.HorizontalFlip"}
    problems = DatasetConfig(image_size=32, augmentation=[good, entry]).problems()
    assert len(problems) == 1
    assert "os.system" in problems[0] or problems[0].startswith("dataset.augmentation[1]")
    assert re.search(words, problems[0])


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ({"_target_": "albumentations.CenterCrop", "height": 20, "width": 24}, r"shape \(20, 24, 3\)"),
        ({"_target_": "albumentations.ToFloat", "p": 1.0}, "type float32"),
        ({"_target_": "albumentations.RandomCrop", "height": 64, "width": 64}, "cannot be applied to images of 32 px"),
    ],
)
def test_an_output_of_another_size_or_type_is_refused(transform, words):
    with pytest.raises(UserError, match=words):
        PairPipeline([transform], 32)
    if "height" in transform and transform["height"] < 32:
        back = {"_target_": "albumentations.Resize", "height": 32, "width": 32}
        assert PairPipeline([transform, back], 32)(noise(1, 32), (0,))[0].shape == (2, 32, 32, 3)


@pytest.mark.parametrize("name", ["ElasticTransform", "GridDistortion", "OpticalDistortion", "PiecewiseAffine"])
def test_no_landmark_is_lost_where_pixels_wander(name):
    wanders = PairPipeline([{"_target_": f"albumentations.{name}", "p": 1.0}], 32)
    points = np.random.default_rng(0).uniform(-0.9, 0.9, (4, 68, 2)).astype(np.float32)
    moved = wanders(noise(2, 32), (0,), points=points)[1]
    assert np.isfinite(moved).all()
    assert 0 < np.abs(moved - points).mean() < 0.5
    with pytest.raises(UserError, match=r"\d+ of 139 points were returned"):
        PairPipeline([{"_target_": f"albumentations.{name}", "p": 1.0, "keypoint_remapping_method": "mask"}], 32)


def test_no_list_of_nothing_and_no_other_word():
    for given in ([], "mirror", {"_target_": "albumentations.HorizontalFlip"}):
        (problem,) = DatasetConfig(augmentation=given).problems()
        assert problem.startswith("dataset.augmentation=")


def test_albumentations_does_not_call_home():
    PairPipeline(FIVE[:1], 16)
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


def test_a_run_with_five_transforms_goes_on_to_the_same_weights(tmp_path):
    listed = ",".join(
        f"{{_target_: albumentations.{name}}}"
        for name in (
            "HorizontalFlip", "Affine, rotate: [-10, 10]", "RandomBrightnessContrast", "GaussNoise", "MotionBlur",
        )
    )  # fmt: skip
    # the decay knows the last iteration; without rows there are no curves to draw
    same = ("callbacks.linear_decay=null", "trainer.log_every=1000")
    options = (*TINY, *same, f"dataset.augmentation=[{listed}]")
    run_train(tmp_path, *options, "trainer.max_steps=6", "hydra.run.dir=whole")
    run_train(tmp_path, *options, "trainer.max_steps=3", "hydra.run.dir=parts")
    run_train(tmp_path, "run=parts", "trainer.max_steps=6")
    whole, parts = (
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert OmegaConf.load(tmp_path / "whole" / "config.yaml").trust == []
    load(tmp_path / "parts")
