"""The rows that a layout reads from a data set before labels become affects, and how to read them from paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.labels import AffectReader
from fexgan_lit.data.datasets.scan import list_images, sample_images
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import AFFECTS
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

#: Columns with a meaning in every layout; any other column is an extra, which `dataset.only` can filter by.
COMMON = ("path", "identity", "word", "take", "frame", "clip", "key", "time_s", "intensity")


@dataclass
class Sheet:
    """A table with one row per file.

    Attributes:
        frame: has the columns path, identity and word (the data set's name for the affect) and, where known, take,
            frame, clip (the sequence that contains the frame), time_s, intensity, key (equal for two files of the same
            frame; by default the path without its extension), and extras such as the camera.
        drops: the files that are left out, with reasons.
        notes: sentences for the summary.
    """

    frame: pd.DataFrame
    drops: list[Drop] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PathRule:
    """How to read labels from the path of each file.

    Attributes:
        columns: names of the values that `read` returns; they include identity and word.
        read: maps the parts of a path to the values of `columns`, or to None if the path does not fit.
        depth: the largest number of parts of a path.
        least: the smallest number of parts of a path; None means `depth`.
    """

    columns: tuple[str, ...]
    read: Callable[[tuple[str, ...]], tuple[Any, ...] | None]
    depth: int
    least: int | None = None

    def sheet(self, root: Path, below: str = "") -> Sheet:
        """List the images of `root`, or of its folder `below`; `read` receives the parts after `below`."""
        import pandas as pd

        listing = list_images(root, self.depth, self.least, below)
        skip = len([part for part in below.split("/") if part])
        rows: list[tuple[Any, ...]] = []
        drops = listing.drops
        for parts in listing.images:
            labels = self.read(parts[skip:])
            if labels is None:
                drops.append(Drop("/".join(parts), "name does not fit the pattern"))
            else:
                rows.append(("/".join(parts), *labels))
        return Sheet(pd.DataFrame(rows, columns=["path", *self.columns]), drops)

    def fits(self, folder: Path, reader: AffectReader, below: str = "") -> bool:
        """Return whether one of a few sampled images in `folder` has a known affect as its word."""
        strict = reader if reader.allowed is not None else AffectReader(None, AFFECTS, reader.aliases)
        word = self.columns.index("word")
        for depth in range(self.least or self.depth, self.depth + 1):
            found = (self.read(parts) for parts in sample_images(folder / below, depth))
            if knows_any((labels[word] for labels in found if labels is not None), strict):
                return True
        return False


def knows_any(words: Any, reader: AffectReader) -> bool:
    """Return whether any word is an affect; if none is, a wrong root is likelier than a typo in every name."""
    for word in dict.fromkeys(words):
        try:
            reader.read(word, "")
        except UserError:
            continue
        return True
    return False


@dataclass(frozen=True)
class Layout:
    """How the files of one data set become rows.

    Attributes:
        read: reads the root into a `Sheet`, which is empty if the root does not have this layout.
        fits: tells whether a folder looks like the root of such a data set.
        affects: the affects of the data set; None means that any word is an affect.
        clips: the form of its sequences: `onset` (neutral to apex), `full` (neutral, apex, neutral), or None.
        finish: changes the table at the end, for example joins the landmarks that come with the data set.
        paired: whether each identity needs two affects; false for data sets without affects.
    """

    read: Callable[[Path, DatasetConfig], Sheet]
    fits: Callable[[Path, DatasetConfig], bool]
    affects: Sequence[str] | None = AFFECTS
    clips: str | None = None
    finish: Callable[[FrameTable, DatasetConfig], FrameTable] | None = None
    paired: bool = True


def first_folder(root: Path, names: Sequence[str]) -> str | None:
    """Return the first of `names` (paths below `root`) that is a folder, or None."""
    return next((name for name in names if (root / name).is_dir()), None)


def empty_sheet() -> Sheet:
    """Return a sheet without rows, for a root that does not have the layout."""
    import pandas as pd

    return Sheet(pd.DataFrame(columns=["path", "identity", "word"]))
