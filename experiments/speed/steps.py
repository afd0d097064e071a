"""What each step towards a faster iteration on a processor gave: variants in processes of their own, turn by turn.

python experiments/speed/steps.py [rounds] [width] [image size]
"""

from __future__ import annotations

import itertools
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection

import numpy as np
from torch import Tensor

from fexgan_lit import layers, loops, strided
from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.benchmarks.train import built, composed_settings, noise_batch
from fexgan_lit.benchmarks.twins import TWINS
from fexgan_lit.memory import keep_freed_memory
from fexgan_lit.systems.fexgan.networks import Discriminator, Verdict
from fexgan_lit.trainer import native_cpu_bf16

#: Every variant has what those before it have; the first is what channels_last, bf16 and fused Adam give.
STEPS = (
    "as it was", "freed memory kept", "heads as maps lie", "small maps as products", "images as stacked pixels",
    "nine products for sixteen", "sums as compiled loops", "norm and activation at once",
)  # fmt: skip

#: Between iterations: threads of the process before go on waiting actively for some milliseconds.
PAUSE_S = 0.05


def flattened_heads(self: Discriminator, image: Tensor) -> Verdict:
    """The discriminator with its last map flattened in the order of its channels, as it was."""
    features = self.blocks(image).flatten(1)
    return Verdict(self.realness(features).squeeze(1), self.affect(features))


def work(pipe: Connection, step: int, width: float, size: int) -> None:
    """Train one iteration whenever asked, and say how long it took."""
    settings = BenchmarkSettings(suite="train", width=width, image_size=size)
    system, batch = built(composed_settings("fexgan", settings)), noise_batch(settings.batch_size, size)
    if step >= 1:
        keep_freed_memory()
    if step < 2:
        system.discriminator.__class__ = type("Flattened", (Discriminator,), {"forward": flattened_heads})
    if step < 3:
        strided.WIDE, strided.WEIGHT_PIXELS = sys.maxsize, 0
    if step < 4:
        strided.FEW = 0
    if step < 5:
        strided.SPARING = sys.maxsize
    if step < 6:
        loops.are_ready = lambda: False
    if step < 7:
        layers.is_ours = lambda norm, x: False
    loops.loading().result()
    iterations = TWINS["fexgan"](system, itertools.repeat(batch), native_cpu_bf16())
    while pipe.recv():
        started = time.perf_counter()
        next(iterations)
        pipe.send(time.perf_counter() - started)


def main(rounds: int = 25, width: float = 1.0, size: int = 128) -> None:
    """Print every variant's fastest and median iteration, and what part the fastest is of the one before and the first.

    What else a machine does can only make an iteration slower, so the fastest of many is the one to compare.
    """
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for step in range(len(STEPS)):
        ours, theirs = context.Pipe()
        workers.append(context.Process(target=work, args=(theirs, step, width, size)))
        workers[-1].start()
        pipes.append(ours)
    seconds = []
    for _ in range(rounds + 2):
        row = []
        for pipe in pipes:
            time.sleep(PAUSE_S)
            pipe.send(True)
            row.append(pipe.recv())
        seconds.append(row)
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(False)
        worker.join()
    taken = np.array(seconds[2:])  # (rounds, steps)
    fastest, medians = taken.min(0) * 1e3, np.median(taken, 0) * 1e3
    print("| with | fastest ms | median ms | / the step before | / the first |\n|---|---:|---:|---:|---:|")
    for step, name in enumerate(STEPS):
        before, first = (fastest[step] / fastest[other] for other in (max(0, step - 1), 0))
        print(f"| {name} | {fastest[step]:,.0f} | {medians[step]:,.0f} | {before:.3f} | {first:.3f} |")


if __name__ == "__main__":
    main(*(kind(value) for kind, value in zip((int, float, int), sys.argv[1:], strict=False)))
