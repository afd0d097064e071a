"""Sweeps from before sweep.yaml and result.json: axes from the configurations of the runs, numbers from metrics.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fexgan_lit.result import RunResult

SEED = "seed"
#: What differs between runs without making them different: where things lie, and what a run found.
INCIDENTAL = (
    "run", "data", "name", "sweep", "logger", "dataset.root", "dataset.cache_dir", "dataset.workers",
    "trainer.threads",
)  # fmt: skip
#: Where several values change together, these name the change: a model brings its losses, rates and sizes with it.
_LEADING = ("model.name", "dataset.name", "model.preset")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value of a configuration by its full name; lists are values."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def incidental(key: str, names: Sequence[str] = INCIDENTAL) -> bool:
    """Whether the value `key` says nothing about what was learnt."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def axes_of_configs(configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, list[Any]], dict[str, dict[str, Any]]]:
    """What differs between configurations.

    A value that follows from another that differs, too, is no axis: `model.image_size` follows `dataset.image_size`.

    Args:
        configs: by the name of the run.

    Returns:
        The axes with their values in order of appearance, the seed last; and the values of each run by axis.
    """
    trees = [flat(config) for config in configs.values()]
    keys = list(dict.fromkeys(key for tree in trees for key in tree if not incidental(key) and key != SEED))
    differing = [key for key in keys if len({repr(tree.get(key)) for tree in trees}) > 1]
    differing.sort(key=lambda key: _LEADING.index(key) if key in _LEADING else len(_LEADING))  # stable
    kept: list[str] = []
    for key in differing:
        if not any(_follows(key, other, trees) for other in kept):
            kept.append(key)
    if len({tree.get(SEED) for tree in trees}) > 1:
        kept.append(SEED)
    axes = {key: _distinct([tree.get(key) for tree in trees]) for key in kept}
    values = {name: {key: tree.get(key) for key in kept} for name, tree in zip(configs, trees, strict=True)}
    return axes, values


def _follows(key: str, other: str, trees: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the value of `key` is the same in all runs that agree in `other`."""
    known: dict[str, str] = {}
    return all(known.setdefault(repr(t.get(other)), repr(t.get(key))) == repr(t.get(key)) for t in trees)


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def shared_part(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The part of nested configurations in which all agree."""
    first, *others = configs
    shared: dict[str, Any] = {}
    for key, value in first.items():
        theirs = [other.get(key) for other in others]
        if isinstance(value, Mapping) and all(isinstance(other, Mapping) for other in theirs):
            shared[key] = shared_part([value, *theirs])  # type: ignore[list-item]
        elif all(key in other and repr(other[key]) == repr(value) for other in others):
            shared[key] = value
    return shared


def numbers_of_old_run(path: Path) -> RunResult | None:
    """The end of a run that wrote no result.json, from metrics.csv; None where it did not come to its end."""
    metrics = path / "metrics.csv"
    if not metrics.is_file() or not (path / "report.md").is_file():
        return None
    with metrics.open(newline="", encoding="utf-8") as file:
        last: dict[str, str] = {}
        for row in csv.DictReader(file):
            last = row
    final = {name: float(value) for name, value in last.items() if name and name.startswith("final/") and value}
    if not final:
        return None
    kept = {name: value for name, value in final.items() if math.isfinite(value)}
    return RunResult("finished", int(last["iteration"]), metrics=kept)
