from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fexgan_lit.metrics.frechet import Unavailable
from fexgan_lit.metrics.suite import TrainingSuite
from tests.metrics.faces import AFFECTS, make_frames


def logits_for(classes: list[int], count: int = 4) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), count).float() * 3


@pytest.fixture
def frames():
    return make_frames(2, seed=7)


@pytest.fixture
def batch(frames):
    images = frames.floats(np.arange(24), 32)
    return images, torch.from_numpy(frames.affect), torch.from_numpy(frames.identity)


def test_identity_transform(judge, batch):
    images, affect, identity = batch
    suite = TrainingSuite(AFFECTS, judge)
    suite.update(images, images, affect, identity, affect)
    values = suite.compute()
    assert values["ssim"] == pytest.approx(1.0, abs=1e-6)
    assert math.isinf(values["psnr"])
    assert values["fd_judge"] == pytest.approx(0.0, abs=1e-5)
    assert values["judge_affect_accuracy"] == values["real_judge_affect_accuracy"] > 0.9
    assert values["judge_identity_accuracy"] == values["real_judge_identity_accuracy"] > 0.9
    assert "d_real_binary" not in values  # no discriminator was shown


def test_known_pixel_error(judge, batch):
    images, affect, identity = batch
    suite = TrainingSuite(AFFECTS, judge)
    target = images * 0.5
    suite.update(target + 0.02, target, affect, identity, affect)  # 0.01 on the scale of [0, 1]
    assert suite.compute()["psnr"] == pytest.approx(40.0, abs=1e-3)


def test_table1_on_hand_made_logits(batch):
    images, _, identity = (part[:4] for part in batch)
    suite = TrainingSuite(AFFECTS, None)
    suite.update(
        images, images, torch.tensor([0, 1, 2, 3]), identity, torch.tensor([3, 2, 1, 0]),
        real_logits=torch.tensor([[0.2], [0.4], [0.9], [-0.1]]),  # 3 of 4; three of them would pass for probabilities
        real_affect_logits=logits_for([3, 2, 1, 1]),  # 3 of 4
        fake_logits=torch.tensor([0.1, 0.2, 0.3, -5.0]),  # 1 of 4
        fake_affect_logits=logits_for([0, 1, 1, 1]),  # 2 of 4
    )  # fmt: skip
    values = suite.compute()
    assert [values[f"d_{n}"] for n in ("real_binary", "real_affect", "fake_binary", "fake_affect")] == [
        0.75, 0.75, 0.25, 0.5,
    ]  # fmt: skip


def test_binary_accuracy_when_all_logits_look_like_probabilities(batch):
    images, affect, identity = (part[:2] for part in batch)
    suite = TrainingSuite(AFFECTS, None)
    suite.update(images, images, affect, identity, affect, real_logits=torch.tensor([0.1, 0.4]))
    assert suite.compute()["d_real_binary"] == 1.0


def test_confusion_counts_asked_by_judged(judge, batch):
    images, affect, identity = batch
    suite = TrainingSuite(AFFECTS, judge)
    assert suite.confusion() is None
    verdict = judge.read(images).affect
    asked = (affect + (torch.arange(24) % 2)) % 4
    suite.update(images, images, asked, identity, affect)
    expected = torch.zeros(4, 4, dtype=torch.long)
    for row, column in zip(asked.tolist(), verdict.tolist(), strict=True):
        expected[row, column] += 1
    assert torch.equal(suite.confusion(), expected)
    assert suite.compute()["judge_affect_accuracy"] == pytest.approx(float(expected.trace()) / 24)


def test_batches_add_up_and_reset_forgets(judge, batch):
    images, affect, identity = batch
    noisy = (images + 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    whole, parts = TrainingSuite(AFFECTS, judge), TrainingSuite(AFFECTS, judge)
    parts.update(images, images, affect, identity, affect)
    parts.reset()
    whole.update(noisy, images, affect, identity, affect)
    for rows in torch.arange(24).split(7):
        parts.update(noisy[rows], images[rows], affect[rows], identity[rows], affect[rows])
    assert parts.compute() == pytest.approx(whole.compute(), rel=1e-4)
    assert torch.equal(parts.confusion(), whole.confusion())


def test_missing_metrics_have_reasons_and_present_ones_recipes(judge, batch):
    images, affect, identity = batch
    suite = TrainingSuite(AFFECTS, judge, split="val", seed=11, fid=Unavailable("no weights here"))
    suite.update(images, images, affect, identity, affect)
    assert "fid" not in suite.compute()
    assert suite.notes()["fid"] == "absent: no weights here"
    assert "only 24 images" in suite.notes()["fd_judge"]
    recipes = suite.recipes()
    assert set(suite.compute()) <= set(recipes)
    assert all("n=24, split=val, seed=11" in line for line in recipes.values())
    assert "not FID" in recipes["fd_judge"]
    assert "no judge" in TrainingSuite(AFFECTS, None).notes()["judge"]


def test_one_image_gives_no_frechet_distance(judge, batch):
    images, affect, identity = (part[:1] for part in batch)
    suite = TrainingSuite(AFFECTS, judge)
    suite.update(images, images, affect, identity, affect)
    assert "fd_judge" not in suite.compute()
    assert "two images" in suite.notes()["fd_judge"]
