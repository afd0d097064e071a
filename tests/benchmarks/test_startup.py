"""The startup suite: what is waited for, in which turns, against which bound."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fexgan_lit.benchmarks import startup
from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.benchmarks.timing import Timing
from fexgan_lit.errors import UserError


def test_every_door_and_the_first_iteration_have_a_row(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(startup, "_run", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(startup, "first_step", lambda run: 4.0)
    rows, table = startup.startup_suite(BenchmarkSettings(suite="startup", rounds=2), tmp_path, lambda *_: None)
    assert table is None
    named = {row.name: row for row in rows}
    assert {f"{door} --help" for door in startup.DOORS} | {"import torch", "first iteration"} <= set(named)
    assert named["first iteration"].value.median == 4.0
    assert named["first iteration"].met  # at most 8 s
    # a warm-up and two rounds, in turns
    assert len(started) == 3 * (3 + len(startup.DOORS))
    assert started[0] != started[1]


def test_the_bound_on_help_is_from_above():
    slow = startup.command_rows({"train --help": Timing(np.array([2.5, 2.5])), "import torch": Timing(np.array([9.0]))})
    assert [row.met for row in slow] == [False, None]


def test_a_training_that_ends_without_an_iteration_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "FIRST_STEP", ("trainer.max_step=1",))
    monkeypatch.setattr(startup.sys, "executable", str(quick_failure(tmp_path)))
    with pytest.raises(UserError, match="no first iteration: no such option"):
        startup.first_step(tmp_path / "run")


def quick_failure(folder: Path) -> Path:
    """A program that fails at once."""
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such option')\n")
    script.chmod(0o755)
    return script
