"""A face of every identity a run knows, and what it shows: kept beside the weights, or taken from the run's data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.errors import UserError
from fexgan_lit.image_kinds import as_batch

if TYPE_CHECKING:
    from fexgan_lit.config import TrainSettings
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.frames import FrameSet

#: Folder of a run that holds a face of each identity as PNG, for use without the data.
FACES = "faces"


@dataclass(frozen=True, eq=False)
class ReferenceFaces:
    """A neutral face of each identity.

    Attributes:
        names: of the identities.
        images: (I, 3, S, S) in [-1, 1].
        rows: (I,) rows of `frames`; None where the faces were kept as files.
        frames: the split they were taken from, or None.
        data: the data set they were taken from, or None.
    """

    names: tuple[str, ...]
    images: Tensor
    rows: np.ndarray | None = None
    frames: FrameSet | None = None
    data: FrameDataModule | None = None

    def row_of(self, image: Tensor) -> int | None:
        """The row of `frames` that `image` (3, S, S) shows, by equality within a grey level; None where it is none."""
        if self.rows is None:
            return None
        off = (self.images - image.cpu()).abs().flatten(1).amax(1)  # (I, 3, S, S) -> (I,)
        nearest = int(off.argmin())
        return int(self.rows[nearest]) if float(off[nearest]) < 1 / 127.5 else None


def kept_faces(folder: Path, size: int) -> ReferenceFaces | None:
    """The pictures in `folder`/faces as squares of `size` pixels; None where there are none.

    Raises:
        UserError: one of them cannot be read.
    """
    paths = sorted((folder / FACES).glob("*.png"))
    if not paths:
        return None
    images = torch.cat([as_batch(path, size)[0] for path in paths])
    return ReferenceFaces(tuple(path.stem for path in paths), images)


def faces_of_data(run: TrainSettings, size: int) -> ReferenceFaces:
    """A reference frame of each identity of the data a run was trained on, neutral where there is one.

    Taken from validation frames, or from training frames where an identity has no others.

    Raises:
        UserError: the data are not there any more, or have other affects.
    """
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.wanted import reference_rows

    data = FrameDataModule(run.dataset, run.seed, run.system.pairing)
    try:
        data.setup()
    except UserError as error:
        raise UserError(f"the data of the run, where its faces come from, cannot be opened: {error}") from error
    then = tuple((run.data or {}).get("affects", data.affects))
    if tuple(data.affects) != then:
        raise UserError(f"the data of the run have other affects now: {', '.join(data.affects)}, not {', '.join(then)}")
    complete = data.val is not None and len(set(data.val.identity.tolist())) == len(data.identities)
    frames = data.val if data.val is not None and complete else data.train
    rows = np.asarray(reference_rows(frames))
    names = tuple(frames.identities[i] for i in frames.identity[rows])
    return ReferenceFaces(names, frames.floats(rows, size).contiguous(), rows, frames, data)
