"""`protocol=complex`, `intensity` and `transfer`: what is rendered, by hand, and from trained runs to files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from fexgan_lit import evaluate, figures
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.frames import to_uint8
from fexgan_lit.data.pairs import FixedPairs
from fexgan_lit.data.rendered import state_with, studio_of, studio_rows
from fexgan_lit.evaluation.config import ComplexSettings, EvaluationSettings, IntensitySettings, TransferSettings
from fexgan_lit.evaluation.measure import Scores
from fexgan_lit.evaluation.methods import CEILING, FLOOR
from fexgan_lit.evaluation.protocols import complex as complex_protocol
from fexgan_lit.evaluation.protocols import intensity, transfer
from fexgan_lit.evaluation.protocols.complex import add_mixture_scores, mixtures
from fexgan_lit.evaluation.protocols.intensity import Ramps
from fexgan_lit.evaluation.protocols.rendered import (
    Directed,
    mixture,
    rendered_set,
    single_unit,
    source_rows,
    varied_units,
)
from fexgan_lit.evaluation.protocols.transfer import drivers_of, told_landmarks
from fexgan_lit.evaluation.report import write_findings
from fexgan_lit.evaluation.test_set import TestSet as Ground
from fexgan_lit.expression import ACTION_UNITS, AFFECTS
from fexgan_lit.metrics.judges import panel as judges
from fexgan_lit.synthetic.prototypes import prototype
from fexgan_lit.utils.errors import UserError
from tests.inference.conftest import make_run
from tests.metrics.faces import make_frames
from tests.systems.helpers import NoisePairs

TWO = ("anger", "sadness")


@pytest.fixture(scope="module")
def data():
    config = DatasetConfig(
        image_size=32, identities=2, takes=2, frames=3, batch_size=4, val_fraction=0.5, split="take", workers=1
    )
    module = FrameDataModule(config)
    module.setup()
    return module


def test_muscles_of_a_mixture_are_added_and_clipped():
    both = mixture({"anger": 1.0, "sadness": 0.5})
    assert both.label == "anger + sadness"
    by_unit = dict(zip(ACTION_UNITS, both.units, strict=True))
    assert by_unit[4] == 1.0, "1 + 0.5 * 0.5, clipped"
    assert by_unit[17] == pytest.approx(0.5 * 0.7)
    assert by_unit[1] == pytest.approx(0.5)
    scared = dict(zip(ACTION_UNITS, mixture({"anger": 0.5, "fear": 0.5}).units, strict=True))
    assert scared[25] == pytest.approx(0.5 * 1.0 + 0.5 * 0.9)
    alone = single_unit(12, 0.3)
    assert (alone.label, alone.weights) == ("AU12", {})
    assert dict(zip(ACTION_UNITS, alone.units.tolist(), strict=True))[12] == pytest.approx(0.3)
    assert alone.units.sum() == pytest.approx(0.3)


def test_all_pairs_with_the_papers_first_and_all_triples():
    asked = mixtures(AFFECTS, ComplexSettings(strengths=[0.6], ratios=[1.0, 0.5, 2.0]))
    assert len(asked) == 15 * 3 + 20
    assert [a.label for a in asked[:9:3]] == ["anger + sadness", "joy + disgust", "fear + surprise"]
    assert [a.weights for a in asked[:3]] == [
        {"anger": 0.6, "sadness": 0.6}, {"anger": 0.6, "sadness": 0.3}, {"anger": 0.3, "sadness": 0.6},
    ]  # fmt: skip
    assert set(asked[-1].weights.values()) == {0.6}
    assert len({frozenset(a.weights) for a in asked}) == 15 + 20
    assert len(mixtures(("joy", "fear", "neutral"), ComplexSettings(triples=False))) == 2 * 3
    with pytest.raises(UserError, match="1 affect besides neutral"):
        mixtures(("joy", "neutral"), ComplexSettings())


def test_sources_are_neutral_and_of_all_people_in_turn():
    frames = make_frames(4)
    rows = source_rows(frames, 5)
    assert [frames.affects[k] for k in frames.affect[rows]] == ["neutral"] * 5
    assert frames.identity[rows].tolist() == [0, 1, 2, 0, 1]
    assert len(set(source_rows(frames, 99).tolist())) == 12, "there are no more"
    without = replace(frames, affects=("joy", "fear", "sadness", "surprise"))
    assert len(source_rows(without, 6)) == 6


def test_the_true_frame_differs_from_its_source_in_the_muscles_alone(data):
    studio = studio_of(data.config, "a test")
    row = int(studio_rows(data, studio, data.val, np.array([3]))[0])
    act, units = studio.performance(row), prototype("joy")
    state = state_with(studio, row, units)
    assert (state.pose, state.gaze, state.light) == (act.pose, act.gaze, act.light)
    np.testing.assert_allclose(state.units[:, :-1], np.tile(units, (2, 1))[:, :-1])
    np.testing.assert_allclose(state.units[:, -1], act.units[:, -1], err_msg="the blink is that of the moment")
    assert (
        state_with(studio, row, np.full(17, np.nan)) is act
        or (state_with(studio, row, units * np.nan).units == act.units).all()
    )


def test_rendered_pairs_hold_the_truth_and_the_weights(data):
    pairs = FixedPairs(np.array([0]), np.array([1]))
    ground = Ground(data, data.val, pairs, "val", 4)
    sources = source_rows(data.val, 2)
    asked = [mixture({"joy": 1.0, "fear": 0.5}), single_unit(9, 0.7)]
    there, weights = rendered_set(ground, studio_of(data.config, "a test"), sources, asked, lambda *_: None)
    assert there.pairs.source.tolist() == [0, 1, 0, 1]
    assert there.pairs.target.tolist() == [2, 3, 4, 5]
    own = to_uint8(data.val.floats(sources, 32))
    np.testing.assert_array_equal(to_uint8(there.frames.floats(np.arange(2), 32)), own, "the sources are the split's")
    np.testing.assert_allclose(there.frames.landmarks[:2], data.val.landmarks[sources], atol=1e-5)
    assert weights[2, AFFECTS.index("joy")] == 1.0
    assert weights[3, AFFECTS.index("fear")] == 0.5
    assert weights[4:].sum() == 0
    assert there.frames.aus[4, ACTION_UNITS.index(9)] == pytest.approx(0.7)
    assert np.abs(there.frames.aus[2, :-1] - asked[0].units[:-1]).max() < 1e-6
    assert (there.frames.identity[[2, 3]] == data.val.identity[sources]).all()


def test_the_judge_learns_from_mixtures_and_single_muscles():
    units = varied_units(400, AFFECTS, np.random.default_rng(0))
    assert units.min() == 0.0
    assert units.max() <= 1.0
    assert ((units[1::2] > 0).sum(axis=1) <= 2).all()
    assert (units[::2] > 0).sum(axis=1).max() > 8, "two or three affects at once"


def test_true_mixtures_are_seen_and_pure_affects_are_not(data):
    frames = replace(make_frames(1), affects=AFFECTS, aus=np.stack([mixture(dict.fromkeys(TWO, 1.0)).units] * 12))
    weights = torch.zeros(12, 7)
    weights[:, [AFFECTS.index(name) for name in TWO]] = 1.0
    there = SimpleNamespace(
        data=SimpleNamespace(affects=AFFECTS), frames=frames, where="here",
        pairs=FixedPairs(np.zeros(2, np.int64), np.array([1, 2])),
    )  # fmt: skip
    measured = torch.from_numpy(np.stack([mixture(dict.fromkeys(TWO, 1.0)).units, prototype("anger")]))
    found = Scores("x", units=measured)
    add_mixture_scores(found, there, weights)
    assert found.columns["mixture_seen"].tolist() == [1.0, 0.0]
    assert found.columns["mixture_share_error"][0] == pytest.approx(0.0)
    assert found.columns["mixture_share_error"][1] == pytest.approx(0.5, abs=0.05)
    blind = Scores("y")
    add_mixture_scores(blind, there, weights)
    assert not blind.columns


def test_columns_of_a_ramp_are_its_means_and_its_linearity():
    # one affect, three levels, two sources: a line and a fall
    scores = Scores("x", {"ssim": np.array([0.1, 0.4, 0.2, 0.5, 0.3, 0.6])})
    measured = np.array([[[0.0, 0.9], [0.5, 0.6], [1.0, 0.3]]])
    ramps = Ramps(["joy"], [0.0, 0.5, 1.0], SimpleNamespace(), [scores], [measured], [])
    (series,) = ramps.by_series()
    np.testing.assert_allclose(series.columns["ssim"], [0.2, 0.5])
    np.testing.assert_allclose(series.columns["control_linearity"], [1.0, -1.0])
    weak = ramps._replace(scores=[scores, scores], measured=[measured, 0.5 * measured]).by_series()[1]
    np.testing.assert_allclose(weak.columns["control_linearity"], [1.0, -1.0], err_msg="half the slope is a line, too")
    np.testing.assert_allclose(weak.columns["intensity_error"], [0.25, 0.3])


def test_data_that_are_no_studios_are_refused():
    with pytest.raises(UserError, match=r"protocol=complex: ferg has no true frames.*only the rendered casts"):
        studio_of(DatasetConfig(name="ferg"), "protocol=complex")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"complex": ComplexSettings(strengths=[1.5])}, "complex.strengths=[1.5]"),
        ({"complex": ComplexSettings(strengths=[])}, "complex.strengths"),
        ({"complex": ComplexSettings(ratios=[0.0])}, "complex.ratios=[0.0]"),
        ({"intensity": IntensitySettings(strengths=[-0.5, 0.5, 1.0])}, "intensity.strengths"),
        ({"intensity": IntensitySettings(unit_levels=[0.0, 1.0])}, "three different values"),
        ({"intensity": IntensitySettings(units=[3])}, "intensity.units=[3]"),
        ({"transfer": TransferSettings(sources=1)}, "transfer.sources=1"),
    ],
)
def test_options_that_cannot_be_used(asked, words):
    assert any(words in problem for problem in EvaluationSettings(run="a", **asked).problems())


def test_lines_need_a_value_for_every_place():
    picture = figures.line_panels([0, 1], {"a": {"x": np.array([0.0, 1.0])}}, "asked", diagonal=True)
    assert picture.width > 300
    with pytest.raises(ValueError, match="2 values"):
        figures.line_panels([0, 1], {"a": {"x": np.array([0.0])}}, "asked")


def findings_of(runs: list[Path], panel: judges.JudgePanel, monkeypatch: pytest.MonkeyPatch, **options):
    monkeypatch.setattr(judges, "load_or_train_judges", lambda *_, **__: panel)
    for module in (complex_protocol, intensity, transfer):
        monkeypatch.setattr(module, "with_unit_judge", lambda judges, *_: judges)
    settings = EvaluationSettings(runs=[str(run) for run in runs], bootstrap=100, shown=3, **options)
    assert settings.problems() == []
    return evaluate.find(settings, "python -m fexgan_lit.evaluate", Console(quiet=True))


def test_mixtures_stand_between_their_truth_and_the_source(runs, panel, monkeypatch, tmp_path):
    few = ComplexSettings(sources=2, strengths=[1.0], ratios=[1.0], triples=False)
    found = findings_of([runs[0], runs[2]], panel, monkeypatch, protocol="complex", complex=few)
    rows = {row.name: row.figures for row in found.rows}
    assert list(rows) == [CEILING, FLOOR, "fexgan", "ganimation"]
    assert rows[CEILING]["ssim"].mean == pytest.approx(1.0, abs=1e-5)
    assert rows[FLOOR]["identity_cosine"].mean == pytest.approx(1.0, abs=1e-5)
    assert {"mixture_seen", "mixture_share_error", "au_error", "landmark_error"} <= set(rows["fexgan"])
    assert found.where.startswith("30 true frames of 15 mixtures on 2 neutral sources")
    table = found.tables[0]
    assert {row[0] for row in table.rows} == {"anger + sadness", "joy + disgust", "fear + surprise", "all pairs"}
    write_findings(found, tmp_path)
    assert (tmp_path / "figures" / "complex.png").stat().st_size > 1000
    assert json.loads((tmp_path / "evaluation.json").read_text())["recipes"]["mixture_seen"]


def test_ramps_of_affects_and_of_units_for_those_that_read_them(runs, panel, monkeypatch, tmp_path):
    few = IntensitySettings(sources=2, strengths=[0.2, 0.6, 1.0], units=[12, 26], unit_levels=[0.0, 0.5, 1.0])
    found = findings_of([runs[0], runs[2]], panel, monkeypatch, protocol="intensity", intensity=few)
    rows = {row.name: row for row in found.rows}
    assert list(rows) == [CEILING, FLOOR, "fexgan", "ganimation"]
    assert rows[FLOOR].figures["control_linearity"].mean == 0.0, "a source that stays itself follows nothing"
    assert len(rows["fexgan"].columns["control_linearity"]) == 6 * 2
    titles = [table.title for table in found.tables]
    assert titles == ["Control linearity by affect", "Action units", "Control linearity by action unit"]
    assert [row[0] for row in found.tables[2].rows] == ["AU12", "AU26"]
    assert found.tables[2].header[-1] == "ganimation"
    assert "fexgan" not in found.tables[2].header, "it does not read action units"
    write_findings(found, tmp_path)
    for name in ("intensity_affects", "intensity_action_units", "faces_affects", "faces_action_units"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000


def test_every_source_is_driven_by_the_next_other_person():
    assert drivers_of(np.array([0, 1, 2, 0, 1])).tolist() == [1, 2, 3, 4, 0]
    assert drivers_of(np.array([0, 0, 1])).tolist() == [2, 2, 0]
    with pytest.raises(UserError, match="the sources show one person"):
        drivers_of(np.array([3, 3]))


def test_what_is_told_is_the_motion_of_the_driver_or_its_landmarks():
    # two faces; the eyes of the second are twice as far apart
    faces = torch.zeros(6, 68, 2)
    faces[:, 45, 0] = torch.tensor([0.2, 0.4] * 3)
    faces[2:4, 57, 1], faces[4:, 57, 1] = 0.1, 0.3  # the same motion in the image on both: half as far for the second
    carried = told_landmarks(faces, torch.tensor([1, 0]), fuses=False)
    assert torch.equal(carried[:2], faces[:2]), "sources show what they show"
    torch.testing.assert_close(carried[2:, 57, 1], torch.tensor([0.05, 0.2, 0.15, 0.6]))
    assert torch.equal(carried[2:, 45], faces[2:, 45]), "the shape stays that of the face"
    fused = told_landmarks(faces, torch.tensor([1, 0]), fuses=True)
    assert torch.equal(fused[2:], faces[[3, 2, 5, 4]])


def test_expressions_of_other_people_stand_between_their_truth_and_the_source(panel, monkeypatch, tmp_path):
    systems = ("landmark_fusion", "landmark_label")
    runs = [make_run(tmp_path / name, name) for name in systems]
    told: dict[str, torch.Tensor] = {}

    def listen(directed, batch):
        told[directed.name] = directed.landmarks
        return batch.source

    monkeypatch.setattr(Directed, "answer", listen)
    found = findings_of(runs, panel, monkeypatch, protocol="transfer", transfer=TransferSettings(sources=2))
    rows = {row.name: row.figures for row in found.rows}
    assert list(rows) == [CEILING, FLOOR, *systems]
    assert rows[CEILING]["ssim"].mean == pytest.approx(1.0, abs=1e-5)
    assert rows["landmark_fusion"]["ssim"].mean == pytest.approx(rows[FLOOR]["ssim"].mean), "both return the source"
    assert rows[FLOOR]["ssim"].mean < 0.999
    assert {"ssim", "au_error", "landmark_error"} <= set(rows[FLOOR])
    assert found.where.startswith("12 true frames of 6 expressions on 2 neutral sources")
    groups = dict.fromkeys(row[0] for row in found.tables[0].rows)
    assert list(groups) == [name for name in AFFECTS if name != "neutral"]
    # the system that fuses is told the landmarks of the other person, the other one those on the face
    fused, carried = (told[name] for name in systems)
    assert torch.equal(fused[:2], carried[:2])
    assert (fused[2:] - carried[2:]).abs().mean() > 0.01
    true, untouched = (
        float(word) for word in found.notes["landmarks carried over"].split() if word.replace(".", "").isdigit()
    )
    assert true < untouched, "the motion of another person is nearer to the truth than no motion"
    write_findings(found, tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "transfer.png").stat().st_size > 1000


def test_a_system_is_told_the_landmarks_of_its_driver_where_they_are_given():
    asked = []
    system = SimpleNamespace(affects=AFFECTS, synthesize=lambda source, shown, wanted: asked.append(wanted) or source)
    landmarks, weights = torch.rand(9, 68, 2), torch.rand(9, 7)
    batch = NoisePairs(affects=7).batch(0, 0)
    batch.target_row = torch.tensor([8, 0, 3, 3])
    for given in (landmarks, None):
        Directed("x", SimpleNamespace(system=system), weights, given).answer(batch)
    assert torch.equal(asked[0].landmarks, landmarks[[8, 0, 3, 3]])
    assert torch.equal(asked[1].landmarks, batch.target_landmarks), "else those of the true frame"
    assert torch.equal(asked[0].affect, weights[[8, 0, 3, 3]])
