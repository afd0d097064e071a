"""Videos of faces as MP4 and GIF, at the rate of the driver."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

#: Side in pixels to which smaller faces are enlarged.
SMALLEST_SIDE = 256
#: GIF stores durations in hundredths of a second, and viewers slow down frames shorter than two.
GIF_FASTEST = 50
#: Constant quality of H.264: 18 is hard to distinguish from the original, 0 is lossless.
_QUALITY = "14"


def enlarged(frames: np.ndarray) -> np.ndarray:
    """Enlarge frames (T, S, S, 3) uint8 to a side of at least `SMALLEST_SIDE`."""
    side = frames.shape[1]
    if side >= SMALLEST_SIDE:
        return frames
    to = (SMALLEST_SIDE, SMALLEST_SIDE)
    return np.stack([cv2.resize(frame, to, interpolation=cv2.INTER_CUBIC) for frame in frames])


def write_mp4(path: Path, frames: np.ndarray, rate: Fraction) -> None:
    """Write `frames` (T, S, S, 3) uint8 RGB, S even, as H.264 for browsers, with `rate` frames per second."""
    import av

    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=rate, options={"crf": _QUALITY})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        film.mux(stream.encode())


def write_gif(path: Path, frames: np.ndarray, rate: Fraction) -> None:
    """Write `frames` (T, S, S, 3) uint8 RGB as a looping GIF with the duration of the film.

    Above `GIF_FASTEST` frames per second, only every second (third, ...) frame is written.
    """
    step = math.ceil(rate / GIF_FASTEST)
    pictures = [Image.fromarray(frame) for frame in frames[::step]]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=gif_durations(len(frames), rate), loop=0)


def gif_durations(count: int, rate: Fraction) -> list[int]:
    """Return the milliseconds of each written frame, multiples of ten whose rounding errors do not add up."""
    step = math.ceil(rate / GIF_FASTEST)
    ends = [min(start + step, count) for start in range(0, count, step)]
    hundredths = [0, *(round(100 * end / rate) for end in ends)]
    return [10 * (b - a) for a, b in pairwise(hundredths)]


def gif_note(count: int, rate: Fraction) -> str:
    """Describe how a GIF of `count` frames changes the rate; "" if it does not."""
    step, shown = math.ceil(rate / GIF_FASTEST), sorted(set(gif_durations(count, rate)))
    kept = "" if step == 1 else f"one frame in {step} is kept, "
    if not kept and len(shown) == 1 and Fraction(1000, shown[0]) == rate:
        return ""
    lasts = " or ".join(f"{duration}" for duration in shown)
    return (
        f"GIF durations are hundredths of a second: {kept}frames last {lasts} ms, and the GIF lasts as long as the film"
    )
