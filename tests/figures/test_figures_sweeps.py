"""Pictures of sweeps: where values stand, which line lies on top, which runs are averaged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fexgan_lit.figures.sweeps import Coordinate, _means, main_effects, parallel_coordinates, scale


def test_decades_are_logarithmic_and_shorter_ranges_are_not():
    powers = scale([0.1, 1, 10])
    assert powers.logarithmic
    assert powers.places.tolist() == pytest.approx([0, 0.5, 1])
    assert [label for _, label in powers.ticks] == ["0.1", "1", "10"]
    plain = scale([1.0, 2.0, 5.0])
    assert not plain.logarithmic
    assert plain.places.tolist() == [0, 0.25, 1]
    assert not scale([-1, 0, 100]).logarithmic, "zero has no logarithm"


def test_flipped_scales_have_the_smallest_on_top():
    assert scale([1.0, 2.0, 5.0], flip=True).places.tolist() == [1, 0.75, 0]
    assert scale([1.0, 2.0], flip=True).ticks == ((1.0, "1"), (0.0, "2"))


def test_names_stand_evenly_and_missing_numbers_nowhere():
    names = scale(["fexgan", "stargan", None, "fexgan"])
    assert names.named
    assert names.places.tolist() == [0, 0.5, 1, 0]
    assert [label for _, label in names.ticks] == ["fexgan", "stargan", "null"]
    assert scale([True, False]).ticks == ((0.0, "true"), (1.0, "false"))
    gap = scale([1.0, None, 3.0])
    assert gap.places[[0, 2]].tolist() == [0, 1]
    assert math.isnan(gap.places[1])
    assert scale([2.0, 2.0]).places.tolist() == [0.5, 0.5]


def test_many_values_get_few_ticks():
    many = scale([10 ** (k / 10) for k in range(-20, 11)])
    assert [label for _, label in many.ticks] == ["0.01", "0.1", "1", "10"]
    assert len(scale(list(range(101, 150))).ticks) == 5


def test_means_are_of_runs_that_share_a_value_or_of_neighbours():
    places, means = _means(scale([1, 1, 2, 2]), np.array([1.0, 3.0, 10.0, math.nan]))
    assert (places.tolist(), means.tolist()) == ([0, 1], [2.0, 10.0])
    values = list(range(1, 17))
    places, means = _means(scale(values), np.array(values, float))
    assert means.tolist() == [2.5, 6.5, 10.5, 14.5]


def colour_count(picture, colour: tuple[int, int, int], slack: int = 12) -> int:
    pixels = np.asarray(picture).astype(int)
    return int((np.abs(pixels - colour).max(2) <= slack).sum())


def test_parallel_coordinates_draws_best_dark_and_worst_light():
    axes = [Coordinate("alpha", [0.1, 1.0, 10.0]), Coordinate("fd", [1.0, 2.0, 3.0], flip=True, score=True)]
    picture = parallel_coordinates(axes, 1)
    dark, light = (0, 34, 78), (254, 232, 56)  # the ends of cividis
    assert colour_count(picture, dark) > 300
    assert colour_count(picture, light) > 300
    stressed = parallel_coordinates(axes, 1, best=0)
    assert colour_count(stressed, (31, 35, 40)) > colour_count(picture, (31, 35, 40)) + 500


def test_pictures_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="two axes"):
        parallel_coordinates([Coordinate("a", [1])], 0)
    with pytest.raises(ValueError, match="value for every setting"):
        parallel_coordinates([Coordinate("a", [1]), Coordinate("b", [1, 2])], 0)
    with pytest.raises(ValueError, match="value for every run"):
        main_effects({"a": [1, 2]}, {"fd": [1.0]})


def test_main_effects_go_on_in_the_next_row_and_take_gaps():
    one = main_effects({"a": [1, 2]}, {"fd": [1.0, 2.0]})
    five = main_effects({name: [1, 2] for name in "abcde"}, {"fd": [1.0, math.nan]})
    assert five.height > 1.5 * one.height
    assert main_effects({"a": [1, 2]}, {"fd": [math.nan, math.nan]}).size == one.size
