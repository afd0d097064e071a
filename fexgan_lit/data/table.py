"""The index of a data set: one row for each frame, saved as Parquet and validated on loading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


REQUIRED = ("path", "identity", "affect")


_META = b"fexgan_lit"


@dataclass(frozen=True)
class Drop:
    """A file or frame that is not used: its path relative to the root, and the reason."""

    path: str
    reason: str


def first_few(names: Iterable[str], limit: int = 5) -> tuple[str, ...]:
    """Return the first `limit` names, and the number of the others if there are any."""
    listed = list(names)
    more = (f"+{len(listed) - limit} more",) if len(listed) > limit else ()
    return (*listed[:limit], *more)


def some(names: Iterable[str], limit: int = 5) -> str:
    """Join the `first_few` names."""
    return ", ".join(first_few(names, limit))


@dataclass(frozen=True, eq=False)
class FrameTable:
    """One row for each frame, and the class order of the data set.

    Attributes:
        frame: columns path (relative to `root`, with forward slashes), identity, affect; if known also take, frame,
            time_s (seconds), intensity (0..1), `AU_COLUMNS` (0..1), `LANDMARK_COLUMNS` (pixels of the stored image),
            yaw, pitch, roll (degrees). NaN if a frame has no annotation.
        affects: class order; `affect_index` indexes it.
        identities: sorted; `identity_index` indexes it.
        root: folder to which paths are relative; None for a studio, whose frames are drawn.
        drops: files and frames that were found and left out.
        notes: sentences for the summary, for example on joined annotations.
        shared_takes: whether take k of an identity has the same pose, gaze and light for all affects, frame by frame,
            as in the studios; elsewhere a take shows one affect.
    """

    frame: pd.DataFrame
    affects: tuple[str, ...]
    identities: tuple[str, ...]
    root: Path | None
    drops: tuple[Drop, ...] = ()
    notes: tuple[str, ...] = ()
    shared_takes: bool = False

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def identity_index(self) -> np.ndarray:
        """Index of each frame's identity, (N,) int64 in 0..len(identities)-1."""
        return _index_of(self.frame["identity"], self.identities)

    @cached_property
    def affect_index(self) -> np.ndarray:
        """Index of each frame's affect, (N,) int64 in 0..len(affects)-1."""
        return _index_of(self.frame["affect"], self.affects)

    @property
    def intensity(self) -> np.ndarray | None:
        """Intensities (N,) float32 in 0..1, NaN if a frame has none; None if the data set has none."""
        return self.frame["intensity"].to_numpy(np.float32) if "intensity" in self.frame else None

    @property
    def paths(self) -> list[str]:
        """Paths in row order, relative to `root`."""
        return self.frame["path"].tolist()

    def select(self, rows: np.ndarray, drops: Sequence[Drop] = ()) -> FrameTable:
        """Return the table of `rows` (n,), with the classes unchanged and `drops` added."""
        kept = self.frame.iloc[rows].reset_index(drop=True)
        return replace(self, frame=kept, drops=(*self.drops, *drops))

    def save(self, path: Path) -> None:
        """Write everything but `root` to one Parquet file, so that the table stays valid if the data set is moved."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        meta = {
            "affects": self.affects,
            "identities": self.identities,
            "drops": [asdict(drop) for drop in self.drops],
            "notes": self.notes,
            "shared_takes": self.shared_takes,
        }
        arrow = pa.Table.from_pandas(self.frame, preserve_index=False)
        arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _META: json.dumps(meta).encode()})
        pq.write_table(arrow, path)

    @classmethod
    def load(cls, path: Path, root: Path | None = None) -> FrameTable:
        """Read a table written by `save`.

        Raises:
            UserError: the file is not such a table, or has missing columns, empty labels or unknown labels.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # read_table would import the reader of whole folders, which takes a fifth of a second
            with pq.ParquetFile(path) as file:
                arrow = file.read()
            meta = json.loads((arrow.schema.metadata or {})[_META])
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise UserError(
                f"{path} is not a frame table of fexgan_lit ({error}); prepare the data set again."
            ) from error
        table = cls(
            frame=arrow.to_pandas(),
            affects=tuple(meta["affects"]),
            identities=tuple(meta["identities"]),
            root=root,
            drops=tuple(Drop(**drop) for drop in meta["drops"]),
            notes=tuple(meta["notes"]),
            shared_takes=meta.get("shared_takes", False),
        )
        check_table(table, str(path))
        return table


def check_table(table: FrameTable, where: str) -> None:
    """Raise a UserError that names `where` if a column is missing or a label is empty or unknown."""
    missing = [name for name in REQUIRED if name not in table.frame]
    if missing:
        raise UserError(f"{where}: the columns {', '.join(missing)} are missing; expected {', '.join(REQUIRED)}.")
    empty = [name for name in REQUIRED if table.frame[name].isna().any()]
    if empty:
        raise UserError(f"{where}: empty entries in {', '.join(empty)}; every frame needs all three.")
    for column, allowed in (("affect", table.affects), ("identity", table.identities)):
        unknown = sorted(set(table.frame[column].unique()) - set(allowed))
        if unknown:
            raise UserError(f"{where}: {column} {', '.join(map(repr, unknown))} is not among {', '.join(allowed)}.")


def _index_of(labels: pd.Series, order: tuple[str, ...]) -> np.ndarray:
    """Return the (N,) int64 position of each label in `order`."""
    codes, names = labels.factorize()
    position = {name: index for index, name in enumerate(order)}
    return np.array([position[name] for name in names], dtype=np.int64)[codes]
