"""`sweep.yaml`: the record of a sweep in its folder, which only the same sweep may resume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fexgan_lit.runs.sweeps.axes import Setting, merge_values, written
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import read_mapping, write_atomic

RECORD = "sweep.yaml"
#: Options that may differ when a sweep is resumed: they do not change what a run learns.
FREE = (
    "run", "name", "data", "logger", "sweep", "trainer.threads", "dataset.cache_dir", "dataset.workers",
)  # fmt: skip


@dataclass
class SweepRecord:
    """The content of `sweep.yaml`.

    Attributes:
        command: command that started the sweep.
        axes: values (grid) or search space (search), by option.
        base: the configuration that all runs share.
        kind: "grid" or "optuna".
        runs: values of each run, by folder name.
        objectives: "minimize" or "maximize", by metric; None for a grid.
        version: version of the file format.
    """

    command: str
    axes: dict[str, Any]
    base: dict[str, Any]
    kind: str = "grid"
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    objectives: dict[str, str] | None = None
    version: int = 1

    def write(self, folder: Path) -> None:
        """Write the record to the sweep folder atomically."""
        content = {name: value for name, value in asdict(self).items() if value is not None}
        order = ("version", "command", "kind", "objectives", "axes", "runs", "base")
        text = OmegaConf.to_yaml(OmegaConf.create({name: content[name] for name in order if name in content}))
        try:
            write_atomic(folder / RECORD, text)
        except OSError as error:
            raise UserError(
                f"cannot write {folder / RECORD}: {error.strerror}. Choose another folder with hydra.sweep.dir=DIR, "
                "or free disk space."
            ) from error


def read_record(folder: Path) -> SweepRecord | None:
    """Read the record of a sweep folder; None if the folder is empty or missing.

    Raises:
        UserError: the file is damaged, or the folder holds something else.
    """
    path = folder / RECORD
    if not path.is_file():
        if folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise UserError(f"{folder} is not empty and not a sweep; choose another folder with hydra.sweep.dir=DIR")
        return None
    try:
        return SweepRecord(**read_mapping(path))
    except TypeError as error:
        raise UserError(f"{path} is not the record of a sweep: {' '.join(str(error).split())}") from error


def common_base(trees: Iterable[Mapping[str, Any]], axes: Iterable[str]) -> dict[str, Any]:
    """Return the values that all configurations share, without the axes."""
    trees = iter(trees)
    base = flatten(next(trees))
    for tree in trees:
        flat = flatten(tree)
        base = {key: value for key, value in base.items() if key in flat and flat[key] == value}
    dropped = (*axes, "run", "data", "name")
    base = {key: value for key, value in base.items() if not is_under(key, dropped)}
    return unflatten(base)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value of a configuration by its dotted name; lists and empty mappings are values."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found |= flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return found


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Invert `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def identity(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the base in which two sweeps must agree to be the same."""
    return {key: value for key, value in flatten(base).items() if not is_under(key, FREE)}


def join(ours: SweepRecord, theirs: SweepRecord, folder: Path) -> tuple[SweepRecord, list[str]]:
    """Merge the sweep of a command (`ours`) into that of the folder (`theirs`).

    Returns:
        The merged record, and the names of the runs that are new to the folder.

    Raises:
        UserError: the folder holds another sweep; the message lists the differences.
    """
    if differing := differences(ours, theirs):
        more = f"\n  - and {len(differing) - 12} more" if len(differing) > 12 else ""
        listed = "\n".join(f"  - {line}" for line in differing[:12])
        raise UserError(
            f"{folder} holds another sweep:\n{listed}{more}\n"
            "Give the command that started it, or choose another folder with hydra.sweep.dir=DIR (or name=NAME)."
        )
    fresh = [name for name in ours.runs if name not in theirs.runs]
    axes = merge_values(theirs.axes, ours.axes) if ours.kind == "grid" else theirs.axes
    return SweepRecord(
        theirs.command, axes, theirs.base, ours.kind, {**theirs.runs, **ours.runs}, theirs.objectives
    ), fresh


def differences(ours: SweepRecord, theirs: SweepRecord) -> list[str]:
    """Describe the differences between two sweeps, one line each."""
    found = [
        f"{name}: the folder has {getattr(theirs, name)}, the command {getattr(ours, name)}"
        for name in ("kind", "objectives") if getattr(ours, name) != getattr(theirs, name)
    ]  # fmt: skip
    if set(ours.axes) != set(theirs.axes):
        found.append(
            f"axes: the folder has {', '.join(sorted(theirs.axes))}, the command {', '.join(sorted(ours.axes))}"
        )
    elif ours.kind != "grid":
        found += [
            f"{key}: the folder searches {theirs.axes[key]}, the command {ours.axes[key]}"
            for key in ours.axes if written(ours.axes[key]) != written(theirs.axes[key])
        ]  # fmt: skip
    a, b = identity(ours.base), identity(theirs.base)
    # with other values on an axis (model=fexgan,stargan), the runs may share fewer options
    same_values = written(ours.axes) == written(theirs.axes)
    keys = [key for key in {**b, **a} if same_values or (key in a and key in b)]
    absent = "nothing"
    return found + [
        f"{key}: the folder has {b.get(key, absent)}, the command {a.get(key, absent)}"
        for key in keys if a.get(key, absent) != b.get(key, absent)
    ]  # fmt: skip


def runs_of(settings: Iterable[Setting]) -> dict[str, dict[str, Any]]:
    """Return the values of each setting by folder name."""
    return {setting.name: dict(setting.values) for setting in settings}


def is_under(key: str, names: Iterable[str]) -> bool:
    """Return whether the option `key` is one of `names` or in a section of them."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
