"""Decode and resize every frame once into one raw file of uint8 pixels, memory-mapped from then on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fexgan_lit.data.cache import builder_lock, cache_root, partial_folder, publish, remove_leftovers
from fexgan_lit.data.headers import FrameError
from fexgan_lit.data.sources import FrameSource, content_key
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.errors import UserError

#: Raise when the bytes of a pack would come out differently.
FORMAT = 1

Progress = Callable[[int, int], None]

_PIXELS, _TABLE, _FACTS = "frames.u8", "table.parquet", "pack.json"
_CHUNK = 16
#: Frames that take longer to draw than worker processes take to start.
_WORTH_PROCESSES = 200


@dataclass(frozen=True, eq=False)
class Pack:
    """A data set decoded.

    Attributes:
        folder: holds frames.u8, table.parquet and pack.json.
        images: (N, L, L, 3) uint8 RGB, memory-mapped, read-only.
        table: the N rows, with `height` and `width` of the original pictures.
        sizes: how many frames had which original size, as {"128x128": 4200} (width x height).
        cropped: frames that were not square and lost their sides.
        reused: whether it was there already.
    """

    folder: Path
    images: np.ndarray
    table: FrameTable
    sizes: dict[str, int]
    cropped: int
    reused: bool


@dataclass(frozen=True)
class PackPlan:
    """What to pack and where: `name` and `cache_dir` place the folder; `workers` None means all cores."""

    name: str
    size: int
    cache_dir: str | None = None
    workers: int | None = None


def prepare_pack(table: FrameTable, source: FrameSource, plan: PackPlan, progress: Progress | None = None) -> Pack:
    """The pack of `table`, from the cache or built now; unreadable frames become drops of its table.

    Args:
        table: rows to pack, in the order of `source`.
        source: gives (plan.size, plan.size, 3) frames.
        plan: name, size and place.
        progress: called with (frames done, frames in all) now and then, from this thread.

    Raises:
        UserError: the cache folder cannot be written, the disk is full, or no frame can be read.
    """
    key = content_key(table, source, {"format": FORMAT, "size": plan.size})
    folder = cache_root(plan.cache_dir) / "packs" / f"{plan.name}-{plan.size}px-{key[:12]}"
    found = open_pack(folder, table)
    if found is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with builder_lock(folder) as held:
            if held:
                remove_leftovers(folder)
            # Whoever held the lock before may have built it meanwhile.
            return open_pack(folder, table) or _build(folder, table, source, plan, progress)
    except OSError as error:
        raise UserError(_cache_trouble(folder, error)) from error


def open_pack(folder: Path, table: FrameTable) -> Pack | None:
    """The pack in `folder` if it is whole, with the drops and notes of `table`, the index of today; else None."""
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        shape = (facts["frames"], facts["size"], facts["size"], 3)
        whole = facts["format"] == FORMAT and (folder / _PIXELS).stat().st_size == int(np.prod(shape))
        packed = FrameTable.load(folder / _TABLE, table.root) if whole else None
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
    if packed is None or len(packed) != shape[0]:
        return None
    unreadable = tuple(Drop(**drop) for drop in facts["unreadable"])
    packed = replace(packed, drops=(*table.drops, *unreadable), notes=table.notes)
    images = np.memmap(folder / _PIXELS, np.uint8, "r", shape=shape)
    return Pack(folder, images, packed, facts["sizes"], facts["cropped"], reused=True)


def _build(folder: Path, table: FrameTable, source: FrameSource, plan: PackPlan, progress: Progress | None) -> Pack:
    shutil.rmtree(folder, ignore_errors=True)  # not whole, or it would have been opened
    _check_space(folder.parent, len(table) * plan.size**2 * 3)
    with partial_folder(folder) as partial:
        sizes, unreadable = _write_pixels(partial / _PIXELS, source, len(table), plan.workers, progress)
        rows = np.array(sorted(sizes), dtype=np.int64)
        drops = [Drop(table.paths[row], reason) for row, reason in unreadable.items()]
        if not len(rows):
            raise UserError(_nothing_readable(table, drops))
        kept = table.select(rows)
        height, width = np.array([sizes[row] for row in rows.tolist()], dtype=np.int32).T
        kept = replace(kept, frame=kept.frame.assign(height=height, width=width))
        kept.save(partial / _TABLE)
        facts = {
            "format": FORMAT,
            "frames": len(rows),
            "size": plan.size,
            "sizes": dict(Counter(f"{w}x{h}" for h, w in zip(height.tolist(), width.tolist(), strict=True))),
            "cropped": int((height != width).sum()),
            "unreadable": [{"path": drop.path, "reason": drop.reason} for drop in drops],
        }
        (partial / _FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        publish(partial, folder)
    built = open_pack(folder, table)
    if built is None:
        raise RuntimeError(f"the pack {folder} was just written and cannot be opened")
    return replace(built, reused=False)


def _write_pixels(
    path: Path, source: FrameSource, count: int, workers: int | None, progress: Progress | None
) -> tuple[dict[int, tuple[int, int]], dict[int, str]]:
    """Write the readable frames in row order; returns their (height, width) and the others' reasons, by row."""
    sizes: dict[int, tuple[int, int]] = {}
    unreadable: dict[int, str] = {}
    done = 0
    with path.open("wb") as out:
        for results in _read_in_order(source, count, workers or os.cpu_count() or 1):
            for row, result in enumerate(results, start=done):
                if isinstance(result, str):
                    unreadable[row] = result
                else:
                    # write() and not a writable memory map: on a full disk the one raises, the other kills.
                    out.write(np.ascontiguousarray(result[0]).data)
                    sizes[row] = result[1]
            done += len(results)
            if progress is not None:
                progress(done, count)
    return sizes, unreadable


def _read_in_order(source: FrameSource, count: int, workers: int) -> Iterator[list[Any]]:
    """Chunks of results in row order, read by several workers, few of them ahead."""
    chunks = (range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
    with _worker_pool(source, count, workers) as pool:
        ahead: deque[Future[list[Any]]] = deque()
        for chunk in chunks:
            ahead.append(pool.submit(_read_chunk, source, chunk))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


@contextlib.contextmanager
def _worker_pool(source: FrameSource, count: int, workers: int) -> Iterator[Executor]:
    """Threads where reading frees the interpreter (decoding does); else processes, if there is enough to do."""
    if source.holds_interpreter and count >= _WORTH_PROCESSES and workers > 1:
        # Unlike the standard library's, these processes do not import the caller's script again.
        from joblib.externals.loky import ProcessPoolExecutor

        pool = ProcessPoolExecutor(workers)
        try:
            yield pool
        finally:
            pool.shutdown(kill_workers=True)
        return
    threads = ThreadPoolExecutor(1 if source.holds_interpreter else workers)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def _read_chunk(source: FrameSource, rows: range) -> list[tuple[np.ndarray, tuple[int, int]] | str]:
    return [_read_one(source, row) for row in rows]


def _read_one(source: FrameSource, row: int) -> tuple[np.ndarray, tuple[int, int]] | str:
    """The frame and its size, or the reason there is none."""
    try:
        return source.read(row)
    except FrameError as error:
        return str(error)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"the pack needs {needed / 1e9:.2f} GB and {folder} has {free / 1e9:.2f} GB free; make room, or choose "
            "another place with dataset.cache_dir=DIR (or the variable FEXGAN_LIT_CACHE)."
        )


def _cache_trouble(folder: Path, error: OSError) -> str:
    return (
        f"the cache folder {folder.parent} cannot be used ({error.strerror or error}); nothing was kept. Make room or "
        "make it writable, or choose another place with dataset.cache_dir=DIR (or the variable FEXGAN_LIT_CACHE)."
    )


def _nothing_readable(table: FrameTable, drops: list[Drop]) -> str:
    named = "; ".join(f"{drop.path} ({drop.reason})" for drop in drops[:5])
    more = f"; and {len(drops) - 5} more" if len(drops) > 5 else ""
    return f"dataset.root={table.root}: none of the {len(drops)} image files can be read: {named}{more}."
