"""Writing a pack as chunks: frames in random order by LitData's writer, with the table and the facts."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.frames import Images
from fexgan_lit.data.packing.pack import Pack, Progress
from fexgan_lit.data.streaming.config import PackSettings
from fexgan_lit.data.streaming.format import (
    FACTS,
    INDEX,
    STORED,
    TABLE,
    WRITING,
    ChunkedFacts,
    claim,
    claimed,
    frames_a_chunk,
    parse_facts,
)
from fexgan_lit.data.streaming.storage import ChunkStore
from fexgan_lit.utils.cache import partial_folder
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.table import FrameTable

#: Options that decide the frames and annotations in a pack.
BAKED_IN = (
    "layout", "manifest", "pattern", "aliases", "affects", "only", "sequence_ends", "annotations", "crop",
    "crop_margin",
)  # fmt: skip
#: Seed of the order of the stored frames.
_ORDER_SEED = 20_220_110


@dataclass(frozen=True)
class Written:
    """Result of `write_chunks`: the place, its facts, and whether the pack existed already."""

    place: str
    facts: ChunkedFacts
    reused: bool


def check_writer() -> None:
    """Raise a UserError if LitData is not installed."""
    try:
        import litdata  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'pack.format=litdata: LitData cannot be used here ({error}); pip install "fexgan_lit[stream]", then '
            "pip install --no-deps litdata (its torchvision is not needed)."
        ) from error


def check_place(place: ChunkStore) -> None:
    """Raise a UserError if `place` cannot be read, or holds anything but a complete or incomplete chunked pack."""
    if place.read(FACTS) is None and place.read(WRITING) is None and (found := place.first()) is not None:
        raise UserError(
            f"pack.to={place.name} holds other files, such as {found}; expected a new or empty place for the chunks."
        )


def write_chunks(
    pack: Pack, config: DatasetConfig, place: ChunkStore, settings: PackSettings, progress: Progress | None = None
) -> Written:
    """Write `pack` to `place`; pack.json comes last, so an interrupted pack is recognised and resumed.

    A chunk that an interrupted attempt has sent to a store is not sent again.

    Args:
        pack: a memory-mapped pack.
        config: the settings of the pack.
        place: a place that is new or empty, or holds the same pack, complete or not.
        settings: options of the chunks; only `chunk_mb` is used.
        progress: called with (frames written, total), from this thread.

    Raises:
        UserError: LitData is missing, the place or the cache cannot be used, or the place holds something else.
    """
    check_writer()
    check_place(place)
    chunk_frames = frames_a_chunk(settings.chunk_mb, pack.images.shape[1], len(pack.table))
    _refuse_others(place, pack.folder.name, chunk_frames)
    content = place.read(FACTS)
    if content is not None:
        return Written(place.name, parse_facts(content), reused=True)
    place.write(WRITING, claim(pack.folder.name, chunk_frames))
    try:
        with partial_folder(pack.folder) as scratch:
            facts = _write_files(pack, config, place, chunk_frames, scratch, progress)
    except OSError as error:
        raise UserError(
            f"the cache folder {pack.folder.parent}, where chunks are made, cannot be used "
            f"({error.strerror or error}); free space, or choose another folder with dataset.cache_dir=DIR."
        ) from error
    place.write(FACTS, facts.text())
    place.remove(WRITING)
    return Written(place.name, facts, reused=False)


def _refuse_others(place: ChunkStore, name: str, chunk_frames: int) -> None:
    """Raise a UserError if `place` holds another pack, or part of one."""
    for file, what in ((FACTS, "another pack"), (WRITING, "part of another pack")):
        content = place.read(file)
        if content is None:
            continue
        try:
            there = claimed(content)
        except ValueError as error:
            raise UserError(f"pack.to={place.name} holds {file}, {error}; choose another place.") from error
        if there != (name, chunk_frames):
            raise UserError(
                f"pack.to={place.name} holds {what} ({there[0]}, {there[1]} frames per chunk); this one is {name}, "
                f"{chunk_frames} frames per chunk. Choose another place, or remove the files there."
            )


def _write_files(
    pack: Pack, config: DatasetConfig, place: ChunkStore, chunk_frames: int, scratch: Path, progress: Progress | None
) -> ChunkedFacts:
    """Write everything but the facts, and return the facts."""
    order = np.random.default_rng(_ORDER_SEED).permutation(len(pack.table))  # stored position -> row
    checks = _send_chunks(_chunk_files(pack.images, order, chunk_frames, scratch, progress), place)
    _with_positions(pack.table, order).save(scratch / TABLE)
    table = (scratch / TABLE).read_bytes()
    place.write(TABLE, table)
    place.write(INDEX, (scratch / INDEX).read_bytes())
    return ChunkedFacts(
        name=pack.folder.name,
        dataset=config.name,
        frames=len(pack.table),
        size=pack.images.shape[1],
        chunk_frames=chunk_frames,
        checks=checks,
        digest=hashlib.sha256(table).hexdigest(),
        sizes=pack.sizes,
        cropped=pack.cropped,
        made_with={option: getattr(config, option) for option in BAKED_IN},
    )


def _chunk_files(
    images: Images, order: np.ndarray, chunk_frames: int, scratch: Path, progress: Progress | None
) -> Iterator[Path]:
    """Yield the chunk files one by one, then write LitData's index, all in `scratch`."""
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(scratch), chunk_size=chunk_frames)
    for position, row in enumerate(order.tolist()):
        finished = writer.add_item(position, images[row].tobytes())
        if finished is not None:
            yield Path(finished)
        if progress is not None:
            progress(position + 1, len(order))
    yield from map(Path, writer.done())
    writer.merge(1)


def _send_chunks(files: Iterator[Path], place: ChunkStore) -> list[int]:
    """Send every file while the next is made, and remove it; return their CRC-32."""
    checks: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        sending: Future[None] | None = None
        for file in files:
            checks.append(zlib.crc32(file.read_bytes()))
            if sending is not None:
                sending.result()
            sending = pool.submit(_send, place, file, checks[-1])
        if sending is not None:
            sending.result()
    return checks


def _send(place: ChunkStore, file: Path, check: int) -> None:
    place.send(file, file.name, check)
    file.unlink(missing_ok=True)


def _with_positions(table: FrameTable, order: np.ndarray) -> FrameTable:
    """Return `table` with a column of each row's stored position."""
    stored = np.empty(len(order), np.int64)
    stored[order] = np.arange(len(order))
    return replace(table, frame=table.frame.assign(**{STORED: stored}))
