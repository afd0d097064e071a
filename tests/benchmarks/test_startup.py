"""The startup suite: what is waited for, in which turns, against which bound."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fexgan_lit.benchmarks import startup
from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.timing import Timing


def test_every_command_and_the_first_iteration_have_a_row(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(startup, "start_python", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(startup, "first_step", lambda folder: started.append(folder))
    rows, table = startup.run(BenchmarkSettings(suite="startup", rounds=2), tmp_path, lambda *_: None)
    names = {row.name for row in rows}
    assert {f"{name} --help" for name in startup.COMMANDS} | {"import torch", "first iteration"} <= names
    assert len(table.rows) == len(rows)
    # a warm-up and two rounds, in turns
    assert len(started) == 3 * (4 + len(startup.COMMANDS))
    assert len({str(each) for each in started[: 4 + len(startup.COMMANDS)]}) == 4 + len(startup.COMMANDS)


def test_bounds_are_from_above_and_the_ratio_is_to_the_imports():
    seconds = {"train --help": 2.5, "import torch": 9.0, "import lightning": 2.0, "first iteration": 4.0}
    rows = startup.results_of({name: Timing(np.array([value, value])) for name, value in seconds.items()})
    assert [row.met for row in rows] == [False, None, None, True, None]
    assert rows[-1].value.median == 2.0


def test_a_training_that_ends_without_an_iteration_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "FIRST_STEP", ("trainer.max_step=1",))
    monkeypatch.setattr(startup.sys, "executable", str(quick_failure(tmp_path)))
    with pytest.raises(UserError, match="before its first iteration: no such option"):
        startup.first_step(tmp_path / "run")


def quick_failure(folder: Path) -> Path:
    """A program that fails at once."""
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such option')\n")
    script.chmod(0o755)
    return script
