from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fexgan_lit.errors import UserError
from fexgan_lit.metrics import real_side
from fexgan_lit.metrics.availability import Unavailable
from fexgan_lit.metrics.distribution_report import metric_name, metric_names
from fexgan_lit.metrics.extractors import JudgeExtractor
from fexgan_lit.metrics.frechet import feature_frechet_distance
from fexgan_lit.metrics.image_quality import ImageQuality
from fexgan_lit.metrics.lpips import Lpips
from fexgan_lit.metrics.pixels import psnr, ssim
from fexgan_lit.metrics.real_side import read_frames, real_statistics
from tests.metrics.faces import make_frames


@pytest.fixture(scope="module")
def frames():
    return make_frames(4, seed=7)


@pytest.fixture(scope="module")
def extractor(judge):
    return JudgeExtractor(judge.net)


def feed(quality: ImageQuality, frames, change=lambda images: images, rows: np.ndarray | None = None) -> ImageQuality:
    rows = np.arange(len(frames)) if rows is None else rows
    for chunk in np.array_split(rows, max(1, len(rows) // 10)):
        target = frames.floats(chunk, 32)
        quality.update(change(target), target)
    return quality


def real(extractor, frames):
    return {"judge": read_frames(extractor, frames, np.arange(len(frames)), 32)}


def test_identity_transform(extractor, frames):
    quality = feed(ImageQuality({"judge": extractor}, Lpips()), frames)
    values = quality.compute(real(extractor, frames))
    assert (values["ssim"], values["ms_ssim"], values["lpips"]) == pytest.approx((1.0, 1.0, 0.0), abs=1e-6)
    assert values["psnr"] == 100.0
    assert values["fd_judge"] == pytest.approx(0.0, abs=1e-5)
    assert (values["precision_judge"], values["recall_judge"], values["coverage_judge"]) == (1.0, 1.0, 1.0)
    assert values["is_judge"] == values["real_is_judge"] > 2.0  # four affects, told apart, but never with certainty
    assert values["kid_judge"] <= 0 < feed_far(extractor, frames)["kid_judge"]  # unbiased: below zero on itself
    assert set(values) == set(quality.recipes()) | {
        f"{name}_std" for name in ("kid_judge", "is_judge", "real_is_judge")
    }


def feed_far(extractor, frames):
    far = feed(ImageQuality({"judge": extractor}), frames, lambda images: -images)
    return far.compute(real(extractor, frames))


def test_batches_add_up_to_the_direct_figures(extractor, frames, judge):
    def darker(images):
        return images * 0.5 - 0.3

    quality = feed(ImageQuality({"judge": extractor}), frames, darker)
    values = quality.compute(real(extractor, frames))
    images = frames.floats(np.arange(len(frames)), 32)
    assert values["ssim"] == pytest.approx(float(ssim(darker(images), images).mean()), abs=1e-6)
    assert values["psnr"] == pytest.approx(float(psnr(darker(images), images).mean()), abs=1e-4)
    expected = feature_frechet_distance(judge.read(images).features, judge.read(darker(images)).features)
    assert values["fd_judge"] == pytest.approx(expected, rel=1e-4)
    assert quality.n == len(frames)
    assert quality.per_image()["ssim"].shape == (len(frames),)


def test_features_read_already_are_taken(extractor, frames):
    quality = ImageQuality({"judge": extractor})
    target = frames.floats(np.arange(8), 32)
    other = extractor(-target)
    quality.update(target, target, read={"judge": other})
    torch.testing.assert_close(quality.generated_side("judge").features, other.features)


@pytest.mark.parametrize(("value", "which"), [(float("nan"), 0), (float("inf"), 1)])
def test_pixels_that_are_no_numbers_are_named(frames, value, which):
    quality = ImageQuality()
    feed(quality, frames, rows=np.arange(10))
    images = [frames.floats(np.arange(6), 32).clone() for _ in range(2)]
    images[which][4, :, 3, 5] = value
    images[which][5, 0, 0, 0] = value
    side = ("generated", "true")[which]
    with pytest.raises(UserError, match=f"2 of the 6 {side} images .* row 4 of the batch .image 14., with 3 of 3072"):
        quality.update(*images)
    assert quality.n == 10  # nothing of the batch was taken in


def test_what_is_absent_has_a_reason_and_no_number(extractor, frames):
    given = {"judge": extractor, "inception": Unavailable("there are no weights")}
    quality = feed(ImageQuality(given, Unavailable("no backbone")), frames, rows=np.arange(3))
    values = quality.compute(real(extractor, frames))
    notes = quality.notes()
    assert notes["lpips"] == "absent: no backbone"
    assert notes["fid"].startswith("absent, and with it kid, inception_score, precision")
    assert notes["fid"].endswith("there are no weights")
    assert not {"lpips", "fid", "kid", "precision", "precision_judge"} & set(values)
    assert notes["precision_judge"] == "absent: neighbourhoods of 5 need 6 images a side; there are 3"
    assert notes["fd_judge"].startswith("only 3 images for 128 feature dimensions")
    assert "kid_judge has no such bias" in notes["fd_judge"]
    assert "subsets of 3" in notes["kid_judge"]
    assert quality.compute({}).keys() == {"ssim", "ms_ssim", "psnr"}
    assert "no statistics of the real frames" in quality.notes()["fd_judge"]


def test_one_image_and_none(extractor, frames):
    quality = ImageQuality({"judge": extractor})
    with pytest.raises(UserError, match="no image was generated"):
        quality.compute({})
    feed(quality, frames, rows=np.arange(1))
    values = quality.compute(real(extractor, frames))
    assert "fd_judge" not in values
    assert "two images a side" in quality.notes()["fd_judge"]


def test_memory_keeps_the_cap_but_moments_take_all(extractor, frames):
    quality = feed(ImageQuality({"judge": extractor}, cap=15), frames)
    side = quality.generated_side("judge")
    assert (len(side.features), len(side.probabilities), side.moments.n) == (15, 15, len(frames))
    assert "first 15 images a side" in quality.recipes()["kid_judge"]


def test_names_are_those_of_the_literature_on_inception_only():
    assert metric_name("inception", "frechet") == "fid"
    assert metric_name("judge", "frechet") == "fd_judge"
    assert metric_names("inception")[:3] == ("fid", "kid", "inception_score")


def test_real_statistics_are_read_once(extractor, frames, tmp_path):
    told = []

    def look(key="pack-a/train", rows=None, size=32, cap=1000):
        return real_statistics(
            extractor, frames, rows, size, tmp_path, key, lambda done, n: told.append((done, n)), cap
        )

    first = look()
    assert told[-1] == (48, 48)
    told.clear()
    again = look()
    assert again.from_cache
    assert not told
    torch.testing.assert_close(again.moments.covariance, first.moments.covariance, rtol=0, atol=0)
    assert torch.equal(again.features, first.features)
    assert torch.equal(again.probabilities, first.probabilities)
    others = (look("pack-b/train"), look(rows=np.arange(10)), look(size=64), look(cap=5))
    assert not any(other.from_cache for other in others)
    assert len(others[3].features) == 5
    assert len(list((tmp_path / "statistics").iterdir())) == 5


@pytest.mark.parametrize("damage", ["cut", "foreign", "shape"])
def test_broken_and_foreign_files_are_computed_again(extractor, frames, tmp_path, damage):
    first = real_statistics(extractor, frames, None, 32, tmp_path, "pack")
    (path,) = (tmp_path / "statistics").iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "foreign":
        save_file(load_file(path), path, metadata={"key": "another", "n": "48"})
    else:
        identity = real_side._identity(extractor, frames, np.arange(48), 32, "pack", real_side.ROW_CAP)
        save_file({"total": torch.zeros(3)}, path, metadata={"key": identity, "n": "48"})
    again = real_statistics(extractor, frames, None, 32, tmp_path, "pack")
    assert not again.from_cache
    assert torch.equal(again.features, first.features)
    assert real_statistics(extractor, frames, None, 32, tmp_path, "pack").from_cache


def test_no_frames_and_no_place_are_the_users(extractor, frames, tmp_path):
    with pytest.raises(UserError, match="no real frames"):
        real_statistics(extractor, frames, np.zeros(0, np.int64), 32, tmp_path, "pack")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be stored"):
        real_statistics(extractor, frames, None, 32, tmp_path / "file", "pack")
