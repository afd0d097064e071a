"""`python -m fexgan_lit.prepare` as a user runs it: the report it leaves, its exit codes, how it fails."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from fexgan_lit import prepare as command
from fexgan_lit.data import prepare as data_prepare
from fexgan_lit.data.checks.report import FILES
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.table import Drop
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS
from tests.commands import run_command
from tests.conftest import AFFECTS, write_frames

STUDIO = ("dataset.identities=2", "dataset.takes=2", "dataset.frames=3", "dataset.image_size=32")


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def prepare(tmp_path, monkeypatch, capsys):
    """Runs the command in this process, in an empty folder; a process of its own would cost seconds a test."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*overrides: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["prepare.py", *overrides])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it, and other tests look at it
        try:
            command.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Done(code, " ".join(said.out.split()), " ".join(said.err.split()))

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_itself(tmp_path):
    write_frames(tmp_path / "data", frames=4)
    options = (f"dataset.root={tmp_path / 'data'}", "dataset.image_size=32")
    done = run_command(tmp_path, "prepare", "dataset=mhfed", *options)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs").iterdir()
    assert folder.name.startswith("prepare_mhfed_")
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert str(folder) in done.stdout
    assert "Traceback" not in done.stderr


def test_the_report_says_what_is_there_and_what_was_left_out(prepare, tmp_path):
    root = write_frames(tmp_path / "data", frames=5)
    (root / "p0" / "joy" / "broken.png").write_bytes(b"no picture")
    (root / "p1" / "fear" / "notes.txt").write_text("x")
    done = prepare("dataset=mhfed", f"dataset.root={root}", "out=report")
    assert done.code == 0
    folder = Path("report")
    cells = rows(folder / "frames.csv")
    assert len(cells) == 14
    assert {cell["frames"] for cell in cells} == {"5"}
    assert all(int(cell["train"]) + int(cell["val"]) == 5 for cell in cells)
    drops = {row["path"]: row["reason"] for row in rows(folder / "drops.csv")}
    assert set(drops) == {"p0/joy/broken.png", "p1/fear/notes.txt"}
    facts = json.loads((folder / "report.json").read_text())
    assert facts["trainable"] is True
    assert facts["frames"] == 70
    assert sum(facts["dropped"].values()) == 2
    report = (folder / "report.md").read_text()
    for reason in drops.values():
        assert reason in report
        assert reason in done.out
    for picture in ("contact_sheet.png", "frames_per_cell.png"):
        assert cv2.imread(str(folder / picture)).std() > 5
    assert f"python -m fexgan_lit.train dataset=mhfed dataset.root={root}" in done.out


def test_the_second_run_reuses_the_pack_and_says_the_same(prepare, tmp_path):
    options = ("dataset=mhfed", f"dataset.root={write_frames(tmp_path / 'data', frames=3)}")
    first, second = prepare(*options, "out=one"), prepare(*options, "out=two")
    assert "(new)" in first.out
    assert "(reused)" in second.out
    for name in FILES:
        assert (Path("one") / name).read_bytes() == (Path("two") / name).read_bytes(), name


def test_a_set_nobody_can_train_on_gets_its_report_and_exit_code_1(prepare, tmp_path):
    root = write_frames(tmp_path / "data", affects=("neutral",), frames=2)
    done = prepare("dataset=mhfed", f"dataset.root={root}", "out=report")
    assert done.code == 1
    assert "Training would not start" in done.out
    assert "no frame shows anger, disgust, fear, joy, sadness, surprise" in done.out
    assert "python -m fexgan_lit.train" not in done.out
    facts = json.loads(Path("report/report.json").read_text())
    assert facts["trainable"] is False
    assert [sum(column) for column in zip(*facts["frames_per_cell"], strict=True)] == [0, 0, 0, 0, 4, 0, 0]
    assert Path("report/contact_sheet.png").is_file()


def test_a_batch_larger_than_the_data_is_found_before_training(prepare, tmp_path):
    root = write_frames(tmp_path / "data", frames=2)
    done = prepare("dataset=mhfed", f"dataset.root={root}", "dataset.batch_size=4000", "out=report")
    assert done.code == 1
    assert "training would not start: dataset.batch_size=4000" in done.out


def test_the_studio_needs_no_files(prepare):
    done = prepare(*STUDIO, "dataset.val_fraction=0.5", "out=report")
    assert done.code == 0
    assert "action units, landmarks" in done.out
    assert len(rows(Path("report/drops.csv"))) == 0


def test_a_picture_under_two_labels_is_listed(prepare, tmp_path):
    root = write_frames(tmp_path / "data", frames=3)
    copy = root / "p0" / "anger" / "copied.png"
    copy.write_bytes((root / "p0" / "joy" / "p0_joy_001.png").read_bytes())
    done = prepare("dataset=mhfed", f"dataset.root={root}", "out=report")
    assert "two affects, 1 of the pairs with identical pixels" in done.out
    exact = [row for row in rows(Path("report/near_duplicates.csv")) if row["same_pixels"] == "True"]
    assert ("p0/anger/copied.png", "p0/joy/p0_joy_001.png") in {(row["path_a"], row["path_b"]) for row in exact}


MISTAKES = {
    "misspelt value": (["dataset.rot=x"], ["dataset.rot", "Did you mean dataset.root?"]),
    "misspelt data set": (["dataset=fergg"], ["fergg", "ferg"]),
    "several values": (["dataset.image_size=100", "dataset.split=x"], ["image_size=100", "dataset.split=x"]),
    "no root": (["dataset=ferg"], ["dataset.root", "request"]),
    "root that is not there": (["dataset=mhfed", "dataset.root=/no/such/place"], ["/no/such/place"]),
    "equals sign in a path": (["dataset.root=a/b=c"], ["'dataset.root=\"a/b=c\"'"]),
    "hash in a path": (
        ["dataset.root=a/#1", "dataset.rot=x"],
        ["'dataset.root=\"a/#1\"'", "Did you mean dataset.root?"],
    ),
    "apostrophe in a path": (["dataset.root=a'b"], ["""'dataset.root="a'"'"'b"'"""]),
    "braces of a pattern": (["dataset.pattern={affect}/*"], ["'dataset.pattern=\"{affect}/*\"'"]),
    "equals sign in a mapping": (["dataset.aliases={a=b: joy}"], ["Put entries", "in double quotes"]),
    "None": (
        ["dataset.affects=None", "dataset.only={a: [None]}"],
        ["dataset.affects=None", "expected dataset.affects=null dataset.only={a: [null]}"],
    ),
    "report in the place of a file": ([*STUDIO, "out=file"], ["out=file is a file"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_with_exit_code_2_and_leave_nothing(mistake, prepare):
    Path("file").write_text("in the way")
    overrides, named = MISTAKES[mistake]
    done = prepare(*overrides)
    assert done.code == 2
    assert [word for word in named if word not in done.err] == []
    assert "Traceback" not in done.err
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_an_empty_folder_is_a_mistake_not_a_report(prepare, tmp_path):
    (tmp_path / "data").mkdir()
    done = prepare("dataset=mhfed", f"dataset.root={tmp_path / 'data'}")
    assert done.code == 2
    assert list(Path().iterdir()) == []


def test_help_names_the_files_of_the_report(prepare):
    done = prepare("--help")
    assert [name for name in FILES if name not in done.out] == []


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Any) -> None:
    for name, function in functions.items():
        monkeypatch.setattr(f"{module}.{name}", function)


def test_videos_become_frames_first(prepare, tmp_path, monkeypatch):
    """The frames come from the folder that the extraction names, with what it lost and the command to train."""

    def extract_videos(config: DatasetConfig, progress: Any) -> SimpleNamespace:
        assert config.videos == str(tmp_path / "clips")
        progress(1, 1)
        root = write_frames(tmp_path / "made", affects=("joy", "neutral", "fear"), frames=7)
        (root / ".extraction").mkdir()
        table = root / "annotations.csv"
        frames = sorted(root.rglob("*.png"))
        table.write_text("path,time_s\n" + "".join(f"{p.relative_to(root)},{i / 30}\n" for i, p in enumerate(frames)))
        drops = (Drop("carl_fury.mp4", "no affect in the name"),)
        return SimpleNamespace(root=root, annotations=table, frames=42, clips=(1, 2), drops=drops, notes=("at 30 fps",))

    stand_in(monkeypatch, "fexgan_lit.data.videos.extract", extract_videos=extract_videos)
    done = prepare("dataset=folder", f"dataset.videos={tmp_path / 'clips'}", "dataset.batch_size=8", "out=report")
    assert done.code == 0
    assert "42 frames of 2 clips" in done.out
    assert "at 30 fps" in done.out
    assert rows(Path("report/drops.csv")) == [{"path": "carl_fury.mp4", "reason": "no affect in the name"}]
    facts = json.loads(Path("report/report.json").read_text())
    assert facts["root"] == str(tmp_path / "made")
    assert facts["known"]["time"] == 42
    train = done.out.partition("python -m fexgan_lit.train")[2]
    assert "dataset.videos" not in train
    for part in ("dataset=folder", f"dataset.root={tmp_path / 'made'}", "made/annotations.csv"):
        assert part in train


def test_the_detector_is_asked_for_what_is_missing_and_keeps_what_is_known(prepare, tmp_path, monkeypatch):
    root = write_frames(tmp_path / "data", frames=2)
    own = tmp_path / "own.csv"
    frames = [str(path.relative_to(root)) for path in sorted(root.rglob("*.png"))]
    own.write_text("path,intensity\n" + "".join(f"{path},0.5\n" for path in frames))

    def detect_landmarks(table: Any, config: DatasetConfig, progress: Any) -> SimpleNamespace:
        found = tmp_path / "cache" / "found.csv"
        found.parent.mkdir()
        points = ",".join(str(10 + i % 20) for i in range(136))
        lines = [",".join(["path", *LANDMARK_COLUMNS]), *(f"{path},{points}" for path in table.paths[1:])]
        found.write_text("\n".join(lines) + "\n")
        missing = (Drop(table.paths[0], "no face found"),)
        return SimpleNamespace(annotations=found, found=len(table) - 1, missing=missing, notes=())

    stand_in(monkeypatch, "fexgan_lit.data.faces.detect", detect_landmarks=detect_landmarks)
    options = ("dataset=mhfed", f"dataset.root={root}", f"dataset.annotations={own}", "dataset.detector=mediapipe")
    done = prepare(*options, "dataset.batch_size=8", "out=report")
    assert done.code == 0, done.err
    known = json.loads(Path("report/report.json").read_text())["known"]
    assert known["landmarks"] == known["intensity"] == 27
    assert "no face was found in 1 of 28 frames" in done.out
    assert rows(Path("report/no_face.csv")) == [{"path": frames[0], "reason": "no face found"}]
    assert "dataset.detector" not in done.out.partition("python -m fexgan_lit.train")[2]


def test_the_detector_rests_where_landmarks_are_known(monkeypatch):
    def detect_landmarks(*_: Any) -> None:
        raise AssertionError("not to be asked")

    stand_in(monkeypatch, "fexgan_lit.data.faces.detect", detect_landmarks=detect_landmarks)
    studio = data_prepare.Material(DatasetConfig(detector="mediapipe"))
    assert data_prepare.with_landmarks(studio, None) is studio  # type: ignore[arg-type]


def test_action_units_survive_the_detector_in_their_scale(tmp_path):
    import pandas as pd

    from fexgan_lit.data.table import FrameTable

    frame = pd.DataFrame({"path": ["a.png", "b.png"], "identity": "p", "affect": ["joy", "fear"], "take": [1, 2]})
    frame = frame.assign(**{name: np.float32([0.2, 1.0]) for name in AU_COLUMNS})
    found = tmp_path / "found.csv"
    found.write_text("path,x00\nb.png,3\n")
    merged = pd.read_csv(data_prepare.merge_annotations(FrameTable(frame, AFFECTS, ("p",), tmp_path), found))
    assert merged[["path", "x00", "take", "au12"]].to_numpy().tolist() == [["b.png", 3, 2, 5.0]]
    frame["au12"] = np.nan  # of a face that was lost: the landmarks that were found stay
    merged = pd.read_csv(data_prepare.merge_annotations(FrameTable(frame, AFFECTS, ("p",), tmp_path), found))
    assert merged["x00"].tolist() == [3]
    assert merged["au12"].isna().all()


def test_train_command_keeps_the_users_words():
    config = DatasetConfig(root="a b")
    overrides = ["dataset=folder", "dataset.root=a b", "out=x", "+dataset.flip=0"]
    assert data_prepare.train_command(overrides, config, config) == (
        "python -m fexgan_lit.train dataset=folder 'dataset.root=a b' +dataset.flip=0"
    )
    folder = replace(config, name="folder", layout="folder", pattern="{identity}/{affect}/*")
    new = data_prepare.train_command(overrides, config, folder)
    assert new.endswith("""'dataset.pattern="{identity}/{affect}/*"'""")
    assert "dataset.layout" not in new
    assert "dataset.root=c" in data_prepare.train_command(overrides, config, replace(config, root="c"))


def test_a_studio_writes_its_frames_as_files_and_reads_them_back(prepare) -> None:
    small = ("dataset.identities=2", "dataset.takes=2", "dataset.frames=2", "dataset.image_size=32")
    done = prepare(*small, "files=cast", "out=report")
    assert "dataset=mhfed dataset.root=cast" in done.out
    assert len(list(Path("cast").rglob("*.png"))) == 56
    read_back = ("dataset=mhfed", "dataset.root=cast", "dataset.annotations=cast/annotations.csv")
    again = prepare(*read_back, "dataset.image_size=32", "dataset.split=take", "out=again")
    assert "56 frames" in again.out
    refused = prepare(*read_back, "files=other")
    assert refused.code == 2
    assert "are files already" in refused.err


def test_values_of_training_are_refused(prepare):
    """A file of a data set has them, but they change nothing here."""
    done = prepare("trainer.max_steps=3", "out=report")
    assert done.code == 2
    assert "trainer.max_steps=3: there is no such option here" in done.err
    assert not Path("report").exists()
