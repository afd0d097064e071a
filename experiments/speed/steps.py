"""What each step towards a faster iteration on a processor gave: variants in processes of their own, turn by turn.

python experiments/speed/steps.py [rounds] [width] [image size]
"""

from __future__ import annotations

import itertools
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fexgan_lit.benchmarks import plain_loops as loop
from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.plain_loops import PLAIN_LOOPS
from fexgan_lit.benchmarks.train import built, composed_settings, noise_batch
from fexgan_lit.kernels import blocks, conv, memory
from fexgan_lit.systems.fexgan.networks import Discriminator
from fexgan_lit.training.accelerate import DiscriminatorOnMap, accelerate
from fexgan_lit.utils.hardware import native_cpu_bf16

#: Every variant has what those before it have; the first is what channels_last, bf16 and fused Adam give.
STEPS = (
    "torch's modules", "freed memory kept", "Adam without copies", "dropout from 16 bits", "dense layers for a pixel",
    "heads as maps lie", "small maps as products", "images as stacked pixels", "nine products for sixteen",
    "norm and activation at once",
)  # fmt: skip

#: Between iterations: threads of the process before go on waiting actively for some milliseconds.
PAUSE_S = 0.05


def no_dense_layer(self: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """A layer that takes a single pixel for a map like any other."""
    out = conv.strided_conv(x, self.weight, self.bias, isinstance(self, nn.Conv2d))
    return type(self).__mro__[1].forward(self, x) if out is None else out


#: What a variant before each step has in its place.
WITHOUT: tuple[tuple[tuple[Any, str, Any], ...], ...] = (
    (),
    ((memory, "keep_freed_memory", lambda: False),),
    ((loop, "Adam", torch.optim.Adam),),
    ((blocks.Dropout, "forward", nn.Dropout.forward),),
    ((conv.DownConv, "forward", no_dense_layer), (conv.UpConv, "forward", no_dense_layer)),
    ((DiscriminatorOnMap, "forward", Discriminator.forward),),
    ((conv, "MATMUL_CHANNELS", sys.maxsize), (conv, "MATMUL_WEIGHT_PIXELS", 0)),
    ((conv, "IMAGE_CHANNELS", 0),),
    ((conv, "WINOGRAD_CHANNELS", sys.maxsize),),
    ((blocks, "is_fusable", lambda layer, x: False),),
)


def work(pipe: Connection, step: int, width: float, size: int) -> None:
    """Train one iteration whenever asked, and say how long it took."""
    settings = BenchmarkSettings(suite="train", width=width, image_size=size)
    system, batch = built(composed_settings("fexgan", settings)), noise_batch(settings.batch_size, size)
    loop.Adam = memory.Adam
    for part, name, value in itertools.chain(*WITHOUT[step + 1 :]):
        setattr(part, name, value)
    accelerate(system)
    iterations = PLAIN_LOOPS["fexgan"](system, itertools.repeat(batch), native_cpu_bf16())
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
