"""`trainer.profile`: parts that add up, a trace, and nothing of it left behind."""

from __future__ import annotations

import io
import json
import time

import pytest
import torch
from lightning.pytorch import Callback
from rich.console import Console

from fexgan_lit.training import profiling
from fexgan_lit.training.flops import FlopsByPrecision
from fexgan_lit.training.profiling import TRACED, WARM_UP, PartProfiler, ProfileRun
from tests.benchmarks.test_plain_loops import tiny
from tests.systems.helpers import fit


def test_an_inner_part_stops_the_outer_one(monkeypatch):
    now = 0.0
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now)
    parts = PartProfiler(torch.device("cpu"))
    now = 1.0
    with parts.profile("[Strategy]SingleDeviceStrategy.training_step"):
        now = 3.0
        with parts.profile("generator forward"):
            now = 7.0
        now = 8.0
        with parts.profile("generator forward"):
            now = 8.5
    now = 100.0
    with parts.profile("[_TrainingEpochLoop].train_dataloader_next"):
        now = 101.0
    step = "losses, penalties and the rest of the step"
    assert parts.seconds == {"Lightning's loop": 92.5, step: 3, "generator forward": 4.5, "data": 1}


class Slow(Callback):
    """A callback whose time is known."""

    def on_train_batch_end(self, *_):
        time.sleep(0.02)


def profiled(model, tmp_path, iterations, wanted):
    """The system, the run's terminal and the sub-folder of a training with a profile."""
    system, console = tiny(model), Console(file=io.StringIO(), width=150)
    fit(system, iterations, tmp_path, callbacks=[ProfileRun(wanted, tmp_path / "profile", console), Slow()])
    return system, console.file.getvalue(), tmp_path / "profile"


@pytest.fixture(scope="module", params=["fexgan", "ganimation"])
def found(request, tmp_path_factory):
    """Model, system, what the terminal showed and the folder of a run of twelve iterations or of a few more."""
    iterations = 12 if request.param == "fexgan" else 16
    return request.param, *profiled(request.param, tmp_path_factory.mktemp("run"), iterations, wanted=3)


def trained(model, iterations, tmp_path):
    """The same without a profile."""
    system = tiny(model)
    fit(system, iterations, tmp_path)
    return system


def test_the_parts_of_an_iteration_add_up(found):
    model, _, said, folder = found
    text = (folder / "profile.md").read_text()
    lines = [line.split("|") for line in text.splitlines() if line.count("|") == 4]
    rows = {cells[1].strip(): float(cells[2]) for cells in lines[2:]}
    critic = "critic" if model == "ganimation" else "discriminator"
    for part in ("data", "generator forward", f"{critic} backward", "optimizers", "moving average"):
        assert rows[part] > 0, part
    assert rows["logging and callbacks"] >= 20
    whole = rows.pop("an iteration")
    assert sum(rows.values()) == pytest.approx(whole, rel=0.01)
    assert "convolution_backward" in text
    assert "Time of an iteration" in said
    assert str(folder / "profile.md") in said.replace("\n", "")


def test_the_trace_shows_parts_and_operators(found):
    *_, folder = found
    names = {event.get("name") for event in json.loads((folder / "trace.json").read_text())["traceEvents"]}
    assert {"generator forward", "generator backward", "optimizers", "aten::convolution"} <= names


def test_the_profile_changes_neither_the_training_nor_the_system(found, tmp_path):
    model, system, *_ = found
    plain = trained(model, system.iteration, tmp_path)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(system.state_dict()[name], value, rtol=0, atol=0, equal_nan=True)
    assert not any(network._forward_hooks or network._forward_pre_hooks for network in system.children())
    assert not isinstance(system.trainer.profiler, PartProfiler)


def test_the_profile_counts_the_flop_of_an_iteration(found, tmp_path):
    model, *_, folder = found
    cycle = 2 if model == "ganimation" else 1
    with FlopsByPrecision() as counter:
        trained(model, cycle, tmp_path)
    line = next(line for line in (folder / "profile.md").read_text().splitlines() if "GFLOP in" in line)
    assert float(line.split()[1]) == pytest.approx(sum(counter.counts.values()) / 1e9 / cycle, rel=1e-3)


def test_a_run_too_short_for_a_profile_says_so(tmp_path):
    _, said, folder = profiled("fexgan", tmp_path, iterations=WARM_UP + TRACED + 1, wanted=3)
    assert "nothing: it needs 10 iterations or more, but only 9 are left" in said
    assert not folder.exists()
