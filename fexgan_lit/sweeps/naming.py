"""Names of folders from what varies: the same command means the same folders, without a clock."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Longest name of a folder.
_LONGEST = 100
_DIGEST = 8


def written(value: Any) -> str:
    """A value as text; the same for 1 and 1.0, different for different values."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def digest(content: Any) -> str:
    """Eight hexadecimal digits that follow from plain content."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Key -> its last parts, as few as tell it from the others (`loss.alpha` -> `alpha`)."""
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
    """A folder name for each setting of the same axes, in the order of their names: `alpha-0.5_beta-0.1_seed-1`."""
    if not settings:
        return []
    keys = sorted(settings[0])
    short = short_keys(keys)
    return [_fitting("_".join(f"{short[key]}-{_word(s[key])}" for key in keys) or "run", s) for s in settings]


def sweep_name(axes: Iterable[str], base: Any) -> str:
    """The folder of a sweep: what varies, and a digest of everything that does not."""
    keys = sorted(axes)
    words = "_".join(short_keys(keys).values()) or "single"
    return f"{words[: _LONGEST - _DIGEST - 1]}_{digest([keys, base])}"


def _word(value: Any) -> str:
    """A value as part of a folder name; one with other characters gets a digest, so that no two share it."""
    text = written(value)
    plain = _plain(text)
    return plain if plain == text else f"{plain[:40]}-{digest(text)}"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") if re.search(r"[^A-Za-z0-9._-]", text) else text


def _fitting(name: str, setting: Mapping[str, Any]) -> str:
    """The name, cut where it is too long and then told apart by a digest of the values."""
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - _DIGEST - 1]}-{digest({k: written(v) for k, v in setting.items()})}"
