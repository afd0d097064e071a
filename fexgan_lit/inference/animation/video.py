"""Faces in motion as MP4 and as GIF, both at the rate of the driver."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

#: Smaller faces are enlarged to this side, pixels.
SMALLEST_SIDE = 256
#: GIF counts hundredths of a second, and viewers slow down what is shown for less than two.
GIF_FASTEST = 50
#: Constant quality of H.264: 18 is hard to tell from the original, 0 is lossless.
_QUALITY = "14"


def enlarged(frames: np.ndarray) -> np.ndarray:
    """(T, S, S, 3) uint8 with S of `SMALLEST_SIDE` or more."""
    side = frames.shape[1]
    if side >= SMALLEST_SIDE:
        return frames
    to = (SMALLEST_SIDE, SMALLEST_SIDE)
    return np.stack([cv2.resize(frame, to, interpolation=cv2.INTER_CUBIC) for frame in frames])


def write_mp4(path: Path, frames: np.ndarray, rate: Fraction) -> None:
    """Write `frames` (T, S, S, 3) uint8 RGB, S even, as H.264 that browsers play, `rate` frames a second."""
    import av

    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=rate, options={"crf": _QUALITY})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        film.mux(stream.encode())


def write_gif(path: Path, frames: np.ndarray, rate: Fraction) -> None:
    """Write `frames` (T, S, S, 3) uint8 RGB as an endless GIF that takes as long as the film.

    Above `GIF_FASTEST` frames a second, only every second (third, ...) frame is kept.
    """
    step = math.ceil(rate / GIF_FASTEST)
    pictures = [Image.fromarray(frame) for frame in frames[::step]]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=gif_durations(len(frames), rate), loop=0)


def gif_durations(count: int, rate: Fraction) -> list[int]:
    """Milliseconds that each kept one of `count` frames is shown: tens, whose sums stay on the beat."""
    step = math.ceil(rate / GIF_FASTEST)
    ends = [min(start + step, count) for start in range(0, count, step)]
    hundredths = [0, *(round(100 * end / rate) for end in ends)]
    return [10 * (b - a) for a, b in pairwise(hundredths)]


def gif_note(count: int, rate: Fraction) -> str:
    """What becomes of the rate in a GIF of a film of `count` frames; "" where it has it exactly."""
    step, shown = math.ceil(rate / GIF_FASTEST), sorted(set(gif_durations(count, rate)))
    kept = "" if step == 1 else f"one frame in {step} is kept, "
    if not kept and len(shown) == 1 and Fraction(1000, shown[0]) == rate:
        return ""
    lasts = " or ".join(f"{duration}" for duration in shown)
    return f"a GIF counts hundredths of a second: {kept}frames last {lasts} ms, and in all as long as the film's"
