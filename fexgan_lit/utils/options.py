"""Options of a command as a typed dataclass; every value that cannot be used is named in one message."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fexgan_lit.utils.errors import UserError

T = TypeVar("T")


#: Largest number where an option names no other bound; NumPy and Lightning take seeds of 32 bits.
MOST, MOST_SEED = 10**9, 2**32 - 1


class Bounds(NamedTuple):
    """The values an option may have; of a list, the values that each entry may have."""

    expected: str = ""
    choices: Sequence[Any] | None = None
    at_least: float = -MOST
    above: float = -math.inf
    at_most: float = MOST
    below: float = math.inf
    empty: bool = True

    def hold(self, value: Any) -> bool:
        """Return whether `value` is allowed. Null is, where the type of the option allows it, and so is other text."""
        if isinstance(value, list):
            return (self.empty or bool(value)) and all(self.hold(entry) for entry in value)
        if value is not None and self.choices is not None:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return self.at_least <= value <= self.at_most and self.above < value < self.below  # NaN is not

    @property
    def words(self) -> str:
        """What was expected, for messages."""
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
    """A value as it is written on the command line; Python refuses to print an integer of thousands of digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    huge = isinstance(value, int) and value.bit_length() > 99
    return f"a number of {value.bit_length()} bits" if huge else str(value)


ANY_NUMBER, ANY_SEED = Bounds(), Bounds(at_least=0, at_most=MOST_SEED)


def option(
    default: Any, expected: str = "", *, choices: Sequence[Any] | None = None, at_least: float = -MOST,
    above: float = -math.inf, at_most: float = MOST, below: float = math.inf, empty: bool = True,
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
        empty: whether a list may be empty.
    """
    metadata = {"bounds": Bounds(expected, choices, at_least, above, at_most, below, empty)}
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
        found: list[str] = []
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Options):
                found += value.problems()
                continue
            bounds = each.metadata.get("bounds") or (ANY_SEED if each.name.endswith("seed") else ANY_NUMBER)
            found += bounds.problem(f"{self.section}.{each.name}".lstrip("."), value)
        return found or self.conflicts()

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        return []


def typed(cls: type[T], values: Mapping[str, Any], section: str, problems: list[str]) -> T:
    """Fill the dataclass `cls` from `values`, adding every misspelt key and wrong type to `problems`."""
    schema = OmegaConf.structured(cls)
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
            continue  # null in the YAML so that the command line can give a mapping; the default is an empty one
        if isinstance(value, Mapping) and isinstance(schema[key], DictConfig):
            value = {str(name): entry for name, entry in value.items()}  # {1: surprise} names the folder "1"
        try:
            if isinstance(value, Mapping) and (schema[key] is None or is_dataclass(OmegaConf.get_type(schema, key))):
                schema.merge_with({key: value})  # settings inside settings; an assignment would not look into them
            else:
                schema[key] = value
        except (OmegaConfBaseException, OverflowError) as error:  # an overflow by a number of 400 digits
            problems.append(f"{prefix}{key}={value}: {str(error).splitlines()[0]}")
    settings: Any = OmegaConf.to_object(schema)
    return settings


def argument_problems(section: str, target: Any, values: Mapping[str, Any]) -> list[str]:
    """Sentences for arguments of another type than `target` is annotated with, where that is a plain one, or huge."""
    try:
        hints = get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):  # annotations for type checkers alone
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
