"""`trainer.profile`: a clock that adds up, ranges that leave nothing behind, tables that say where the time went."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from rich.console import Console

from fexgan_lit.benchmarks.flops import FlopsByPrecision
from fexgan_lit.profiling import ranges as ranges_module
from fexgan_lit.profiling.callback import TRACED, WARM_UP, ProfileRun
from fexgan_lit.profiling.parts import networks, part_names
from fexgan_lit.profiling.ranges import Ranges, Wrapped
from fexgan_lit.profiling.report import Operator, Profile, longest_operators, operators_table, parts_table
from tests.benchmarks.test_twins import tiny
from tests.systems.helpers import fit


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only when told."""

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(ranges_module, "time", clock)
    return clock


def test_an_inner_range_stops_the_outer_one(clock):
    ranges = Ranges(torch.device("cpu"))
    ranges.clear()
    clock.now = 1
    with ranges("step"):
        clock.now = 3
        with ranges("forward"):
            clock.now = 7
        clock.now = 8
        with ranges("forward"):
            clock.now = 8.5
    clock.now = 100
    with ranges("data"):
        clock.now = 101
    assert dict(ranges.seconds) == {"step": 3, "forward": 4.5, "data": 1}


def test_a_range_that_fails_leaves_the_clock_usable(clock):
    ranges = Ranges(torch.device("cpu"))
    with pytest.raises(ValueError, match="no"), ranges("data"):
        raise ValueError("no")
    clock.now = 5
    with ranges("step"):
        clock.now = 6
    assert ranges.seconds["step"] == 1


def test_wrapped_methods_answer_as_before_and_are_put_back():
    ranges, system = Ranges(torch.device("cpu")), tiny("ganimation")
    image = torch.rand(2, 3, 32, 32)
    before, attributes = system.critic(image), set(vars(system.critic))
    wrapped = Wrapped(ranges)
    wrapped.calls(system.critic, "critic")
    wrapped.method(system.critic, "scores", "scores")
    wrapped.method(system, "epoch_of_nobody", "absent")
    assert all(torch.equal(a, b) for a, b in zip(system.critic(image), before, strict=True))
    assert torch.equal(system.critic.scores(image), before[0])
    assert ranges.seconds["critic"] > 0
    assert ranges.seconds["scores"] > 0
    wrapped.restore()
    assert set(vars(system.critic)) == attributes
    ranges.clear()
    system.critic(image)
    assert not ranges.seconds


def test_a_compiled_network_is_timed_and_stays_compiled():
    ranges, network = Ranges(torch.device("cpu")), tiny("fexgan").discriminator
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    network.compile(backend=backend)
    compiled = network._compiled_call_impl
    wrapped = Wrapped(ranges)
    wrapped.calls(network, "discriminator")
    network(torch.rand(2, 3, 32, 32))
    assert len(graphs) == 1
    assert ranges.seconds["discriminator"] > 0
    wrapped.restore()
    assert network._compiled_call_impl is compiled


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
    model, system, said, folder = found
    text = (folder / "profile.md").read_text()
    rows = {cells[1].strip(): cells[2:-1] for line in text.splitlines() if len(cells := line.split("|")) == 5}
    critic = "critic" if model == "ganimation" else "discriminator"
    for part in ("data", "generator forward", f"{critic} backward", "optimizers", "moving average"):
        assert float(rows[part][0]) > 0, part
    assert float(rows["logging and callbacks"][0]) >= 20
    parts = [name for name in (*part_names(system), "unaccounted") if name in rows]
    assert sum(float(rows[name][0]) for name in parts) == pytest.approx(float(rows["an iteration"][0]), rel=0.01)
    assert f"mean of {4 if model == 'ganimation' else 3} iterations" in text  # whole rounds of n_critic
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
    assert "training_step" not in vars(system)
    assert "backward_into" not in vars(system)
    assert [set(vars(a)) - set(vars(b)) for a, b in zip(system.children(), plain.children(), strict=True)] == [
        set() for _ in plain.children()
    ]


def test_the_profile_counts_the_flop_of_an_iteration(found, tmp_path):
    model, *_, folder = found
    cycle = 2 if model == "ganimation" else 1
    with FlopsByPrecision() as counter:
        trained(model, cycle, tmp_path)
    line = next(line for line in (folder / "profile.md").read_text().splitlines() if "GFLOP" in line)
    assert float(line.split()[1]) == pytest.approx(sum(counter.counts.values()) / 1e9 / cycle, rel=1e-3)


def test_a_run_too_short_for_a_profile_says_so(tmp_path):
    _, said, folder = profiled("fexgan", tmp_path, iterations=WARM_UP + TRACED + 1, wanted=3)
    assert "nothing: it takes 10 iterations or more, 9 are to come" in said
    assert not folder.exists()


def test_the_moving_average_is_no_network_of_the_step():
    assert list(networks(tiny("fexgan"))) == ["generator", "discriminator"]


def test_tables_add_up():
    profile = Profile(
        np.array([0.1, 0.3]), {"data": 0.05, "step": 0.1},
        [Operator(f"aten::{n}", 2, 0.001 * (20 - n)) for n in range(18)], sum(0.001 * (20 - n) for n in range(18)),
        gflop=40.0, floor_s=0.1,
    )  # fmt: skip
    table = parts_table(profile)
    assert table.rows == (
        ("data", "50", "25.0%"), ("step", "100", "50.0%"), ("unaccounted", "50", "25.0%"),
        ("an iteration", "200", "100.0%"),
    )  # fmt: skip
    assert "40 GFLOP" in table.notes[2]
    assert "100 ms: an iteration takes 2 times that" in table.notes[2]
    operators = operators_table(profile).rows
    assert len(operators) == 16
    assert operators[0] == ("aten::0", "2", "20", "9.7%")
    assert operators[-1][:3] == ("3 others", "6", "12")


def test_ranges_and_hooks_of_optimizers_are_no_operators():
    class Row:
        def __init__(self, key, count, cpu, gpu):
            self.key, self.count, self.self_cpu_time_total, self.self_device_time_total = key, count, cpu, gpu

    rows = [Row("data", 2, 9e6, 0), Row("Optimizer.step#Adam.step", 2, 9e6, 0), Row("aten::mm", 4, 2e6, 8e6),
            Row("aten::add", 2, 6e6, 0)]  # fmt: skip
    assert longest_operators(rows, 2, False, ["data"]) == [Operator("aten::add", 1, 3.0), Operator("aten::mm", 2, 1.0)]
    assert longest_operators(rows, 2, True, ["data"]) == [Operator("aten::mm", 2, 4.0)]
