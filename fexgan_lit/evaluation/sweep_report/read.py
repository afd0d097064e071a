"""Read a sweep folder of this or an older version: its axes and all its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import RunResult, read_metrics, read_result
from fexgan_lit.runs.sweeps.record import flatten, is_under
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import read_mapping

#: The axis whose values are repetitions of one setting.
SEED = "seed"


#: Options that do not change what a run learns: paths, logging, and facts that the run recorded.
INCIDENTAL = (
    "run", "data", "name", "sweep", "logger", "dataset.root", "dataset.cache_dir", "dataset.workers",
    "trainer.threads",
)  # fmt: skip


#: If several values change together, one of these is the axis: a model brings its own losses, rates and sizes.
_LEADING = ("model.name", "dataset.name", "model.preset")


def axes_of_configs(configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, list[Any]], dict[str, dict[str, Any]]]:
    """Find the axes in which configurations differ.

    A value that is determined by another differing value is not an axis: `model.image_size` follows
    `dataset.image_size`.

    Args:
        configs: configurations by the name of the run.

    Returns:
        The axes with their values in order of appearance, the seed last, and the values of each run by axis.
    """
    trees = [flatten(config) for config in configs.values()]
    keys = list(dict.fromkeys(key for tree in trees for key in tree if not is_under(key, (*INCIDENTAL, SEED))))
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
    """Return whether runs that agree in `other` also agree in `key`."""
    known: dict[str, str] = {}
    return all(known.setdefault(repr(t.get(other)), repr(t.get(key))) == repr(t.get(key)) for t in trees)


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def shared_part(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the part of nested configurations in which all agree."""
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
    """Read the result of an old run without result.json from metrics.csv; None if the run did not finish."""
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


FINISHED = "finished"


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: name of the run folder.
        path: the run folder.
        values: values by axis, including the seed.
        status: finished, failed, pruned, half-done (it has a checkpoint), not begun, or unreadable.
        result: the result of the run; None if it has no readable one.
        error: why the run is not finished, in one line; None if it recorded no error.
    """

    name: str
    path: Path
    values: Mapping[str, Any]
    status: str
    result: RunResult | None = None
    error: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return self.status == FINISHED

    @property
    def metrics(self) -> Mapping[str, float]:
        """The final metrics; empty if there are none."""
        return self.result.metrics if self.result is not None else {}


@dataclass(frozen=True)
class Sweep:
    """A sweep folder.

    Attributes:
        folder: the sweep folder.
        axes: the axes, including the seed, with their values or search spaces.
        runs: all planned runs; in old folders all existing ones.
        command: the command that started the sweep; None if it is not known.
        kind: "grid" or the name of a search.
        base: the configuration that the runs share.
        objectives: objectives of a search by name; True if higher is better.
        notes: remarks on the folder.
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
        """The finished runs."""
        return [run for run in self.runs if run.finished]

    @property
    def metrics(self) -> list[str]:
        """Every final metric that a finished run has, in the order of logging."""
        return list(dict.fromkeys(name for run in self.finished for name in run.metrics))


def read_sweep(place: str | Path) -> Sweep:
    """Read the sweep in the folder `place`; without sweep.yaml, the axes are what differs between its runs.

    Raises:
        UserError: the folder does not exist or is not a sweep.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"sweep={place}: there is no such folder; expected a folder that a sweep wrote, such as multirun/NAME."
        )
    if (folder / SWEEP).is_file():
        return _declared(folder)
    if (folder / "config.yaml").is_file():
        raise UserError(f"sweep={place} is the folder of a single run; use run={place}.")
    return _undeclared(folder)


def _declared(folder: Path) -> Sweep:
    tree = read_mapping(folder / SWEEP)
    planned = tree.get("runs") or {}
    if not isinstance(planned, dict) or not all(isinstance(values, dict) for values in planned.values()):
        raise UserError(
            f"{folder / SWEEP}: expected runs to map the folder of every run to its values; start the sweep anew."
        )
    runs = tuple(read_run(folder / str(name), values) for name, values in planned.items())
    wanted = {"minimize": False, "maximize": True}
    strangers = sorted(path.parent.name for path in folder.glob("*/config.yaml") if path.parent.name not in planned)
    notes = (f"left out, not a run of this sweep: {', '.join(strangers)}",) if strangers else ()
    return Sweep(
        folder, tree.get("axes") or {}, runs, tree.get("command"), tree.get("kind") or "grid", tree.get("base") or {},
        {name: wanted[way] for name, way in (tree.get("objectives") or {}).items() if way in wanted}, notes,
    )  # fmt: skip


def _undeclared(folder: Path) -> Sweep:
    """Read a folder of runs without sweep.yaml, as a plain Hydra multirun leaves it."""
    places = sorted((path.parent for path in folder.glob("*/config.yaml")), key=_natural)
    if not places:
        raise UserError(
            f"sweep={folder} is not a sweep: it has neither sweep.yaml nor run folders. Expected a folder that "
            "python -m fexgan_lit.train -m ... wrote."
        )
    configs = {path.name: read_mapping(path / "config.yaml") for path in places}
    axes, values = axes_of_configs(configs)
    runs = tuple(read_run(path, values[path.name], old=True) for path in places)
    notes = (f"there is no {SWEEP}, so the axes are the differences between the config.yaml of the runs",)
    return Sweep(folder, axes, runs, base=shared_part(list(configs.values())), notes=notes)


def read_run(path: Path, values: Mapping[str, Any], old: bool = False) -> SweepRun:
    """Read the state of the run in the folder `path`; a damaged result gives the status unreadable.

    Args:
        path: the run folder.
        values: values of the run by axis.
        old: whether the run may be older than result.json.
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
    """Return what is wrong with the metrics of a result; None if they are valid."""
    wrong = [name for name, value in (result.metrics if result else {}).items() if not _is_finite(value)]
    return f"result.json has no finite number for {', '.join(wrong)}" if wrong else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _natural(path: Path) -> tuple[int, int, str]:
    """Sort key: folders named by numbers in numeric order, then the others by name."""
    return (0, int(path.name), "") if path.name.isdigit() else (1, 0, path.name)
