"""Workers that die: what is started again, and what is given up."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobReturn, JobStatus
from rich.console import Console

from fexgan_lit.runs.lock import held
from fexgan_lit.runs.result import make_result, now, read_result, write_result
from fexgan_lit.runs.sweeps.axes import Setting
from fexgan_lit.runs.sweeps.job import ELSEWHERE
from fexgan_lit.runs.sweeps.launcher import Launching, is_death
from fexgan_lit.runs.sweeps.progress import SweepProgress

SETTINGS = [Setting(f"seed-{i}", {"seed": i}, (f"seed={i}",)) for i in range(4)]


class Launcher:
    """Two workers at a time; a run that `kills` dies with its neighbour, as in a broken pool of joblib."""

    def __init__(self, folder: Path, kills: dict[str, int], error: type[Exception] = BrokenExecutor) -> None:
        self.folder, self.kills, self.error = folder, kills, error
        self.launched: list[list[str]] = []

    def launch(self, job_overrides, initial_job_idx):
        names = [job[0] for job in job_overrides]
        self.launched.append(names)
        for pair in (names[:2], names[2:]):
            for name in pair:
                with held(self.folder / name):
                    pass
                (self.folder / name / ".lock").touch()  # a killed process leaves it
            for name in pair:
                if self.kills.get(name, 0) > 0:
                    self.kills[name] -= 1
                    raise self.error("The exit codes of the workers are {SIGKILL(-9)}")
            for name in pair:
                if read_result(self.folder / name) is None:
                    write_result(self.folder / name, make_result("finished", iteration=1, seconds=0, started=now()))
        return [JobReturn(status=JobStatus.COMPLETED, _return_value={"status": "finished"}) for _ in names]


def launching(folder: Path, kills: dict[str, int], error: type[Exception] = BrokenExecutor) -> Launching:
    sweep_context = SimpleNamespace(launcher_name="joblib", job=lambda folder, setting: [setting.name])
    sweep_progress = SweepProgress(Console(quiet=True), folder, len(SETTINGS), in_turn=True)
    return Launching(sweep_context, Launcher(folder, kills, error), folder, sweep_progress)


def test_a_worker_that_dies_once_costs_nothing_but_time(tmp_path):
    work = launching(tmp_path, {"seed-1": 1})
    results = work.run(SETTINGS)
    assert {name: result["status"] for name, result in results.items()} == {s.name: "finished" for s in SETTINGS}
    assert work.launcher.launched == [[f"seed-{i}" for i in range(4)]] * 2


def test_only_the_run_that_kills_its_worker_is_given_up(tmp_path):
    work = launching(tmp_path, {"seed-2": 99})
    results = work.run(SETTINGS)
    statuses = {name: result["status"] for name, result in results.items()}
    assert statuses == {"seed-0": "finished", "seed-1": "finished", "seed-2": "failed", "seed-3": "finished"}
    assert "the worker died: killed, or out of memory" in results["seed-2"]["error"]
    assert read_result(tmp_path / "seed-2").status == "failed"
    # its neighbour died with it twice and was then given a worker of its own
    assert work.launcher.launched[2:] == [["seed-2"], ["seed-3"]]


def test_the_mistake_of_a_launcher_is_no_death(tmp_path):
    with pytest.raises(FileNotFoundError):
        launching(tmp_path, {"seed-0": 1}, FileNotFoundError).run(SETTINGS)
    assert is_death(type("UncompletedJobError", (RuntimeError,), {})())
    assert not is_death(MemoryError())


def test_an_error_that_a_job_could_not_keep_is_kept(tmp_path):
    work = launching(tmp_path, {})
    returned = JobReturn(status=JobStatus.FAILED, _return_value=ValueError("not even picklable"))
    assert work.result(SETTINGS[0], returned)["error"] == "ValueError: not even picklable"
    assert (tmp_path / "seed-0" / "error.txt").is_file()


def test_after_a_death_a_run_that_lives_on_is_waited_for(tmp_path):
    work = launching(tmp_path, {})
    work.deaths["seed-3"] = 1
    answers = iter([{"status": ELSEWHERE}, {"status": "finished"}])

    def launch(batch):
        return {setting.name: next(answers) for setting in batch}

    work.launch = launch
    assert work.run(SETTINGS[:1]) == {"seed-0": {"status": "finished"}}


def holder_of(lock: Path) -> int | None:
    """The process that holds a lock file, as the kernel lists it."""
    inode = str(lock.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        parts = line.split()
        if "FLOCK" in parts and parts[-3].endswith(f":{inode}"):
            return int(parts[-4])
    return None


@pytest.mark.fault
@pytest.mark.skipif(not Path("/proc/locks").is_file(), reason="the kernel does not list locks here")
def test_a_sweep_outlives_the_sigkill_of_a_worker(train, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    folder, killed = tmp_path / "multirun" / "mine", []

    def kill_one() -> None:
        deadline = time.monotonic() + 150
        while not killed and time.monotonic() < deadline:
            for checkpoint in folder.glob("*/checkpoints/last.ckpt"):
                run = checkpoint.parents[1]
                try:
                    if not (run / "result.json").exists() and (pid := holder_of(run / ".lock")):
                        os.kill(pid, signal.SIGKILL)
                        killed.append(run)
                        return
                except OSError:
                    continue
            time.sleep(0.002)

    killer = threading.Thread(target=kill_one)
    killer.start()
    options = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.max_steps=60", "seed=range(1,2)")
    ended = train(*options, f"hydra.sweep.dir={folder}", trained=True)
    killer.join()
    assert killed
    assert ended.code == 0, ended.out + ended.err
    assert "a worker died" in ended.out
    assert {read_result(path.parent).status for path in folder.glob("*/config.yaml")} == {"finished"}
    assert "resuming at iteration" in (killed[0] / "log.txt").read_text()


@pytest.mark.slow
def test_submitit_runs_a_sweep(train, the_sweep):
    """The executor on this machine; tests/cluster/slurm_sweep.sh starts a real SLURM."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    ended = train(
        "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "seed=range(3,4)", "trainer.max_steps=1"
    )
    assert ended.code == 0, ended.err
    assert "1 finished" in ended.out
    assert read_result(the_sweep() / "seed-3").iteration == 1


@pytest.mark.skipif(not os.environ.get("FEXGAN_LIT_TEST_SLURM"), reason="FEXGAN_LIT_TEST_SLURM=1 starts a real SLURM")
def test_slurm_runs_a_sweep():
    import subprocess
    import sys

    script = Path(__file__).parents[2] / "cluster" / "slurm_sweep.sh"
    subprocess.run([str(script)], check=True, timeout=200, env={**os.environ, "PYTHON": sys.executable})


def test_ray_runs_a_sweep(train, the_sweep):
    pytest.importorskip("ray")
    ended = train("hydra/launcher=ray", "seed=1,2", "trainer.max_steps=1")
    assert ended.code == 0, ended.err
    assert "2 finished" in ended.out
