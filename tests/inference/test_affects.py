"""Prototypes and interpolation: what is asked of systems that read affects, action units or landmarks."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.data.reference import affect_expression, reference_rows
from fexgan_lit.expression import AFFECTS, Expression, between, raised, resolve_affect, rows_of, with_units
from fexgan_lit.inference.conditions import TargetSpec, read_affects, read_target, units_of, weights_of
from fexgan_lit.inference.modes.blend import read_blends
from fexgan_lit.runs.weights import load_system
from fexgan_lit.utils.errors import UserError
from tests.inference.conftest import WHO
from tests.inference.opened import shown_frames


def test_prototypes_of_units_are_those_of_the_run(generate, runs):
    done = generate(f"run={runs('ganimation')}", "mode=prototypes", "strengths=[0.5,1]")
    units = load_system(runs("ganimation")).prototypes.units
    with (done.folder / "prototypes.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:]] == list(AFFECTS)
    np.testing.assert_allclose(np.array([row[1:] for row in rows[1:]], float), units.numpy(), atol=1e-4)
    joy = np.array(list(done.asked(f"{WHO[0]}/joy_0.50")["action_units"].values()))
    np.testing.assert_allclose(joy, 0.5 * units[AFFECTS.index("joy")].numpy(), atol=1e-4)
    assert joy.max() > 0.1


def test_prototypes_of_a_system_that_reads_affects_are_affects(generate, runs):
    done = generate(f"run={runs('fexgan')}", "mode=prototypes", "strengths=[0.5,1]", "affects=[happy,fear]")
    asked = [entry["asked"] for entry in done.record["pictures"] if entry["asked"]]
    expected = [{"joy": 0.5}, {"joy": 1.0}, {"fear": 0.5}, {"fear": 1.0}]
    assert [entry["affect"] for entry in asked] == expected * len(WHO)
    assert not (done.folder / "prototypes.csv").exists()
    assert "defines no action units for affects" in done.out


def test_landmarks_of_an_affect_are_those_of_the_same_persons_true_frame(generate, runs):
    done = generate(f"run={runs('landmark_label')}", "mode=prototypes", "strengths=[0,1]", "affects=[surprise]")
    frames = shown_frames(runs("landmark_label"))
    for row, who in zip(reference_rows(frames), WHO, strict=True):
        true = affect_expression(frames, row, AFFECTS.index("surprise")).landmarks[0].numpy()
        np.testing.assert_allclose(done.asked(f"{who}/surprise_1.00")["landmarks"], true, atol=1e-4)
        np.testing.assert_allclose(done.asked(f"{who}/surprise_0.00")["landmarks"], frames.landmarks[row], atol=1e-4)


@pytest.mark.parametrize("model", ["fexgan", "ganimation", "landmark_label"])
def test_steps_are_equal_in_every_field(generate, runs, model):
    done = generate(f"run={runs(model)}", "mode=interpolate", "start=joy", "end=sadness", "steps=3", f"who={WHO[0]}")
    assert done.code == 0, done.err
    first, middle, last = (done.asked(f"step_{step:02d}") for step in range(3))
    assert middle["affect"] == {"joy": 0.5, "sadness": 0.5}
    for name in set(first) - {"affect"}:
        a, b, c = (
            np.array(list(e[name].values()) if isinstance(e[name], dict) else e[name]) for e in (first, middle, last)
        )
        np.testing.assert_allclose(b, (a + c) / 2, atol=2e-4)
        assert np.abs(a - c).max() > 0.01
    assert (done.folder / "strip.png").is_file()


def test_units_that_a_mapping_does_not_name_stay(generate, runs):
    command = (f"run={runs('ganimation')}", "mode=interpolate", "start=source", "steps=2", f"who={WHO[0]}")
    done = generate(*command, "end={AU12: 0.8, au25: 0.4}")
    asked = done.asked("step_01")["action_units"]
    assert (asked["AU12"], asked["AU25"]) == (0.8, 0.4)
    assert sum(asked.values()) == pytest.approx(1.2)


def test_affects_can_be_mixed(generate, runs):
    command = (f"run={runs('fexgan')}", "mode=interpolate", "steps=2", f"who={WHO[0]}")
    done = generate(*command, "end={joy: 0.5, fear: 0.25}")
    assert done.asked("step_00")["affect"] == {"neutral": 1.0}
    assert done.asked("step_01")["affect"] == {"fear": 0.25, "joy": 0.5}


REFUSED = {
    "units of a run that reads affects": ("fexgan", "end={AU12: 1}", "fexgan reads affects; the target expression"),
    "no end": ("fexgan", "steps=3", "end= is missing"),
    "one step": ("fexgan", "steps=1", "steps=1: expected 2 to 1000"),
    "misspelt affect": ("fexgan", "end=joi", "Did you mean 'joy'?"),
    "unknown unit": ("ganimation", "end={AU3: 1}", "AU3 at 1; expected one of the units 1, 2, 4"),
    "unit on OpenFace's scale": ("ganimation", "end={AU12: 4}", "a fifth of OpenFace's 0..5"),
    "a number": ("ganimation", "end=3", "end=3: expected `source`, an affect"),
    "mixed": ("ganimation", "end={AU12: 1, joy: 1}", "cannot be mixed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wishes_that_are_refused(generate, runs, case):
    model, override, message = REFUSED[case]
    done = generate(f"run={runs(model)}", "mode=interpolate", override)
    assert done.code == 2
    assert message in done.err
    assert not done.folder.exists()


def test_a_picture_without_landmarks_is_refused_where_they_are_read(generate, runs, tmp_path):
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "me.png")
    done = generate(f"run={runs('landmark_label')}", "mode=interpolate", "end=joy", f"images={tmp_path / 'me.png'}")
    assert done.code == 2
    assert "are not known; annotations=CSV with the columns path and" in done.err


def test_wishes_are_labelled():
    assert read_target("happy", "end", AFFECTS) == TargetSpec(affects={"joy": 1.0})
    assert read_target({"AU12": 0.5, "4": 1}, "end", AFFECTS).units == {12: 0.5, 4: 1.0}
    labels = [read_target(v, "end", AFFECTS).label for v in ("source", {"AU01": 1}, {"joy": 1, "fear": 0.5})]
    assert labels == ["source", "AU1=1", "joy + fear 0.5"]
    with pytest.raises(UserError, match="joy is -1"):
        read_target({"joy": -1}, "end", AFFECTS)


def test_numbers_name_affects_where_a_run_has_such_and_units_elsewhere():
    numbered = ("1", "4", "12")
    assert read_target(4, "end", numbered) == TargetSpec(affects={"4": 1.0})
    assert read_target({4: 0.5, "1": 1}, "end", numbered).affects == {"4": 0.5, "1": 1.0}
    assert read_affects([1, 4], "affects", numbered) == ["1", "4"]
    assert read_affects(4, "affects", numbered) == ["4"]
    assert weights_of(4, 0.5, numbered) == {"4": 0.5}
    assert [found.weights for found in read_blends({1: 1, 4: 1}, numbered)] == [{"1": 1.0, "4": 1.0}]
    assert resolve_affect(12, numbered) == "12"
    assert read_target({"AU12": 0.8}, "end", numbered).units == {12: 0.8}
    assert read_target({12: 0.8}, "end", AFFECTS).units == {12: 0.8}
    assert units_of({12: 0.8, 4: 1}, numbered) == {12: 0.8, 4: 1.0}
    for units in (12, [12], "AU12", {"joy": 1}):
        with pytest.raises(UserError, match="expected action units such as"):
            units_of(units, AFFECTS)
    with pytest.raises(UserError, match="strength=much"):
        weights_of("joy", "much", AFFECTS)
    for value in (5, True, [1, 5], [1.5]):
        with pytest.raises(UserError, match="expected"):
            read_affects(value, "affects", numbered)


def test_arithmetic_of_expressions():
    aus = torch.zeros(2, 17)
    aus[1] = 0.7
    assert raised(aus, 12, 0.4)[:, 8].tolist() == pytest.approx([0.4, 0.7])
    assert torch.equal(raised(aus, 12, 0.0), aus)
    assert with_units(aus, {1: 0.2})[:, 0].tolist() == pytest.approx([0.2, 0.2])
    mixed = between(Expression(affect=torch.eye(2), aus=aus), Expression(aus=torch.ones(2, 17)), 0.25)
    assert mixed.affect is None
    assert mixed.aus[:, 0].tolist() == pytest.approx([0.25, 0.775])
    assert rows_of(Expression(aus=aus), [1, 1, 0]).aus[:, 0].tolist() == pytest.approx([0.7, 0.7, 0.0])
