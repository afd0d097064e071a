"""What a layout reads off a data set before words become affects, and how it is read off paths."""

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

#: Columns of a sheet that mean something to every layout; any other is an extra, which `dataset.only` can filter by.
COMMON = ("path", "identity", "word", "take", "frame", "clip", "key", "time_s", "intensity")


@dataclass
class Sheet:
    """One row a file.

    Attributes:
        frame: columns path, identity and word (what the data set calls the affect); where known take, frame, clip
            (names the sequence a frame was filmed in), time_s, intensity, key (equal for two files of one frame;
            else the path without its extension), and extras such as the camera.
        drops: what was found and left out.
        notes: sentences for the summary.
    """

    frame: pd.DataFrame
    drops: list[Drop] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PathRule:
    """Labels that stand in the path of each file.

    Attributes:
        columns: names of what `read` gives; identity and word are among them.
        read: from the parts of a path to the values of `columns`, or None where the path does not fit.
        depth: parts of a path, at most.
        least: parts of a path, at least; None: `depth`.
    """

    columns: tuple[str, ...]
    read: Callable[[tuple[str, ...]], tuple[Any, ...] | None]
    depth: int
    least: int | None = None

    def sheet(self, root: Path, below: str = "") -> Sheet:
        """The images of `root`, or of the folder `below` in it; `read` gets the parts after `below`."""
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
        """Whether `folder` holds an image whose word is a known affect; looks at a few only."""
        strict = reader if reader.allowed is not None else AffectReader(None, AFFECTS, reader.aliases)
        word = self.columns.index("word")
        for depth in range(self.least or self.depth, self.depth + 1):
            found = (self.read(parts) for parts in sample_images(folder / below, depth))
            if knows_any((labels[word] for labels in found if labels is not None), strict):
                return True
        return False


def knows_any(words: Any, reader: AffectReader) -> bool:
    """Whether any word is an affect: if none is, the root is more likely wrong than every name misspelt."""
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
        read: from the root to a Sheet; empty where the root does not have the form.
        fits: whether a folder looks like the root of such a set.
        affects: the affects the set has; None: any word is one.
        clips: form of its sequences: `onset` (neutral to apex), `full` (neutral, apex, neutral), or None.
        finish: what is joined to the table besides, such as landmarks that come with the set.
        paired: whether identities need two affects; false for sets without affects.
    """

    read: Callable[[Path, DatasetConfig], Sheet]
    fits: Callable[[Path, DatasetConfig], bool]
    affects: Sequence[str] | None = AFFECTS
    clips: str | None = None
    finish: Callable[[FrameTable, DatasetConfig], FrameTable] | None = None
    paired: bool = True


def first_folder(root: Path, names: Sequence[str]) -> str | None:
    """The first of `names` (paths below `root`) that is a folder."""
    return next((name for name in names if (root / name).is_dir()), None)


def empty_sheet() -> Sheet:
    """No row: the root does not have the form of the layout."""
    import pandas as pd

    return Sheet(pd.DataFrame(columns=["path", "identity", "word"]))
