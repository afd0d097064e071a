"""From the `dataset` group to a pack: the table of a folder or of a studio, and the source of its frames."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fexgan_lit.cores import cores
from fexgan_lit.data.cache import cache_root
from fexgan_lit.data.guides import squares
from fexgan_lit.data.labels import keep_pairable, wanted_affects
from fexgan_lit.data.layouts import index_dataset
from fexgan_lit.data.packing import Pack, PackPlan, Progress, prepare_pack
from fexgan_lit.data.settings import SIZES, STUDIOS, DatasetConfig
from fexgan_lit.data.sources import FileSource, FrameSource, StudioSource
from fexgan_lit.data.streaming.places import holds_chunks
from fexgan_lit.data.table import FrameTable
from fexgan_lit.errors import UserError
from fexgan_lit.expression import resolve_affect

if TYPE_CHECKING:
    from fexgan_lit.data.studio.base import Studio

NO_FACEKIT = (
    "dataset.facekit is not given; dataset=studio_human draws its people from ICT-FaceKit (USC ICT, MIT licence).\n"
    "Get it with `git clone https://github.com/USC-ICT/ICT-FaceKit` and give dataset.facekit=ICT-FaceKit, or the file "
    "of a compact copy (.npz). Without it: dataset=studio_cartoon needs nothing."
)


def open_dataset(config: DatasetConfig, progress: Progress | None = None) -> Pack:
    """The pack of the data set `config` names: indexed now, decoded now or before; or the one written at its root."""
    if holds_chunks(config.root):
        from fexgan_lit.data.streaming.opening import open_chunks

        return open_chunks(config)
    if config.layout_name in STUDIOS:
        return _pack(*_studio(config), config, progress)
    return pack_files(index_dataset(config), config, progress)


def pack_files(table: FrameTable, config: DatasetConfig, progress: Progress | None = None) -> Pack:
    """The pack of a table of files, whether pairs can be made of it or not."""
    root = table.root
    if root is None:
        raise RuntimeError("a table of files has no root")
    boxes = None
    if config.crop == "face":
        from fexgan_lit.data.cropping import crop_to_faces

        table = crop_to_faces(table, config.crop_margin)
        boxes = squares(table.frame)
    return _pack(table, FileSource(root, table.paths, config.load_size, boxes), config, progress)


def _pack(table: FrameTable, source: FrameSource, config: DatasetConfig, progress: Progress | None) -> Pack:
    plan = PackPlan(config.name, config.load_size, config.cache_dir, config.workers)
    return prepare_pack(table, source, plan, progress)


def _studio(config: DatasetConfig) -> tuple[FrameTable, FrameSource]:
    """The studio's frames, drawn at the smallest of its sizes that is large enough."""
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
    """The table of `studio`, kept in the cache, as its landmarks take time in proportion to the frames."""
    recipe = json.dumps(studio.recipe, sort_keys=True)
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    kept = cache_root(config.cache_dir) / "tables" / f"studio_{studio.kind}-{digest}.parquet"
    try:
        return FrameTable.load(kept)
    except UserError:  # not there yet, or not whole
        table = studio.table(cores(config.workers))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        table.save(partial)
        partial.replace(kept)
    except OSError as error:
        raise UserError(f"the cache folder {kept.parent} cannot be used ({error.strerror or error}).") from error
    return table


def make_studio(config: DatasetConfig) -> Studio:
    """The studio `config` names, with its cast and script."""
    from fexgan_lit.data.studio.cartoon.studio import CartoonStudio

    arguments: dict[str, Any] = {
        "identities": config.identities,
        "takes": config.takes,
        "frames": config.frames,
        "size": next((size for size in SIZES if size >= config.load_size), SIZES[-1]),
        "seed": config.studio_seed,
        "head_motion": config.head_motion,
        "take_seconds": config.take_seconds,
        "exact": config.min_target_intensity if config.targets == "exact" else None,
    }
    if config.layout_name == "studio_cartoon":
        return CartoonStudio(**arguments)
    if config.facekit is None:
        raise UserError(NO_FACEKIT)
    from fexgan_lit.data.studio.human.studio import HumanStudio

    facekit = Path(config.facekit).expanduser().absolute()  # worker processes may have been started elsewhere
    return HumanStudio(**arguments, facekit=str(facekit))
