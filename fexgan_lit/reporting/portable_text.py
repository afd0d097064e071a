"""Text that travels: no path of the machine it was made on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

#: An absolute path of two parts or more that is no part of a web address or of a relative path.
_ABSOLUTE = re.compile(r"(?<![\w./:~-])/(?:[\w.@+=,-]+/)+[\w.@+=,-]*|\b[A-Za-z]:\\(?:[\w.@+=, -]+\\)*[\w.@+=,-]*")


def without_paths(text: str, known: Mapping[str, str]) -> str:
    """`text` with places replaced by names.

    Args:
        text: that may hold absolute paths.
        known: the name for each place, such as ``RUN_DIR``; what lies below keeps its relative part. The longest
            place counts. Any other absolute path is cut to its last part after ``.../``.
    """
    for place in sorted((place for place in known if len(place) > 1), key=len, reverse=True):
        text = re.sub(re.escape(place) + r"(?![\w.-])", known[place].replace("\\", r"\\"), text)
    return _ABSOLUTE.sub(lambda found: ".../" + re.split(r"[/\\]", found.group().rstrip("/\\"))[-1], text)


def places_of(run: Path, dataset_root: str | None, cache: str | None) -> dict[str, str]:
    """The places a run may name, and what they are called in public."""
    known = {str(run): "RUN_DIR", str(run.resolve()): "RUN_DIR", str(Path.cwd()): ".", str(Path.home()): "~"}
    if dataset_root:
        known |= {str(dataset_root): "DIR"}
    if cache:
        known |= {str(cache): "CACHE_DIR"}
    return {place: name for place, name in known.items() if place not in ("", ".", "/")}
