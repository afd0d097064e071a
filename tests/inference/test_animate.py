"""Animation: what each moment is asked for, and films at the driver's rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.data.reference import reference_rows
from fexgan_lit.expression import ACTION_UNITS, AFFECTS
from fexgan_lit.inference.animation.video import gif_durations, write_gif, write_mp4
from fexgan_lit.inference.modes.animate import AnimateOptions, carried_over
from tests.inference.conftest import WHO
from tests.inference.opened import open_data


def film_of(path):
    film = cv2.VideoCapture(str(path))
    frames = []
    while (read := film.read())[0]:
        frames.append(read[1])
    return film.get(cv2.CAP_PROP_FPS), frames


def gif_seconds(path) -> float:
    with Image.open(path) as film:
        total = 0
        for number in range(film.n_frames):
            film.seek(number)
            total += film.info["duration"]
    return total / 1000


def take_rows(data, who, affect, take):
    frame = data.table.frame
    chosen = (frame["identity"] == who) & (frame["affect"] == affect) & (frame["take"] == take)
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(frame.loc[rows, "time_s"])]


def test_a_take_drives_units_moment_by_moment(generate, runs):
    done = generate(f"run={runs('ganimation')}", "mode=animate", f"driver={WHO[0]}/joy/1", f"who={WHO[1]}")
    assert done.code == 0, done.err
    data = open_data(runs("ganimation"))
    rows = take_rows(data, WHO[0], "joy", 1)
    asked = [entry["asked"]["action_units"]["AU12"] for entry in done.record["pictures"]]
    # a studio's three moments are evenly spaced, so they are taken as they are, from both splits
    np.testing.assert_allclose(asked, data.everything().aus[rows, ACTION_UNITS.index(12)], atol=1e-4)
    film = done.record["measured"]["film"]
    rate, frames = film_of(done.folder / f"{WHO[1]}.mp4")
    assert len(frames) == film["frames"] == len(rows) == len(list((done.folder / "frames" / WHO[1]).iterdir()))
    assert rate == pytest.approx(film["frames_a_second"], rel=1e-3)
    assert gif_seconds(done.folder / f"{WHO[1]}.gif") == pytest.approx(film["seconds"], abs=0.011)
    assert Image.open(done.folder / "strip.png").height // 132 == 2  # the driver above, one face below


def test_a_face_driven_by_itself_gets_its_own_landmarks_and_affects(generate, runs):
    done = generate(f"run={runs('landmark_label')}", "mode=animate", f"driver={WHO[0]}/surprise/0", f"who={WHO[0]}")
    assert done.code == 0, done.err
    data = open_data(runs("landmark_label"))
    frames, rows = data.everything(), take_rows(data, WHO[0], "surprise", 0)
    for entry, row in zip(done.record["pictures"], rows, strict=True):
        np.testing.assert_allclose(entry["asked"]["landmarks"], frames.landmarks[row], atol=2e-4)
        share = float(frames.intensity[row])
        weights = entry["asked"]["affect"]
        assert weights.get("surprise", 0) == pytest.approx(share, abs=1e-3)
        assert weights.get("neutral", 0) == pytest.approx(1 - share, abs=1e-3)


def test_motion_is_carried_over_in_widths_of_the_eyes():
    own, rest = torch.zeros(68, 2), torch.zeros(68, 2)
    own[45, 0], rest[45, 0] = 2.0, 100.0
    moved = rest.repeat(2, 1, 1)
    moved[1, 8, 1] += 10
    expected = own.repeat(2, 1, 1)
    expected[1, 8, 1] += 0.2
    torch.testing.assert_close(carried_over(moved, rest, own), expected)
    assert torch.equal(carried_over(moved, rest, rest), moved)


def test_a_run_that_reads_affects_follows_a_take_but_no_units(generate, runs, tmp_path):
    take = generate(f"run={runs('fexgan')}", "mode=animate", f"driver={WHO[0]}/joy/0", f"who={WHO[1]}", out="take")
    assert take.code == 0, take.err
    (tmp_path / "d.csv").write_text("time_s,au12\n0,0\n0.1,1\n0.2,0\n")
    units = generate(f"run={runs('fexgan')}", "mode=animate", f"driver={tmp_path / 'd.csv'}", out="units")
    assert units.code == 2
    assert "fexgan reads affects; the target expression has none. A run that reads affects follows a take" in units.err
    told = generate(f"run={runs('fexgan')}", "mode=animate", f"driver={tmp_path / 'd.csv'}", "affect=joy", out="told")
    assert [entry["asked"]["affect"] for entry in told.record["pictures"][:3]] == [{"joy": 1.0}] * 3


def test_units_that_a_csv_lacks_stay_those_of_the_face(generate, runs, tmp_path, painting):
    painting(lambda source, shown, wanted: source)
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "me.png")
    units = [f"AU{unit:02d}" for unit in ACTION_UNITS]
    (tmp_path / "me.csv").write_text(f"path,{','.join(units)}\nme.png,{','.join(['1'] * 17)}\n")
    (tmp_path / "d.csv").write_text("frame,au12\n0,0\n1,0.5\n2,1\n")
    mine = (f"images={tmp_path / 'me.png'}", f"annotations={tmp_path / 'me.csv'}")
    done = generate(f"run={runs('ganimation')}", "mode=animate", f"driver={tmp_path / 'd.csv'}", "fps=12.5", *mine)
    assert done.code == 0, done.err
    asked = [entry["asked"]["action_units"] for entry in done.record["pictures"]]
    assert [moment["AU12"] for moment in asked] == [0.0, 0.5, 1.0]
    assert {moment["AU25"] for moment in asked} == {0.2}
    assert film_of(done.folder / "me.mp4")[0] == 12.5
    assert gif_seconds(done.folder / "me.gif") == pytest.approx(0.24)
    assert "read as 0..1 (the largest is 1)" in done.out
    assert "au01" in done.out


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        ("zoe/joy", "not a file, and the identities of the run's data are nora, tariq"),
        ("nora/joi", "Did you mean 'joy'?"),
        ("nora/joy/7", "expected one of the takes 0, 1"),
    ],
)
def test_drivers_that_are_not_there(generate, runs, driver, message):
    done = generate(f"run={runs('ganimation')}", "mode=animate", f"driver={driver}")
    assert done.code == 2
    assert message in done.err
    assert not done.folder.exists()


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        ("nora", "expected a take of the run's data as IDENTITY/AFFECT"),
        ("no_such.csv", "driver=no_such.csv: there is no such file"),
        ("clip.mp4", "driver=clip.mp4: there is no such file"),
        ("keys.yaml", "driver=keys.yaml: there is no such file"),
        (None, "driver= is missing"),
    ],
)
def test_a_driver_is_looked_for_before_a_run_is_opened(driver, message):
    assert any(message in problem for problem in AnimateOptions(driver=driver).problems())


def test_what_a_driver_cannot_tell_is_missed_before_it_is_read(generate, runs):
    Path("film.mp4").write_bytes(b"a film that would take minutes")
    done = generate(f"run={runs('fexgan')}", "mode=animate", "driver=film.mp4")
    assert done.code == 2
    assert "fexgan reads affects; the target expression has none" in done.err


def test_a_film_keeps_its_frames_and_rate(tmp_path):
    frames = np.stack([np.full((64, 64, 3), value, np.uint8) for value in (20, 90, 160, 230)])
    write_mp4(tmp_path / "a.mp4", frames, Fraction(30000, 1001))
    rate, shown = film_of(tmp_path / "a.mp4")
    assert rate == pytest.approx(29.97, abs=0.01)
    assert [abs(float(frame.mean()) - value) < 4 for frame, value in zip(shown, (20, 90, 160, 230), strict=True)]
    write_gif(tmp_path / "a.gif", frames, Fraction(4))
    assert gif_seconds(tmp_path / "a.gif") == 1.0
    with Image.open(tmp_path / "a.gif") as film:
        assert film.info["loop"] == 0


def test_gifs_take_as_long_as_the_film_at_any_rate():
    assert gif_durations(3, Fraction(30)) == [30, 40, 30]
    assert len(gif_durations(60, Fraction(60))) == 30
    for count, rate in ((90, Fraction(30)), (120, Fraction(60)), (100, Fraction(30000, 1001)), (7, Fraction(240))):
        durations = gif_durations(count, rate)
        assert min(durations[:-1]) >= 20  # the last may stand for fewer frames than the others
        assert sum(durations) == pytest.approx(1000 * count / rate, abs=5)


def test_affect_names_of_the_run_are_used(runs):
    assert tuple(open_data(runs("fexgan")).affects) == AFFECTS


def asked_landmarks(done) -> np.ndarray:
    return np.array([entry["asked"]["landmarks"] for entry in done.record["pictures"]])


def test_a_drawn_motion_starts_with_the_face_and_has_the_wanted_strength_and_length(generate, runs):
    run = (f"run={runs('motion_texture')}", "mode=clip", "affect=happy", f"who={WHO[1]}", "fps=10")
    done = generate(*run, "steps=5")
    assert done.code == 0, done.err
    rate, frames = film_of(done.folder / f"{WHO[1]}.mp4")
    assert (rate, len(frames)) == (10, 5)
    assert done.record["measured"]["motion"]["affect"] == "joy"
    frames = open_data(runs("motion_texture")).reference_frames
    own = frames.landmarks[reference_rows(frames)[1]]
    drawn = asked_landmarks(done)
    np.testing.assert_allclose(drawn[0], own, atol=1e-4)
    assert np.abs(drawn[-1] - own).max() > 0.01
    twice = generate(*run, "strength=2", out="twice")  # with all points of the motion
    assert len(asked_landmarks(twice)) == 31
    np.testing.assert_allclose(asked_landmarks(twice)[-1] - own, 2 * (drawn[-1] - own), atol=5e-4)
    other = generate(*run, "steps=2", "seed=1", out="other")
    assert not np.allclose(asked_landmarks(other)[-1], drawn[-1], atol=1e-3)


def test_motions_that_cannot_be_drawn_are_refused(generate, runs, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "me.png")
    for model, options, words in (
        ("motion_texture", ["affect=neutral"], "MotionGAN saw no motion of neutral in training; it knows anger, "),
        ("motion_texture", [], "affect= is missing"),
        ("motion_texture", ["affect=joy", f"images={tmp_path / 'me.png'}"], "x00,y00..x67,y67 gives them"),
        ("ganimation", ["affect=joy"], "ganimation has no motions, it changes single frames; expected a run of model="),
    ):
        done = generate(f"run={runs(model)}", "mode=clip", *options, out="refused")
        assert done.code == 2
        assert words in done.err


def test_the_motion_of_a_take_moves_another_face(generate, runs):
    done = generate(f"run={runs('motion_texture')}", "mode=animate", f"driver={WHO[0]}/joy/1", f"who={WHO[1]}")
    assert done.code == 0, done.err
    moved = asked_landmarks(done)
    assert np.abs(moved[1] - moved[0]).max() > 0.01
