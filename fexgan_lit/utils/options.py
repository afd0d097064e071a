"""Options of a command as a typed dataclass; every value that cannot be used is named in one message."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fexgan_lit.utils.errors import UserError

T = TypeVar("T")


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
            if isinstance(value, Mapping) and schema[key] is None:
                schema.merge_with({key: value})  # settings inside settings; an assignment would not look into them
            else:
                schema[key] = value
        except (OmegaConfBaseException, OverflowError) as error:  # of a number of 400 digits
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
