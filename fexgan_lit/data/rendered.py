"""Frames that a studio renders on demand: faces of a data set with any action units, and their exact truth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.config import STUDIOS
from fexgan_lit.data.datamodule import frame_set
from fexgan_lit.data.datasets.synthetic import make_studio
from fexgan_lit.data.open import studio_table
from fexgan_lit.data.packing.pack import PackPlan, Progress, prepare_pack
from fexgan_lit.data.packing.sources import StudioSource, fit_square
from fexgan_lit.data.table import FrameTable
from fexgan_lit.expression import ACTION_UNITS, AU_COLUMNS, LANDMARK_COLUMNS
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.config import DatasetConfig
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.synthetic.base import Studio
    from fexgan_lit.synthetic.takes import FaceState

_BLINK = ACTION_UNITS.index(45)


def studio_of(config: DatasetConfig, purpose: str) -> Studio:
    """Return the studio of a data set; `purpose`, such as ``protocol=complex``, begins the error.

    Raises:
        UserError: the data are not a studio's, or the studio lacks its model.
    """
    if config.layout_name not in STUDIOS:
        raise UserError(
            f"{purpose}: {config.name} has no true frames of these expressions; only the rendered casts have them. "
            f"Expected a run on one of the studios ({', '.join(STUDIOS)})."
        )
    return make_studio(config)


def state_with(studio: Studio, row: int, units: np.ndarray) -> FaceState:
    """Return the state of the face in `row` of the studio with other action units.

    Person, pose, gaze, light and blink are those of the row. The muscles are exactly as asked, on both sides of the
    face, without the small random differences of a take; so a system can be compared with what it was asked for.

    Args:
        studio: the studio.
        row: row of the studio's table.
        units: (17,) action units in [0, 1]; NaN keeps those of the row.
    """
    act = studio.performance(row)
    if np.isnan(units).any():
        return act
    both = np.tile(units, (2, 1)).astype(np.float64)  # (17,) -> (2, 17)
    both[:, _BLINK] = np.maximum(both[:, _BLINK], act.units[:, _BLINK])
    return replace(act, units=both)


@dataclass(frozen=True, eq=False)
class UnitsSource:
    """The faces in `rows` (n,) of a studio with the action units `units` (n, 17), as a `FrameSource`."""

    studio: Studio
    rows: np.ndarray
    units: np.ndarray
    size: int
    holds_interpreter: bool = True
    together: int = 1

    def state(self, row: int) -> tuple[int, FaceState]:
        """Return the index of the character and the state of the face in frame `row`."""
        place = int(self.rows[row])
        return int(self.studio.script.person[place]), state_with(self.studio, place, self.units[row])

    def read(self, row: int) -> tuple[np.ndarray, tuple[int, int]]:
        """As `FrameSource`."""
        image = self.studio.paint(*self.state(row), self.studio.size)
        return fit_square(image, self.size), (image.shape[0], image.shape[1])

    def fingerprint(self) -> Iterable[bytes]:
        """Yield the recipe, which determines every pixel, the rows and the action units."""
        yield json.dumps(self.studio.recipe, sort_keys=True).encode()
        yield self.rows.tobytes()
        yield self.units.tobytes()


def studio_rows(data: FrameDataModule, studio: Studio, frames: FrameSet, rows: np.ndarray) -> np.ndarray:
    """Return the rows (n,) int64 of the studio's table for the `rows` (n,) of a split of `data`."""
    import pandas as pd

    everything = data.everything().rows  # row i of the table is this row of the pack
    order = np.argsort(everything)
    places = order[np.searchsorted(everything, frames.rows[rows], sorter=order)]
    paths = data.table.frame["path"].to_numpy()[places]
    return pd.Index(studio_table(studio, data.config).frame["path"]).get_indexer(paths).astype(np.int64)


def render_frames(
    data: FrameDataModule, studio: Studio, rows: np.ndarray, units: np.ndarray, affect: np.ndarray,
    progress: Progress | None = None,
) -> FrameSet:  # fmt: skip
    """Render faces of a studio with other action units, and return them with their truth; packs are cached.

    Args:
        data: the data module of the studio's frames, for names, image size, cache and workers.
        studio: the studio.
        rows: (n,) rows of the studio's table: character, pose, gaze, light and blink.
        units: (n, 17) action units in [0, 1]; a row with NaN keeps those of its row.
        affect: (n,) indices in `data.affects`, the labels of the frames.
        progress: called with (frames done, total frames).
    """
    import pandas as pd

    source = UnitsSource(studio, rows, units, data.config.load_size)
    states = [source.state(row) for row in range(len(rows))]
    points = np.array([studio.landmarks(person, act, studio.size) for person, act in states])
    table = pd.DataFrame({
        "path": [f"rendered/{row:06d}" for row in range(len(rows))],
        "identity": [studio.people[person] for person, _ in states],
        "affect": [data.affects[k] for k in affect],
        **dict(zip(AU_COLUMNS, np.array([act.units.mean(axis=0) for _, act in states]).T, strict=True)),
        **dict(zip(LANDMARK_COLUMNS, points.reshape(len(points), -1).T, strict=True)),  # (n, 68, 2) -> (136, n)
    })  # fmt: skip
    identities = tuple(sorted({*data.identities, *table["identity"]}))
    plan = PackPlan(f"{data.config.name}-rendered", data.config.load_size, data.config.cache_dir, data.config.workers)
    pack = prepare_pack(FrameTable(table, data.affects, identities, root=None), source, plan, progress)
    every = np.arange(len(rows))
    return frame_set(pack.table, pack.images, every, every)


def render_new_people(data: FrameDataModule, people: int, progress: Progress | None = None) -> FrameSet:
    """Render two takes of every affect by `people` new characters, those after the cast of the run; packs are cached.

    Args:
        data: the data module of a studio's frames.
        people: number of new characters.
        progress: called with (frames done, total frames).
    """
    config, known = data.config, data.config.identities or 0
    studio = make_studio(replace(config, identities=known + people, takes=2, targets="random"))
    table = studio_table(studio, config)
    rows = np.flatnonzero((studio.script.person >= known) & table.frame["affect"].isin(data.affects))
    new = table.select(rows)
    names = tuple(sorted(set(new.frame["identity"])))
    plan = PackPlan(f"{config.name}-unseen", config.load_size, config.cache_dir, config.workers)
    new = replace(new, affects=data.affects, identities=names)
    pack = prepare_pack(new, StudioSource(studio, rows, config.load_size), plan, progress)
    every = np.arange(len(rows))
    return frame_set(pack.table, pack.images, every, every)
