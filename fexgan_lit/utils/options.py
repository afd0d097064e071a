"""Options of a command as a typed dataclass; every value that cannot be used is named in one message."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fexgan_lit.utils.errors import UserError

T = TypeVar("T")

#: What a number may be where its dataclass names no bound in `MOST`; numpy and Lightning take seeds of 32 bits.
MOST, MOST_SEED = 10**9, 2**32 - 1


def typed(cls: type[T], values: Mapping[str, Any], section: str, problems: list[str]) -> T:
    """Fill the dataclass `cls` from `values`, adding every misspelt key, wrong type and huge number to `problems`.

    The class attribute `MOST` (name -> largest value) bounds a number, and where it says nothing, `number_problems`.
    """
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
            if isinstance(value, Mapping) and schema[key] is None:
                schema.merge_with({key: value})  # settings inside settings; an assignment would not look into them
            else:
                schema[key] = value
        except OmegaConfBaseException as error:
            problems.append(f"{section}.{key}={value}: {str(error).splitlines()[0]}")
    settings: Any = OmegaConf.to_object(schema)
    most = getattr(cls, "MOST", {})
    for key in known:
        problems += number_problems(f"{section}.{key}", getattr(settings, key), most.get(key))
    return settings


def number_problems(name: str, value: Any, most: float | None = None) -> list[str]:
    """A sentence for a number, or one in a list, that is not finite, beyond `most`, or of a seed below 0.

    Args:
        name: of the option.
        value: of any type; others than numbers are not looked at.
        most: largest value; None: `MOST`, of seeds `MOST_SEED`.
    """
    if isinstance(value, list):
        return [problem for entry in value for problem in number_problems(name, entry, most)][:1]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    seed = name.rpartition(".")[2].endswith("seed")
    most = most or (MOST_SEED if seed else MOST)
    least = 0 if seed else -most
    if least <= value <= most:  # NaN is neither
        return []
    # Python refuses to print an integer of thousands of digits
    shown = f"a number of {value.bit_length()} bits" if isinstance(value, int) and value.bit_length() > 99 else value
    return [f"{name}={shown}: expected {least if seed else 'a number'} {'to' if seed else 'up to'} {most}"]


def argument_problems(section: str, target: Any, values: Mapping[str, Any]) -> list[str]:
    """Sentences for arguments of another type than `target` is annotated with, where that is a plain one, or huge."""
    try:
        hints = get_type_hints(target.__init__ if isinstance(target, type) else target)
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
            found += number_problems(f"{section}.{name}", value)
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
