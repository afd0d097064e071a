"""The data suite: how fast frames are indexed, packed and fed, beside what each is to be compared with."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from fexgan_lit.benchmarks.material import (
    frames_of,
    read_through,
    sparse_frames,
    table_of,
    write_pictures,
    write_tiny,
)
from fexgan_lit.benchmarks.report import Result, Table, listed, single
from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.benchmarks.streaming import streaming_notes, streaming_results
from fexgan_lit.benchmarks.timing import Spread, take_turns
from fexgan_lit.data.frames import FrameSet
from fexgan_lit.data.packing import PackPlan, prepare_pack
from fexgan_lit.data.pairs import PairLoader, PairSampler
from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.data.sources import FileSource, content_key, fit_square

#: Called with the name of the stage, stages done, stages in all.
StageProgress = Callable[[str, int, int], None]

MHFED_FRAMES = 162_000
#: Batches timed at once beside whole epochs of a folder loader.
_BATCHES = 10
#: Single batches are timed in so many times the rounds.
_MORE = 10


@dataclass(frozen=True)
class Bench:
    """What every stage needs: the options, and a folder for temporary files."""

    settings: BenchmarkSettings
    scratch: Path

    @property
    def batch_bytes(self) -> int:
        """uint8 read and float32 written for one batch of pairs."""
        return 2 * self.settings.batch_size * self.settings.image_size**2 * 3 * 5

    def feed(self, frames: FrameSet, batches: int = 1) -> Callable[[], None]:
        """A task that draws the next training batches of `frames`."""
        sampler = PairSampler(frames, self.settings.batch_size, seed=0)
        return self.draw(PairLoader(frames, sampler, self.settings.image_size), batches)

    def draw(self, loader: PairLoader, batches: int) -> Callable[[], None]:
        """A task that draws the next batches of `loader`, over and over those of one epoch."""
        position = 0

        def draw() -> None:
            nonlocal position
            for _ in range(batches):
                loader.batch(0, position % len(loader))
                position += 1

        return draw

    def pack(self, count: int, side: int | None = None) -> FrameSet:
        """A pack of so many black frames, in the system's cache; `side` px, by default the size of the batches."""
        side = side or self.settings.image_size
        frames = sparse_frames(self.scratch / f"{count}_{side}.u8", count, side)
        read_through(frames)
        return frames


def data_suite(settings: BenchmarkSettings, folder: Path, progress: StageProgress) -> tuple[list[Result], Table]:
    """Every row of the table; temporary files lie in `settings.scratch`, else in `folder`, and are removed."""
    stages = {
        "feeding pairs": feed_results,
        "loading folders": loader_results,
        "augmenting": augmented_results,
        "streaming": streaming_results,
        "larger packs": batch_time_results,
        "memory": memory_results,
        "indexing": index_results,
        "packing": packing_results,
        "studios": studio_results,
    }
    results: list[Result] = []
    for number, (name, stage) in enumerate(stages.items()):
        progress(name, number, len(stages))
        with tempfile.TemporaryDirectory(dir=settings.scratch or folder, prefix="scratch-") as scratch:
            results += stage(Bench(settings, Path(scratch)))
    return results, replace(listed(results), notes=streaming_notes())


def feed_results(bench: Bench) -> list[Result]:
    """Batches of pairs out of the pack, beside plain copies in memory of as many bytes."""
    source = np.ones(bench.batch_bytes // 2, np.uint8)
    target = np.empty_like(source)

    copies = [source]

    def copy_anew() -> None:
        copies[:] = [source.copy()]  # the copy before lives until then, as the batch before does

    def copy_again() -> None:
        np.copyto(target, source)

    feeding = bench.feed(bench.pack(bench.settings.packed[1]))
    timings = take_turns({"anew": copy_anew, "again": copy_again, "feed": feeding}, _MORE * bench.settings.rounds)
    copy, again, feed = timings.values()
    amount = bench.batch_bytes / 1e9
    mb = f"{bench.batch_bytes / 1e6:.1f} MB read and written, one thread"
    pairs = f"{bench.settings.batch_size} pairs at {bench.settings.image_size} px"
    kept = "always the same source and target, which a large cache may hold"
    return [
        Result("memory copy", copy.spread(amount), "GB/s", f"numpy, into new memory as a batch is; {mb}"),
        Result("memory copy, in place", again.spread(amount), "GB/s", kept),
        Result(f"packed batch, {pairs}", feed.spread(amount), "GB/s", f"uint8 read, float32 written; {mb}"),
        Result("packed batch / memory copy", feed.times_faster(copy), "", "same bytes", 1 / 3),
        Result("packed batch / memory copy, in place", feed.times_faster(again), "", "same bytes"),
    ]


def augmented_results(bench: Bench) -> list[Result]:
    """Batches with and without augmentation, made on the host and on the device."""
    from fexgan_lit.benchmarks.resident import resident_rows

    settings, count = bench.settings, bench.settings.packed[0]
    larger = DatasetConfig(image_size=settings.image_size, augmentation="fexgan").load_size
    packs = bench.pack(count), bench.pack(count, larger)
    return resident_rows(*packs, settings.image_size, settings.batch_size, _MORE * settings.rounds)


def loader_results(bench: Bench) -> list[Result]:
    """The pack beside a torch DataLoader that opens and decodes every file when it is asked for it."""
    from fexgan_lit.benchmarks.folder_loader import FolderFrames, folder_loader

    settings, size = bench.settings, bench.settings.image_size
    stored = 2 * size
    paths = write_pictures(bench.scratch / "set", settings.stored, stored, ".png")
    source = FileSource(bench.scratch / "set", paths, size)
    pack = prepare_pack(table_of(source.root, paths), source, PackPlan("pack", size, str(bench.scratch / "cache")))
    dataset = FolderFrames(source.root, paths, size)
    loaders = {count: folder_loader(dataset, 2 * settings.batch_size, count) for count in (0, settings.cores)}
    tasks = {str(count): lambda loader=loader: list(loader) for count, loader in loaders.items()}
    timings = take_turns(tasks | {"feed": bench.feed(frames_of(pack.mapped), _BATCHES)}, max(1, settings.rounds // 3))
    batches = len(loaders[0])
    results = [Result("packed batch", timings["feed"].spread(_BATCHES), "batches/s", f"of {settings.stored} frames")]
    for count in loaders:
        how = f"PNG of {stored} px, Pillow, {count} workers"
        timing = timings[str(count)]
        ratio = timings["feed"].times_faster(timing, _BATCHES / batches)
        results.append(Result(f"folder loader, {count} workers", timing.spread(batches), "batches/s", how))
        results.append(Result(f"pack / folder loader, {count} workers", ratio, "", "same frames", 20))
    return results


def batch_time_results(bench: Bench) -> list[Result]:
    """The time of a batch as the pack grows."""
    sizes = bench.settings.packed
    timings = take_turns({str(n): bench.feed(bench.pack(n)) for n in sizes}, _MORE * bench.settings.rounds)
    results = [Result(f"batch from {n:,} frames", Spread.of(timings[str(n)].seconds * 1e3), "ms") for n in sizes]
    growth = timings[str(sizes[0])].times_faster(timings[str(sizes[-1])])
    name = f"batch from {sizes[-1]:,} / from {sizes[0]:,} frames"
    return [*results, Result(name, growth, "", "time; page tables and caches, not the sampler", 2.0, at_most=True)]


def memory_results(bench: Bench) -> list[Result]:
    """What a process that feeds pairs from a pack of MH-FED's size holds."""
    from fexgan_lit.benchmarks.memory import feed_memory

    settings = bench.settings
    batches = 20 if settings.quick else 2000
    pack = bench.scratch / "training.u8"
    held = feed_memory(pack, settings.training_frames, settings.image_size, settings.batch_size, batches)
    name = f"resident while feeding from {settings.training_frames:,} frames"
    drawn = batches * bench.batch_bytes / 5e9
    how = f"{batches} batches, {drawn:.1f} GB of pixels; {held['start']} MiB of it before the second batch"
    return [Result(name, single(held["most"]), "MiB", how, 1536, at_most=True)]


def index_results(bench: Bench) -> list[Result]:
    """Listing, labelling and fingerprinting a folder of many files."""
    from fexgan_lit.data.layouts import index_dataset

    root, count = bench.scratch / "set", bench.settings.frames
    write_tiny(root, count)

    def index() -> None:
        table = index_dataset(DatasetConfig(name="mhfed", root=str(root)))
        content_key(table, FileSource(root, table.paths, bench.settings.image_size), {})

    seconds = take_turns({"index": index}, 3)["index"].seconds
    how = "folders listed, labels read, size and time of every file"
    scaled = Result(
        f"index for {MHFED_FRAMES:,} files", Spread.of(seconds * MHFED_FRAMES / count), "s", "scaled", 30, at_most=True
    )
    return [Result(f"index of {count:,} files", Spread.of(seconds), "s", how), scaled]


def packing_results(bench: Bench) -> list[Result]:
    """Packing beside a bare loop that reads, decodes and resizes the same files and keeps nothing."""
    size = bench.settings.image_size
    kinds = ((".png", size), (".png", 2 * size), (".jpg", size), (".jpg", 4 * size))
    return [result for kind, stored in kinds for result in _packing(bench, kind, stored)]


def _packing(bench: Bench, kind: str, stored: int) -> list[Result]:
    settings = bench.settings
    root = bench.scratch / f"{stored}{kind}"
    count = settings.stored if stored > settings.image_size else 4 * settings.stored
    paths = write_pictures(root, count, stored, kind)
    table, source = table_of(root, paths), FileSource(root, paths, settings.image_size)
    caches = itertools.count()  # a new one every time, as removing the last pack would take time

    def pack() -> None:
        cache = bench.scratch / f"cache{next(caches)}"
        prepare_pack(table, source, PackPlan("pack", settings.image_size, str(cache), settings.cores))

    tasks = {"pack": pack, "bare": lambda: bare_loop(source, settings.cores)}
    timings = take_turns(tasks, max(1, settings.rounds // 3))
    what = f"{stored} px {kind[1:].upper()}"
    how = f"{settings.cores} threads, to {settings.image_size} px"
    return [
        Result(f"packing {what}", timings["pack"].spread(count), "frames/s", how),
        Result(f"packing / bare loop, {what}", timings["pack"].times_faster(timings["bare"]), "", "cv2", 0.9),
    ]


def bare_loop(source: FileSource, threads: int) -> None:
    """Read, decode and resize every file, each thread its share, without checks, order or output."""

    def share(number: int) -> None:
        for path in source.paths[number::threads]:
            fit_square(np.asarray(cv2.imread(f"{source.root}/{path}")), source.size)

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(share, range(threads)))
    cv2.setNumThreads(before)


def studio_results(bench: Bench) -> list[Result]:
    """Frames drawn on one core."""
    settings = bench.settings
    results = [_studio("cartoon", size, None, 60 if size == 128 else None, settings) for size in (64, 128)]
    if settings.facekit is not None:
        results.append(_studio("human", 512, settings.facekit, 4, settings))
    return results


def _studio(
    kind: str, size: int, facekit: str | None, target: float | None, settings: BenchmarkSettings
) -> Result:  # fmt: skip
    from fexgan_lit.data.opening import make_studio

    config = DatasetConfig(name=f"studio_{kind}", image_size=size, identities=2, takes=1, frames=2, facekit=facekit)
    studio = make_studio(config)
    rows = range(0, len(studio), 4)
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    timing = take_turns({"draw": lambda: [studio.render(row) for row in rows]}, max(1, settings.rounds // 5))["draw"]
    cv2.setNumThreads(before)
    return Result(f"studio_{kind} at {size} px", timing.spread(len(rows)), "frames/s a core", "", target)
