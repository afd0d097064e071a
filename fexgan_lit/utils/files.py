"""Files written whole or not at all, and paths that may be shown to others."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: An absolute path of two parts or more that is no part of a web address or of a relative path.
_PART = r"[^\s/\\:'\"`(),;]"
_ABSOLUTE = re.compile(rf"(?<![\w./:~-])/(?:{_PART}+/)+{_PART}*|\b[A-Za-z]:\\(?:{_PART}+\\)*{_PART}*")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` so that a reader sees the old file or the whole new one, and two writers do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.partial-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        # mkstemp gives the owner alone access; a result should be as readable as any other file
        umask = os.umask(0)
        os.umask(umask)
        Path(partial).chmod(0o666 & ~umask)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def from_home(path: Path) -> str:
    """The path with ~ for the user's home, as reports that travel should name it."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):  # elsewhere, or nobody's home
        return str(path)


def without_paths(text: str, known: Mapping[str, str] | None = None) -> str:
    """`text` with absolute paths replaced by names, so that it says nothing of the machine.

    >>> without_paths("run=/home/me/outputs/demo: /home/me/data is gone")
    'run=.../demo: .../data is gone'

    Args:
        text: that may hold absolute paths.
        known: the name for each place, such as ``RUN_DIR``; what lies below keeps its relative part. The longest
            place counts. Any other absolute path is cut to its last part after ``.../``.
    """
    names = known or {}
    for place in sorted((place for place in names if len(place) > 1), key=len, reverse=True):
        text = re.sub(re.escape(place) + r"(?![\w.-])", names[place].replace("\\", r"\\"), text)
    return _ABSOLUTE.sub(lambda found: ".../" + re.split(r"[/\\]", found.group().rstrip("/\\"))[-1], text)


def digest(content: Any, digits: int) -> str:
    """The first hexadecimal `digits` of the SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:digits]
