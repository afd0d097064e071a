"""The train suite: its table, its ratios, its options; no time is asserted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.benchmarks.timing import Timing
from fexgan_lit.benchmarks.train import composed_settings
from fexgan_lit.benchmarks.train_rows import Measured, rate_results, summary, system_results
from tests.test_benchmark_door import run_benchmark


def timing(*seconds):
    return Timing(np.array(seconds))


def measured(**changes):
    """Three rounds: ours 0.2, 0.3, 0.5 s, its twin 0.1, 0.3, 0.2 s, and a floor of 0.1 s in each."""
    return Measured(**{
        "name": "fexgan", "cycle": 1, "ours": timing(0.2, 0.3, 0.5), "twin": timing(0.1, 0.3, 0.2),
        "flops": {torch.float32: 4e9, torch.bfloat16: 12e9},
        "rates": {torch.float32: np.full(3, 1e11), torch.bfloat16: np.full(3, 2e11)},
        "gigabytes": 6.0, "copies": np.full(3, 4e10), "roofline": timing(0.2, 0.2, 0.2),
    } | changes)  # fmt: skip


def test_figures_of_a_system():
    rows = {row.name: row for row in system_results(measured())}
    assert rows["fexgan: ours"].value.median == pytest.approx(300)
    assert rows["fexgan: plain twin"].value.median == pytest.approx(200)
    assert rows["fexgan: ours / twin"].value.median == pytest.approx(2.0)  # 2, 1, 2.5: round by round, not 300 / 200
    assert rows["fexgan: ours / twin"].met is False
    assert rows["fexgan: computes"].value.median == pytest.approx(16)
    assert rows["fexgan: computes"].how == "4.0 in float32, 12.0 in bf16"
    assert rows["fexgan: floor"].value.median == pytest.approx(100)
    assert rows["fexgan: ours / floor"].value.median == pytest.approx(3.0)
    assert rows["fexgan: moves"].value.median == pytest.approx(6)
    assert rows["fexgan: ours / roofline"].value.median == pytest.approx(1.5)
    assert rows["fexgan: 100,000 iterations"].value.median == pytest.approx(0.3e5 / 3600)
    assert [row.value.median for row in rate_results([measured()])] == pytest.approx([100, 200, 40])


def test_a_row_a_system_with_columns_for_compiled_networks_where_there_were_any():
    plain = summary([measured()], BenchmarkSettings(suite="train"))
    assert plain.rows == [("fexgan", "300", "250..400", "200", "2.000", "16", "100", "3", "200", "1.5")]
    compiled = measured(name="stargan", cycle=5, compiled=timing(0.1, 0.3, 0.25), compile_s=42.0)
    both = summary([measured(note="compile    nothing: no compiler"), compiled], BenchmarkSettings(suite="train"))
    assert {len(row) for row in both.rows} == {len(both.columns)} == {13}
    assert both.rows[0][-3:] == ("-", "-", "-")
    assert both.rows[1][-3:] == ("250", "0.500", "42")
    notes = "\n".join(both.notes)
    assert "stargan 5" in notes
    assert "no compiler" in notes  # why a system has no compiled figures
    graphs = summary([measured(graphs="graphs     nothing: CUDA graphs need")], BenchmarkSettings(suite="train"))
    assert "nothing: CUDA graphs need" in "\n".join(graphs.notes)


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
    for words in ("systems=[fexgun]", "landmark_label", "width=0", "precision=half"):
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
    assert {"fexgan: ours", "stargan: plain twin", "stargan: ours / floor", "matrix product, float32"} <= names
    assert all(row["value"]["median"] > 0 for row in content["results"])
    text = (out / "benchmark.md").read_text()
    assert text.count("| fexgan |") == text.count("| stargan |") == 1
    assert "systems=[fexgan,stargan]" in text
    assert "an iteration is the mean of one round of n_critic: stargan 5" in done.stdout
