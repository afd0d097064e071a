"""The metrics suite of the benchmark: what counts as what; no time is asserted."""

from __future__ import annotations

import time

import pytest

from fexgan_lit.benchmark import load_suite
from fexgan_lit.benchmarks.metrics import Clock, share_results
from fexgan_lit.benchmarks.settings import BenchmarkSettings


def test_time_within_something_is_counted_once(monkeypatch):
    now = iter([0.0, 1.0, 4.0, 10.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    clock = Clock()
    with clock.running("outer"):
        assert clock.timed("inner", lambda x: x + 1)(1) == 2
    assert clock.seconds == {"inner": 3.0, "outer": 7.0}


def test_share_is_that_of_generator_and_judge():
    seconds = {"generator": 80.0, "judge": 10.0, "KID": 4.0, "the rest": 6.0}
    total, share, without = share_results(seconds, BenchmarkSettings(suite="metrics"))
    assert total.value.median == pytest.approx(100.0)
    assert (share.value.median, share.target, share.met) == (pytest.approx(0.9), 0.9, True)
    assert without.value.median == pytest.approx(0.5)


def test_suite_names_every_part(tmp_path):
    told = []
    settings = BenchmarkSettings(suite="metrics", quick=True, image_size=32, images=40)
    results, table = load_suite("metrics")(settings, tmp_path, lambda what, n, total: told.append((what, n, total)))
    assert table is None
    rows = {result.name: result for result in results}
    parts = {"generator", "judge", "SSIM, MS-SSIM, PSNR", "KID", "precision, recall, density, coverage", "the rest"}
    assert parts | {"share of the networks", "Fréchet distance", "real side, first time"} <= set(rows)
    assert rows["measured"].value.median == pytest.approx(
        sum(row.value.median for row in results if row.unit == "ms an image") * 40 / 1e3
    )
    assert told[-1] == ("generated", 40, 40)
    assert not list(tmp_path.iterdir())
