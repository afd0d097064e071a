"""Clips to frames: names, times, crops, broken files, and runs that go on where others ended."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.data.faces import worker
from fexgan_lit.data.videos import extract as videos
from fexgan_lit.data.videos.extract import extract_videos
from fexgan_lit.data.videos.read import ClipError, ClipNames, frame_times
from fexgan_lit.utils.errors import UserError
from tests.data.fake_detector import write_detector


def write_clip(path: Path, frames: int = 6, fps: float = 25, size: tuple[int, int] = (64, 48), level: int = 0) -> Path:
    """A clip whose frame i has the grey value `level` + 20 i, a white left and a black right edge of 8 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, size)
    for number in range(frames):
        image = np.full((size[1], size[0], 3), (level + 20 * number) % 256, np.uint8)
        image[:, :8], image[:, -8:] = 255, 0
        writer.write(image)
    writer.release()
    return path


def settings(tmp_path: Path, **changes) -> DatasetConfig:
    given = {"name": "clips", "layout": "folder", "videos": str(tmp_path / "in"), "root": str(tmp_path / "out")}
    return DatasetConfig(**{**given, **changes})


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_clips_become_frames_that_the_folder_layout_reads(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "mary_ann_happy.mp4", frames=6, fps=25)
    write_clip(tmp_path / "in" / "mary_ann_sad_take2.avi", frames=4, fps=12.5)
    reports: list[tuple[int, int]] = []
    done = extract_videos(settings(tmp_path), lambda made, total: reports.append((made, total)))
    assert [(c.identity, c.affect, c.take, c.frames, c.width, c.height) for c in done.clips] == [
        ("mary_ann", "joy", 1, 6, 64, 48),
        ("mary_ann", "sadness", 2, 4, 64, 48),
    ]
    assert [c.fps for c in done.clips] == [25, 12.5]
    assert done.frames == 10
    assert reports[-1] == (10, 10)
    rows = rows_of(done.annotations)
    assert [float(r["time_s"]) for r in rows[:6]] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])
    assert [float(r["time_s"]) for r in rows[6:]] == pytest.approx([0, 0.08, 0.16, 0.24])
    assert rows[7]["path"] == "mary_ann/sadness/mary_ann_sadness_t2_000001.jpg"
    table = index_dataset(settings(tmp_path, annotations=str(done.annotations)))
    assert len(table) == 10
    assert table.affects == ("joy", "sadness")
    assert table.frame["take"].tolist() == [1] * 6 + [2] * 4


def test_frames_are_the_clip_s_in_order_and_lose_their_sides(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "bob_joy.mp4", frames=5)
    done = extract_videos(settings(tmp_path))
    images = [cv2.imread(str(done.root / row["path"])) for row in rows_of(done.annotations)]
    assert {image.shape for image in images} == {(48, 48, 3)}
    # the central 48 of 64 columns: both edges are cut off, and each frame has its own grey
    assert [round(float(image.mean())) for image in images] == pytest.approx([0, 20, 40, 60, 80], abs=4)


def test_names() -> None:
    names = ClipNames(None, {"wow": "surprise", "test": "ignore", "big_grin": "joy"})
    read = {
        "anna_joy": ("anna", "joy", 1),
        "Anna_Lee_ANGRY_2": ("Anna_Lee", "anger", 2),
        "anna_fear_take12": ("anna", "fear", 12),
        "joy_sadness": ("joy", "sadness", 1),
        "p1_wow_t3": ("p1", "surprise", 3),
        "p1_big_grin": ("p1", "joy", 1),
    }
    for stem, expected in read.items():
        clip, _ = names.read(Path(f"{stem}.mp4"))
        assert clip is not None
        assert (clip.identity, clip.affect, clip.take) == expected
    assert names.read(Path("p1_test.mp4"))[0] is None
    assert "does not fit" in names.read(Path("intro.mp4"))[1]
    assert "not in dataset.affects" in ClipNames(["joy", "fear"], {}).read(Path("a_sad.mp4"))[1]
    with pytest.raises(UserError, match=r"jpy.*is not an affect.*dataset\.aliases=\{jpy: joy\}"):
        names.read(Path("anna_jpy.mp4"))


def test_times_follow_the_stamps_of_a_variable_rate_and_else_the_rate() -> None:
    times, stamped = frame_times([40.0, 80.0, 180.0, 200.0], 25)
    assert stamped
    assert times == pytest.approx([0, 0.04, 0.14, 0.16])
    times, stamped = frame_times([0.0, 0.0, 0.0], 50)
    assert not stamped
    assert times == pytest.approx([0, 0.02, 0.04])
    with pytest.raises(ClipError, match="neither"):
        frame_times([0.0, 0.0], 0)


def test_broken_files_are_listed_and_the_rest_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_clip(folder / "anna_joy.mp4")
    (folder / "anna_fear.mp4").write_bytes(b"")
    (folder / "anna_anger.mp4").write_bytes(b"no video at all" * 100)
    whole = write_clip(folder / "anna_sadness.avi", frames=60).read_bytes()
    (folder / "anna_sadness.avi").write_bytes(whole[: len(whole) // 3])
    cut = write_clip(folder / "anna_surprise.mp4").read_bytes()
    (folder / "anna_surprise.mp4").write_bytes(cut[: len(cut) // 2])
    (folder / "notes.txt").write_text("hello")
    (folder / "more").mkdir()
    (folder / "bob_joy.mp4").symlink_to("/etc/hostname")
    done = extract_videos(settings(tmp_path))
    reasons = {drop.path: drop.reason for drop in done.drops}
    assert [clip.path for clip in done.clips] == ["anna_joy.mp4"]
    assert reasons.keys() == {
        "anna_fear.mp4", "anna_anger.mp4", "anna_sadness.avi", "anna_surprise.mp4", "notes.txt", "more", "bob_joy.mp4",
    }  # fmt: skip
    assert reasons["anna_fear.mp4"] == "empty file"
    assert "not a video" in reasons["anna_anger.mp4"]
    assert "truncated" in reasons["anna_surprise.mp4"]
    assert "frames can be decoded" in reasons["anna_sadness.avi"] or "no frame" in reasons["anna_sadness.avi"]
    assert "leaves the folder" in reasons["bob_joy.mp4"]
    assert {row["path"].split("/")[1] for row in rows_of(done.annotations)} == {"joy"}
    assert not list(done.root.rglob("partial-*"))


def test_no_clip_that_can_be_read_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "anna_joy.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 1 clips gave frames: anna_joy\.mp4 \(empty file\)"):
        extract_videos(settings(tmp_path))


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["a_joy.mp4"], {"root": None}, r"dataset\.root=DIR"),
        (["a_joy.mp4"], {"videos": "/nowhere"}, "no such folder"),
        (["readme.txt"], {}, "no clip"),
        (["a_joy.mp4", "a_happy.mp4"], {}, r"a_happy\.mp4 and a_joy\.mp4 are both take 1 of joy"),
        (["A_joy.mp4", "a_joy.avi"], {}, "both take 1"),
        (["a_jpy.mp4"], {}, "jpy"),
    ],
)
def test_mistakes(tmp_path: Path, names: list[str], changes: dict, message: str) -> None:
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / name).write_bytes(b"x")
    with pytest.raises(UserError, match=message):
        extract_videos(settings(tmp_path, **changes))


def test_a_root_with_other_things_is_left_alone(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "a_joy.mp4")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files, such as thesis\.txt"):
        extract_videos(settings(tmp_path))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_a_second_run_splits_only_what_changed(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "a_joy.mp4", frames=6)
    write_clip(tmp_path / "in" / "a_fear.mp4", frames=6)
    first = extract_videos(settings(tmp_path))
    stamps = {path: path.stat().st_mtime_ns for path in first.root.rglob("*.jpg")}
    assert extract_videos(settings(tmp_path)) == first
    assert stamps == {path: path.stat().st_mtime_ns for path in first.root.rglob("*.jpg")}
    write_clip(tmp_path / "in" / "a_fear.mp4", frames=3)
    os.utime(tmp_path / "in" / "a_fear.mp4", (1, 1))
    (tmp_path / "in" / "a_anger.mp4").write_bytes((tmp_path / "in" / "a_joy.mp4").read_bytes())
    again = extract_videos(settings(tmp_path))
    assert {clip.affect: clip.frames for clip in again.clips} == {"anger": 6, "fear": 3, "joy": 6}
    assert len(list((again.root / "a" / "fear").iterdir())) == 3
    kept = [path for path in stamps if "joy" in path.name]
    assert all(path.stat().st_mtime_ns == stamps[path] for path in kept)


def test_a_changed_clip_that_broke_leaves_no_old_frames(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "a_joy.mp4")
    write_clip(tmp_path / "in" / "a_fear.mp4")
    extract_videos(settings(tmp_path))
    (tmp_path / "in" / "a_fear.mp4").write_bytes(b"")
    done = extract_videos(settings(tmp_path))
    assert [clip.affect for clip in done.clips] == ["joy"]
    assert not list((done.root / "a" / "fear").iterdir())


def test_a_run_that_ends_half_way_is_completed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for affect in ("anger", "fear", "joy"):
        write_clip(tmp_path / "in" / f"a_{affect}.mp4")
    real, calls = videos._place, []

    def dies(root: Path, clip, partial: Path) -> None:
        calls.append(clip.affect)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(root, clip, partial)

    monkeypatch.setattr(videos, "_place", dies)
    with pytest.raises(UserError, match="No space left on device"):
        extract_videos(settings(tmp_path, workers=1))
    monkeypatch.setattr(videos, "_place", real)
    # what a kill leaves: a partial folder, and frames that were moved before the record was written
    (tmp_path / "out" / ".extraction" / "partial-a_joy_t1").mkdir(exist_ok=True)
    (tmp_path / "out" / "a" / "joy").mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / "a" / "joy" / "a_joy_t1_000077.jpg").write_bytes(b"stale")
    done = extract_videos(settings(tmp_path, workers=2))
    assert {clip.affect: clip.frames for clip in done.clips} == {"anger": 6, "fear": 6, "joy": 6}
    assert len(list(done.root.rglob("*.jpg"))) == 18
    assert not list(done.root.rglob("partial-*"))


def test_one_face_square_for_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake detector sees a jaw 20 pixels wide whose left end is at a tenth of the picture's grey."""
    script = write_detector(tmp_path / "detector.py")
    monkeypatch.setattr(worker, "worker_command", lambda: [sys.executable, str(script)])
    write_clip(tmp_path / "in" / "a_joy.mp4", frames=9, size=(120, 100), level=40)
    done = extract_videos(settings(tmp_path, crop="face", detector="mediapipe", crop_margin=0.25))
    images = [cv2.imread(str(done.root / row["path"])) for row in rows_of(done.annotations)]
    # 1.2 * 20 * 1.5
    assert {image.shape for image in images} == {(36, 36, 3)}
    record = json.loads((done.root / ".extraction" / "a_joy_t1.json").read_text())
    assert record["settings"]["crop"] == ["mediapipe", 0.25]
    centre = extract_videos(settings(tmp_path))
    assert cv2.imread(str(centre.root / rows_of(centre.annotations)[0]["path"])).shape == (100, 100, 3)


def test_a_clip_without_a_face_is_dropped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = write_detector(tmp_path / "detector.py")
    monkeypatch.setattr(worker, "worker_command", lambda: [sys.executable, str(script)])
    write_clip(tmp_path / "in" / "a_joy.mp4", frames=4, size=(120, 100), level=40)
    writer = cv2.VideoWriter(str(tmp_path / "in" / "a_fear.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (120, 100))
    for _ in range(4):
        writer.write(np.zeros((100, 120, 3), np.uint8))  # the fake detector finds no face in black
    writer.release()
    done = extract_videos(settings(tmp_path, crop="face", detector="mediapipe"))
    assert [(drop.path, drop.reason) for drop in done.drops] == [("a_fear.mp4", "no face found in the clip")]
    assert [clip.affect for clip in done.clips] == ["joy"]
