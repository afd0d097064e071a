"""The train suite: its table, its ratios, its options, its turns; no time is asserted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.train import Measured, TurnStream, composed_settings, noise_batch, tabulated
from fexgan_lit.runs.config import TrainerSettings
from fexgan_lit.training.trainer import build_trainer
from fexgan_lit.utils.timing import Timing
from tests.benchmarks.test_plain_loops import tiny
from tests.test_benchmark import run_benchmark

SETTINGS = BenchmarkSettings(suite="train")


def timing(*seconds):
    return Timing(np.array(seconds))


def measured(name="fexgan", cycle=1, compiled=None, **changes):
    """Three rounds: ours 0.2, 0.3, 0.5 s, the plain loop 0.1, 0.3, 0.2 s, a floor of 0.1 s and a roofline of 0.2 s."""
    timings = {"ours": timing(0.2, 0.3, 0.5), "plain": timing(0.1, 0.3, 0.2),
               "floor": timing(0.1, 0.1, 0.1), "roofline": timing(0.2, 0.2, 0.2)}  # fmt: skip
    if compiled:
        timings["compiled"] = timing(*compiled)
    rates = {"matrix product, float32": np.full(3, 100.0), "copy in memory": np.full(3, 40.0)}
    return Measured(name, cycle, timings, {torch.float32: 4e9, torch.bfloat16: 12e9}, 6.0, rates, **changes)


def test_figures_of_a_system():
    rows = {row.name: row for row in tabulated([measured()], SETTINGS)[0]}
    assert rows["fexgan: ours"].value.median == pytest.approx(300)
    assert rows["fexgan: plain loop"].value.median == pytest.approx(200)
    # 2, 1, 2.5: round by round, not 300 / 200
    assert rows["fexgan: ours / plain loop"].value.median == pytest.approx(2.0)
    assert rows["fexgan: ours / plain loop"].met is False
    assert rows["fexgan: computes"].value.median == pytest.approx(16)
    assert rows["fexgan: computes"].how == "4.0 in float32, 12.0 in bf16"
    assert rows["fexgan: floor"].value.median == pytest.approx(100)
    assert rows["fexgan: ours / floor"].value.median == pytest.approx(3.0)
    assert "6 GB" in rows["fexgan: roofline"].how
    assert rows["fexgan: ours / roofline"].value.median == pytest.approx(1.5)
    assert (rows["matrix product, float32"].value.median, rows["copy in memory"].value.median) == (100, 40)


def test_a_row_a_system_with_columns_for_compiled_networks_where_there_were_any():
    _, plain = tabulated([measured()], SETTINGS)
    assert plain.columns[:5] == ["system", "ours ms", "quartiles", "plain ms", "/plain"]
    assert plain.rows == [
        ["fexgan", "300", "250 .. 400", "200", "2.000", "16", "100", "3.000", "200", "1.500"]
    ]  # fmt: skip
    compiled = measured("stargan", 5, (0.1, 0.3, 0.25), compile_s=42.0)
    _, both = tabulated([measured(notes=["compile    nothing: no compiler"]), compiled], SETTINGS)
    assert {len(row) for row in both.rows} == {len(both.columns)} == {13}
    assert both.rows[0][-3:] == ["-", "-", "-"]
    assert both.rows[1][-3:] == ["250", "0.500", "42"]
    assert any("stargan 5" in note for note in both.notes)
    assert any("no compiler" in note for note in both.notes)  # why a system has no compiled figures


def test_the_systems_are_what_train_would_train():
    settings = BenchmarkSettings(suite="train", image_size=64, batch_size=6, width=0.5, precision="float32")
    options = composed_settings("fexgan_meta", settings)
    assert (options.model.name, options.model.encoder_label) == ("fexgan_meta", "source")
    assert (options.model.image_size, options.model.width, options.dataset.batch_size) == (64, 0.5, 6)
    assert options.trainer.precision == "float32"
    assert composed_settings("ganimation", settings).optimizer.n_critic == 5  # the published value, not a tuned one


def test_options_that_cannot_be_used_are_named_together():
    settings = BenchmarkSettings(suite="train", systems=["fexgan", "fexgun"], width=0, precision="half", stored=50)
    found = "\n".join(settings.problems())
    for words in ("systems=[fexgan, fexgun]", "landmark_label", "width=0", "precision=half"):
        assert words in found
    assert "stored" not in found  # which the train suite does not use
    assert "systems=[]" in BenchmarkSettings(systems=[]).problems()[0]


def test_the_door_writes_a_row_a_system(tmp_path):
    done = run_benchmark(tmp_path, "suite=train", "quick=true", "systems=[fexgan,stargan]", "precision=float32")
    assert done.returncode == 0, done.stderr
    (out,) = (tmp_path / "outputs").glob("benchmark_train_*")
    assert sorted(path.name for path in out.iterdir()) == ["benchmark.json", "benchmark.md"]
    content = json.loads((out / "benchmark.json").read_text())
    names = {row["name"] for row in content["results"]}
    assert {"fexgan: ours", "stargan: plain loop", "stargan: ours / floor", "matrix product, float32"} <= names
    assert all(row["value"]["median"] > 0 for row in content["results"])
    text = (out / "benchmark.md").read_text()
    assert text.count("| fexgan |") == text.count("| stargan |") == 1
    assert "systems=[fexgan,stargan]" in text
    assert "an iteration is the mean of one round of n_critic: stargan 5" in done.stdout


class Watched:
    """A stream whose batches and tasks are written down in the order in which they come."""

    def __init__(self, rounds=2, cycle=2, stances=None):
        self.seen = []
        others = {"plain": lambda: self.seen.append("plain"), "product": lambda: self.seen.append("product")}
        self.stream = TurnStream(noise_batch(2, 32, 4), cycle, stances or {"ours": None}, others, rounds)

    def run(self):
        for _ in self.stream:
            self.seen.append("batch")
        return self


def test_the_tasks_run_between_the_turns_of_the_trainer():
    watched = Watched().run()
    assert watched.seen == 3 * ["plain", "product", "batch", "batch"] + ["batch"]  # the last stops the clock
    assert len(watched.stream) == watched.seen.count("batch")


def test_a_trainer_runs_every_turn_and_all_of_them_are_timed(tmp_path):
    watched, system = Watched(rounds=1, cycle=3), tiny("fexgan")
    settings = TrainerSettings(accelerator="cpu", threads=1, max_steps=len(watched.stream), val_every=0)
    build_trainer(settings, [], [], str(tmp_path)).fit(system, watched.stream)
    assert system.iteration == len(watched.stream) == 2 * 3 + 1
    assert {name: len(each) for name, each in watched.stream.seconds.items()} == {"plain": 2, "product": 2, "ours": 2}


def test_turns_of_both_stances(monkeypatch):
    stances = []
    monkeypatch.setattr(torch.compiler, "set_stance", stances.append)
    stream = Watched(rounds=1, cycle=1, stances={"ours": "force_eager", "compiled": "default"}).run().stream
    assert stances == ["force_eager", "default"] * 2
    assert {"ours", "compiled"} <= set(stream.seconds)


def test_noise_has_all_that_a_system_may_read():
    batch = noise_batch(3, 32)
    assert batch.source.shape == (3, 3, 32, 32)
    assert batch.source.is_contiguous(memory_format=torch.channels_last)  # as the feed gives them
    assert -1 <= batch.source.min() < -0.9 < 0.9 < batch.target.max() <= 1
    assert batch.target_aus.shape == (3, 17)
    assert batch.target_landmarks.shape == (3, 68, 2)
    assert torch.equal(batch.source, noise_batch(3, 32).source)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(batch.source, batch.target)
