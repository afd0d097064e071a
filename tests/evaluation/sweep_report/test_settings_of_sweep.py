"""Settings in order, their deviation, the Pareto front: against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from fexgan_lit.evaluation.sweep_report.settings import pareto_front, ranked, settings_of, short_names
from fexgan_lit.metrics.registry import find_measure, metric_info, objectives
from fexgan_lit.utils.errors import UserError
from tests.evaluation.sweep_report.conftest import ACCURACY, FD, SSIM, finished_run, sweep_of


def by_label(*runs):
    return {setting.label: setting for setting in settings_of(sweep_of(*runs))}


def test_mean_and_deviation_over_seeds_with_n_minus_one():
    runs = [finished_run(f"r{s}", {"loss.alpha": 0.5, "seed": s}, fd=v) for s, v in ((1, 1.0), (2, 2.0), (3, 6.0))]
    setting = by_label(*runs)["alpha 0.5"]
    assert setting.figures[FD].mean == 3.0
    assert setting.figures[FD].deviation == pytest.approx(math.sqrt(7))  # (4 + 1 + 9) / 2
    assert setting.figures[FD].by_seed == {1: 1.0, 2: 2.0, 3: 6.0}


def test_one_seed_has_no_deviation_and_a_run_made_twice_counts_twice():
    assert by_label(finished_run("a", {"x": 1}, fd=1.0))["x 1"].figures[FD].deviation is None
    twice = by_label(finished_run("a", {"x": 1}, fd=1.0), finished_run("b", {"x": 1}, fd=3.0))["x 1"].figures[FD]
    assert (twice.mean, len(twice.by_seed)) == (2.0, 2)


def test_best_first_follows_the_direction_and_what_has_no_number_comes_last():
    runs = (
        finished_run("a", {"x": "a"}, fd=3.0, ssim=0.9), finished_run("b", {"x": "b"}, fd=1.0, ssim=0.7),
        finished_run("c", {"x": "c"}, ssim=0.8), finished_run("d", {"x": "d"}, fd=2.0, ssim=0.6),
    )  # fmt: skip
    settings = settings_of(sweep_of(*runs))
    assert [s.label for s in ranked(settings, metric_info(FD))] == ["x b", "x d", "x a", "x c"]
    assert [s.label for s in ranked(settings, metric_info(SSIM))] == ["x a", "x c", "x b", "x d"]


def test_a_seed_without_the_number_leaves_the_setting_without_a_mean():
    runs = (finished_run("a", {"x": 1, "seed": 1}, fd=1.0, ssim=0.5), finished_run("b", {"x": 1, "seed": 2}, ssim=0.7))
    (setting,) = settings_of(sweep_of(*runs))
    assert FD not in setting.figures, "a mean over the seeds that did not diverge would flatter"
    assert setting.lacking == (FD,)
    assert setting.figures[SSIM].mean == pytest.approx(0.6)


def test_pareto_front_by_hand():
    runs = [
        finished_run(name, {"x": name}, fd=fd, accuracy=accuracy)
        for name, fd, accuracy in [
            ("sharp", 1.0, 0.8), ("even", 2.0, 0.9), ("right", 3.0, 1.0), ("behind even", 2.5, 0.9),
            ("behind all", 4.0, 0.7), ("twin of right", 3.0, 1.0),
        ]
    ]  # fmt: skip
    lacking = finished_run("no accuracy", {"x": "no accuracy"}, fd=0.1)
    front = pareto_front(settings_of(sweep_of(*runs, lacking)), [metric_info(FD), metric_info(ACCURACY)])
    assert [s.values["x"] for s in front] == ["sharp", "even", "right", "twin of right"]


def test_axes_are_named_as_shortly_as_tells_them_apart():
    assert short_names(["loss.alpha", "optimizer.lr", "seed"]) == {
        "loss.alpha": "alpha", "optimizer.lr": "lr", "seed": "seed",
    }  # fmt: skip
    assert short_names(["model.width", "judge.width", "width"]) == {
        "model.width": "model.width", "judge.width": "judge.width", "width": "width",
    }  # fmt: skip


def test_measures_know_which_way_is_better():
    ways = {name: metric_info(name).higher_is_better for name in (FD, ACCURACY, SSIM, "final/fitted/prior_fd_judge")}
    assert ways == {FD: False, ACCURACY: True, SSIM: True, "final/fitted/prior_fd_judge": False}
    assert metric_info("final/val/d_real_binary").higher_is_better is None
    assert metric_info("final/val/real_judge_affect_accuracy").higher_is_better is None, "a ceiling is nobody's merit"
    assert metric_info("final/train/ssim").label == "SSIM (train)"
    assert metric_info(ACCURACY).arrow == "affect as asked ↑"


def test_by_takes_a_whole_name_or_its_end_and_says_what_there_is():
    there = [FD, SSIM, "final/train/ssim", "final/val/d_real_binary", "final/grid_ssim"]
    assert find_measure("ssim", there).name == SSIM
    assert find_measure("train/ssim", there).name == "final/train/ssim"
    assert find_measure("grid_ssim", there).name == "final/grid_ssim"
    with pytest.raises(UserError, match=rf"no run has this metric\. Did you mean {SSIM}\? The runs have .*{FD}"):
        find_measure("sim", there)
    with pytest.raises(UserError, match="no direction is better"):
        find_measure("d_real_binary", there)


def test_objectives_follow_what_there_is():
    names = [m.name for m in objectives([FD, ACCURACY, SSIM, "final/val/psnr"], None, {})]
    assert names == [FD, ACCURACY, SSIM]
    assert [m.name for m in objectives([SSIM, "final/val/psnr"], None, {})] == [SSIM], "no judge, no fd_judge"
    assert [m.name for m in objectives([FD, SSIM], "ssim", {})] == [SSIM, FD]
    assert objectives(["final/val/own_ssim", "final/val/back_ssim"], None, {})[0].name == "final/val/back_ssim"
    assert objectives(["final/train/ssim"], None, {})[0].name == "final/train/ssim"
    searched = objectives([FD, "val/d_real_binary"], None, {"val/d_real_binary": True})
    assert [(m.name, m.higher_is_better) for m in searched] == [("val/d_real_binary", True)]
    with pytest.raises(UserError, match="no metric to rank them by"):
        objectives(["final/val/change"], None, {})
