"""Landmarks by a detector in another process, and crops."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.data.datasets.annotations import join_annotations
from fexgan_lit.data.faces import action_units, install, mediapipe_worker, worker
from fexgan_lit.data.faces.detect import detect_landmarks
from fexgan_lit.data.faces.geometry import MESH_TO_68, face_squares, head_pose, landmarks_of_mesh
from fexgan_lit.data.faces.worker import FaceWorker, NoFaceError
from fexgan_lit.data.table import FrameTable
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS
from fexgan_lit.synthetic import CartoonStudio
from fexgan_lit.utils.cache import cache_root
from fexgan_lit.utils.errors import UserError
from tests.data.fake_detector import CRASH, HANG, ODD, write_detector


def plain(grey: int) -> np.ndarray:
    return np.full((100, 100, 3), grey, np.uint8)


def write_picture(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), plain(grey))
    return path


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake detector in force; gives the file that has a line for every picture it was asked for."""
    log = tmp_path / "asked.txt"
    script = write_detector(tmp_path / "detector.py", log)
    monkeypatch.setattr(worker, "worker_command", lambda: [sys.executable, str(script)])
    return log


def faces(tmp_path: Path, names: tuple[str, ...] = ("1", "2")) -> tuple[FrameTable, DatasetConfig]:
    for identity in ("anna", "bob"):
        for grey, affect in ((100, "joy"), (150, "neutral")):
            for name in names:
                write_picture(tmp_path / "set" / identity / affect / f"{name}.png", grey)
    config = DatasetConfig(
        name="faces", layout="mhfed", root=str(tmp_path / "set"), affects=["joy", "neutral"], detector="mediapipe",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    return index_dataset(config), config


@pytest.fixture(autouse=True)
def small_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for what is not about the estimates themselves."""
    monkeypatch.setattr(action_units, "_CHARACTERS", 8)


# crops


def face(left: float, top: float, width: float) -> np.ndarray:
    """(68, 2) points of a face whose jaw is `width` wide and whose eyes lie at `top`."""
    points = np.tile([left + width / 2, top + 0.3 * width], (68, 1))
    points[0], points[16] = (left, top), (left + width, top)
    points[[36, 39, 42, 45], 1] = top
    points[[36, 39, 42, 45], 0] = left + width * np.array([0.2, 0.4, 0.6, 0.8])
    return points


def test_square_by_hand() -> None:
    # side 1.2 * 50 * (1 + 2 * 0.5) = 120 around (20 + 25, 100 + 0.24 * 50 = 112)
    assert face_squares(face(20, 100, 50)[None], 0.5)[0] == pytest.approx([45 - 60, 112 - 60, 120])


def test_a_turned_head_is_measured_by_its_height() -> None:
    turned = face(0, 0, 50)
    turned[33] = (25, 40)  # 40 below the eyes: as in a face of 2.4 * 40 = 96
    assert face_squares(turned[None], 0.0)[0, 2] == pytest.approx(1.2 * 96)


def test_expressions_do_not_change_the_square() -> None:
    """An open mouth that zoomed out would give the affect away."""
    table = CartoonStudio(6, 1, 1, 128, head_motion=0.0).table()
    points = table[list(LANDMARK_COLUMNS)].to_numpy().reshape(-1, 68, 2)
    sides = table.assign(side=face_squares(points, 0.25)[:, 2]).groupby("identity")["side"]
    assert (sides.max() / sides.min() < 1.03).all()
    squares = face_squares(points, 0.25)
    inside = (points > squares[:, None, :2]) & (points < squares[:, None, :2] + squares[:, None, 2:])
    assert inside.all(axis=(1, 2)).mean() > 0.95


def test_one_square_a_group_is_the_median_of_centres_and_sides() -> None:
    points = np.stack([face(0, 0, 100), face(20, 0, 100), face(90, 0, 100), face(7, 0, 50)])
    apart = face_squares(points, 0.0)
    shared = face_squares(points, 0.0, np.array(["a", "a", "a", "b"]))
    assert shared[:3] == pytest.approx(np.tile([70 - 60, 24 - 60, 120], (3, 1)))
    assert shared[3] == pytest.approx(apart[3])


def test_no_face_gives_no_square_unless_the_group_has_one() -> None:
    nothing = np.full((68, 2), np.nan)
    points = np.stack([face(0, 0, 100), nothing, nothing])
    assert np.isnan(face_squares(points, 0.2)).all(axis=1).tolist() == [False, True, True]
    shared = face_squares(points, 0.2, np.array([1, 1, 2]))
    assert shared[1] == pytest.approx(shared[0])
    assert np.isnan(shared[2]).all()


# mesh


def test_mesh_points_are_mirrored_pairs_and_none_twice() -> None:
    assert len(MESH_TO_68) == 68
    assert len(set(MESH_TO_68)) == 68
    mesh = np.zeros((478, 3))
    mesh[MESH_TO_68[30]] = (0.5, 0.25, 0)
    assert landmarks_of_mesh(mesh, 200, 100)[30] == pytest.approx([100.5, 25.5])


@pytest.mark.parametrize("pose", [(0, 0, 0), (12, 0, 0), (0, -9, 0), (0, 0, 15)])
def test_head_pose_of_a_turned_mesh(pose: tuple[float, float, float]) -> None:
    mesh = np.zeros((478, 3))
    # a face that looks along -z: x to the right of the picture, y down, z away from the viewer
    mesh[[234, 454, 10, 152, 33, 263]] = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (-0.5, 0, 0), (0.5, 0, 0)]
    yaw, pitch, roll = np.radians(pose)
    turn_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    turn_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    turned = mesh @ (turn_z @ turn_y @ turn_x).T
    assert head_pose(turned / (200, 100, 200), 200, 100) == pytest.approx(pose, abs=0.01)


# the detector's process


def test_the_worker_answers_between_chatter(fake: Path) -> None:
    with FaceWorker() as finder:
        points, pose = finder.find(plain(100))
        assert points.shape == (68, 2)
        assert points.min(axis=0) == pytest.approx([10.5, 30.5])
        assert points.max(axis=0) == pytest.approx([30.5, 50.5])
        assert np.isfinite(pose).all()
        with pytest.raises(NoFaceError, match="no face found"):
            finder.find(plain(0))
        with pytest.raises(NoFaceError, match="instead of a mesh"):
            finder.find(plain(ODD))


def test_a_crash_costs_one_picture(fake: Path) -> None:
    with FaceWorker() as finder:
        with pytest.raises(NoFaceError, match="ended with code 139"):
            finder.find(plain(CRASH))
        assert finder.find(plain(100))[0].shape == (68, 2)


def test_a_hanging_detector_is_ended(fake: Path) -> None:
    with FaceWorker(picture_seconds=0.3) as finder, pytest.raises(NoFaceError, match=r"gave no answer in 0\.3 s"):
        finder.find(plain(HANG))


def test_a_detector_that_always_dies_is_to_blame_itself(fake: Path) -> None:
    with FaceWorker() as finder:
        for _ in range(2):
            with pytest.raises(NoFaceError):
                finder.find(plain(CRASH))
        with pytest.raises(UserError, match=r"3 images in a row.*\n.*\n(.*\n)?Segmentation fault"):
            finder.find(plain(CRASH))


def test_a_detector_that_does_not_start_says_why(tmp_path: Path) -> None:
    script = write_detector(tmp_path / "detector.py", refuse=True)
    said = r"before it was ready[\s\S]*libGL\.so\.1"
    with FaceWorker([sys.executable, str(script)]) as finder, pytest.raises(UserError, match=said):
        finder.find(plain(100))
    with FaceWorker([str(tmp_path / "nowhere")]) as finder, pytest.raises(UserError, match="cannot be started"):
        finder.find(plain(100))


def test_every_attempt_of_the_worker_finds_its_way_back() -> None:
    """One bright pixel, located in each padded and turned picture, is where it was."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[12, 45] = 255
    shapes = []
    for attempt, back in mediapipe_worker.attempts(image):
        row, column = np.argwhere(attempt[..., 0] == 255)[0]
        height, width = attempt.shape[:2]
        found = back(np.array([[(column + 0.5) / width, (row + 0.5) / height, 0.1]]))[0]
        assert found[:2] == pytest.approx([45.5 / 60, 12.5 / 40])
        # depth is in the unit of x, so in pixels it does not change
        assert found[2] * 60 == pytest.approx(0.1 * width)
        shapes.append((height, width))
    assert shapes == [(40, 60), (60, 90), (90, 60), (90, 60), (60, 90)]


# landmarks for a table


def test_annotations_fit_the_table(fake: Path, tmp_path: Path) -> None:
    table, config = faces(tmp_path)
    reports: list[tuple[int, int]] = []
    found = detect_landmarks(table, config, lambda done, total: reports.append((done, total)))
    assert (found.found, found.missing, found.aus_estimated) == (8, (), True)
    assert reports[-1] == (8, 8)
    assert any("estimates from landmarks" in note for note in found.notes)
    joined = join_annotations(table, found.annotations)
    assert joined.frame["x00"].tolist() == pytest.approx([10.5, 10.5, 15.5, 15.5] * 2)
    assert joined.frame[list(AU_COLUMNS)].apply(lambda column: column.between(0, 1)).all(axis=None)
    assert {"yaw", "pitch", "roll"} <= set(joined.frame)


def test_frames_without_a_face_are_listed_and_have_no_row(fake: Path, tmp_path: Path) -> None:
    faces(tmp_path)
    write_picture(tmp_path / "set" / "anna" / "joy" / "black.png", 0)
    write_picture(tmp_path / "set" / "anna" / "joy" / "crash.png", CRASH)
    (tmp_path / "set" / "anna" / "joy" / "empty.png").touch()
    table, config = faces(tmp_path)
    found = detect_landmarks(table, config)
    assert found.found == 8
    assert {drop.path: drop.reason for drop in found.missing} == {
        "anna/joy/black.png": "no face found",
        "anna/joy/crash.png": "the detector ended with code 139 on this image",
        "anna/joy/empty.png": "empty file",
    }
    joined = join_annotations(table, found.annotations)
    assert int(joined.frame["x00"].isna().sum()) == 3


def test_a_second_call_asks_nothing_and_a_changed_file_asks_again(fake: Path, tmp_path: Path) -> None:
    table, config = faces(tmp_path)
    first = detect_landmarks(table, config)
    asked = fake.read_text()
    assert detect_landmarks(table, config) == first
    assert fake.read_text() == asked
    write_picture(tmp_path / "set" / "anna" / "joy" / "1.png", 200)
    again = detect_landmarks(table, config)
    assert again.annotations != first.annotations
    assert len(fake.read_text()) > len(asked)


def test_a_killed_call_goes_on_where_it_was(fake: Path, tmp_path: Path) -> None:
    table, config = faces(tmp_path)

    def dies(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_landmarks(table, config, dies)
    (journal,) = (tmp_path / "cache" / "annotations").glob("*.jsonl")
    kept = [json.loads(line)["path"] for line in journal.read_text().splitlines()]
    with journal.open("a") as file:
        file.write('{"path": "anna/joy/2.p')  # a line cut short by a kill
    fake.unlink()
    found = detect_landmarks(table, config)
    assert found.found == 8
    assert len(fake.read_text().splitlines()) == 8 - len(kept)


def test_what_the_table_knows_is_not_estimated(fake: Path, tmp_path: Path) -> None:
    table, config = faces(tmp_path)
    known = pd.DataFrame(0.5, index=table.frame.index, columns=list(AU_COLUMNS))
    frame = pd.concat([table.frame, known], axis=1)
    found = detect_landmarks(FrameTable(frame, table.affects, table.identities, table.root), config)
    assert not found.aus_estimated
    assert not set(AU_COLUMNS) & set(pd.read_csv(found.annotations))
    points = pd.DataFrame(7.0, index=table.frame.index, columns=list(LANDMARK_COLUMNS))
    points += np.arange(136)
    fake.unlink()
    frame = pd.concat([table.frame, points], axis=1)
    found = detect_landmarks(FrameTable(frame, table.affects, table.identities, table.root), config)
    assert found.aus_estimated
    assert not fake.exists()
    assert pd.read_csv(found.annotations)["y00"].tolist() == [8.0] * 8


def test_no_face_at_all_is_a_mistake(fake: Path, tmp_path: Path) -> None:
    table, config = faces(tmp_path)
    for path in table.paths:
        write_picture(tmp_path / "set" / path, 0)
    with pytest.raises(UserError, match="no face in any of the 8 frames"):
        detect_landmarks(table, config)


def test_a_missing_detector_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, config = faces(tmp_path)
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"python -m fexgan_lit\.data\.faces\.install"):
        detect_landmarks(table, config)
    config.detector = "dlib"
    with pytest.raises(UserError, match=r"dataset\.detector=dlib: expected one of mediapipe"):
        detect_landmarks(table, config)


def test_a_failed_installation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(tmp_path / "cache"))
    python = tmp_path / "python"  # whose environments have a pip without a network
    python.write_text('#!/bin/sh\nmkdir -p "$3/bin"\nprintf "#!/bin/sh\\necho no network; exit 1" > "$3/bin/python"\n'
                      'chmod +x "$3/bin/python"\n')  # fmt: skip
    python.chmod(0o755)
    monkeypatch.setattr(install, "_suitable_python", lambda: str(python))
    with pytest.raises(UserError, match=r"(?s)pip install .*nothing was installed:\nno network"):
        install.install_detector()
    assert [path for path in (tmp_path / "cache" / "detectors").iterdir() if not path.name.startswith(".")] == []


# the real one


def _own_cache() -> Path:
    """The user's cache, not the tests' own."""
    import os

    before = os.environ.pop("FEXGAN_LIT_CACHE", None)
    try:
        return cache_root(os.environ.get("FEXGAN_LIT_DETECTORS"))
    finally:
        if before is not None:
            os.environ["FEXGAN_LIT_CACHE"] = before


def test_the_real_detector_on_a_drawn_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(_own_cache()))
    if not install.detector_folder().exists():
        pytest.skip(f"mediapipe is not installed in {install.detector_folder()}; install it with {install.COMMAND}")
    studio = CartoonStudio(identities=1, takes=1, frames=1, size=256)
    truth = studio.table()[list(LANDMARK_COLUMNS)].to_numpy().reshape(-1, 68, 2)
    row = 4  # neutral
    image = studio.render(row)
    with FaceWorker() as finder:
        points, _ = finder.find(image)
        with pytest.raises(NoFaceError, match="no face"):
            finder.find(np.random.default_rng(0).integers(0, 256, image.shape, np.uint8))
    eyes = np.linalg.norm(truth[row, 45] - truth[row, 36])
    inner = slice(17, 68)
    assert np.linalg.norm(points - truth[row], axis=1)[inner].mean() < 0.2 * eyes
