"""Source images: reference frames of a run's identities, or images of the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.expression import ACTION_UNITS, Expression, resolve_affect, rows_of
from fexgan_lit.inference.images import as_batch
from fexgan_lit.runs.folder import FACES
from fexgan_lit.utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.table import FrameTable
    from fexgan_lit.runs.config import TrainSettings


#: Maximum number of faces if the user names none.
MOST_FACES = 16


#: The training option for annotations, and its name here; messages about the first are adapted.
_TRAINING_OPTION, _OPTION = "dataset.annotations=", "annotations="


@dataclass(frozen=True, eq=False)
class Sources:
    """N source faces and their known annotations.

    Attributes:
        names: unique names of the faces.
        images: (N, 3, S, S) in [-1, 1].
        shown: expressions of the sources, (N, ...); a field that is unknown for some face is None.
        rows: (N,) rows of the frame set of the faces; None for images of the user.
        origin: description of where the faces come from.
        notes: sentences for the user.
    """

    names: tuple[str, ...]
    images: Tensor
    shown: Expression
    rows: np.ndarray | None
    origin: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def select(self, index: Sequence[int]) -> Sources:
        """Return the faces at `index`, in that order."""
        rows = None if self.rows is None else self.rows[list(index)]
        names = tuple(self.names[i] for i in index)
        return replace(self, names=names, images=self.images[list(index)], shown=rows_of(self.shown, index), rows=rows)


def choose(sources: Sources, names: Sequence[str], most: int | None = MOST_FACES) -> Sources:
    """Return the faces called `names`; without names, the first `most` (None: all), with a note if there are more.

    Raises:
        UserError: a name is unknown; the message suggests the nearest.
    """
    if not names:
        if most is None or len(sources) <= most:
            return sources
        note = f"the first {most} of {len(sources)} faces are used; who=[NAME,...] chooses others"
        return replace(sources.select(range(most)), notes=(*sources.notes, note))
    unknown = [name for name in names if name not in sources.names]
    if unknown:
        hint = did_you_mean(unknown[0], sources.names)
        raise UserError(
            f"who={unknown[0]}: expected one of {', '.join(sources.names[:20])}"
            f"{' ...' if len(sources) > 20 else ''}, the faces of {sources.origin}.{hint}"
        )
    return sources.select([sources.names.index(name) for name in dict.fromkeys(names)])


def from_shipped(folder: Path, size: int, affects: Sequence[str]) -> Sources:
    """Return the neutral reference images `faces/*.png` of a run, without opening its data.

    Args:
        folder: the run folder.
        size: S, side of the images in pixels.
        affects: class names, including `neutral`.
    """
    found = from_files(folder / FACES, size, None, affects)
    neutral = Expression.of_affects([affects.index("neutral")] * len(found), len(affects))
    return replace(found, shown=replace(neutral, aus=at_rest(len(found))), origin="the run")


def from_frames(frames: FrameSet, size: int, origin: str) -> Sources:
    """Return a reference frame of each identity, neutral if there is one, with its annotated expression.

    Args:
        frames: a split of the run's data.
        size: S, side of the images in pixels.
        origin: name of the data, for messages.
    """
    from fexgan_lit.data.reference import frame_expression, reference_rows

    rows = np.asarray(reference_rows(frames))
    names = tuple(frames.identities[i] for i in frames.identity[rows])
    return Sources(names, frames.floats(rows, size), frame_expression(frames, rows), rows, origin)


def from_files(place: Path, size: int, annotations: Path | None, affects: Sequence[str]) -> Sources:
    """Read images of any size as central squares of `size` pixels; see `fexgan_lit.data.images` for the formats.

    Args:
        place: an image file, or a folder of images.
        size: S, side of the squares in pixels.
        annotations: CSV with `path` and any of affect, action units and landmarks, or None.
        affects: class names, for the column `affect`.

    Raises:
        UserError: there is no image, an image cannot be read, or the annotations are invalid.
    """
    from fexgan_lit.data.frames import to_float

    paths, notes = picture_paths(place)
    squares, sides, moving = _read_all(paths, size)
    shown = Expression()
    if moving:
        notes.append(f"only the first image of an animation is used: {', '.join(moving[:5])}")
    if annotations is not None:
        known, said = annotated(paths, sides, place if place.is_dir() else place.parent, annotations, affects)
        shown, notes = known, [*notes, *said]
    return Sources(picture_names(paths), to_float(squares), shown, None, str(place), tuple(notes))


def picture_paths(place: Path) -> tuple[list[Path], list[str]]:
    """Return the image files at `place`, and a sentence about other files.

    Raises:
        UserError: the folder has no images.
    """
    from fexgan_lit.data.images import EXTENSIONS
    from fexgan_lit.inference.images import GIF

    if not place.is_dir():
        return [place], []
    entries = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    chosen = [path for path in entries if path.suffix.lower() in (*EXTENSIONS, GIF)]
    others = [path.name for path in entries if path not in chosen and path.suffix.lower() != ".csv"]
    if not chosen:
        raise UserError(f"images={place}: no image in this folder; expected {', '.join(sorted(EXTENSIONS))}")
    more = f" +{len(others) - 5} more" if len(others) > 5 else ""
    return chosen, [f"not images by their extension: {', '.join(others[:5])}{more}"] if others else []


def _read_all(paths: Sequence[Path], size: int) -> tuple[np.ndarray, list[tuple[int, int]], list[str]]:
    """Return central squares (N, size, size, 3) uint8 RGB, the images' (height, width), and names of animations.

    Raises:
        UserError: files cannot be read; the message lists them.
    """
    from fexgan_lit.data.images import FrameError
    from fexgan_lit.data.packing.sources import fit_square
    from fexgan_lit.inference.images import read_picture

    squares, sides, moving, broken = [], [], [], []
    for path in paths:
        try:
            picture = read_picture(path)
        except FrameError as error:
            broken.append(f"{path.name}: {error}")
            continue
        squares.append(fit_square(picture.pixels, size))
        sides.append((picture.pixels.shape[0], picture.pixels.shape[1]))
        moving += [path.name] * picture.animated
    if broken:
        raise UserError(f"images: {len(broken)} of {len(paths)} cannot be read: {'; '.join(broken[:5])}")
    return np.stack(squares), sides, moving


def picture_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the file names without suffix, or with it if two names would be equal."""
    stems = Counter(path.stem for path in paths)
    return tuple(path.stem if stems[path.stem] == 1 else path.name for path in paths)


def annotated(
    paths: Sequence[Path], sides: Sequence[tuple[int, int]], root: Path, csv: Path, affects: Sequence[str]
) -> tuple[Expression, list[str]]:
    """Return the expressions of the images according to `csv`, and sentences about them."""
    from fexgan_lit.data.datasets.annotations import join_annotations
    from fexgan_lit.data.frames import guides

    table = _table(paths, sides, root)
    if not _has_numbers(csv):
        labels = _labels(table, csv, affects)
        said = [] if labels is not None else [f"{csv.name} has no affect for some of the images, so it is not used"]
        return Expression(affect=labels), said
    try:
        joined = join_annotations(table, csv)
    except UserError as error:
        raise UserError(str(error).replace(_TRAINING_OPTION, _OPTION)) from error
    known = guides(joined)
    given = {name: torch.from_numpy(known[name]) for name in ("aus", "landmarks") if known[name] is not None}
    labels = _labels(joined, csv, affects)
    said = [*joined.notes, *(f"{csv.name}: {drop.path}: {drop.reason}" for drop in joined.drops[:5])]
    return Expression(affect=labels, **given), said


def _has_numbers(csv: Path) -> bool:
    """Return whether `csv` has columns besides path, affect and identity."""
    from fexgan_lit.data.datasets.openface import read_annotations

    return bool(set(read_annotations(csv, "annotations")[0].columns) - {"path", "affect", "identity"})


def _table(paths: Sequence[Path], sides: Sequence[tuple[int, int]], root: Path) -> FrameTable:
    """Return the images as a table without labels."""
    import pandas as pd

    from fexgan_lit.data.table import FrameTable

    columns = {"path": [path.name for path in paths], "identity": "", "affect": ""}
    measures = {"height": [height for height, _ in sides], "width": [width for _, width in sides]}
    return FrameTable(pd.DataFrame({**columns, **measures}), ("",), ("",), root)


def _labels(table: FrameTable, csv: Path, affects: Sequence[str]) -> Tensor | None:
    """Return the column `affect` of `csv` as one-hot (N, K), or None if it is empty for some image."""
    from fexgan_lit.data.datasets.openface import read_annotations

    rows = read_annotations(csv, "annotations")[0]
    if not {"affect", "path"} <= set(rows):
        return None
    by_name = {Path(path).name: word for path, word in zip(rows["path"], rows["affect"], strict=True) if word}
    words = [by_name.get(path) for path in table.paths]
    if None in words:
        return None
    index = [affects.index(resolve_affect(str(word), affects)) for word in words]
    return Expression.of_affects(index, len(affects)).affect


def at_rest(count: int) -> Tensor:
    """Return the action units (count, 17) of relaxed faces: zeros."""
    return torch.zeros(count, len(ACTION_UNITS))


@dataclass(frozen=True, eq=False)
class ReferenceFaces:
    """A neutral image of each identity.

    Attributes:
        names: names of the identities.
        images: (I, 3, S, S) in [-1, 1].
        rows: (I,) rows of `frames`; None if the images were read from files.
        frames: the split of the images, or None.
        data: the data set of the images, or None.
    """

    names: tuple[str, ...]
    images: Tensor
    rows: np.ndarray | None = None
    frames: FrameSet | None = None
    data: FrameDataModule | None = None

    def row_of(self, image: Tensor) -> int | None:
        """Return the row of `frames` that equals `image` (3, S, S) within one grey level, or None."""
        if self.rows is None:
            return None
        off = (self.images - image.cpu()).abs().flatten(1).amax(1)  # (I, 3, S, S) -> (I,)
        nearest = int(off.argmin())
        return int(self.rows[nearest]) if float(off[nearest]) < 1 / 127.5 else None


def kept_faces(folder: Path, size: int) -> ReferenceFaces | None:
    """Read the images in `folder`/faces as squares of `size` pixels; return None if there are none.

    Raises:
        UserError: an image cannot be read.
    """
    paths = sorted((folder / FACES).glob("*.png"))
    if not paths:
        return None
    images = torch.cat([as_batch(path, size)[0] for path in paths])
    return ReferenceFaces(tuple(path.stem for path in paths), images)


def faces_of_data(run: TrainSettings, size: int) -> ReferenceFaces:
    """Return a reference frame of each identity in a run's training data, neutral if there is one.

    The frames are validation frames, or training frames if an identity has no validation frame.

    Raises:
        UserError: the data are missing, or have other affects.
    """
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.reference import reference_rows

    data = FrameDataModule(run.dataset, run.seed, run.system.pairing)
    try:
        data.setup()
    except UserError as error:
        raise UserError(f"the data of the run, where its faces come from, cannot be opened: {error}") from error
    then = tuple((run.data or {}).get("affects", data.affects))
    if tuple(data.affects) != then:
        raise UserError(f"the data of the run have other affects now: {', '.join(data.affects)}, not {', '.join(then)}")
    frames = data.reference_frames
    rows = np.asarray(reference_rows(frames))
    names = tuple(frames.identities[i] for i in frames.identity[rows])
    return ReferenceFaces(names, frames.floats(rows, size).contiguous(), rows, frames, data)
