"""The axes of a grid: parse them, combine their values and name the combinations."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import digest

#: The most characters of a folder name.
_LONGEST = 100


_DIGEST = 8


def written(value: Any) -> str:
    """Format a value as text; equal values such as 1 and 1.0 give the same text."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Shorten every key to the fewest trailing parts that are unique (`loss.alpha` to `alpha`)."""
    keys = list(keys)
    short = {}
    for key in keys:
        parts = re.split(r"[./@:]", key)
        for count in range(1, len(parts) + 1):
            tail = parts[-count:]
            if sum(re.split(r"[./@:]", other)[-count:] == tail for other in keys) == 1:
                break
        short[key] = _plain(".".join(tail))
    return short


def run_names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a folder name for each setting, such as `alpha-0.5_beta-0.1_seed-1`, with the axes sorted by name."""
    if not settings:
        return []
    keys = sorted(settings[0])
    short = short_keys(keys)
    return [_fitting("_".join(f"{short[key]}-{_word(s[key])}" for key in keys) or "run", s) for s in settings]


def sweep_name(axes: Iterable[str], base: Any) -> str:
    """Return the folder name of a sweep: its axes and a digest of everything else."""
    keys = sorted(axes)
    words = "_".join(short_keys(keys).values()) or "single"
    return f"{words[: _LONGEST - _DIGEST - 1]}_{digest([keys, base], _DIGEST)}"


def _word(value: Any) -> str:
    """Format a value for a folder name; values with special characters get a digest, so that names stay unique."""
    text = written(value)
    plain = _plain(text)
    return plain if plain == text else f"{plain[:40]}-{digest(text, _DIGEST)}"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") if re.search(r"[^A-Za-z0-9._-]", text) else text


def _fitting(name: str, setting: Mapping[str, Any]) -> str:
    """Return the name; a name that is too long is cut and gets a digest of the values."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - _DIGEST - 1]}-{digest({k: written(v) for k, v in setting.items()}, _DIGEST)}"


@dataclass(frozen=True)
class Axis:
    """One option that varies.

    Attributes:
        key: the option (`loss.alpha`, `model`).
        values: its values.
        overrides: one override per value in Hydra's grammar (`loss.alpha=0.5`).
        given: the override as the user wrote it.
    """

    key: str
    values: tuple[Any, ...]
    overrides: tuple[str, ...]
    given: str


@dataclass(frozen=True)
class Setting:
    """One run of a sweep.

    Attributes:
        name: name of its folder.
        values: values by axis.
        overrides: the overrides of this run.
    """

    name: str
    values: dict[str, Any]
    overrides: tuple[str, ...]


def split_overrides(arguments: Sequence[str], parser: OverridesParser) -> tuple[list[str], list[Override]]:
    """Split the overrides into constant ones, as given, and those that vary.

    Raises:
        UserError: an option that varies is given twice, or `run=` is given.
    """
    parsed = parser.parse_overrides(list(arguments))
    times = Counter(override.key_or_group for override in parsed)
    varying = [override for override in parsed if override.is_sweep_override()]
    if twice := sorted({o.key_or_group for o in varying if times[o.key_or_group] > 1}):
        raise UserError(f"{', '.join(twice)}: given more than once; give all values in one option (loss.alpha=0.5,1)")
    if any(override.key_or_group == "run" for override in parsed):
        raise UserError(
            "run=... resumes a single run and cannot be used in a sweep; to resume a sweep, give the command that "
            "started it"
        )
    constant = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    return constant, varying


def make_axis(override: Override, parser: OverridesParser) -> Axis:
    """Make an axis from a sweep override.

    Raises:
        UserError: the override is an interval or has no value.
    """
    given = str(override.input_line)
    if not override.is_discrete_sweep():
        raise UserError(
            f"{given}: expected values (loss.alpha=0.5,1 or range(1,4)) for a grid; search intervals with sweep=optuna"
        )
    key = override.get_key_element()
    single = tuple(f"{key}={text}" for text in override.sweep_string_iterator())
    values = tuple(parsed.value() for parsed in parser.parse_overrides(list(single)))
    if not values:
        raise UserError(f"{given}: the option has no value, so the grid would have 0 runs")
    return Axis(key.lstrip("+"), values, single, given)


def combine(axes: Sequence[Axis], constant: Sequence[str]) -> tuple[list[Setting], int]:
    """Return every combination of the axes once, and the number of duplicates (such as 1 and 1.0)."""
    found: dict[tuple[str, ...], tuple[dict[str, Any], tuple[str, ...]]] = {}
    for picked in itertools.product(*(zip(axis.values, axis.overrides, strict=True) for axis in axes)):
        values = {axis.key: value for axis, (value, _) in zip(axes, picked, strict=True)}
        identity = tuple(written(value) for value in values.values())
        found.setdefault(identity, (values, (*constant, *(override for _, override in picked))))
    names = run_names([values for values, _ in found.values()])
    settings = [Setting(name, *rest) for name, rest in zip(names, found.values(), strict=True)]
    total = 1
    for axis in axes:
        total *= len(axis.values)
    return settings, total - len(settings)


def values_of(axes: Iterable[Axis]) -> dict[str, list[Any]]:
    """Return the distinct values of each axis."""
    return {axis.key: list({written(value): value for value in axis.values}.values()) for axis in axes}


def merge_values(ours: Mapping[str, Sequence[Any]], theirs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Merge the values of the same axes in two commands, without duplicates."""
    both = {key: [*ours[key], *theirs.get(key, ())] for key in ours}
    return {key: list({written(value): value for value in values}.values()) for key, values in both.items()}
