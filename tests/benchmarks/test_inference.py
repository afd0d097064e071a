"""The inference suite: every part beside the decoder, whatever the system; no time is asserted."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from fexgan_lit.benchmarks import inference
from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.utils.timing import Timing
from tests.inference.conftest import make_run

QUICK = BenchmarkSettings(suite="inference", quick=True).reduced()


def told(name: str, done: int, total: int) -> None:
    """Progress."""


def test_every_part_is_timed_beside_the_decoder(tmp_path):
    results, table = inference.run(QUICK, tmp_path, told)
    names = [row[0] for row in table.rows]
    networks, onnx = ["encoder", "decoder", "discriminator", "generator"], ["decoder, ONNX", "generator, ONNX"]
    assert names == [*networks, "synthesize, image in and out", *onnx, "generator, ONNX in 8 bits"]
    assert [row[table.columns.index("/ decoder")] for row in table.rows if row[0] == "decoder"] == ["1"]
    assert {result.how for result in results} == {"batch of 1", "batch of 16"}
    assert "fexgan, 32 px" in table.notes[0]
    assert not list(tmp_path.iterdir()), "the files were temporary"


def test_a_run_without_decoder_and_a_machine_without_onnx(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a))
    run = make_run(tmp_path / "run", "landmark_label")
    settings = BenchmarkSettings(suite="inference", run=str(run), rounds=1)
    results, table = inference.run(settings, tmp_path / "out", told)
    assert next(row[0] for row in table.rows) == "generator"
    assert "/ generator" in table.columns
    assert not any("ONNX" in result.name for result in results)


def test_ratios_are_to_the_floor_and_to_the_networks_inside():
    timings = {1: {"decoder": Timing(np.array([0.002, 0.002])), "generator": Timing(np.array([0.004, 0.006])),
                   "synthesize, image in and out": Timing(np.array([0.005, 0.0066]))}}  # fmt: skip
    results, table = inference.tabulated(timings, "decoder", ())
    results = {result.name: result for result in results}
    assert results["generator"].value.median == pytest.approx(5.0), "milliseconds"
    assert results["generator / decoder"].value.median == pytest.approx(2.5)
    added = results["synthesize / its networks"]
    assert added.value.median == pytest.approx((1.25 + 1.1) / 2)
    assert added.met is True
    assert table.rows[1] == ["generator", "5", "4.5 .. 5.5", "2.5"]
