"""Grids as a user runs them: killed, resumed, extended, refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fexgan_lit.runs.lock import LOCK, held
from fexgan_lit.runs.result import read_result
from tests.runs.sweeps.conftest import without

GRID = ("loss.alpha=0.5,1", "loss.beta=0.1,1", "seed=1,2", "trainer.max_steps=5")


def results(folder: Path) -> dict[str, dict[str, float]]:
    return {run.name: read_result(run).metrics for run in folder.iterdir() if run.is_dir() and read_result(run)}


def kill_when(happened: Callable[[], bool], folder: Path) -> None:
    """Start the sweep and kill its process group at a moment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fexgan_lit.train", "-m", *without(GRID), *GRID],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 150
    while not happened() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it had not ended by itself


@pytest.mark.fault
def test_a_sweep_killed_twice_gives_the_numbers_of_an_uninterrupted_one(tmp_path, train):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    kill_when(lambda: len(list(killed.glob("multirun/*/*/result.json"))) >= 2, killed)
    kill_when(lambda: len(list(killed.glob("multirun/*/*/checkpoints/last.ckpt"))) >= 6, killed)
    (folder,) = (killed / "multirun").iterdir()
    before = results(folder)
    stamps = {name: (folder / name / "result.json").stat().st_mtime_ns for name in before}
    assert 2 <= len(before) < 8
    half = [p.parents[1].name for p in folder.glob("*/checkpoints/last.ckpt") if p.parents[1].name not in before]

    ended = train(*GRID, f"hydra.sweep.dir={folder}", report=True, trained=True)
    assert ended.code == 0, ended.err
    assert f"{len(before)} finished before" in ended.out
    assert ("1 resume from a checkpoint" in ended.out) == (len(half) == 1)
    assert train(*GRID, f"hydra.sweep.dir={whole}", report=True, trained=True).code == 0
    assert len(results(whole)) == 8
    assert results(folder) == results(whole)
    for table in ("table.csv", "settings.csv"):
        assert (folder / table).read_bytes() == (whole / table).read_bytes()
    assert {name: (folder / name / "result.json").stat().st_mtime_ns for name in before} == stamps


def test_the_same_command_means_the_same_folder_and_more_values_are_added(train, the_sweep):
    assert "2 to start" in train("seed=1,2").out
    folder = the_sweep()
    record = yaml.safe_load((folder / "sweep.yaml").read_text())
    assert record["axes"] == {"seed": [1, 2]}
    assert record["runs"] == {"seed-1": {"seed": 1}, "seed-2": {"seed": 2}}
    assert record["kind"] == "grid"
    assert record["base"]["trainer"]["max_steps"] == 3
    assert "seed" not in record["base"]
    more = ("seed=2,3", "trainer.threads=2", "logger=csv")
    fcntl = pytest.importorskip("fcntl")
    (folder / "seed-3").mkdir()
    with (folder / "seed-3" / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of another open file, as another process has it
        ended = train(*more)
    assert ended.code == 0
    assert "1 finished before, 1 to start" in ended.out
    assert "1 finished, 1 in work elsewhere" in ended.out
    assert "1 runs are added to the 2 of the folder" in ended.out
    assert "1 runs of the folder are not in this command" in ended.out
    assert sorted(results(folder)) == ["seed-1", "seed-2"]
    with held(folder / "seed-3"):  # free again
        pass
    assert "1 finished before, 1 to start" in train(*more).out
    assert sorted(results(folder)) == ["seed-1", "seed-2", "seed-3"]
    assert yaml.safe_load((folder / "sweep.yaml").read_text())["axes"] == {"seed": [1, 2, 3]}


def test_a_failed_run_does_not_stop_the_sweep_and_is_tried_again(train, the_sweep):
    options = ("dataset.batch_size=4000,4", "name=sizes")
    ended = train(*options, trained=True)
    assert ended.code == 1
    assert "1 finished, 1 failed" in ended.out
    folder = the_sweep()
    assert folder.name == "sizes"
    failed = read_result(folder / "batch_size-4000")
    assert failed.status == "failed"
    assert "dataset.batch_size" in failed.error
    assert "Traceback" in (folder / "batch_size-4000" / "error.txt").read_text()
    assert "batch_size-4000" in (folder / "failures.txt").read_text()
    assert read_result(folder / "batch_size-4").status == "finished"
    again = train(*options, trained=True)
    assert "1 finished before, 1 failed before and are tried again" in again.out
    assert again.code == 1


REFUSED = {
    "misspelt key": (["loss.alfa=0.5,1", "seed=1,2"], ["loss.alfa", "Did you mean loss.alpha?"]),
    "misspelt group": (["model=fexgan,stargun"], ["model=stargun", "stargan"]),
    "misspelt experiments": (
        ["experiment=nosuch,demo,neither"],
        ["experiment=nosuch: there is no such file in conf/experiment; expected one of", "experiment=neither: there"],
    ),
    "misspelt tuning": (
        ["tuning=nosuch,fexgan/ferg"],
        ["tuning=nosuch: there is no such file in conf/tuning", "1 of 2 runs: tuning-nosuch"],
    ),
    "a group that is gone": (
        ["optimizer=adam,stargan"],
        ["optimizer=adam: this group was removed", "optimizer=stargan"],
    ),
    "impossible values": (
        ["loss.alpha=1,-1", "trainer.log_every=0", "seed=1,2"],
        ["loss.alpha=-1", "2 of 4 runs: alpha--1_seed-1, alpha--1_seed-2", "trainer.log_every=0", "every run"],
    ),
    "a launcher that is not there": (
        ["hydra/launcher=moon", "loss.alpha=interval(0,1)", "seed=1,2", "loss.alfa=3"],
        ["hydra/launcher=moon", "loss.alfa", "fexgan_lit[sweeps]"],
    ),
    "no runs": (["seed=range(1,1)"], ["seed=range(1,1)", "0 runs"]),
    "interval": (["loss.alpha=interval(0,1)"], ["loss.alpha=interval(0,1)", "sweep=optuna"]),
    "twice": (["seed=1,2", "seed=3"], ["seed: given more than once"]),
    "one run to go on with": (["run=outputs/x", "seed=1,2"], ["run=", "the command that started it"]),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_sweep_that_cannot_be_used_starts_nothing(mistake, train, tmp_path):
    options, named = REFUSED[mistake]
    ended = train(*options, small=False)
    assert ended.code == 2, ended.err
    assert [word for word in named if word not in ended.err] == []
    assert "Traceback" not in ended.err
    assert ("seed=" in ended.err) == any("seed=" in word for word in named)  # what is right is not blamed
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_sweep_or_of_something_else_is_refused(train, tmp_path):
    place = f"hydra.sweep.dir={tmp_path / 'mine'}"
    train("seed=1,1", place, "trainer.max_steps=1")
    other = train("seed=1,2", place, "trainer.max_steps=1", "loss.beta=7")
    assert other.code == 2
    assert "loss.beta: the folder has" in other.err
    axes = train("loss.alpha=1,2", place, "trainer.max_steps=1")
    assert "axes: the folder has seed, the command loss.alpha" in axes.err
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    foreign = train("seed=1,2", f"hydra.sweep.dir={tmp_path / 'thesis'}")
    assert foreign.code == 2
    assert "is not empty and not a sweep" in foreign.err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]
