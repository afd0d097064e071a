"""Atomic writes, bounded reading of YAML from elsewhere, and paths in a form for publication."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fexgan_lit.utils.errors import UserError

#: An absolute path of at least two parts, outside web addresses and relative paths.
_PART = r"[^\s/\\:'\"`(),;]"
_ABSOLUTE = re.compile(rf"(?<![\w./:~-])/(?:{_PART}+/)+{_PART}*|\b[A-Za-z]:\\(?:{_PART}+\\)*{_PART}*")
#: Largest YAML file in bytes, and deepest nesting of its mappings and lists.
_LONGEST, _DEEPEST = 8 << 20, 50


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` atomically: readers see the old or the complete new file, and concurrent writers do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.partial-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        # mkstemp makes files readable only for their owner; results should have the usual permissions
        umask = os.umask(0)
        os.umask(umask)
        Path(partial).chmod(0o666 & ~umask)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def flush_to_disk(place: Path) -> None:
    """Flush a file, or the names in a folder, to the disk; folders only on systems that support it."""
    if place.is_dir() and os.name != "posix":
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def from_home(path: Path) -> str:
    """Return the path with ~ for the user's home, for reports that are copied elsewhere."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):  # outside the home folder, or there is none
        return str(path)


def without_paths(text: str, known: Mapping[str, str] | None = None) -> str:
    """Replace absolute paths in `text` by names, so that the text does not describe this machine.

    >>> without_paths("run=/home/me/outputs/demo: /home/me/data is gone")
    'run=.../demo: .../data is gone'

    Args:
        text: text with or without absolute paths.
        known: a name for each folder, such as ``RUN_DIR``; paths below keep their relative part, and the longest
            match counts. Any other absolute path is reduced to its last part after ``.../``.
    """
    names = known or {}
    for place in sorted((place for place in names if len(place) > 1), key=len, reverse=True):
        text = re.sub(re.escape(place) + r"(?![\w.-])", names[place].replace("\\", r"\\"), text)
    return _ABSOLUTE.sub(lambda found: ".../" + re.split(r"[/\\]", found.group().rstrip("/\\"))[-1], text)


def digest(content: Any, digits: int) -> str:
    """Return the first `digits` hexadecimal digits of the SHA-256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:digits]


def read_yaml(path: Path, option: str = "") -> Any:
    """Read a YAML file as plain values, with OmegaConf's types and unresolved interpolations.

    Args:
        path: the untrusted file. Its size and nesting are limited, and aliases are not allowed.
        option: the option that named the file, for the message, such as `driver=`.

    Raises:
        UserError: the file cannot be read; the message has the file and the line.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
    where, reason = f"{option}{path}", ""
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise UserError(f"{where}: more than {_LONGEST >> 20} MiB of YAML")
        text, depth = content.decode("utf-8-sig"), 0
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
                found = "an alias" if depth <= _DEEPEST else f"more than {_DEEPEST} levels of nesting"
                raise yaml.MarkedYAMLError(problem=found, problem_mark=event.start_mark)
        return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except yaml.YAMLError as error:
        mark, reason = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
        where += f" line {mark.line + 1}" if mark is not None else ""
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text, at byte {error.start}"
    except (OSError, ValueError, TypeError, OmegaConfBaseException) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise UserError(f"{where}: invalid YAML ({' '.join(reason.split())})")


def read_mapping(path: Path) -> dict[Any, Any]:
    """Read a YAML file that holds a mapping; see `read_yaml`."""
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping, found {type(tree).__name__}")
    return tree
