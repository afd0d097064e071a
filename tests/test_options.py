"""Bounds of typed options: what is refused, and what the message says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from omegaconf import OmegaConf

from fexgan_lit.evaluate import evaluation_folder
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, checked_options, option


@dataclass
class Inner(Options):
    section = "outer.inner"

    share: float = option(0.5, at_least=0, below=1)


@dataclass
class Outer(Options):
    section = "outer"

    count: int = option(1, at_least=1)
    rate: float | None = option(None, "a positive rate", above=0)
    kind: str = option("a", choices=("a", "b"))
    strengths: list[float] = option([1.0], at_least=0, at_most=2)
    free: float = 1.0
    inner: Inner = field(default_factory=Inner)

    def conflicts(self) -> list[str]:
        return ["outer: a with 3"] if self.kind == "a" and self.count == 3 else []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, []),
        ({"count": 0}, ["outer.count=0: expected 1 or more"]),
        ({"rate": 0.0}, ["outer.rate=0.0: expected a positive rate"]),
        ({"rate": math.nan}, ["outer.rate=nan: expected a positive rate"]),
        ({"rate": math.inf}, ["outer.rate=inf: expected a positive rate"]),
        ({"free": -math.inf}, ["outer.free=-inf: expected a number up to 1000000000"]),
        ({"kind": "c"}, ["outer.kind=c: expected one of a, b"]),
        ({"strengths": [0.0, 2.0]}, []),
        ({"strengths": [0.0, math.nan]}, ["outer.strengths=[0.0, nan]: expected 0 to 2"]),
        ({"inner": {"share": 1.0}}, ["outer.inner.share=1.0: expected a number in [0, 1)"]),
        ({"count": 3}, ["outer: a with 3"]),
        ({"count": -1, "kind": "c"}, ["outer.count=-1: expected 1 or more", "outer.kind=c: expected one of a, b"]),
        ({"count": 3, "free": math.nan}, ["outer.free=nan: expected a number up to 1000000000", "outer: a with 3"]),
    ],
)
def test_every_value_out_of_bounds_is_named_with_what_was_expected(values, said):
    if not said:
        assert checked_options(Outer, values, "outer").problems() == []
        return
    with pytest.raises(UserError) as told:
        checked_options(Outer, values, "outer")
    assert str(told.value).splitlines()[1:] == [f"  - {line}" for line in said]


def test_a_list_is_copied_for_every_instance():
    Outer().strengths.append(7.0)
    assert Outer().strengths == [1.0]


def test_a_single_value_of_a_list_needs_no_brackets_and_is_checked_as_others():
    assert checked_options(Outer, {"strengths": 2}, "outer").strengths == [2.0]
    with pytest.raises(UserError, match=r"strengths=\[3.0\]: expected 0 to 2"):
        checked_options(Outer, {"strengths": 3}, "outer")
    with pytest.raises(UserError, match="strengths=much: "):
        checked_options(Outer, {"strengths": "much"}, "outer")


@pytest.mark.parametrize("runs", ["outputs/A", ["outputs/A"], OmegaConf.create(["outputs/A"])])
def test_one_run_without_brackets_names_the_folder_of_its_evaluation(runs):
    assert evaluation_folder(None, None, runs).startswith("outputs/evaluate_A_")
