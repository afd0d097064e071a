"""The data suite: the speed of indexing, packing and loading frames, each compared with a baseline."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.inputs import (
    FolderFrames,
    cached_frames,
    drawing,
    feed_memory,
    frames_of,
    pair_loader,
    pictures,
    table_of,
    write_pictures,
)
from fexgan_lit.benchmarks.report import Progress, Result, Table, listed
from fexgan_lit.benchmarks.streaming import absent, streaming
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.data.datasets.synthetic import make_studio
from fexgan_lit.data.device_cache import ResidentPairs
from fexgan_lit.data.packing.pack import PackPlan, prepare_pack
from fexgan_lit.data.packing.sources import FileSource, content_key, fit_square
from fexgan_lit.data.table import FrameTable
from fexgan_lit.data.transforms import PairAugmentation
from fexgan_lit.utils.timing import Spread, take_turns

MHFED_FRAMES = 162_000


def run(settings: BenchmarkSettings, folder: Path, progress: Progress) -> tuple[list[Result], Table]:
    """Run every stage; temporary files are written to `settings.scratch` or `folder`, and removed."""
    stages = {
        "feeding pairs": feeding,
        "loading folders": loading_folders,
        "augmenting": augmenting,
        "streaming": streaming,
        "larger packs": growing,
        "memory": holding,
        "indexing": indexing,
        "packing": packing,
        "studios": drawing_faces,
    }
    results: list[Result] = []
    for number, (name, stage) in enumerate(stages.items()):
        progress(name, number, len(stages))
        with tempfile.TemporaryDirectory(dir=settings.scratch or folder, prefix="scratch-") as scratch:
            results += stage(settings, Path(scratch))
    return results, listed(results, absent())


def feeding(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Compare loading batches from a pack with memory copies of as many bytes."""
    source = np.ones(int(settings.batch_gb * 1e9) // 2, np.uint8)
    target, copies = np.empty_like(source), [source]

    def copy_anew() -> None:
        copies[:] = [source.copy()]  # the previous copy lives until now, like the previous batch in training

    frames = cached_frames(scratch, settings.packed[1], settings.image_size)
    copy, again, feed = take_turns(
        {
            "copy": copy_anew,
            "in place": lambda: np.copyto(target, source),
            "feed": drawing(pair_loader(settings, frames)),
        },
        10 * settings.rounds,
    ).values()
    amount = settings.batch_gb
    mb = f"{1e3 * amount:.1f} MB read and written, one thread"
    name = f"packed batch, {settings.batch_size} pairs at {settings.image_size} px"
    kept = "always the same source and target, which a large cache may hold entirely"
    return [
        Result("memory copy", copy.rate(amount), "GB/s", f"numpy, into new memory, as for a batch; {mb}"),
        Result("memory copy, in place", again.rate(amount), "GB/s", kept),
        Result(name, feed.rate(amount), "GB/s", f"uint8 read, float32 written; {mb}"),
        Result("packed batch / memory copy", feed.times_faster(copy), "", "same bytes", 1 / 3),
        Result("packed batch / memory copy, in place", feed.times_faster(again), "", "same bytes"),
    ]


def loading_folders(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Compare the pack with a torch DataLoader that opens and decodes every file on access."""
    size, root, batches = settings.image_size, scratch / "set", 10
    paths = write_pictures(root, settings.stored, ".png", pictures(settings.stored, 2 * size))
    pack = prepare_pack(
        table_of(root, paths), FileSource(root, paths, size), PackPlan("pack", size, str(scratch / "cache"))
    )
    dataset = FolderFrames(root, paths, size)
    loaders = {
        f"{workers} workers": DataLoader(
            dataset, 2 * settings.batch_size, shuffle=True, num_workers=workers, drop_last=True,
            persistent_workers=workers > 0,
        )
        for workers in (0, settings.cores)
    }  # fmt: skip
    tasks: dict[str, Callable[[], object]] = {name: partial(list, loader) for name, loader in loaders.items()}
    tasks["feed"] = drawing(pair_loader(settings, frames_of(pack.mapped)), batches)
    timings = take_turns(tasks, max(1, settings.rounds // 3))
    feed = timings["feed"]
    results = [Result("packed batch", feed.rate(batches), "batches/s", f"of {settings.stored} frames")]
    for name, loader in loaders.items():
        timing, how = timings[name], f"PNG of {2 * size} px, Pillow, {name}"
        ratio = feed.times_faster(timing, batches / len(loader))
        results.append(Result(f"folder loader, {name}", timing.rate(len(loader)), "batches/s", how))
        results.append(Result(f"pack / folder loader, {name}", ratio, "", "same frames", 20))
    return results


def augmenting(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Compare batches from the pack with batches made on the device from resident frames, augmented and not."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    size = settings.image_size
    larger = DatasetConfig(image_size=size, augmentation="fexgan").load_size
    results = []
    for kind, side, augmentation in (("", size, None), ("augmented ", larger, PairAugmentation(size))):
        pairs = pair_loader(settings, cached_frames(scratch, settings.packed[0], side), augmentation)
        tasks = {
            "packed": drawing(pairs, device=device),
            "resident": drawing(ResidentPairs(pairs, device), device=device),
        }
        packed, resident = take_turns(tasks, 10 * settings.rounds).values()
        what = f"{kind}batch on {device}"
        results += [
            Result(f"packed {what}", packed.ms(), "ms", "made on one host thread, then moved to the device"),
            Result(f"resident {what}", resident.ms(), "ms", "one small copy, then made on the device"),
            Result(f"packed / resident, {what}", resident.times_faster(packed), "", "time; the same bits"),
        ]
    return results


def growing(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Compare the time of a batch from packs of several sizes."""
    feeds = {
        f"{count:,}": drawing(pair_loader(settings, cached_frames(scratch, count, settings.image_size)))
        for count in settings.packed
    }
    timings = take_turns(feeds, 10 * settings.rounds)
    results = [Result(f"batch from {count} frames", timing.ms(), "ms") for count, timing in timings.items()]
    first, *_, last = timings
    growth = timings[first].times_faster(timings[last])
    how = "time; due to page tables and caches, not the sampler"
    return [*results, Result(f"batch from {last} / from {first} frames", growth, "", how, 2.0, at_most=True)]


def holding(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Measure the memory of a process that loads pairs from a pack of MH-FED's size."""
    frames, batches = (2000, 20) if settings.quick else (MHFED_FRAMES, 2000)
    first, most = feed_memory(scratch / "pack.u8", frames, settings.image_size, settings.batch_size, batches)
    how = f"{batches} batches, {batches * settings.batch_gb / 5:.1f} GB of pixels; {first} MiB after the first batch"
    name = f"resident while feeding from {frames:,} frames"
    return [Result(name, Spread.of(most), "MiB", how, 1536, at_most=True)]


def indexing(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Time the indexing of a folder of many files: listing, labelling and fingerprinting."""
    root, count = scratch / "set", settings.frames
    write_pictures(root, count, ".png", itertools.repeat(np.zeros((4, 4, 3), np.uint8)))

    def index() -> None:
        table = index_dataset(DatasetConfig(name="mhfed", root=str(root)))
        content_key(table, FileSource(root, table.paths, settings.image_size), {})

    seconds = take_turns({"index": index}, 3)["index"].seconds
    how = "lists folders, reads labels and the size and time of every file"
    scaled = Spread.of(seconds * MHFED_FRAMES / count)
    return [
        Result(f"index of {count:,} files", Spread.of(seconds), "s", how),
        Result(f"index for {MHFED_FRAMES:,} files", scaled, "s", "scaled", 30, at_most=True),
    ]


def packing(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Compare packing with a bare loop that reads, decodes and resizes the same files without storing them."""
    size, threads = settings.image_size, settings.cores
    caches = itertools.count()  # a new folder for every round, since deleting the last pack would take time

    def pack(table: FrameTable, source: FileSource) -> None:
        prepare_pack(table, source, PackPlan("pack", size, str(scratch / f"cache{next(caches)}"), threads))

    results = []
    for kind, stored in ((".png", size), (".png", 2 * size), (".jpg", size), (".jpg", 4 * size)):
        root = scratch / f"{stored}{kind}"
        count = settings.stored if stored > size else 4 * settings.stored
        paths = write_pictures(root, count, kind, pictures(count, stored))
        source = FileSource(root, paths, size)
        tasks = {"pack": partial(pack, table_of(root, paths), source), "bare": partial(bare_loop, source, threads)}
        timings = take_turns(tasks, max(1, settings.rounds // 3))
        what = f"{stored} px {kind[1:].upper()}"
        ratio = timings["pack"].times_faster(timings["bare"])
        results += [
            Result(f"packing {what}", timings["pack"].rate(count), "frames/s", f"{threads} threads, to {size} px"),
            Result(f"packing / bare loop, {what}", ratio, "", "cv2", 0.9),
        ]
    return results


def bare_loop(source: FileSource, threads: int) -> None:
    """Read, decode and resize all files in `threads` threads, without checks, order or output."""

    def share(number: int) -> None:
        for path in source.paths[number::threads]:
            fit_square(np.asarray(cv2.imread(f"{source.root}/{path}")), source.size)

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(share, range(threads)))
    cv2.setNumThreads(before)


def drawing_faces(settings: BenchmarkSettings, _: Path) -> list[Result]:
    """Time the rendering of the studios on one core."""
    kinds: list[tuple[str, int, float | None]] = [("cartoon", 64, None), ("cartoon", 128, 60)]
    if settings.facekit is not None:
        kinds.append(("human", 512, 4))
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    results = []
    for kind, size, target in kinds:
        studio = make_studio(
            DatasetConfig(
                name=f"studio_{kind}", image_size=size, identities=2, takes=1, frames=2,
                facekit=settings.facekit if kind == "human" else None,
            )
        )  # fmt: skip
        rows = range(0, len(studio), 4)
        draw = {"draw": lambda studio=studio, rows=rows: [studio.render(row) for row in rows]}
        rate = take_turns(draw, max(1, settings.rounds // 5))["draw"].rate(len(rows))
        results.append(Result(f"studio_{kind} at {size} px", rate, "frames/s a core", "", target))
    cv2.setNumThreads(before)
    return results
