"""Which runs are seeds of one another, which can stand in one table, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.evaluation.config import EvaluationSettings, TestDataSettings
from fexgan_lit.evaluation.measure import check_finite
from fexgan_lit.evaluation.methods import Trained, tell_apart
from fexgan_lit.evaluation.test_set import check_comparable, moved
from fexgan_lit.inference.loaded_system import LoadedSystem
from fexgan_lit.runs.config import TrainerSettings
from fexgan_lit.systems.fexgan.config import FExGANSettings
from fexgan_lit.systems.fexgan.losses import FExGANLossSettings
from fexgan_lit.systems.optimizers import DualOptimizerSettings
from fexgan_lit.utils.errors import UserError

FACTS = {"affects": ["joy", "fear"], "identities": ["a", "b"], "train_frames": 10, "val_frames": 4}


def method(
    name: str = "fexgan",
    *,
    seed: int = 0,
    beta: float = 1.0,
    precision: str = "auto",
    start: str | None = None,
    **data: object,
) -> Trained:
    settings = SimpleNamespace(
        model=FExGANSettings(image_size=32), loss=FExGANLossSettings(beta=beta), optimizer=DualOptimizerSettings(),
        dataset=replace(DatasetConfig(name="folder", image_size=32), **{k: v for k, v in data.items() if k != "facts"}),
        trainer=TrainerSettings(max_steps=10, precision=precision), callbacks={}, seed=seed,
        data=data.get("facts", FACTS), start=start,
    )  # fmt: skip
    return Trained(name, LoadedSystem(None, settings, Path(f"outputs/{name}_{seed}")))  # type: ignore[arg-type]


def test_runs_that_differ_in_the_seed_alone_are_one_row():
    named = tell_apart([method(seed=1), method(seed=2), method(seed=3, root="elsewhere")])
    assert [c.name for c in named] == ["fexgan"] * 3


def test_runs_of_other_settings_are_told_apart_by_what_differs():
    named = tell_apart([method(), method(beta=3.0), method(seed=5, beta=3.0), method("stargan")])
    assert [c.name for c in named] == ["fexgan", "fexgan (loss.beta=3.0)", "fexgan (loss.beta=3.0)", "stargan"]
    named = tell_apart([method(), method(seed=1, precision="float32")])
    assert [c.name for c in named] == ["fexgan", "fexgan (trainer.precision=float32)"]
    named = tell_apart([method(), method(start="cartoon")])
    assert [c.name for c in named] == ["fexgan", "fexgan (start=cartoon)"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"split_seed": 3}, "dataset.split_seed 3 instead of 0"),
        ({"image_size": 64}, "dataset.image_size 64 instead of 32"),
        ({"facts": FACTS | {"affects": ["joy", "anger"]}}, "data.affects"),
        ({"facts": FACTS | {"identities": [f"person_{i}" for i in range(240)]}}, "'person_5', ... instead of"),
    ],
)
def test_runs_on_other_data_cannot_stand_in_one_table(other, words):
    with pytest.raises(UserError, match="runs on different data") as refused:
        check_comparable([method(), method(**other)])
    assert words in str(refused.value)


def test_batch_and_augmentation_may_differ():
    check_comparable([method(), method(batch_size=7, augmentation="fexgan", flip=0.1)])


def test_frames_that_no_run_was_trained_on_need_the_same_affects_and_size_alone():
    few = FACTS | {"train_frames": 3, "framing": [0, 0, 1]}
    check_comparable([method(), method(split_seed=3, expressions="varied", facts=few)], same_frames=False)
    for other in ({"image_size": 64}, {"facts": FACTS | {"affects": ["joy", "anger"]}}):
        with pytest.raises(UserError, match="runs on different data"):
            check_comparable([method(), method(**other)], same_frames=False)


def test_other_options_of_the_data_are_those_that_change_the_frames():
    assert not TestDataSettings(root="elsewhere", workers=1, facekit="kit").other
    place = TestDataSettings(expressions="varied", studio_seed=1)
    assert place.other == {"expressions": "varied", "studio_seed": 1}
    config = moved(DatasetConfig(identities=3), place)
    assert (config.identities, config.expressions, config.studio_seed) == (3, "varied", 1)
    with pytest.raises(UserError, match="frames of dataset=ferg are not drawn here"):
        moved(DatasetConfig(name="ferg"), place)


def test_faces_that_are_no_numbers_are_named():
    images = torch.zeros(4, 3, 8, 8)
    images[1, 0, 0, 0] = torch.nan
    images[3] = torch.inf
    with pytest.raises(UserError, match="fexgan: 2 of 4 generated images"):
        check_finite(images, "fexgan")
    check_finite(torch.zeros(2, 3, 8, 8), "fexgan")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no run is given; expected a run folder, run=RUN_DIR"),
        ({"run": "a", "split": "test"}, "split=test"),
        ({"run": "a", "pairs": 1}, "pairs=1"),
        ({"runs": ["a", "b"], "names": ["x"]}, "names: 1 for 2 runs"),
        ({"run": "a", "bootstrap": 3}, "bootstrap=3"),
    ],
)
def test_options_that_cannot_be_used(options, words):
    assert any(words in problem for problem in EvaluationSettings(**options).problems())
