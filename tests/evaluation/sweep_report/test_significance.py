"""How sure an order is: intervals in closed form, and what is said of them."""

from __future__ import annotations

import pytest

from fexgan_lit.evaluation.sweep_report.effects import effects
from fexgan_lit.evaluation.sweep_report.settings import ranked, settings_of
from fexgan_lit.evaluation.sweep_report.significance import deviation_between_seeds, lead, significance
from fexgan_lit.metrics.registry import metric_info
from fexgan_lit.metrics.statistics import student_interval
from tests.evaluation.sweep_report.conftest import FD, finished_run, sweep_of

BY = metric_info(FD)
#: Student's t at 97.5% for 2 and for 4 degrees of freedom.
T2, T4 = 4.302653, 2.776445


def settings(values: dict[str, dict[int, float]]):
    runs = [
        finished_run(f"{name}{seed}", {"x": name, "seed": seed}, fd=value)
        for name, by_seed in values.items()
        for seed, value in by_seed.items()
    ]
    return ranked(settings_of(sweep_of(*runs)), BY)


def test_student_interval_in_closed_form():
    interval = student_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.high - interval.mean == pytest.approx(T2 / 3**0.5, rel=1e-5)
    assert interval.mean - interval.low == pytest.approx(T2 / 3**0.5, rel=1e-5)
    with pytest.raises(ValueError, match="two values"):
        student_interval([1.0])


def test_what_a_seed_does_to_both_cancels():
    best, second = settings({"a": {1: 1.0, 2: 5.0, 3: 9.0}, "b": {1: 1.5, 2: 5.5, 3: 9.5}})
    step = lead(best, second, BY)
    assert step.ahead == pytest.approx(0.5)
    assert step.paired
    assert step.settled, "every seed says the same, however much seeds differ"
    text = " ".join(significance([best, second], BY))
    assert "not more than the standard deviation between seeds (4.000" in text
    assert "its sign is settled" in text


def test_different_seeds_are_compared_by_welch():
    best, second = settings({"a": {1: 1.0, 2: 2.0, 3: 3.0}, "b": {4: 2.0, 5: 3.0, 6: 4.0}})
    step = lead(best, second, BY)
    assert not step.paired
    assert step.interval is not None
    # equal deviations and numbers: 4 degrees of freedom, error sqrt(1/3 + 1/3)
    assert step.interval.high == pytest.approx(1.0 + T4 * (2 / 3) ** 0.5, rel=1e-5)
    assert not step.settled
    assert "not paired" in " ".join(significance([best, second], BY))


def test_the_deviation_is_pooled_over_settings():
    found = settings({"a": {1: 0.0, 2: 2.0}, "b": {1: 5.0, 2: 9.0}, "c": {1: 20.0}})
    assert deviation_between_seeds(found, BY) == pytest.approx(5**0.5)  # variances 2 and 8, a degree of freedom each


def test_one_seed_says_that_nothing_can_be_said():
    (line,) = significance(settings({"a": {1: 1.0}, "b": {1: 2.0}}), BY)
    assert "the significance is unknown" in line
    assert "x a is ahead of x b by 1.000" in line
    assert significance(settings({"a": {1: 1.0}}), BY) == ["There is only one setting, so there is nothing to compare."]


def test_those_that_cannot_be_told_from_the_best_are_named():
    values = {"a": {1: 1.0, 2: 1.1, 3: 1.2}, "b": {1: 1.2, 2: 1.1, 3: 1.1}, "c": {1: 7.0, 2: 7.1, 3: 7.2}}
    text = " ".join(significance(settings(values), BY))
    assert "Not significantly worse than the best (1 of 2): x b." in text
    clear = {"a": {1: 1.0, 2: 1.1}, "c": {1: 7.0, 2: 7.1}}
    assert "All 1 others are significantly worse" in " ".join(significance(settings(clear), BY))


def test_an_axis_is_judged_by_runs_that_differ_in_it_alone():
    """x=1 lacks its run with y=easy, so its mean is worse; beside its twins it is better."""
    runs = [
        finished_run("a", {"x": 1, "y": "hard", "seed": 1}, fd=10.0),
        finished_run("b", {"x": 1, "y": "hard", "seed": 2}, fd=11.0),
        finished_run("c", {"x": 2, "y": "hard", "seed": 1}, fd=12.0),
        finished_run("d", {"x": 2, "y": "hard", "seed": 2}, fd=13.0),
        finished_run("e", {"x": 2, "y": "easy", "seed": 1}, fd=0.0),
        finished_run("f", {"x": 2, "y": "easy", "seed": 2}, fd=1.0),
    ]
    found = {(effect.axis, effect.value): effect for effect in effects(sweep_of(*runs), BY)}
    assert set(found) == {("x", 1), ("x", 2), ("y", "hard"), ("y", "easy")}, "the seed is no axis to be chosen"
    assert found["x", 2].mean < found["x", 1].mean
    assert found["x", 1].against_best is None
    behind = found["x", 2].against_best
    assert behind is not None
    assert (behind.mean, behind.low, behind.high, behind.n) == (2.0, 2.0, 2.0, 2)


def test_small_differences_keep_two_digits():
    assert [BY.gap(value) for value in (0.0, 0.0123, 0.00049, -1.5e-05, 0.0005)] == [
        "0.000", "0.012", "0.00049", "-1.5e-05", "0.001",
    ]  # fmt: skip


def test_an_axis_without_a_value_in_two_runs_has_no_effects():
    assert effects(sweep_of(*(finished_run(str(x), {"x": x}, fd=1.0) for x in (1, 2, 3))), BY) == []


def test_a_searched_axis_has_no_effects_table():
    runs = [finished_run(str(i), {"x": i / 7}, fd=float(i)) for i in range(12)]
    assert effects(sweep_of(*runs), BY) == []
