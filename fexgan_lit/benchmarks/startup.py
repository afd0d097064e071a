"""The startup suite: seconds from a command to its first output, compared with importing Python and torch alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.report import Progress, Result, Table, listed
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.timing import Spread, Timing, take_turns

#: The most seconds until a command has printed its help, and until the first iteration is done.
HELP_TARGET, STEP_TARGET = 2.0, 8.0
#: Commands whose help is timed.
COMMANDS = ("train", "evaluate", "generate", "export", "convert", "prepare", "benchmark")
#: Options of the training whose first iteration is timed; the untimed first round packs its frames.
FIRST_STEP = ("trainer.max_steps=1", "trainer.log_every=1", "metrics.judge=false", "metrics.samples=2",
              "trainer.val_every=0", "trainer.figures_every=0", "dataset.val_limit=2")  # fmt: skip
PATIENCE_S = 300


def run(settings: BenchmarkSettings, folder: Path, progress: Progress) -> tuple[list[Result], Table]:
    """Time all processes in turns, one at a time."""
    rounds, runs, started = min(settings.rounds, 5), count(), count()
    with TemporaryDirectory(dir=settings.scratch or folder) as scratch:
        tasks: dict[str, Callable[[], object]] = {
            "python": lambda: start_python("-c", "pass"),
            "import torch": lambda: start_python("-c", "import torch"),
            "import lightning": lambda: start_python("-c", "import lightning.pytorch"),
            "first iteration": lambda: first_step(Path(scratch) / f"run{next(runs)}"),
        }
        for name in COMMANDS[:1] if settings.quick else COMMANDS:
            tasks[f"{name} --help"] = partial(start_python, "-m", f"fexgan_lit.{name}", "--help")
        total = len(tasks) * (rounds + 1)

        def announced(name: str) -> None:
            progress(name, next(started), total)
            tasks[name]()

        timings = take_turns({name: partial(announced, name) for name in tasks}, rounds)
    results = results_of(timings)
    return results, listed(results)


def results_of(timings: dict[str, Timing]) -> list[Result]:
    """Return a result for every command, and the time of the first iteration relative to its imports."""
    results = []
    for name, timing in timings.items():
        target, how = HELP_TARGET if name.endswith("--help") else None, "in a separate process"
        if name == "first iteration":
            target, how = STEP_TARGET, "from the command to the row of iteration 1 in metrics.csv, frames packed before"
        results.append(Result(name, Spread.of(timing.seconds), "s", how, target, at_most=True))
    ratio = timings["import lightning"].times_faster(timings["first iteration"])
    return [*results, Result("first iteration / import lightning", ratio, "", "the floor is importing alone")]


def start_python(*arguments: str) -> None:
    """Run Python and wait until it exits."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def first_step(folder: Path) -> None:
    """Train in a separate process until metrics.csv has its first row.

    Raises:
        UserError: the training ended or timed out before that.
    """
    end = time.perf_counter() + PATIENCE_S
    command = [sys.executable, "-m", "fexgan_lit.train", *FIRST_STEP, f"hydra.run.dir={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
    try:
        while not (folder / "metrics.csv").exists():
            if process.poll() is not None:
                said = process.communicate()[1].decode(errors="replace")[-500:]
                raise UserError(f"the training ended before its first iteration: {said}")
            if time.perf_counter() > end:
                raise UserError(f"the training did not finish its first iteration within {PATIENCE_S} s")
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
