"""List the images of a folder at a given depth; every file that is skipped becomes a drop with a reason."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fexgan_lit.data.images import EXTENSIONS
from fexgan_lit.data.table import Drop


@dataclass
class Listing:
    """The images as tuples of path parts below the root, in sorted order, and the skipped files as drops."""

    images: list[tuple[str, ...]] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)


def list_images(root: Path, depth: int, least: int | None = None, below: str = "") -> Listing:
    """List every image file exactly `depth` levels below `root`, in sorted order, without opening any file.

    Links are followed if they stay inside `root`. Images at another depth, hidden files, other types of files and
    names that are not valid Unicode become drops.

    Args:
        root: the folder that paths are relative to.
        depth: number of parts of an image's path below `below`; 1 means directly in the folder.
        least: smallest number of parts; None means `depth`.
        below: folder inside `root` to list; its name is part of the paths.
    """
    listing = Listing()
    start = tuple(part for part in below.split("/") if part)
    levels = range(len(start) + (least or depth), len(start) + depth + 1)
    _descend("/".join([str(root), *start]), start, levels, os.path.realpath(root), listing)
    return listing


def _descend(folder: str, parts: tuple[str, ...], levels: range, inside: str, listing: Listing) -> None:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        listing.drops.append(Drop("/".join(parts) or ".", f"folder cannot be read ({error.strerror})"))
        return
    level = len(parts) + 1
    for entry in found:
        here = (*parts, entry.name)
        reason = _refusal(entry, inside)
        if reason is None and entry.is_dir():
            if level < levels[-1]:
                _descend(entry.path, here, levels, inside, listing)
                continue
            reason = "folder below the level of the images"
        elif reason is None:
            reason = file_refusal(entry.name, level in levels)
        if reason is None:
            listing.images.append(here)
        else:
            listing.drops.append(Drop(_printable("/".join(here)), reason))


def _refusal(entry: os.DirEntry[str], inside: str) -> str | None:
    """Return the reason why a folder or file is skipped, or None."""
    if entry.name.startswith("."):
        return "hidden"
    if _printable(entry.name) != entry.name:
        return "name is not valid Unicode"
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if os.path.commonpath([inside, target]) != inside:
            return "link that leaves the root folder"
        if not os.path.exists(target):  # noqa: PTH110
            return "link to nothing"
    return None


def file_refusal(name: str, in_place: bool = True) -> str | None:
    """Return the reason why a file is not a frame, by its name or because it is not `in_place`, or None."""
    if os.path.splitext(name)[1].lower() not in EXTENSIONS:  # noqa: PTH122 (a Path a file would cost seconds)
        return "not an image by its extension"
    return None if in_place else "image above the level of the images"


def _printable(name: str) -> str:
    """Replace bytes that are not valid Unicode (Linux allows them), since Parquet and terminals need Unicode."""
    return name.encode("utf-8", "replace").decode() if not name.isascii() else name


def find_level(root: Path, fits: Callable[[Path], bool]) -> Path | None:
    """Return the nearest folder at most two levels below or above `root` that `fits`, or None."""
    children = list(subfolders(root))
    grandchildren = itertools.chain.from_iterable(subfolders(child) for child in children)
    absolute = root.absolute()
    above = [folder for folder in (absolute.parent, absolute.parent.parent) if folder != absolute]
    candidates = itertools.chain(children, above[:1], grandchildren, above[1:])
    return next((folder for folder in candidates if fits(folder)), None)


def subfolders(folder: Path, limit: int = 100) -> Iterator[Path]:
    """Return the first `limit` visible subfolders by name, enough to recognise a data set."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    except OSError:
        return iter(())
    return (folder / name for name in names[:limit])


def sample_images(folder: Path, depth: int, limit: int = 200) -> list[tuple[str, ...]]:
    """Return a few images at `depth` below `folder`, to recognise a layout without listing all files."""
    if depth == 1:
        try:
            with os.scandir(folder) as entries:
                names = [e.name for e in itertools.islice(entries, limit) if not e.name.startswith(".")]
        except OSError:
            return []
        images: list[tuple[str, ...]] = [(name,) for name in sorted(names) if file_refusal(name, True) is None]
        return images[:3]
    deeper = ((sub.name, *rest) for sub in subfolders(folder, 10) for rest in sample_images(sub, depth - 1, limit))
    return list(itertools.islice(deeper, limit))
