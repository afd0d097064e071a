"""The benchmark command: what it writes and what it refuses; no time is asserted."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from fexgan_lit.benchmarks import motion
from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.report import Result
from fexgan_lit.utils.hydra import conf_folder
from fexgan_lit.utils.timing import Spread, Timing, take_turns
from tests.commands import run_command


def run_benchmark(folder, *overrides):
    return run_command(folder, "benchmark", *overrides)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    options = ("image_size=32", "batch_size=8", "stored=50", "frames=100", "rounds=1", "workers=1")
    return folder, run_benchmark(folder, "suite=data", "quick=true", *options)


def test_data_suite_writes_table_and_machine(quick):
    folder, done = quick
    assert done.returncode == 0, done.stderr
    (out,) = (folder / "outputs").glob("benchmark_data_*")
    assert sorted(path.name for path in out.iterdir()) == ["benchmark.json", "benchmark.md"]  # the scratch is gone
    content = json.loads((out / "benchmark.json").read_text())
    assert {"cpu", "cores", "torch", "torch_threads", "date"} <= set(content["machine"])
    assert content["options"]["batch_size"] == 8
    rows = {row["name"]: row for row in content["results"]}
    assert all(row["value"]["median"] > 0 for row in rows.values())
    targets = {
        "packed batch / memory copy": 1 / 3,
        "pack / folder loader, 0 workers": 20,
        "pack / folder loader, 1 workers": 20,
        "index for 162,000 files": 30,
        "packing / bare loop, 128 px JPG": 0.9,
        "studio_cartoon at 128 px": 60,
        "streamed batch / packed batch": None,
        "cold streamed / packed epoch": None,
        "warm streamed / packed epoch": None,
    }
    assert {name: rows[name]["target"] for name in targets} == targets
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    for kind in ("", "augmented "):
        assert {f"{how} {kind}batch on {device}" for how in ("packed", "resident")} <= set(rows)
        assert f"packed / resident, {kind}batch on {device}" in rows
    text = (out / "benchmark.md").read_text()
    assert all(name in text for name in rows)
    assert "quick=true: the amounts are too small" in done.stdout


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("suite=speed", "suite=speed: expected one of data, inference, motion, page, startup, train"),
        ("rounds=0", "rounds=0: expected 1 to 10000"),
        ("facekit=nowhere", "facekit=nowhere: there is no such file"),
        ("frmes=3", "Did you mean frames?"),
    ],
)
def test_mistakes_end_with_a_message_and_nothing_on_disk(tmp_path, override, message):
    done = run_benchmark(tmp_path, override)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.glob("outputs/*"))


def test_yaml_and_dataclass_agree():
    written = OmegaConf.to_container(OmegaConf.load(conf_folder() / "benchmark.yaml"), resolve=False)
    settings = BenchmarkSettings()
    assert {name: written[name] for name in set(written) - {"defaults", "hydra"}} == {
        field.name: getattr(settings, field.name) for field in fields(settings)
    }


def test_tasks_take_turns():
    order = []
    timings = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b", "a", "b", "a", "b"]  # the first of each is not timed
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]


def test_ratios_are_formed_round_by_round():
    slow, fast = Timing(np.array([2.0, 4.0, 8.0])), Timing(np.array([1.0, 1.0, 4.0]))
    assert fast.times_faster(slow) == Spread(2.0, 2.0, 3.0)
    assert fast.times_faster(slow, 0.5).median == 1.0
    assert slow.rate(8).median == 2.0


def test_targets_are_bounds_from_either_side():
    assert Result("a", Spread.of(2.0), "", target=2.0).met
    assert not Result("a", Spread.of(1.9), "", target=2.0).met
    assert Result("a", Spread.of(1.9), "", target=2.0, at_most=True).met
    assert Result("a", Spread.of(1.9), "").met is None


def test_the_motion_suite_samples_and_scores(tmp_path):
    results, table = motion.run(BenchmarkSettings(suite="motion", quick=True, rounds=1), tmp_path, lambda *_: None)
    rows = {result.name: result for result in results}
    assert rows["sample and score 100 motions"].target == 10
    assert [row[0] for row in table.rows] == list(rows)
    assert all(result.value.median > 0 for result in results)
