"""Opening a data set: from the `dataset` group to the table and pack of a folder, a studio or a stream."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.config import STUDIOS, DatasetConfig
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.data.datasets.labels import keep_pairable, wanted_affects
from fexgan_lit.data.datasets.synthetic import make_studio
from fexgan_lit.data.frames import squares
from fexgan_lit.data.packing.pack import Pack, PackPlan, Progress, prepare_pack
from fexgan_lit.data.packing.sources import FileSource, FrameSource, StudioSource
from fexgan_lit.data.streaming.storage import holds_chunks
from fexgan_lit.data.table import FrameTable
from fexgan_lit.expression import AFFECTS, resolve_affect
from fexgan_lit.utils.cache import cache_root
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hardware import cores

if TYPE_CHECKING:
    from fexgan_lit.synthetic.base import Studio


def open_dataset(config: DatasetConfig, progress: Progress | None = None) -> Pack:
    """Return the pack of the configured data set: index it and decode it unless cached, or open a streamed pack.

    Raises:
        UserError: the data set cannot be opened, or a studio, which draws its frames, is given a folder of frames.
    """
    if holds_chunks(config.root):
        from fexgan_lit.data.streaming.open import open_chunks

        return open_chunks(config)
    if config.layout_name in STUDIOS:
        if config.root is not None:
            raise UserError(
                f"dataset.root={config.root} holds no streamed pack, and dataset={config.name} draws its frames; "
                "expected dataset=folder, or that of another data set, to use the frames of a folder"
            )
        return _pack(*_studio(config), config, progress)
    return pack_files(index_dataset(config), config, progress)


def pack_files(table: FrameTable, config: DatasetConfig, progress: Progress | None = None) -> Pack:
    """Return the pack of a table of files, whether it has pairs or not."""
    root = table.root
    if root is None:
        raise RuntimeError("a table of files has no root")
    boxes = None
    if config.crop == "face":
        from fexgan_lit.data.packing.sources import crop_to_faces

        table = crop_to_faces(table, config.crop_margin)
        boxes = squares(table.frame)
    return _pack(table, FileSource(root, table.paths, config.load_size, boxes), config, progress)


def _pack(table: FrameTable, source: FrameSource, config: DatasetConfig, progress: Progress | None) -> Pack:
    plan = PackPlan(config.name, config.load_size, config.cache_dir, config.workers)
    return prepare_pack(table, source, plan, progress)


def _studio(config: DatasetConfig) -> tuple[FrameTable, FrameSource]:
    """Return the studio's table and frames, drawn at the smallest of its sizes that is large enough."""
    studio = make_studio(config)
    table = studio_table(studio, config)
    rows = np.arange(len(table))
    wanted = wanted_affects(config.affects, config.aliases)
    if wanted is not None:
        keep = {resolve_affect(name, table.affects) for name in wanted}
        rows = np.flatnonzero(table.frame["affect"].isin(keep))
        table = keep_pairable(table.select(rows), fixed_affects=False)[0]
    return table, StudioSource(studio, rows, config.load_size)


def studio_table(studio: Studio, config: DatasetConfig) -> FrameTable:
    """Return the table of `studio` from the cache; the landmarks of a new table take time for every frame."""
    recipe = json.dumps(studio.recipe, sort_keys=True)
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    kept = cache_root(config.cache_dir) / "tables" / f"studio_{studio.kind}-{digest}.parquet"
    try:
        return FrameTable.load(kept)
    except UserError:  # missing or incomplete
        frame = studio.table(cores(config.workers))
        names = tuple(sorted(studio.people))
        table = FrameTable(frame, AFFECTS, names, root=None, shared_takes=True)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        table.save(partial)
        partial.replace(kept)
    except OSError as error:
        raise UserError(f"the cache folder {kept.parent} cannot be used ({error.strerror or error}).") from error
    return table
