"""A sweep as it lies on disk, of this version or older: its axes and its runs, finished or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import RunResult, read_metrics, read_result
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import read_mapping

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
    iteration, last = (read_metrics(metrics) or [(0, {})])[-1]
    final = {name: float(value) for name, value in last.items() if name.startswith("final/")}
    if not final:
        return None
    kept = {name: value for name, value in final.items() if math.isfinite(value)}
    return RunResult("finished", iteration, metrics=kept)


SWEEP = "sweep.yaml"


#: The axis whose values are repetitions of one setting.
SEED = "seed"


FINISHED = "finished"


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: of its folder.
        path: that folder.
        values: by axis, the seed included.
        status: finished, failed, pruned, half-done (it has a checkpoint), not begun, or unreadable.
        result: what it left; None where it left nothing readable.
        error: why it is not finished, in one line; None where there is nothing to say.
    """

    name: str
    path: Path
    values: Mapping[str, Any]
    status: str
    result: RunResult | None = None
    error: str | None = None

    @property
    def finished(self) -> bool:
        """Whether its numbers count."""
        return self.status == FINISHED

    @property
    def metrics(self) -> Mapping[str, float]:
        """Its final numbers; empty where it has none."""
        return self.result.metrics if self.result is not None else {}


@dataclass(frozen=True)
class Sweep:
    """A sweep folder.

    Attributes:
        folder: where it lies.
        axes: what varies, the seed included, with its values or the space that was searched.
        runs: all that were planned, and in old folders all there are.
        command: that started it; None where it is not known.
        kind: grid or the name of a search.
        base: the configuration the runs share.
        objectives: what a search was after, by name, True where more is better.
        notes: what to know of the folder.
    """

    folder: Path
    axes: Mapping[str, Any]
    runs: tuple[SweepRun, ...]
    command: str | None = None
    kind: str = "grid"
    base: Mapping[str, Any] = field(default_factory=dict)
    objectives: Mapping[str, bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def finished(self) -> list[SweepRun]:
        """The runs whose numbers count."""
        return [run for run in self.runs if run.finished]

    @property
    def metrics(self) -> list[str]:
        """Every final number that a finished run has, in the order they were logged."""
        return list(dict.fromkeys(name for run in self.finished for name in run.metrics))


def read_sweep(place: str | Path) -> Sweep:
    """The sweep in the folder `place`; without a sweep.yaml, the runs in it and what differs between them.

    Raises:
        UserError: no such folder, or it is none of a sweep.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"sweep={place}: there is no such folder; expected one that a sweep wrote, such as multirun/NAME."
        )
    if (folder / SWEEP).is_file():
        return _declared(folder)
    if (folder / "config.yaml").is_file():
        raise UserError(f"sweep={place} is the folder of a single run; say run={place}.")
    return _undeclared(folder)


def _declared(folder: Path) -> Sweep:
    tree = read_mapping(folder / SWEEP)
    planned = tree.get("runs") or {}
    if not isinstance(planned, dict) or not all(isinstance(values, dict) for values in planned.values()):
        raise UserError(
            f"{folder / SWEEP}: runs should map the folder of every run to its values; start the sweep anew."
        )
    runs = tuple(read_run(folder / str(name), values) for name, values in planned.items())
    wanted = {"minimize": False, "maximize": True}
    strangers = sorted(path.parent.name for path in folder.glob("*/config.yaml") if path.parent.name not in planned)
    notes = (f"left out, no run of this sweep: {', '.join(strangers)}",) if strangers else ()
    return Sweep(
        folder, tree.get("axes") or {}, runs, tree.get("command"), tree.get("kind") or "grid", tree.get("base") or {},
        {name: wanted[way] for name, way in (tree.get("objectives") or {}).items() if way in wanted}, notes,
    )  # fmt: skip


def _undeclared(folder: Path) -> Sweep:
    """A folder of runs without sweep.yaml, as plain multiruns leave them."""
    places = sorted((path.parent for path in folder.glob("*/config.yaml")), key=_natural)
    if not places:
        raise UserError(
            f"sweep={folder} is no sweep: it has neither sweep.yaml nor run folders. Expected a folder that "
            "python -m fexgan_lit.train -m ... wrote."
        )
    configs = {path.name: read_mapping(path / "config.yaml") for path in places}
    axes, values = axes_of_configs(configs)
    runs = tuple(read_run(path, values[path.name], old=True) for path in places)
    notes = (f"without {SWEEP}: the axes are what differs between the config.yaml of the runs",)
    return Sweep(folder, axes, runs, base=shared_part(list(configs.values())), notes=notes)


def read_run(path: Path, values: Mapping[str, Any], old: bool = False) -> SweepRun:
    """How the run in the folder `path` stands; a broken result is named and counts for nothing.

    Args:
        path: of the run.
        values: by axis.
        old: whether it may be from before result.json.
    """
    try:
        result = read_result(path) or (numbers_of_old_run(path) if old else None)
        trouble = _trouble(result)
    except UserError as error:
        result, trouble = None, str(error)
    if trouble:
        return SweepRun(path.name, path, values, "unreadable", None, trouble)
    if result is not None:
        return SweepRun(path.name, path, values, result.status, result, result.error)
    begun = RunFolder(path).last.is_file()
    return SweepRun(path.name, path, values, "half-done" if begun else "not begun")


def _trouble(result: RunResult | None) -> str | None:
    """What is wrong with the numbers of a result; None where nothing is."""
    wrong = [name for name, value in (result.metrics if result else {}).items() if not _is_finite(value)]
    return f"result.json holds no number for {', '.join(wrong)}" if wrong else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _natural(path: Path) -> tuple[int, int, str]:
    """Folders named by numbers in their order, the others behind them by name."""
    return (0, int(path.name), "") if path.name.isdigit() else (1, 0, path.name)
