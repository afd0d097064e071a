"""Options of a command as a typed dataclass; every value that cannot be used is named in one message."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fexgan_lit.utils.errors import UserError

T = TypeVar("T")


class Bounds(NamedTuple):
    """The values an option may have; of a list, the values that each entry may have."""

    expected: str
    choices: Sequence[Any] | None
    at_least: float | None
    above: float | None
    at_most: float | None
    below: float | None

    def hold(self, value: Any) -> bool:
        """Return whether `value` is allowed; null always is, where the type of the option allows it."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            return all(self.hold(entry) for entry in value)
        if self.choices is not None:
            return value is None or value in self.choices
        return value is None or (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    @property
    def words(self) -> str:
        """What was expected, for messages."""
        if self.expected:
            return self.expected
        if self.choices is not None:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.at_most is not None and self.at_least is not None:
            return f"a number from {self.at_least:g} to {self.at_most:g}"
        if self.below is not None:
            return f"a number in [{self.at_least:g}, {self.below:g})"
        return f"{self.at_least:g} or more" if self.at_least is not None else f"a number above {self.above:g}"


def option(
    default: Any, expected: str = "", *, choices: Sequence[Any] | None = None, at_least: float | None = None,
    above: float | None = None, at_most: float | None = None, below: float | None = None,
) -> Any:  # fmt: skip
    """A field of an `Options` dataclass with the values it may have.

    Args:
        default: of the option; a list or dictionary is copied for every instance.
        expected: what a message says was expected; by default made of the bounds.
        choices: the allowed values.
        at_least: smallest allowed number.
        above: the number must be greater.
        at_most: greatest allowed number.
        below: the number must be smaller.
    """
    metadata = {"bounds": Bounds(expected, choices, at_least, above, at_most, below)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Options:
    """Base of typed options. A subclass declares its bounds by `option` and what goes together in `conflicts`."""

    #: prefix of every option on the command line, such as ``model``
    section: ClassVar[str] = ""

    def problems(self) -> list[str]:
        """Return a sentence for each value that cannot be used, with what was expected."""
        found, prefix = [], f"{self.section}." if self.section else ""
        for each in fields(self):
            value, bounds = getattr(self, each.name), each.metadata.get("bounds")
            if isinstance(value, Options):
                found += value.problems()
            elif isinstance(value, float) and not math.isfinite(value):
                found.append(f"{prefix}{each.name}={value}: expected {bounds.words if bounds else 'a finite number'}")
            elif bounds is not None and not bounds.hold(value):
                found.append(f"{prefix}{each.name}={value}: expected {bounds.words}")
        return [*found, *self.conflicts()]

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        return []


def typed(cls: type[T], values: Mapping[str, Any], section: str, problems: list[str]) -> T:
    """Fill the dataclass `cls` from `values`, adding every misspelt key and wrong type to `problems`."""
    schema = OmegaConf.structured(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for key, value in values.items():
        if key == "_target_":
            continue
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            problems.append(f"{section}.{key}: unknown." + (f" Did you mean {section}.{near[0]}?" if near else ""))
            continue
        if value is None and isinstance(schema[key], DictConfig):
            continue  # null in the YAML so that the command line can give a mapping; the default is an empty one
        try:
            if isinstance(value, Mapping) and (schema[key] is None or is_dataclass(OmegaConf.get_type(schema, key))):
                schema.merge_with({key: value})  # settings inside settings; an assignment would not look into them
            else:
                schema[key] = value
        except OmegaConfBaseException as error:
            problems.append(f"{section}.{key}={value}: {str(error).splitlines()[0]}")
    settings: Any = OmegaConf.to_object(schema)
    return settings


def checked_options(cls: type[T], values: Mapping[str, Any], section: str) -> T:
    """The options of a command as its dataclass `cls`, which has `problems()`.

    Raises:
        UserError: one message with every value that cannot be used.
    """
    problems: list[str] = []
    settings: Any = typed(cls, values, section, problems)
    problems += [] if problems else settings.problems()
    if problems:
        raise UserError("the options cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return settings
