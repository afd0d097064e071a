"""Intervals, seeds together, differences pair by pair, and the tables they become."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from fexgan_lit.evaluation.measure import Scores
from fexgan_lit.evaluation.methods import CEILING, FLOOR
from fexgan_lit.evaluation.summary import best, differences, standings
from fexgan_lit.evaluation.tables import as_latex, cell, differences_table, long_form, standings_table
from fexgan_lit.metrics.statistics import bootstrap_mean, draw_resamples, paired_difference

N = 400
RESAMPLES = draw_resamples(N, 1000, seed=0)


def scores(name: str, ssim: np.ndarray | float, seed: int | None = None, **numbers: float) -> Scores:
    run = None if seed is None else f"outputs/{name}_{seed}"
    return Scores(name, {"ssim": np.broadcast_to(np.asarray(ssim, float), (N,)).copy()}, numbers, run=run, seed=seed)


def test_interval_of_a_share_is_the_binomial_one():
    values = np.repeat([0.0, 1.0], [N // 4, 3 * N // 4])
    found = bootstrap_mean(values, RESAMPLES)
    half = 1.96 * np.sqrt(0.75 * 0.25 / N)
    assert found.mean == 0.75
    assert found.n == N
    assert found.low == pytest.approx(0.75 - half, abs=0.006)
    assert found.high == pytest.approx(0.75 + half, abs=0.006)


def test_pairs_without_a_value_are_left_out_and_counted():
    values = np.where(np.arange(N) % 2, np.nan, 0.5)
    found = bootstrap_mean(values, RESAMPLES)
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.5, 0.5, N // 2)
    with pytest.raises(ValueError, match="no pair has a value"):
        bootstrap_mean(np.full(N, np.nan), RESAMPLES)


def test_pairing_settles_what_two_intervals_leave_open():
    hard = np.random.default_rng(0).normal(0.5, 0.3, N)  # what is hard for one is hard for the other
    first, second = hard + 0.01, hard
    a, b = bootstrap_mean(first, RESAMPLES), bootstrap_mean(second, RESAMPLES)
    assert a.low < b.high, "alone the two overlap"
    difference = paired_difference(first, second, RESAMPLES)
    assert difference.excludes_zero
    assert difference.mean == pytest.approx(0.01)


def test_seeds_of_one_name_are_one_row_with_their_deviation():
    rows = standings([scores("a", 0.8, 1, fd_judge=2.0), scores("a", 0.9, 2, fd_judge=4.0)], RESAMPLES)
    assert [row.name for row in rows] == ["a"]
    row = rows[0]
    assert row.seeds == (1, 2)
    assert row.figures["ssim"].mean == pytest.approx(0.85)
    assert row.figures["ssim"].deviation == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert row.figures["fd_judge"].mean == 3.0
    assert row.figures["fd_judge"].interval is None, "a distance of sets has no value a pair"


def test_best_follows_the_way_that_is_better_and_never_names_ceiling_or_floor():
    ceiling, floor = scores(CEILING, 1.0, fd_judge=0.0), scores(FLOOR, 0.1, fd_judge=9.0)
    rows = standings(
        [ceiling, floor, scores("a", 0.8, 1, fd_judge=2.0), scores("b", 0.7, 1, fd_judge=1.0, d_real_binary=0.9)],
        RESAMPLES,
    )
    assert best(rows, "ssim") == "a"
    assert best(rows, "fd_judge") == "b"
    assert best(rows, "d_real_binary") is None
    table = standings_table(rows, ["ssim", "fd_judge"], "Standings")
    assert table.rows[2][1] == "**0.800**"
    assert table.rows[3][2] == "**1.000**"
    assert not any(text.startswith("**") for row in table.rows[:2] for text in row)


def test_one_system_alone_is_not_the_best():
    rows = standings([scores(CEILING, 1.0), scores("a", 0.8, 1)], RESAMPLES)
    assert standings_table(rows, ["ssim"], "t").rows[1][1] == "0.800"


def test_differences_are_between_systems_and_bracket_what_could_be_nothing():
    noise = np.random.default_rng(1).normal(0, 0.2, N)
    rows = standings(
        [scores(FLOOR, 0.1), scores("a", 0.8 + noise, 1), scores("b", 0.7, 1), scores("c", 0.8, 1)], RESAMPLES
    )
    found = {(d.first, d.second): d.interval for d in differences(rows, RESAMPLES)}
    assert set(found) == {("a", "b"), ("a", "c"), ("b", "c")}
    cells = {row[0]: row[1] for row in differences_table(differences(rows, RESAMPLES), ["ssim"]).rows}
    assert cells["b - c"] == "-0.100"
    assert cells["a - c"].startswith("("), "noise alone"


def test_a_cell_says_mean_deviation_and_interval():
    rows = standings([scores("a", np.linspace(0, 1, N), 1), scores("a", np.linspace(0, 1, N), 2)], RESAMPLES)
    text = cell("ssim", rows[0].figures["ssim"])
    assert text.startswith("0.500 ± 0.000 [0.4")
    assert cell("ssim", None) == "-"


def test_csv_and_latex_hold_every_row():
    rows = standings([scores(CEILING, 1.0), scores("a_b", 0.8, 1, fd_judge=2.5), scores("c", 0.7, 1)], RESAMPLES)
    text = long_form(rows).to_csv(index=False)
    lines = list(csv.DictReader(io.StringIO(text)))
    assert {(line["method"], line["metric"]) for line in lines} == {
        (CEILING, "ssim"), ("a_b", "ssim"), ("a_b", "fd_judge"), ("c", "ssim"),
    }  # fmt: skip
    assert next(line for line in lines if line["metric"] == "fd_judge")["low"] == ""
    latex = as_latex(rows, ["ssim", "fd_judge"])
    assert r"a\_b & \textbf{0.800} & \textbf{2.500} \\" in latex
    assert r"SSIM $\uparrow$ & fd\_judge $\downarrow$" in latex
    assert latex.count(r"\\") == 4


def test_a_ratio_is_best_near_one_and_half_is_as_far_as_double():
    rows = standings([scores(name, 0.9, 1, sharpness=r) for name, r in (("a", 0.4), ("b", 1.9), ("c", 2.2))], RESAMPLES)
    assert best(rows, "sharpness") == "b"
    table = standings_table(rows, ["sharpness"], "t")
    assert table.header[1] == "sharpness → 1"
    assert [row[1].startswith("**") for row in table.rows] == [False, True, False]
