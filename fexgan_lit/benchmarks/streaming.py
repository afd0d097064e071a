"""Compare streaming with the memory map: batches from a folder of chunks, and epochs from a local object store."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.inputs import cached_frames, drawing, frame_paths, frames_of, pair_loader, table_of
from fexgan_lit.benchmarks.report import Result
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.frames import FrameSet
from fexgan_lit.data.packing.pack import Pack
from fexgan_lit.utils.timing import take_turns

#: The most frames in the store, and the number of windows in which they are loaded.
STORED, WINDOWS = 4000, 4
#: A store in a separate process, which ends with this one.
SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.disable()
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


def absent() -> list[str]:
    """Return notes on missing rows and their reasons."""
    missing = [name for name in ("litdata", "boto3", "moto") if importlib.util.find_spec(name) is None]
    if "litdata" in missing:
        return ["streamed batches are absent: litdata is not installed (pip install --no-deps litdata)"]
    return [f"streaming from a store is absent: {' and '.join(missing)} not installed"] if missing else []


def streaming(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Measure the rows that the installed packages allow."""
    if importlib.util.find_spec("litdata") is None:
        return []
    results = from_folder(settings, scratch)
    return results if absent() else [*results, *from_store(settings, scratch)]


def from_folder(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Compare batches from a folder of chunks, in the page cache, with batches from the memory map."""
    frames = cached_frames(scratch, settings.packed[1], settings.image_size)
    config = write_chunks(frames, scratch, str(scratch / "chunks"), chunk_mb=64)
    tasks = {"packed": drawing(pair_loader(settings, frames)), "streamed": streamed(settings, config, windows=1)}
    plain, chunks = take_turns(tasks, 10 * settings.rounds).values()
    how = f"{settings.batch_size} pairs at {settings.image_size} px out of {len(frames):,} frames"
    return [
        Result("streamed batch, folder of chunks", chunks.rate(settings.batch_gb), "GB/s", how),
        Result("streamed batch / packed batch", chunks.times_faster(plain), "", "same pairs"),
    ]


def from_store(settings: BenchmarkSettings, scratch: Path) -> list[Result]:
    """Compare epochs from a store, with an empty and a filled cache, with epochs from the memory map."""
    frames = cached_frames(scratch, min(settings.packed[1], STORED), settings.image_size)
    batches, caches = len(frames) // settings.batch_size, itertools.count()
    with loopback_store() as place:
        chunk_mb = len(frames) * frames.images[:1].nbytes / 1e6 / (2 * WINDOWS)
        config = write_chunks(frames, scratch, f"{place}/set", chunk_mb)

        def epoch(cache: str) -> None:
            streamed(settings, replace(config, cache_dir=str(scratch / cache)), WINDOWS, batches)()

        tasks = {
            "packed": drawing(pair_loader(settings, frames), batches),
            "cold": lambda: epoch(f"cold{next(caches)}"),
            "warm": lambda: epoch("warm"),
        }
        plain, cold, warm = take_turns(tasks, max(1, settings.rounds // 5)).values()
    drawn = f"an epoch of {len(frames):,} frames in {WINDOWS} windows, "
    return [
        Result("streamed epoch, store, cold", cold.rate(len(frames)), "sources/s", drawn + "including the download"),
        Result("cold streamed / packed epoch", cold.times_faster(plain), "", "moto on the loopback address"),
        Result(
            "streamed epoch, store, warm", warm.rate(len(frames)), "sources/s", drawn + "three of them in the cache"
        ),
        Result("warm streamed / packed epoch", warm.times_faster(plain), "", "including opening the store"),
    ]


def streamed(settings: BenchmarkSettings, config: DatasetConfig, windows: int, batches: int = 1) -> Callable[[], None]:
    """Open the chunks at `config.root` and return a task that loads the next batches."""
    from fexgan_lit.data.streaming.open import open_chunks
    from fexgan_lit.data.streaming.sampler import WindowLoader, WindowSampler

    frames = frames_of(open_chunks(config).images)
    sampler = WindowSampler(frames, windows, batch_size=settings.batch_size, seed=0)
    return drawing(WindowLoader(frames, sampler, settings.image_size), batches)


def write_chunks(frames: FrameSet, scratch: Path, place: str, chunk_mb: float) -> DatasetConfig:
    """Write `frames` as chunks to `place`; return the data set options that stream them."""
    from fexgan_lit.data.streaming import writer as write
    from fexgan_lit.data.streaming.config import PackSettings
    from fexgan_lit.data.streaming.storage import store_of

    table = table_of(scratch, frame_paths(len(frames), ".png"))
    pack = Pack(scratch / f"pack{len(frames)}", frames.images, table, {}, 0, reused=True)
    size = frames.images.shape[1]
    config = DatasetConfig(name="folder", root=place, image_size=size, cache_dir=str(scratch / "cache"))
    write.write_chunks(pack, config, store_of(place), PackSettings("litdata", place, chunk_mb))
    return config


@contextlib.contextmanager
def loopback_store() -> Iterator[str]:
    """Start a store with an empty bucket in a separate process and set the AWS variables to use it."""
    import boto3

    before = dict(os.environ)
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            port = int(server.stdout.readline()) if server.stdout else 0
            os.environ |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "benchmark")
            os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
            boto3.client("s3").create_bucket(Bucket="benchmark")
            yield "s3://benchmark"
        finally:
            server.kill()
            os.environ.clear()
            os.environ.update(before)
