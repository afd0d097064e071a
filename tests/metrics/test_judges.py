from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fexgan_lit.metrics.judges import affect as affect_judges
from fexgan_lit.metrics.judges import geometry as geometry_training
from fexgan_lit.metrics.judges import identity as identity_training
from fexgan_lit.metrics.judges.external import ExternalJudgeSettings
from fexgan_lit.metrics.judges.files import own_judge
from fexgan_lit.metrics.judges.panel import (
    OwnJudges,
    held_out_rows,
    judge_probabilities,
    load_or_train_judges,
    load_own_judges,
)
from fexgan_lit.utils.errors import UserError
from tests.metrics.faces import AFFECTS, make_frames, make_moving_frames
from tests.metrics.test_own_judges import Corners, script, settings


@pytest.fixture(autouse=True)
def brief(monkeypatch, small_recipe):
    """Judges of a few steps."""
    few = {"working_size": 32, "widths": (8, 8, 8, 8), "min_images": 144, "max_images": 144, "batch_size": 32}
    monkeypatch.setattr(affect_judges, "JudgeRecipe", lambda **given: type(small_recipe)(**few | given))
    for module, name in ((geometry_training, "GeometryRecipe"), (identity_training, "IdentityRecipe")):
        recipe = getattr(module, name)
        monkeypatch.setattr(module, name, lambda recipe=recipe, **given: recipe(**few | given))


def bench_of(tmp_path, train, held_out, **more):
    told: list[str] = []
    bench = load_or_train_judges(
        train, held_out, image_size=32, cache_dir=tmp_path, key="k", progress=lambda name, *_: told.append(name), **more
    )
    return bench, told


def test_trains_every_judge_once_and_finds_them_again(tmp_path):
    train, held_out = make_moving_frames(48), make_moving_frames(24, seed=1)
    bench, told = bench_of(tmp_path, train, held_out)
    assert set(told) == {"affect", "geometry", "identity"}
    again, told_again = bench_of(tmp_path, train, held_out)
    assert told_again == []
    assert again.describe() == bench.describe()
    assert again.warnings() == bench.warnings()
    assert bench_of(tmp_path, train, held_out, seed=1)[1] != []
    images = held_out.floats(np.arange(5), 32)
    assert bench.affect_logits(images).shape == (5, 4)
    assert bench.aus(images).shape == (5, 17)
    assert bench.landmarks(images).shape == (5, 68, 2)
    torch.testing.assert_close(bench.embed(images).norm(dim=1), torch.ones(5))
    assert torch.equal(again.embed(images), bench.embed(images))


def test_prints_accuracy_calibration_and_seed(tmp_path):
    bench, _ = bench_of(tmp_path, make_moving_frames(48), make_moving_frames(24, seed=1), seed=3)
    affect, geometry, identity = bench.describe()
    assert affect.startswith("affect: judge trained on 48 frames (seed 3)")
    assert "calibration error" in affect
    assert "Brier" in affect
    assert bench.calibration.accuracy == pytest.approx(bench.affect.affect_accuracy)
    assert "landmarks off by" in geometry
    assert "Rank-1" in identity


def test_poor_judges_carry_a_warning_each(tmp_path):
    bench, _ = bench_of(tmp_path, make_moving_frames(48), make_moving_frames(24, seed=1))
    bench.affect.affect_accuracy, bench.identity.rank1 = 0.5, 0.6
    bench.geometry.au_errors = [0.9] * 17
    bench.geometry.landmark_error = 2 * bench.geometry.landmark_error_of_mean
    affect, units, landmarks, identity = bench.warnings()
    assert "50.0%" in affect
    assert "less than 90%" in affect
    assert "off by 0.900" in units
    assert "landmark errors are meaningless" in landmarks
    assert "60.0%" in identity
    bench.geometry.au_errors = [0.0] * 16 + [0.3]
    bench.geometry.landmark_error = 0.0
    assert [line for line in bench.warnings(floor=0.4) if "AU" in line] == [
        "AU45: the judge is no better than a constant; their errors are meaningless."
    ]
    assert len(bench.warnings(floor=0.4)) == 1


def test_good_judges_carry_none(tmp_path, judge):
    bench, _ = bench_of(tmp_path, make_frames(2), make_frames(2, seed=1))
    bench.affect, bench.identity.rank1 = judge, 0.95
    assert bench.warnings() == []


def test_without_held_out_frames_every_judge_says_so(tmp_path):
    bench, _ = bench_of(tmp_path, make_moving_frames(48), None)
    assert bench.calibration is None
    assert len(bench.warnings()) == 3
    assert all("not evaluated on held-out frames" in line for line in bench.warnings())


def test_data_without_geometry_or_with_one_person(tmp_path):
    frames = make_frames(2)
    alone = replace(frames, **{n: getattr(frames, n)[frames.identity == 0] for n in ("rows", "affect", "identity")})
    bench, told = bench_of(tmp_path, alone, alone)
    assert set(told) == {"affect"}
    images = frames.floats(np.arange(2), 32)
    assert (bench.aus(images), bench.landmarks(images), bench.embed(images)) == (None, None, None)
    assert "neither action units nor landmarks" in bench.describe()[1]
    assert "only one person" in bench.describe()[2]


def test_an_affect_without_frames_is_named(tmp_path):
    frames = make_frames(2)
    kept = frames.affect != AFFECTS.index("surprise")
    fewer = replace(frames, **{n: getattr(frames, n)[kept] for n in ("rows", "affect", "identity")})
    bench, _ = bench_of(tmp_path, fewer, make_frames(2, seed=1))
    assert bench.absent == ("surprise",)
    assert any("No training frame shows surprise" in line for line in bench.warnings())
    bench, _ = bench_of(tmp_path, make_frames(2), fewer)
    assert bench.unseen == ("surprise",)
    assert any("No held-out frame shows surprise" in line for line in bench.warnings())


def test_own_judges_take_the_places_and_are_measured(tmp_path):
    train, held_out = make_moving_frames(48), make_moving_frames(24, seed=1)

    class Bright(torch.nn.Module):
        def forward(self, images):
            return images.amax(dim=(1, 2, 3))[:, None]

    class Colours(torch.nn.Module):
        def forward(self, images):
            return images.amin(dim=(2, 3))

    declaration = ExternalJudgeSettings(input_size=32, range=[0.0, 1.0])
    own = OwnJudges(
        affect=own_judge(Corners((2, 1, 0, 3)), settings(classes=[AFFECTS[k] for k in (2, 1, 0, 3)])),
        aus=own_judge(Bright(), replace(declaration, classes=["AU12"])),
        identity=own_judge(Colours(), declaration, needs_classes=False),
    )
    bench, told = bench_of(tmp_path, train, held_out, own=own)
    assert set(told) == {"geometry"}  # still needed for landmarks
    aus = bench.aus(held_out.floats(np.arange(24), 32))
    assert np.corrcoef(aus[:, 8], held_out.aus[:, 8])[0, 1] > 0.9
    assert aus.isnan().sum() == 24 * 16
    assert np.isfinite(bench.units.au_errors[8])
    assert np.isnan(bench.units.au_errors[0])
    assert bench.units.au_error == pytest.approx(bench.units.au_errors[8])
    assert bench.units.au_error < bench.units.au_error_of_constant < 0.35  # about a quarter, of the one unit it knows
    assert not any("action units is off" in line for line in bench.warnings())
    bench.units.au_errors = [0.9] * 17
    assert any("action units is off by 0.900" in line for line in bench.warnings())
    assert bench.identity.rank1 > 0.9
    affect, units, landmarks, identity = bench.describe()
    assert "Corners, your own affect judge" in affect
    assert "off by" in units
    assert landmarks.startswith("landmarks: judge of")
    assert "Rank-1" in identity
    assert bench.affect.affect_accuracy < 0.9  # a square that roams says nothing
    assert "less than 90%" in bench.warnings()[0]


def test_own_judges_are_loaded_where_a_path_is_given(tmp_path):
    path = script(Corners(), tmp_path / "judge.pt")
    own = load_own_judges(affect=settings(path), aus=ExternalJudgeSettings(), identity=settings(path, classes=None))
    assert (own.affect.name, own.aus, own.identity.name) == ("judge.pt", None, "judge.pt")
    with pytest.raises(UserError, match=r"metrics\.au_judge\.classes: not given"):
        load_own_judges(aus=settings(path, classes=None))


def test_an_own_judge_that_does_not_fit_is_said_before_any_training(tmp_path):
    other = own_judge(Corners(), settings(classes=["joy", "neutral", "fear", "anger"]))
    told: list[str] = []
    with pytest.raises(UserError, match="does not know sadness, surprise"):
        load_or_train_judges(
            make_frames(1), None, image_size=32, cache_dir=tmp_path, key="k", own=OwnJudges(affect=other),
            progress=lambda name, *_: told.append(name),
        )  # fmt: skip
    assert told == []


def test_probabilities_and_truth_are_those_of_telling_frames(judge):
    intensity = np.ones(24, np.float32)
    intensity[np.flatnonzero(make_frames(2).affect == 0)[:2]] = 0.1
    frames = make_frames(2, seed=3, intensity=intensity)
    p, truth = judge_probabilities(judge, frames, 32)
    assert p.shape == (22, 4)
    torch.testing.assert_close(p.sum(1), torch.ones(22, dtype=torch.float64))
    assert (p.argmax(1) == truth).double().mean() > 0.9
    assert len(held_out_rows(frames, most=7)) == 7
