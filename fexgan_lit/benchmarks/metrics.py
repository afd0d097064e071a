"""The metrics suite: how much of measuring image quality is spent in networks, and on what the rest goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from fexgan_lit.benchmarks.material import IDENTITIES, frames_of, pictures
from fexgan_lit.benchmarks.report import Result, single
from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.data.frames import FrameSet
from fexgan_lit.expression import AFFECTS, Expression
from fexgan_lit.metrics import distribution_report, image_quality
from fexgan_lit.metrics.extractors import JudgeExtractor
from fexgan_lit.metrics.image_quality import ImageQuality
from fexgan_lit.metrics.judge import JudgeNet
from fexgan_lit.metrics.real_side import read_frames
from fexgan_lit.metrics.streaming import StreamedMoments
from fexgan_lit.systems.base import ExpressionSystem

#: Called with the name of the stage, stages done, stages in all.
StageProgress = Callable[[str, int, int], None]

#: Pictures drawn; frames beyond repeat them.
_DRAWN = 512
_BATCH = 32
_TARGET = 0.9


@dataclass
class Clock:
    """Seconds by the name of what they went to; what runs within something else is counted there alone."""

    seconds: dict[str, float] = field(default_factory=dict)
    _inner: list[float] = field(default_factory=lambda: [0.0])

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Count the time until the end of the block under `name`, less what counts under a name inside."""
        self._inner.append(0.0)
        start = time.perf_counter()
        yield
        passed = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + passed - self._inner.pop()
        self._inner[-1] += passed

    def timed(self, name: str, function: Callable) -> Callable:
        """`function`, its time counted under `name`."""

        def run(*args: object, **kwargs: object) -> object:
            with self.running(name):
                return function(*args, **kwargs)

        return run


def metrics_suite(settings: BenchmarkSettings, folder: Path, progress: StageProgress) -> tuple[list[Result], None]:
    """Every row of the table: `settings.images` images measured as `evaluate` measures them; writes nothing.

    An untrained judge and an untrained generator take the time of trained ones.
    """
    frames, system = drawn_frames(settings), untrained_system(settings)
    extractor = JudgeExtractor(JudgeNet(len(AFFECTS), len(IDENTITIES)))
    rows = np.arange(settings.images) % len(frames)
    clock, real_clock = Clock(), Clock()
    with watched(real_clock, extractor.net, system):
        real = read_frames(extractor, frames, rows, settings.image_size, lambda n, total: progress("real", n, total))
    quality = ImageQuality({"judge": extractor})
    with watched(clock, extractor.net, system), clock.running("the rest"):
        stream(quality, system, frames, rows, lambda n: progress("generated", n, settings.images))
        quality.compute({"judge": real})
    return [*share_results(clock.seconds, settings), *part_results(clock.seconds, real_clock.seconds, settings)], None


def stream(
    quality: ImageQuality, system: ExpressionSystem, frames: FrameSet, rows: np.ndarray, progress: Callable[[int], None]
) -> None:
    """Generate and measure batch by batch."""
    for start in range(0, len(rows), _BATCH):
        chunk = rows[start : start + _BATCH]
        source = frames.floats(chunk, system.image_size)
        target = frames.floats(np.roll(chunk, 1), system.image_size)
        asked = Expression.of_affects(torch.from_numpy(frames.affect[chunk]), len(AFFECTS))
        quality.update(system.synthesize(source, asked, asked), target)
        progress(start + len(chunk))


@contextmanager
def watched(clock: Clock, judge: nn.Module, system: ExpressionSystem) -> Iterator[None]:
    """Count the time of networks and of the parts of the metrics apart."""
    places = {
        (system, "synthesize"): "generator",
        (judge, "forward"): "judge",
        (FrameSet, "floats"): "frames to floats",
        (image_quality.pixels, "pixel_distances"): "SSIM, MS-SSIM, PSNR",
        (image_quality, "check_finite"): "looking for NaN",
        (StreamedMoments, "update"): "sums of features",
        (StreamedMoments, "frechet"): "Fréchet distance",
        (distribution_report, "kid"): "KID",
        (distribution_report, "inception_score"): "inception score",
        (distribution_report, "prdc"): "precision, recall, density, coverage",
    }
    with ExitStack() as stack:
        for (owner, name), label in places.items():
            stack.enter_context(patch.object(owner, name, clock.timed(label, getattr(owner, name))))
        yield


def share_results(seconds: dict[str, float], settings: BenchmarkSettings) -> list[Result]:
    """The share of the networks, and the same without the generator."""
    total, judge = sum(seconds.values()), seconds["judge"]
    networks = seconds["generator"] + judge
    what = f"{settings.images:,} images at {settings.image_size} px, real side known"
    rest = total - networks
    return [
        Result("measured", single(total), "s", f"{what}; generation included"),
        Result(
            "share of the networks",
            single(networks / total),
            "",
            f"FExGAN, width {_width(settings):g}, and the judge",
            _TARGET,
        ),
        Result("judge / everything but the generator", single(judge / (judge + rest)), "", "images that are there"),
    ]


def part_results(
    seconds: dict[str, float], real_seconds: dict[str, float], settings: BenchmarkSettings
) -> list[Result]:
    """What each part takes, and how long the real side takes the first time."""
    parts = [
        Result(name, single(1e3 * value / settings.images), "ms an image", f"{value:.3g} s in all")
        for name, value in sorted(seconds.items(), key=lambda item: -item[1])
    ]
    once = sum(real_seconds.values())
    return [*parts, Result("real side, first time", single(once), "s", "kept on disk after that")]


def drawn_frames(settings: BenchmarkSettings) -> FrameSet:
    """Cartoon faces with noise, as a split."""
    images = np.stack(list(pictures(min(_DRAWN, settings.images), settings.image_size)))
    return frames_of(images)


def _width(settings: BenchmarkSettings) -> float:
    """Factor on FExGAN's channels."""
    return 0.1 if settings.quick else 1.0


def untrained_system(settings: BenchmarkSettings) -> ExpressionSystem:
    """FExGAN in evaluation mode, at the papers' size unless it should be quick."""
    from fexgan_lit.systems.fexgan.losses import FExGANLossSettings
    from fexgan_lit.systems.fexgan.settings import FExGANSettings
    from fexgan_lit.systems.fexgan.system import FExGAN
    from fexgan_lit.systems.optimisers import DualOptimizerSettings

    model = FExGANSettings(image_size=settings.image_size, width=_width(settings))
    return FExGAN(model, FExGANLossSettings(), DualOptimizerSettings(), AFFECTS).eval()
