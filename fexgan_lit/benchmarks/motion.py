"""The motion suite: seconds to sample motions of landmarks, to move faces with them, and to score them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.inputs import random_motions
from fexgan_lit.benchmarks.report import Progress, Result, Table, listed
from fexgan_lit.systems.motion_texture.networks import NOISE, REALS, MotionGenerator, label_code
from fexgan_lit.systems.motion_texture.srvf import apply_motion, exp_map, karcher_mean, log_map, nearest, tangent
from fexgan_lit.utils.timing import Spread, take_turns

#: Motions that are sampled and scored, and real motions that they are compared with.
MOTIONS, REAL = 10_000, 500
#: The most seconds to sample and score them all.
TARGET = 10.0
#: Motions in memory at a time, motions from MotionGAN's networks at a time, and time steps of each motion.
PART, BATCH, STEPS = 250, 8, 30


def run(settings: BenchmarkSettings, folder: Path, progress: Progress) -> tuple[list[Result], Table]:
    """Time the steps from tangent vectors to distances in turns, and the networks for a batch."""
    rounds, count = min(settings.rounds, 5), 100 if settings.quick else MOTIONS
    real = random_motions(REAL, 6, STEPS)
    mean, g = karcher_mean(real.q), torch.Generator().manual_seed(0)
    drawn = log_map(mean, real.q)[torch.randint(REAL, (count,), generator=g)]
    noise, length = torch.randn(2, count, 1, 1, generator=g)
    drawn, length = drawn * (1 + 0.1 * noise), length.abs().flatten()
    faces = torch.rand(count, 68, 2, generator=g)
    made = exp_map(mean, tangent(mean, drawn))
    network = MotionGenerator(7 * REALS, STEPS, settings.width).eval()
    label = label_code(torch.eye(7)[:1].expand(BATCH, -1), torch.full((BATCH, 7, REALS), 0.5))

    def scored() -> None:
        for part in drawn.split(PART):
            nearest(exp_map(mean, tangent(mean, part)), real.q)

    def moved() -> None:
        for part in torch.arange(count).split(PART):
            apply_motion(made[part], length[part], faces[part])

    @torch.inference_mode()
    def from_networks() -> None:
        network(torch.zeros(BATCH, NOISE), label)

    tasks: dict[str, Callable[[], object]] = {
        f"Karcher mean of {REAL} motions": lambda: karcher_mean(real.q),
        f"move {count:,} faces": moved,
        f"sample and score {count:,} motions": scored,
        f"{BATCH} motions from the networks": from_networks,
    }
    progress("timing", 0, 1)
    timings = take_turns(tasks, rounds)
    hows = ["tangent vectors to the sphere until their mean is short",
            f"landmarks of {STEPS + 1} frames a motion",
            f"the exponential map, and the geodesic distance to the nearest of {REAL} real motions",
            f"MotionGAN's generator at width={settings.width:g}"]  # fmt: skip
    results = [
        Result(name, Spread.of(timing.seconds), "s", how, TARGET if "score" in name else None, at_most=True)
        for (name, timing), how in zip(timings.items(), hows, strict=True)
    ]
    return results, listed(results, [f"motions have {STEPS} time steps of 136 coordinates, in float32"])
