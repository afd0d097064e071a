"""A library of named expressions: a YAML file that `generate` applies and the page saves to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fexgan_lit.inference.conditions import TargetSpec, read_target, units_of
from fexgan_lit.inference.output import file_name
from fexgan_lit.utils.errors import UserError, did_you_mean
from fexgan_lit.utils.files import read_mapping, write_atomic

_FIELDS = ("affects", "action_units")
_EXAMPLE = "`smile: {affects: {joy: 0.8}}` or `wink: {action_units: {AU12: 0.6, AU45: 1.0}}`"
#: Largest number of characters of a name, and of expressions in a file.
MOST_LETTERS, MOST_EXPRESSIONS = 60, 500


def read_library(path: Path, affects: tuple[str, ...]) -> dict[str, TargetSpec]:
    """Read a library; an expression may have affects and action units, which replace those of its affects.

    Args:
        path: a YAML file, `name: {affects: {joy: 0.8}}` or `name: {action_units: {AU12: 1.0}}`.
        affects: class names of the run.

    Raises:
        UserError: there is no such file, or entries are invalid; the error names them all.
    """
    if not path.is_file():
        raise UserError(f"library={path}: there is no such file; expected named expressions such as {_EXAMPLE}")
    found, problems, files = dict[str, TargetSpec](), [], dict[str, str]()
    for key, entry in read_mapping(path).items():
        name = str(key)
        try:
            check_name(name)
            found[name] = _read(name, entry, affects)
        except UserError as error:
            problems.append(str(error))
        if (other := files.setdefault(file_name(name), name)) != name:
            problems.append(f"{name}: its files would have the same names as those of {other}")
    if not found and not problems:
        problems.append(f"it is empty; expected {_EXAMPLE}")
    if problems:
        raise UserError(f"library={path}:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return found


def check_name(name: str) -> None:
    """Raise a UserError if `name` cannot be the name of an expression."""
    if not name.strip() or len(name) > MOST_LETTERS or not name.isprintable():
        raise UserError(f"{name[:MOST_LETTERS]!r}: expected a name of 1 to {MOST_LETTERS} characters in one line")


def _read(name: str, entry: Any, affects: tuple[str, ...]) -> TargetSpec:
    if not isinstance(entry, Mapping) or not entry:
        raise UserError(f"{name}: found {entry!r:.60}; expected {_EXAMPLE}")
    for key in entry:
        if key not in _FIELDS:
            hint = did_you_mean(key, _FIELDS)
            raise UserError(f"{name}: unknown field {key}; expected {' or '.join(_FIELDS)}.{hint}")
        if not isinstance(entry[key], Mapping) or not entry[key]:
            raise UserError(f"{name}.{key}: found {entry[key]!r:.60}; expected {_EXAMPLE}")
    weights, units = entry.get("affects", {}), entry.get("action_units", {})
    try:
        read = read_target(weights, f"{name}.affects", affects) if weights else TargetSpec()
        if read.units:
            raise UserError(f"{name}.affects: it holds action units; they belong in {name}.action_units")
        return TargetSpec(read.affects, units_of(units, affects))
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(name) else f"{name}: {error}") from error


def chosen_expressions(library: dict[str, TargetSpec], names: Any, path: Path) -> dict[str, TargetSpec]:
    """Return the expressions `names`: `all`, a name, or a list of names.

    Raises:
        UserError: a name is not in the library; the error lists those that are.
    """
    if names == "all":
        return library
    wanted = [str(name) for name in (names if isinstance(names, Sequence) and not isinstance(names, str) else [names])]
    unknown = [name for name in wanted if name not in library]
    if unknown or not wanted:
        hint = did_you_mean(unknown[0], library) if unknown else ""
        raise UserError(f"expressions={names}: {path} has {', '.join(library)}.{hint}")
    return {name: library[name] for name in wanted}


def save_expression(path: Path, name: str, spec: TargetSpec) -> None:
    """Add an expression to a library, or replace the one of this name; the file is created if necessary.

    Raises:
        UserError: the name or the expression is invalid, the library is full, or the file cannot be read or written.
    """
    import yaml

    check_name(name)
    if not spec.affects and not spec.units:
        raise UserError(f"{name}: nothing is asked for; set an affect or an action unit first")
    tree = read_mapping(path) if path.is_file() else {}
    others = {file_name(str(other)): str(other) for other in tree if str(other) != name}
    if (other := others.get(file_name(name))) is not None:
        raise UserError(f"{name}: its files would have the same names as those of {other}; choose another name")
    if len(others) >= MOST_EXPRESSIONS:
        raise UserError(f"{path.name} holds {len(others)} expressions already, the most that it can")
    units = {f"AU{unit}": value for unit, value in spec.units.items()}
    parts = zip(_FIELDS, (dict(spec.affects), units), strict=True)
    tree[name] = {field: values for field, values in parts if values}
    try:
        write_atomic(path, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
