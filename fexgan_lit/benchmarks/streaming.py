"""Streaming beside the memory map: batches from a folder of chunks, and whole epochs from a store on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fexgan_lit.benchmarks.material import frame_paths, frames_of, table_of
from fexgan_lit.benchmarks.report import Result
from fexgan_lit.benchmarks.timing import take_turns
from fexgan_lit.data.packing import Pack
from fexgan_lit.data.settings import DatasetConfig

if TYPE_CHECKING:
    from fexgan_lit.benchmarks.data import Bench
    from fexgan_lit.data.frames import FrameSet

#: Most frames that go through the store, and the windows in which they come.
_STORED, _WINDOWS = 4000, 4
_BUCKET = "benchmark"
#: A store in a process of its own, which ends with ours.
_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.disable()
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


def streaming_notes() -> tuple[str, ...]:
    """Why rows are absent, where they are."""
    if importlib.util.find_spec("litdata") is None:
        return ("streamed batches are absent: litdata is not installed (pip install --no-deps litdata)",)
    missing = [name for name in ("boto3", "moto") if importlib.util.find_spec(name) is None]
    return (f"streaming from a store is absent: without {' and '.join(missing)}",) if missing else ()


def streaming_results(bench: Bench) -> list[Result]:
    """The rows that can be measured with what is installed."""
    if importlib.util.find_spec("litdata") is None:
        return []
    results = folder_results(bench)
    return results if streaming_notes() else [*results, *store_results(bench)]


def folder_results(bench: Bench) -> list[Result]:
    """Single batches out of chunks in a folder, in the system's cache, beside those of the memory map."""
    settings, frames = bench.settings, bench.pack(bench.settings.packed[1])
    chunks = bench.scratch / "chunks"
    config = write_pack(bench, frames, str(chunks), chunk_mb=64)
    tasks = {"packed": bench.feed(frames), "streamed": _feed(open_frames(config), bench, windows=1)}
    timings = take_turns(tasks, 10 * settings.rounds)
    packed, streamed = timings.values()
    how = f"{settings.batch_size} pairs at {settings.image_size} px out of {len(frames):,} frames"
    return [
        Result("streamed batch, folder of chunks", streamed.spread(bench.batch_bytes / 1e9), "GB/s", how),
        Result("streamed batch / packed batch", streamed.times_faster(packed), "", "same pairs"),
    ]


def store_results(bench: Bench) -> list[Result]:
    """Epochs from a store on the loopback address, into an empty cache and out of it, beside the memory map."""
    settings = bench.settings
    frames = bench.pack(min(settings.packed[1], _STORED))
    caches = itertools.count()
    with loopback_store() as place:
        config = write_pack(
            bench, frames, f"{place}/set", chunk_mb=len(frames) * frames.images[:1].nbytes / 1e6 / (2 * _WINDOWS)
        )

        def epoch(cache: str) -> None:
            streamed = open_frames(DatasetConfig(**{**vars(config), "cache_dir": str(bench.scratch / cache)}))
            _feed(streamed, bench, _WINDOWS, len(frames) // settings.batch_size)()

        tasks: dict[str, Callable[[], object]] = {
            "packed": bench.feed(frames, len(frames) // settings.batch_size),
            "cold": lambda: epoch(f"cold{next(caches)}"),
            "warm": lambda: epoch("warm"),
        }
        timings = take_turns(tasks, max(1, settings.rounds // 5))
    packed, cold, warm = timings.values()
    drawn = f"an epoch of {len(frames):,} frames in {_WINDOWS} windows, "
    return [
        Result("streamed epoch, store, cold", cold.spread(len(frames)), "sources/s", drawn + "download included"),
        Result("cold streamed / packed epoch", cold.times_faster(packed), "", "moto on the loopback address"),
        Result("streamed epoch, store, warm", warm.spread(len(frames)), "sources/s", drawn + "three in the cache"),
        Result("warm streamed / packed epoch", warm.times_faster(packed), "", "opening it included"),
    ]


def write_pack(bench: Bench, frames: FrameSet, place: str, chunk_mb: float) -> DatasetConfig:
    """Write `frames`, a pack by themselves, as chunks; returns the options that stream them."""
    from fexgan_lit.data.streaming.places import place_of
    from fexgan_lit.data.streaming.settings import PackSettings
    from fexgan_lit.data.streaming.write import write_chunks

    table = table_of(bench.scratch, frame_paths(len(frames), ".png"))
    pack = Pack(bench.scratch / f"pack{len(frames)}", frames.images, table, {}, 0, reused=True)
    config = DatasetConfig(
        name="folder", root=place, image_size=bench.settings.image_size, cache_dir=str(bench.scratch / "cache")
    )  # fmt: skip
    write_chunks(pack, config, place_of(place), PackSettings("litdata", place, chunk_mb))
    return config


def open_frames(config: DatasetConfig) -> FrameSet:
    """The frames of the pack at `config.root`, all of them a training split."""
    from fexgan_lit.data.streaming.opening import open_chunks

    return frames_of(open_chunks(config).images)


def _feed(frames: FrameSet, bench: Bench, windows: int, batches: int = 1) -> Callable[[], None]:
    """A task that draws the next training batches of streamed frames."""
    from fexgan_lit.data.streaming.windows import WindowLoader, WindowSampler

    sampler = WindowSampler(frames, windows, batch_size=bench.settings.batch_size, seed=0)
    return bench.draw(WindowLoader(frames, sampler, bench.settings.image_size), batches)


@contextlib.contextmanager
def loopback_store() -> Iterator[str]:
    """An empty bucket of a store in a process of its own; the AWS variables lead there meanwhile."""
    import boto3

    before = dict(os.environ)
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            port = int(server.stdout.readline()) if server.stdout else 0
            os.environ |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "benchmark")
            os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
            boto3.client("s3").create_bucket(Bucket=_BUCKET)
            yield f"s3://{_BUCKET}"
        finally:
            server.kill()
            os.environ.clear()
            os.environ.update(before)
