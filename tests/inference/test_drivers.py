"""Drivers from tables and films: scales, faces that were lost, steady time."""

from __future__ import annotations

import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.faces import worker
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.inference.animation.drivers import Driver, csv_driver, video_driver
from fexgan_lit.inference.animation.timeline import beat, follow, nearest
from fexgan_lit.utils.errors import UserError
from tests.data.fake_detector import write_detector
from tests.data.test_videos import write_clip

AU12, AU25 = ACTION_UNITS.index(12), ACTION_UNITS.index(25)

OPENFACE = """frame, face_id, timestamp, confidence, success, AU01_r, AU12_r, AU25_r, AU12_c, AU28_c
1, 0, 0.000, 0.98, 1, 0, 0.0, 0.0, 0, 0
1, 1, 0.000, 0.98, 1, 5, 5.0, 5.0, 0, 0
2, 0, 0.040, 0.98, 1, 0, 0.5, 0.2, 0, 0
3, 0, 0.080, 0.02, 0, 0, 0, 0, 0, 0
4, 0, 0.120, 0.98, 1, 0.5, 0.9, 1.0, 1, 0
"""


def table(tmp_path, text):
    path = tmp_path / "driver.csv"
    path.write_text(text)
    return path


def test_openface_is_read_as_it_writes(tmp_path):
    found = csv_driver(table(tmp_path, OPENFACE), None, None)
    np.testing.assert_allclose(found.times, [0, 0.04, 0.12])
    # all below 1, and yet OpenFace's scale: its columns end in _r
    np.testing.assert_allclose(found.aus[:, AU12], [0, 0.1, 0.18], atol=1e-6)
    assert np.isnan(found.aus).all(0).sum() == 14
    said = " | ".join(found.notes)
    assert "the driver has 2 faces; using face_id 0" in said
    assert "the face is lost in 1 of 4 rows, left out (1 with success 0): line 5" in said
    assert "0..5 (OpenFace's columns _r)" in said
    assert "not used: au28_c" not in said


def test_rows_without_numbers_and_of_faces_hardly_seen_are_left_out(tmp_path):
    text = "time_s;au12_r;confidence\n0;0;0,9\n0,1;nan;0,9\n0,2;1,5;0,9\n0,3;2,5;0,2\n"
    found = csv_driver(table(tmp_path, text), None, None)
    np.testing.assert_allclose(found.times, [0, 0.2])
    np.testing.assert_allclose(found.aus[:, AU12], [0, 0.3])
    said = " | ".join(found.notes)
    assert "(1 with confidence below 0.5): line 5" in said
    assert "1 of 3 rows lack a number and are left out: line 3" in said
    assert "semicolons between the fields and decimal commas" in said


@pytest.mark.parametrize(("largest", "scale", "expected"), [(1, None, 1.0), (4, None, 0.8), (1, 5.0, 0.2)])
def test_the_scale_is_recognised_or_given(tmp_path, largest, scale, expected):
    found = csv_driver(table(tmp_path, f"time_s,au12\n0,0\n0.1,{largest}\n"), None, scale)
    assert found.aus[1, AU12] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_s,au12\n0,0\n0.1,6\n", r"au12 of line 3 is 6; expected 0..5"),
        ("time_s,au12\n0,0\n0.1,-1\n", r"au12 of line 3 is -1"),
        ("time_s,au12\n0,0\n0.1,smile\n", r"au12 of line 3 is 'smile', not a number"),
        ("time_s,au12\n0,0\n,1\n", r"time_s of line 3 is 'nan', not a number"),
        ("time_s,au12\n0,\n", r"no row is left; .*1 of 1 rows lack a number and are left out: line 2"),
        ("time_s,au12\n0,0\n0.1,0,5\n", r"driver=.* line 3 has 3 fields, the header 2"),
        ("au12\n0\n", "no time; expected a column time_s or timestamp"),
        ("frame,au12\n0,0\n1,1\n", "has frame numbers and no times; give the frames per second with fps="),
        ("time_s,joy\n0,0\n", "no action units; expected columns such as AU12_r"),
        ("time_s,au12\n", "has no rows"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        csv_driver(table(tmp_path, text), None, None)


def test_a_steady_driver_is_taken_as_it_is():
    times = 7 + np.arange(91) / 30
    tact = beat(times.round(3))  # milliseconds, as OpenFace writes them
    assert (len(tact.times), tact.rate, tact.note) == (91, Fraction(30), "")
    assert beat(np.arange(100) * 1001 / 30000).rate == Fraction(30000, 1001)


def test_gaps_are_filled_in_a_straight_line():
    times = np.array([0, 0.1, 0.2, 0.6, 0.7])
    tact = beat(times)
    assert tact.rate == 10
    np.testing.assert_allclose(tact.times, np.arange(8) / 10)
    assert "5 frames (0.100 to 0.400 s apart) were resampled to 8 at 10 per second" in tact.note
    assert "1 gaps of up to 0.40 s" in tact.note
    values = np.array([0, 1, 2, 6, 0], np.float32)
    np.testing.assert_allclose(follow(values, times, tact.times), [0, 1, 2, 3, 4, 5, 6, 0], atol=1e-5)
    assert nearest(times, tact.times).tolist() == [0, 1, 2, 2, 2, 3, 3, 4]


def test_another_rate_keeps_the_time():
    tact = beat(np.arange(61) / 60, fps=25)
    assert (len(tact.times), tact.rate) == (26, 25)
    assert tact.times[-1] == 1.0


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0], "found one frame; expected two"),
        ([0, 1, 1], r"does not increase at frame 2 \(1 s, then 1 s\)"),
        ([0, 33, 67], "are these milliseconds"),
    ],
)
def test_times_that_are_none(times, message):
    with pytest.raises(UserError, match=message):
        beat(np.array(times, float))


def test_a_driver_at_other_moments():
    marks = np.arange(2 * 68 * 2, dtype=np.float32).reshape(2, 68, 2)
    pictures = np.array([0, 200], np.uint8).reshape(2, 1, 1, 1).repeat(3, 3)
    driver = Driver("d", np.array([5.0, 6.0]), None, marks, pictures=pictures)
    moved = driver.at(beat(driver.times, fps=4))
    np.testing.assert_allclose(moved.landmarks[2], marks.mean(0))
    assert np.array_equal(moved.rest, marks[0])
    assert moved.pictures[:, 0, 0, 0].tolist() == [0, 0, 0, 200, 200]


def session():
    return SimpleNamespace(
        console=Console(), system=SimpleNamespace(image_size=32), run=SimpleNamespace(dataset=DatasetConfig())
    )


def test_a_film_needs_the_detector(tmp_path):
    with pytest.raises(UserError, match=r"(?s)is a video, in which faces must be detected.*faces\.install"):
        video_driver(write_clip(tmp_path / "a.mp4"), session())


def test_a_film_gives_landmarks_and_estimated_units(tmp_path, monkeypatch):
    script = write_detector(tmp_path / "detector.py")
    monkeypatch.setattr(worker, "worker_command", lambda: [sys.executable, str(script)])
    estimator = SimpleNamespace(estimate=lambda points, who, calm: np.where(calm[:, None], 0, np.full((1, 17), 2.5)))
    monkeypatch.setattr("fexgan_lit.data.faces.action_units.face_estimator", lambda *where: estimator)
    monkeypatch.setattr("fexgan_lit.data.faces.action_units.quality_note", lambda fitted: "estimates")
    # the fake detector sees no face in black
    found = video_driver(write_clip(tmp_path / "a.mp4", frames=6, fps=25), session())
    assert found.pictures.shape == (5, 32, 32, 3)
    np.testing.assert_allclose(found.times, np.arange(1, 6) / 25, atol=1e-3)
    assert found.landmarks.shape == (5, 68, 2)
    assert found.aus[:, AU12].tolist() == [0, 0.5, 0.5, 0.5, 0.5]  # the first face is the one at rest
    said = " | ".join(found.notes)
    assert "no face in 1 of 6 frames" in said
    assert "estimates" in said


def test_a_broken_film_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "worker_command", lambda: [sys.executable, "-c", ""])
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no film")
    with pytest.raises(UserError, match=r"a\.mp4: not a video"):
        video_driver(path, session())
