"""Atomic writes, and paths in a form for publication."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: An absolute path of at least two parts, outside web addresses and relative paths.
_PART = r"[^\s/\\:'\"`(),;]"
_ABSOLUTE = re.compile(rf"(?<![\w./:~-])/(?:{_PART}+/)+{_PART}*|\b[A-Za-z]:\\(?:{_PART}+\\)*{_PART}*")


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
