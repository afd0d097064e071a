"""The startup suite: seconds from a command to its first answer, beside what Python and torch take alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fexgan_lit.benchmarks.report import Result
from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.benchmarks.timing import Spread, Timing, take_turns
from fexgan_lit.errors import UserError

#: What a command may take: seconds until its help is there, and until the first iteration is done.
HELP_TARGET, STEP_TARGET = 2.0, 8.0
#: Doors whose help is timed.
DOORS = ("train", "evaluate", "generate", "export", "convert", "prepare", "benchmark")
#: A training whose first iteration is waited for; the pack of its frames is made before the clock starts.
FIRST_STEP = ("trainer.max_steps=1", "trainer.log_every=1", "metrics.judge=false", "metrics.samples=2",
              "trainer.val_every=0", "trainer.figures_every=0", "dataset.val_limit=2")  # fmt: skip
_POLL_S = 0.01
_PATIENCE_S = 300


def startup_suite(
    settings: BenchmarkSettings, folder: Path, progress: Callable[[str, int, int], None]
) -> tuple[list[Result], None]:
    """Every row of the table; processes are started in turns, one at a time."""
    rounds = min(settings.rounds, 5)
    doors = DOORS[:1] if settings.quick else DOORS
    with TemporaryDirectory(dir=settings.scratch or folder) as scratch:
        tasks: dict[str, Callable[[], object]] = {
            "python": lambda: _run("-c", "pass"),
            "import torch": lambda: _run("-c", "import torch"),
            "import lightning": lambda: _run("-c", "import lightning.pytorch"),
        }
        tasks |= {f"{door} --help": partial(_run, "-m", f"fexgan_lit.{door}", "--help") for door in doors}
        done = count(1)
        total = len(tasks) * (rounds + 1)
        counted = {
            name: _counted(task, lambda: progress("starting commands", next(done), total))
            for name, task in tasks.items()
        }
        timings = take_turns(counted, rounds)
        progress("waiting for first iterations", 0, rounds)
        steps = first_steps(Path(scratch), rounds, lambda n: progress("waiting for first iterations", n, rounds))
    return [*command_rows(timings), *step_rows(steps, timings)], None


def command_rows(timings: Mapping[str, Timing]) -> list[Result]:
    """Python and torch alone, then the help of every door."""
    rows = []
    for name, timing in timings.items():
        target = HELP_TARGET if name.endswith("--help") else None
        rows.append(Result(name, timing.spread_s(), "s", "a process of its own", target, at_most=True))
    return rows


def step_rows(steps: np.ndarray, timings: Mapping[str, Timing]) -> list[Result]:
    """The first iteration, and how often it is its floor: the imports it cannot do without."""
    floor = timings["import lightning"]
    how = "from the command to the row of iteration 1 in metrics.csv, pack there"
    return [
        Result("first iteration", Spread.of(steps), "s", how, STEP_TARGET, at_most=True),
        Result("first iteration / import lightning", Spread.of(steps / floor.median), "", "the floor: imports alone"),
    ]


def first_steps(scratch: Path, rounds: int, progress: Callable[[int], None]) -> np.ndarray:
    """(rounds,) seconds until the first iteration of the embedded default is logged; once before, untimed."""
    seconds = []
    for number in range(rounds + 1):
        passed = first_step(scratch / f"run{number}")
        seconds += [passed] if number else []
        progress(number)
    return np.array(seconds)


def first_step(run: Path) -> float:
    """Seconds from the command to the first row of metrics.csv; the process is ended then.

    Raises:
        UserError: the training ended, or took minutes, without a row.
    """
    start = time.perf_counter()
    command = [sys.executable, "-m", "fexgan_lit.train", *FIRST_STEP, f"hydra.run.dir={run}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
    try:
        while not (run / "metrics.csv").exists():
            if process.poll() is not None or time.perf_counter() - start > _PATIENCE_S:
                said = process.communicate()[1].decode(errors="replace")[-500:] if process.poll() is not None else ""
                raise UserError(f"the training gave no first iteration: {said or f'{_PATIENCE_S} s passed'}")
            time.sleep(_POLL_S)
        return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()


def _run(*arguments: str) -> None:
    environment = {**os.environ, "HYDRA_FULL_ERROR": "0"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)  # noqa: S603


def _counted(task: Callable[[], object], tick: Callable[[], None]) -> Callable[[], None]:
    """`task`, then a step of the bar."""

    def run() -> None:
        task()
        tick()

    return run
