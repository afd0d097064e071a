"""`protocol=unseen`: who is new, which frames a system is tuned on, the tuning, and from trained runs to files."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from fexgan_lit import evaluate
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.pairs import FixedPairLoader, FixedPairs
from fexgan_lit.data.rendered import render_new_people
from fexgan_lit.evaluation.config import EvaluationSettings, UnseenSettings
from fexgan_lit.evaluation.methods import CEILING, FLOOR, open_methods
from fexgan_lit.evaluation.protocols import unseen
from fexgan_lit.evaluation.protocols.augmented_data import chosen_frames
from fexgan_lit.evaluation.protocols.unseen import (
    TuningBatches,
    WithFrames,
    joined,
    row_name,
    tune,
    tuning_and_test_rows,
    unseen_people,
)
from fexgan_lit.evaluation.report import write_findings
from fexgan_lit.evaluation.test_set import TestSet as Ground
from fexgan_lit.metrics.groups import IdentityMetrics
from fexgan_lit.metrics.judges import panel as judges
from fexgan_lit.metrics.suite import Answer
from fexgan_lit.utils.errors import UserError
from tests.metrics.faces import AFFECTS, make_frames

NEUTRAL = AFFECTS.index("neutral")


def no_stage(_: str):
    return lambda *_: None


@pytest.fixture(scope="module")
def data():
    config = DatasetConfig(image_size=32, identities=2, takes=2, frames=1, batch_size=4, split="take", workers=1)
    module = FrameDataModule(config)
    module.setup()
    return module


def test_frames_for_tuning_come_in_turns_and_are_never_measured():
    frames = make_frames(6)
    tuning, test = tuning_and_test_rows(frames, 5, seed=0)
    assert sorted(tuning) == [0, 1, 2]
    for who, rows in tuning.items():
        assert (frames.identity[rows] == who).all()
        assert frames.affect[rows[0]] == NEUTRAL, "the first frame of a person is neutral"
        assert len(set(frames.affect[rows[:4]].tolist())) == 4, "then every affect in turn"
    assert not set(test.tolist()) & {row for rows in tuning.values() for row in rows}
    assert len(test) == 3 * 4 * 3, "half of the frames of every affect"


def test_a_take_is_never_divided_between_tuning_and_measurement():
    frames = make_frames(6)
    take = np.tile(np.repeat([0, 1], 3), 12) + 2 * np.repeat(np.arange(12), 6)
    tuning, test = tuning_and_test_rows(replace(frames, take=take), 12, seed=0)
    assert not set(take[test]) & {t for rows in tuning.values() for t in take[rows].tolist()}


def test_frames_that_do_not_show_the_affect_are_no_frames_to_tune_on():
    intensity = np.where(np.arange(72) % 2, 1.0, 0.1).astype(np.float32)
    frames = make_frames(6, intensity=intensity)
    tuning, _ = tuning_and_test_rows(frames, 4, seed=0)
    rows = np.concatenate(list(tuning.values()))
    assert (intensity[rows[frames.affect[rows] != NEUTRAL]] == 1.0).all()


def test_more_frames_than_there_are_is_a_mistake_with_a_remedy():
    with pytest.raises(UserError, match=r"ada has 12 frames to tune on.*at least 20.*unseen\.frames=\[1,12\]"):
        tuning_and_test_rows(make_frames(6), 20, seed=0)
    frames = make_frames(6)
    fewer = chosen_frames(frames, np.flatnonzero((frames.identity != 1) | (np.arange(len(frames)) % 6 < 4)))
    with pytest.raises(UserError, match=rf"{frames.identities[1]} has 8 frames"):  # and not of one after the other
        tuning_and_test_rows(fewer, 20, seed=0)


def test_new_people_come_after_the_cast_of_the_run(data):
    frames, who = unseen_people(data, 2, no_stage)
    assert not set(frames.identities) & set(data.identities)
    assert len(frames.identities) == 2
    assert len(frames) == 2 * 7 * 2
    assert "after the 2 of the run" in who
    assert frames.aus is not None
    assert frames.landmarks is not None
    assert len(set(render_new_people(data, 1).identities) & set(frames.identities)) == 1, "the first is always the same"


def test_people_that_were_held_out_are_the_new_ones():
    val = make_frames(4)
    held = SimpleNamespace(config=SimpleNamespace(split="identity", name="ferg"), val=val)
    frames, who = unseen_people(held, 2, no_stage)
    assert set(frames.identity.tolist()) == {0, 1}
    assert "ferg's validation split" in who
    seen = SimpleNamespace(config=DatasetConfig(name="ferg", split="take"), val=val)
    with pytest.raises(UserError, match=r"has seen every person of ferg \(dataset\.split=take\).*split=identity"):
        unseen_people(seen, 2, no_stage)


def test_one_frame_makes_pairs_with_itself_beside_pairs_of_the_run(data):
    frames = render_new_people(data, 1)
    batches = TuningBatches(frames, np.array([5]), data, UnseenSettings(steps=3, keep=0.25), seed=0)
    assert len(list(batches)) == len(batches) == 3
    batch = next(iter(batches))
    assert len(batch) == unseen.BATCH
    assert batch.source_row[:12].tolist() == batch.target_row[:12].tolist() == [5] * 12
    assert torch.equal(batch.source[:12], batch.target[:12])
    assert not torch.equal(batch.source[12:], batch.target[12:]), "a quarter are pairs of the training frames"
    assert len(next(iter(TuningBatches(frames, np.array([5]), data, UnseenSettings(keep=0.0), 0)))) == unseen.BATCH
    assert joined(batch, replace(batch, source_aus=None)).source_aus is None


def test_every_person_has_a_function(data):
    def grey(level: float):
        return lambda source, shown, wanted: torch.full_like(source, level)

    frames = render_new_people(data, 2)
    first, second = (int(np.flatnonzero(frames.identity == k)[0]) for k in (0, 1))
    pairs = FixedPairs(np.array([second, first, second]), np.array([second, first, second]))
    batch = next(iter(FixedPairLoader(frames, pairs, 3, 32)))
    loaded = SimpleNamespace(system=SimpleNamespace(affects=data.affects))
    made = WithFrames("x", loaded, {0: grey(-1.0), 1: grey(0.5)}).answer(batch)
    assert made.mean((1, 2, 3)).tolist() == [0.5, -1.0, 0.5]


def test_who_is_drawn_as_a_person_of_the_run_is_not_recognised(data):
    class Colours:
        """An identity judge that sees the mean colours of the four quarters."""

        def embed(self, images, batch_size=256):
            cells = torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
            return torch.nn.functional.normalize(cells - cells.mean(1, keepdim=True), dim=1)

        def describe(self):
            return "a stub"

    frames = render_new_people(data, 2)
    there = Ground(data, frames, FixedPairs(np.arange(28), np.arange(28)), "val", 28)
    sources = unseen.embeddings_among_known(Colours(), there)
    assert sources.identity[sources.gallery].unique().tolist() == [0, 1, 2, 3], "two new people and two of the run"
    group = IdentityMetrics(sources, rates=False)
    batch = next(iter(there.loader()))
    group.update(Answer(batch, batch.source, None, None, {}))
    assert group.columns()["rank1"].mean() > 0.9
    known = data.train.floats(np.zeros(28, np.int64), 32)
    group.update(Answer(batch, known, None, None, {}))
    assert group.columns()["rank1"][28:].max() == 0.0
    assert group.numbers() == {}


def test_tuning_changes_a_copy_alone(runs, data, panel):
    for run in (runs[0], runs[2]):
        (method,) = open_methods(EvaluationSettings(run=str(run)), lambda *_: None)
        before = {name: value.clone() for name, value in method.system.state_dict().items()}
        frames = render_new_people(data, 1)
        tuned = tune(method.system, TuningBatches(frames, np.array([5]), data, UnseenSettings(steps=2), 0), panel)
        assert all(torch.equal(value, before[name]) for name, value in method.system.state_dict().items())
        moved = [
            name
            for name, value in tuned.average.state_dict().items()
            if not torch.equal(value, before[f"average.{name}"])
        ]
        assert moved, "faces are made by the moving average"
        assert not tuned.training


def findings_of(runs, panel, monkeypatch, **options):
    monkeypatch.setattr(judges, "load_or_train_judges", lambda *_, **__: panel)
    asked = UnseenSettings(**{"people": 1, "pairs": 8, "steps": 1, **options})
    settings = EvaluationSettings(
        runs=[str(run) for run in runs], bootstrap=100, shown=2, protocol="unseen", unseen=asked
    )
    assert settings.problems() == []
    return evaluate.find(settings, "python -m fexgan_lit.evaluate", Console(quiet=True))


def test_rows_run_from_zero_shot_to_the_most_frames(runs, panel, monkeypatch, tmp_path):
    found = findings_of([runs[0]], panel, monkeypatch, frames=[2, 1])
    rows = {row.name: row.figures for row in found.rows}
    assert list(rows) == [CEILING, FLOOR, *(row_name("fexgan", n) for n in (0, 1, 2))]
    assert row_name("fexgan", 1) == "fexgan, 1 frame"
    assert rows[CEILING]["ssim"].mean == pytest.approx(1.0, abs=1e-5)
    assert "judge_identity_accuracy" not in rows[CEILING], "the judge does not know these people"
    assert {"rank1", "identity_cosine", "au_error", "judge_affect_accuracy"} <= set(rows["fexgan, 2 frames"])
    assert {(d.first, d.second) for d in found.differences} == {
        ("fexgan, 0 frames", "fexgan, 1 frame"), ("fexgan, 0 frames", "fexgan, 2 frames"),
    }  # fmt: skip
    write_findings(found, tmp_path)
    for name in ("unseen", "comparison"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000


def test_a_system_that_cannot_be_tuned_says_so(runs, panel, monkeypatch):
    def refuse(*_):
        raise UserError("its perceptual loss has no network")

    monkeypatch.setattr(unseen, "tune", refuse)
    found = findings_of([runs[0]], panel, monkeypatch, frames=[1])
    assert [row.name for row in found.rows][2:] == ["fexgan, 0 frames", "fexgan, cannot be tuned"]
    assert found.notes["fexgan, cannot be tuned"] == "its perceptual loss has no network"
    assert found.rows[-1].figures == {}
    assert "unseen" not in found.pictures


@pytest.mark.parametrize(
    ("options", "words"),
    [({"people": 0}, "unseen.people=0"), ({"frames": [0]}, "unseen.frames=[0]"), ({"keep": 1.0}, "unseen.keep=1.0")],
)
def test_options_that_cannot_be_used(options, words):
    problems = EvaluationSettings(run="a", unseen=UnseenSettings(**options)).problems()
    assert any(words in problem for problem in problems)
