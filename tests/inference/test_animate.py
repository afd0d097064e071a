"""Animation: what each moment is asked for, and films at the driver's rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.data.reference import reference_row, reference_rows
from fexgan_lit.expression import ACTION_UNITS
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


# ---------------------------------------------------------------------- one frame drives


def neutral_and_strongest(data, who, affect):
    """The rows of a person's neutral frame and strongest frame of an affect, of all frames."""
    frames, rest = data.everything(), data.affects.index("neutral")
    mine = frames.identity == frames.identities.index(who)
    rows = np.flatnonzero(mine & (frames.affect == data.affects.index(affect)))
    return np.flatnonzero(mine & (frames.affect == rest))[0], rows[np.argmax(frames.intensity[rows])]


def own_landmarks(data, who):
    row = reference_row(data.reference_frames, data.reference_frames.identities.index(who))
    return torch.from_numpy(data.reference_frames.landmarks[row])


def test_one_frame_of_another_person_drives_without_its_face_shape(generate, runs):
    run = runs("landmark_label")
    done = generate(f"run={run}", "mode=animate", f"driver={WHO[0]}/joy", "still=picture", f"who={WHO[1]}")
    assert done.code == 0, done.err
    assert f"deviation from the neutral frame of {WHO[0]}" in done.out
    data = open_data(run)
    rest, strongest = (
        torch.from_numpy(data.everything().landmarks[row]) for row in neutral_and_strongest(data, WHO[0], "joy")
    )
    expected = carried_over(strongest[None], rest, own_landmarks(data, WHO[1]))[0]
    np.testing.assert_allclose(done.asked(f"{WHO[0]}_joy")["landmarks"], expected, atol=2e-4)
    assert (done.folder / "driver.png").is_file()
    assert (done.folder / "sheet.png").is_file()
    assert not list(done.folder.glob("*.mp4")), "a still is no film"


def test_one_frame_makes_a_ramp_from_rest(generate, runs):
    run = runs("ganimation")
    done = generate(f"run={run}", "mode=animate", f"driver={WHO[0]}/joy", "still=ramp", "fps=4", f"who={WHO[1]}")
    assert done.code == 0, done.err
    data = open_data(run)
    rest, strongest = (
        data.everything().aus[row, ACTION_UNITS.index(12)] for row in neutral_and_strongest(data, WHO[0], "joy")
    )
    asked = [entry["asked"]["action_units"]["AU12"] for entry in done.record["pictures"]]
    np.testing.assert_allclose(asked, np.linspace(rest, strongest, 5), atol=1e-3)
    assert done.record["measured"]["film"] == {"frames": 5, "frames_a_second": 4.0, "seconds": 1.25}
    assert "a ramp of a second, 5 frames at 4 per second" in done.out
    assert "action units are those of that frame" in done.out


def with_landmarks(tmp_path, name, points):
    """An image of 100 x 100 pixels and a table with its landmarks (68, 2), -1..1 from edge to edge."""
    Image.fromarray(np.full((100, 100, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    table = tmp_path / "marks.csv"
    if not table.exists():
        table.write_text(f"path,{','.join(f'x{n:02d},y{n:02d}' for n in range(68))}\n")
    with table.open("a") as file:
        file.write(f"{name}.png,{','.join(map(str, (50 * (np.asarray(points) + 1)).ravel().tolist()))}\n")
    return f"driver={tmp_path / name}.png", f"annotations={table}"


def test_an_image_drives_as_the_deviation_from_the_mean_shape_or_from_its_own_rest(generate, runs, tmp_path):
    run = runs("landmark_label")
    frames = open_data(run).reference_frames
    mean = torch.from_numpy(frames.landmarks[frames.affect == frames.affects.index("neutral")].mean(0))
    turned = 0.5 * (mean @ torch.tensor([[0.96, 0.28], [-0.28, 0.96]])) + 0.1
    said = ("mode=animate", "affect=joy", f"who={WHO[1]}")
    done = generate(f"run={run}", *with_landmarks(tmp_path, "mean", turned), *said, out="mean")
    assert done.code == 0, done.err
    assert "mean.png has no face at rest: its expression is the deviation from the mean shape of" in done.out
    own = own_landmarks(open_data(run), WHO[1])
    np.testing.assert_allclose(done.asked("mean")["landmarks"], own, atol=2e-3)

    # a face of another shape, which opens its mouth by a tenth of the width of its eyes
    calm = mean * torch.tensor([0.6, 0.8])
    opened = calm.clone()
    opened[57, 1] += 0.1 * (calm[45] - calm[36]).norm()
    with_landmarks(tmp_path, "calm", calm)
    done = generate(
        f"run={run}", *with_landmarks(tmp_path, "opened", opened), f"rest={tmp_path / 'calm.png'}", *said, out="rest"
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "deviation from calm.png" in done.out
    expected = own.clone()
    expected[57, 1] += 0.1 * (own[45] - own[36]).norm()
    np.testing.assert_allclose(done.asked("opened")["landmarks"], expected, atol=2e-3)


def test_a_system_that_fuses_landmarks_is_given_those_of_the_driver(generate, runs, tmp_path):
    run = runs("landmark_fusion")
    face = open_data(run).reference_frames.landmarks[0] * 0.9
    done = generate(f"run={run}", *with_landmarks(tmp_path, "her", face), "mode=animate", f"who={WHO[1]}")
    assert done.code == 0, done.err
    np.testing.assert_allclose(done.asked("her")["landmarks"], face, atol=2e-3)
    assert "landmark_fusion fits the driver's landmarks to each face itself" in done.out


def test_a_face_that_the_detector_finds_drives_action_units(generate, runs, tmp_path, detector, monkeypatch):
    estimator = SimpleNamespace(estimate=lambda points, who, calm: np.where(calm[:, None], 0, np.full((2, 17), 2.5)))
    monkeypatch.setattr("fexgan_lit.data.faces.action_units.face_estimator", lambda *where: estimator)
    monkeypatch.setattr("fexgan_lit.data.faces.action_units.quality_note", lambda fitted: "estimates")
    for name, grey in (("grey", 90), ("black", 0)):
        Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(tmp_path / f"{name}.png")
    where = (f"run={runs('ganimation')}", "mode=animate", f"who={WHO[1]}")
    done = generate(*where, f"driver={tmp_path / 'grey.png'}", out="grey")
    assert done.code == 0, done.err
    assert set(done.asked("grey")["action_units"].values()) == {0.5}
    assert "estimates" in done.out
    done = generate(*where, f"driver={tmp_path / 'black.png'}", out="black")
    assert done.code == 2
    assert "driver: black.png: no face found; expected an image of one face" in done.err


def test_drivers_of_one_frame_that_cannot_be_used(generate, runs, tmp_path):
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "me.png")
    fusion = (f"run={runs('landmark_fusion')}", "mode=animate", f"who={WHO[1]}")
    done = generate(*fusion, f"driver={tmp_path / 'me.png'}", out="a")
    assert done.code == 2
    assert "me.png is an image, in which a face must be detected" in done.err
    assert "faces.install" in done.err
    away = np.zeros((68, 2))
    away[:5, 0] = 1.5
    done = generate(*fusion, *with_landmarks(tmp_path, "away", away), out="b")
    assert done.code == 2
    assert "5 of 68 landmarks lie outside the central square of away.png" in done.err
    done = generate(*fusion, f"driver={WHO[0]}/joy/0", "still=ramp", out="d")
    assert "still= takes the strongest frame of all takes; use nora/joy" in done.err
    done = generate(*fusion, f"driver={WHO[0]}/joy", f"annotations={tmp_path / 'marks.csv'}", out="e")
    assert "it describes images; give images= or an image as driver=" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"driver": "keys.yaml", "still": "ramp"}, "only an image or IDENTITY/AFFECT is one frame"),
        ({"driver": "nora/joy", "rest": "me.png"}, "it shows the person of an image driver at rest"),
        ({"driver": "me.png", "rest": "no_such.png"}, "rest=no_such.png: there is no such file"),
        ({"driver": "nora/joy", "still": "film"}, "still"),
    ],
)
def test_options_of_one_frame_that_do_not_fit(options, message):
    assert any(message in problem for problem in AnimateOptions(**options).problems())


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
        ("ganimation", ["affect=joy"], "has no motions, it changes single frames; expected run=motion_texture"),
    ):
        done = generate(f"run={runs(model)}", "mode=clip", *options, out="refused")
        assert done.code == 2
        assert words in done.err


def test_the_motion_of_a_take_moves_another_face(generate, runs):
    done = generate(f"run={runs('motion_texture')}", "mode=animate", f"driver={WHO[0]}/joy/1", f"who={WHO[1]}")
    assert done.code == 0, done.err
    moved = asked_landmarks(done)
    assert np.abs(moved[1] - moved[0]).max() > 0.01
