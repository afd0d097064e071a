"""Opening a streamed pack at `dataset.root`: reading its facts, checking the options, and locating its chunks."""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from fexgan_lit.data.config import STUDIOS, DatasetConfig
from fexgan_lit.data.datasets.labels import wanted_affects
from fexgan_lit.data.packing.pack import Pack
from fexgan_lit.data.streaming.chunks import CachedChunks, Chunks, FolderChunks, check_room
from fexgan_lit.data.streaming.format import FACTS, STORED, TABLE, WRITING, ChunkedFacts, parse_facts
from fexgan_lit.data.streaming.reader import ChunkedImages
from fexgan_lit.data.streaming.sampler import window_count
from fexgan_lit.data.streaming.storage import ChunkStore, FolderStore, S3Store, store_of
from fexgan_lit.data.table import FrameTable
from fexgan_lit.expression import resolve_affect
from fexgan_lit.utils.cache import cache_root
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic

#: Maximum number of windows on the local disk: two that a batch may span, and the next.
_WINDOWS_HELD = 3


def open_chunks(config: DatasetConfig) -> Pack:
    """Open the streamed pack at `config.root`; this reads only its table and its facts.

    Raises:
        UserError: the place cannot be reached, holds no such pack, or the pack does not match `config`.
    """
    place = store_of(str(config.root))
    facts = _facts(place)
    _check_size(facts, config, place)
    _check_options(facts, config, place)
    folder = cache_root(config.cache_dir) / "streams" / _digest(facts) / facts.name
    table = _table(place, facts, folder)
    stored = table.frame.pop(STORED).to_numpy(np.int64)
    table, rows = _wanted(table, config, facts)
    images = ChunkedImages(facts.geometry, stored[rows], _chunks(place, facts, folder, config.window_gb))
    return Pack(folder, images, table, facts.sizes, facts.cropped, reused=True)


def _facts(place: ChunkStore) -> ChunkedFacts:
    content = place.read(FACTS)
    try:
        if content is not None:
            return parse_facts(content)
    except ValueError as error:
        raise UserError(f"dataset.root={place.name} holds no pack that can be streamed: {error}.") from error
    if place.read(WRITING) is not None:
        raise UserError(
            f"dataset.root={place.name}: the pack there is incomplete; run the prepare command that wrote it again."
        )
    found = place.first()
    seen = "nothing" if found is None else f"{found} and no {FACTS}"
    raise UserError(
        f"dataset.root={place.name}: there is no pack; found {seen}. Write one with: python -m fexgan_lit.prepare "
        f"dataset=... dataset.root=DIR pack.format=litdata pack.to={place.name}"
    )


def _check_size(facts: ChunkedFacts, config: DatasetConfig, place: ChunkStore) -> None:
    if facts.size == config.load_size:
        return
    made = f", {config.load_size} with dataset.augmentation=fexgan" if config.augmentation == "fexgan" else ""
    raise UserError(
        f"dataset.root={place.name}: its frames have {facts.size} px; dataset.image_size={config.image_size}{made} "
        f"needs {config.load_size} px. Use the size and augmentation of that pack, or write another pack with: "
        f"python -m fexgan_lit.prepare dataset={facts.dataset} dataset.root=DIR dataset.image_size={config.image_size} "
        f"dataset.augmentation={config.augmentation} pack.format=litdata pack.to=PLACE"
    )


def _check_options(facts: ChunkedFacts, config: DatasetConfig, place: ChunkStore) -> None:
    """Raise a UserError for another data set, and for options that only work when a pack is made."""
    if facts.dataset != config.name:
        raise UserError(
            f"dataset.root={place.name} holds a pack of dataset={facts.dataset}, not of {config.name}; use "
            f"dataset={facts.dataset}."
        )
    if config.layout_name in STUDIOS:
        return
    for name, made in facts.made_with.items():
        value = getattr(config, name)
        if name != "affects" and value != made and value != _default(name):
            raise UserError(
                f"dataset.{name}={value}: the pack at {place.name} was made with {made}; leave the option out, or "
                "write another pack with it."
            )


def _default(name: str) -> Any:
    field = next(field for field in fields(DatasetConfig) if field.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def _digest(facts: ChunkedFacts) -> str:
    return hashlib.sha256(facts.text().encode()).hexdigest()[:16]


def _table(place: ChunkStore, facts: ChunkedFacts, folder: Path) -> FrameTable:
    """Return the table in the order of the original rows, from the cache if possible."""
    kept = folder / TABLE
    content = kept.read_bytes() if kept.is_file() else None
    if content is None or hashlib.sha256(content).hexdigest() != facts.digest:
        content = place.read(TABLE)
        if content is None or hashlib.sha256(content).hexdigest() != facts.digest:
            raise UserError(
                f"dataset.root={place.name}: {TABLE} {'is missing' if content is None else 'does not match the pack'}; "
                "write the pack to a new place with prepare."
            )
        try:
            write_atomic(kept, content)
        except OSError as error:
            raise UserError(f"the cache folder {folder} cannot be used ({error.strerror or error}).") from error
    return FrameTable.load(kept)


def _wanted(table: FrameTable, config: DatasetConfig, facts: ChunkedFacts) -> tuple[FrameTable, np.ndarray]:
    """Return `table` with only the affects of `config`, and the remaining rows."""
    wanted = wanted_affects(config.affects, config.aliases)
    if wanted is None or config.affects == facts.made_with.get("affects"):
        return table, np.arange(len(table))
    keep = {resolve_affect(name, table.affects) for name in wanted}
    rows = np.flatnonzero(table.frame["affect"].isin(keep))
    affects = tuple(name for name in table.affects if name in keep)
    return replace(table.select(rows), affects=affects), rows


def _chunks(place: FolderStore | S3Store, facts: ChunkedFacts, folder: Path, window_gb: float) -> Chunks:
    if isinstance(place, FolderStore):
        return FolderChunks(place, facts)
    geometry = facts.geometry
    a_window = -(-geometry.chunks // window_count(geometry, window_gb)) * geometry.chunk_bytes(0)
    limit = min(geometry.total_bytes, _WINDOWS_HELD * a_window)
    chunks = CachedChunks(place, facts, folder, limit)
    check_room(folder, limit - chunks.held_bytes)
    return chunks
