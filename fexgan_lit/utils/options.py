"""Typed options of commands as dataclasses; one message lists all invalid values."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fexgan_lit.utils.errors import UserError

T = TypeVar("T")


#: Default upper bound of numbers, and that of seeds, since NumPy and Lightning use seeds of 32 bits.
MOST, MOST_SEED = 10**9, 2**32 - 1


class Bounds(NamedTuple):
    """The allowed values of an option, or of each entry if the option is a list."""

    expected: str = ""
    choices: Sequence[Any] | None = None
    at_least: float = -MOST
    above: float = -math.inf
    at_most: float = MOST
    below: float = math.inf
    empty: bool = True

    def hold(self, value: Any) -> bool:
        """Return whether `value` is allowed; null and text without `choices` are only checked by the option's type."""
        if isinstance(value, list):
            return (self.empty or bool(value)) and all(self.hold(entry) for entry in value)
        if value is not None and self.choices is not None:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return self.at_least <= value <= self.at_most and self.above < value < self.below  # false for NaN

    @property
    def words(self) -> str:
        """The description of the allowed values in messages."""
        if self.expected:
            return self.expected
        if self.choices is not None:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.above > -math.inf:
            return f"a number above {self.above:g}" + (f", up to {self.at_most}" if self.at_most < MOST else "")
        if self.at_least == -MOST:
            return f"a number up to {self.at_most}"
        if self.below < math.inf:
            return f"a number in [{self.at_least:g}, {self.below:g})"
        return f"{self.at_least} or more" if self.at_most == MOST else f"{self.at_least} to {self.at_most}"

    def problem(self, name: str, value: Any) -> list[str]:
        """Return the sentence about an option `name` if `value` is not allowed."""
        return [] if self.hold(value) else [f"{name}={shown(value)}: expected {self.words}"]


def shown(value: Any) -> str:
    """Format a value as on the command line; Python cannot print integers of thousands of digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    huge = isinstance(value, int) and value.bit_length() > 99
    return f"a number of {value.bit_length()} bits" if huge else str(value)


ANY_NUMBER, ANY_SEED = Bounds(), Bounds(at_least=0, at_most=MOST_SEED)


def option(
    default: Any, expected: str = "", *, choices: Sequence[Any] | None = None, at_least: float = -MOST,
    above: float = -math.inf, at_most: float = MOST, below: float = math.inf, empty: bool = True,
) -> Any:  # fmt: skip
    """Declare a field of an `Options` dataclass and its allowed values.

    Args:
        default: the default value; a list or dictionary is copied for every instance.
        expected: the description of allowed values in messages; by default derived from the bounds.
        choices: the allowed values.
        at_least: smallest allowed number.
        above: the number must be greater.
        at_most: greatest allowed number.
        below: the number must be smaller.
        empty: whether a list may be empty.
    """
    metadata = {"bounds": Bounds(expected, choices, at_least, above, at_most, below, empty)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Options:
    """Base class of typed options; subclasses declare bounds with `option` and check combinations in `conflicts`."""

    #: prefix of every option on the command line, such as ``model``
    section: ClassVar[str] = ""

    def problems(self) -> list[str]:
        """Return a sentence for each invalid value, with the allowed values."""
        found: list[str] = []
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Options):
                found += value.problems()
                continue
            bounds = each.metadata.get("bounds") or (ANY_SEED if each.name.endswith("seed") else ANY_NUMBER)
            found += bounds.problem(f"{self.section}.{each.name}".lstrip("."), value)
        return [*found, *self.conflicts()]

    def conflicts(self) -> list[str]:
        """Return a sentence for each combination of valid values that is not allowed."""
        return []


def typed(cls: type[T], values: Mapping[str, Any], section: str, problems: list[str]) -> T:
    """Fill the dataclass `cls` from `values`; messages on unknown keys and wrong types are added to `problems`.

    A single value of a list needs no brackets.
    """
    schema, hints = OmegaConf.structured(cls), get_type_hints(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    prefix = f"{section}." if section else ""
    for key, value in values.items():
        if key == "_target_":
            continue
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            problems.append(f"{prefix}{key}: unknown." + (f" Did you mean {prefix}{near[0]}?" if near else ""))
            continue
        if value is None and isinstance(schema[key], DictConfig):
            continue  # the YAML has null so that the command line can set a mapping; the default is an empty one
        if isinstance(value, Mapping) and isinstance(schema[key], DictConfig):
            value = {str(name): entry for name, entry in value.items()}  # {1: surprise} refers to the folder "1"
        kinds = (hints[key], *get_args(hints[key]))
        try:
            if isinstance(value, Mapping) and (schema[key] is None or is_dataclass(OmegaConf.get_type(schema, key))):
                schema.merge_with({key: value})  # an assignment would not check nested settings
            elif isinstance(value, str | int | float) and any(get_origin(kind) is list for kind in kinds):
                schema[key] = [value]  # who=ray is who=[ray]
            else:
                schema[key] = value
        except (OmegaConfBaseException, OverflowError) as error:  # numbers of 400 digits overflow
            problems.append(f"{prefix}{key}={value}: {str(error).splitlines()[0]}")
    settings: Any = OmegaConf.to_object(schema)
    return settings


def argument_problems(section: str, target: Any, values: Mapping[str, Any]) -> list[str]:
    """Return messages on arguments that are too large or do not have the annotated type, if that is a plain type."""
    try:
        hints = get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):  # annotations that only type checkers can resolve
        return []
    found = []
    for name, value in values.items():
        kinds = set(get_args(hints.get(name)) or [hints.get(name)])
        plain = kinds <= {bool, int, float, str, type(None)}
        if plain and type(value) not in kinds | ({int} if float in kinds else set()):
            words = " or ".join(sorted("null" if kind is type(None) else kind.__name__ for kind in kinds))
            found.append(f"{section}.{name}={value}: expected {words}")
        else:
            found += ANY_NUMBER.problem(f"{section}.{name}", value)
    return found


def checked_options(cls: type[T], values: T | Mapping[str, Any], section: str) -> T:
    """Fill the dataclass `cls` of a command's options and check it by its `problems()`; see `checked_sections`."""
    settings: T = checked_sections({section: (cls, values)})[section]
    return settings


def checked_sections(sections: Mapping[str, tuple[type, Any]]) -> dict[str, Any]:
    """Check the options of several sections, and return their dataclasses by section.

    Args:
        sections: a dataclass derived from `Options`, and its options (that dataclass or a mapping with its fields), by
            section.

    Raises:
        UserError: one message that lists all invalid values of all sections.
    """
    problems: list[str] = []
    settings: dict[str, Any] = {}
    for section, (cls, values) in sections.items():
        if isinstance(values, Mapping):
            settings[section] = typed(cls, values, section, problems)
        elif isinstance(values, cls):
            settings[section] = values
        else:
            problems.append(f"{section}: {values!r}; expected a {cls.__name__} or a mapping with its fields")
    problems = problems or [problem for options in settings.values() for problem in options.problems()]
    if problems:
        raise UserError("the options cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return settings
