"""The data suite's rows on augmented batches, and on batches made on the device from frames that lie there."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fexgan_lit.benchmarks.report import Result
from fexgan_lit.benchmarks.timing import Spread, take_turns
from fexgan_lit.data.augment import Augmentation, PairAugmentation
from fexgan_lit.data.frames import FrameSet
from fexgan_lit.data.pairs import PairLoader, PairSampler
from fexgan_lit.data.resident import ResidentPairs

#: Change of brightness and contrast where there is one.
_JITTER = 0.1


def resident_rows(plain: FrameSet, larger: FrameSet, size: int, batch_size: int, rounds: int) -> list[Result]:
    """Batches out of the pack beside those made on the device, until they are there, in turns.

    Args:
        plain: frames of `size` px.
        larger: frames from which crops of `size` px are cut.
        size: side of the images, pixels.
        batch_size: pairs.
        rounds: batches that are timed of each kind.
    """
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    kinds: dict[str, tuple[FrameSet, Augmentation | None]] = {
        "": (plain, None),
        "augmented ": (larger, PairAugmentation(size)),
        "augmented and recoloured ": (larger, PairAugmentation(size, jitter=_JITTER)),
    }
    results = []
    for kind, (frames, augmentation) in kinds.items():
        pairs = PairLoader(frames, PairSampler(frames, batch_size, seed=0), size, augmentation)
        loaders = {"packed": pairs, "resident": ResidentPairs(pairs, device)}
        timings = take_turns({name: arriving(loader, device) for name, loader in loaders.items()}, rounds)
        names = {name: f"{name} {kind}batch on {device}" for name in loaders}
        how = {"packed": "made on one thread of the host, then moved", "resident": "one small copy, then made there"}
        results += [Result(names[n], Spread.of(t.seconds * 1e3), "ms", how[n]) for n, t in timings.items()]
        ratio = timings["resident"].times_faster(timings["packed"])
        results.append(Result(f"packed / resident, {kind}batch on {device}", ratio, "", "time; the same bits"))
    return results


def arriving(loader: PairLoader, device: torch.device) -> Callable[[], None]:
    """A task that makes the next batch and waits until it is on `device`."""
    position = 0

    def draw() -> None:
        nonlocal position
        loader.batch(0, position % len(loader)).to(device)
        position += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return draw
