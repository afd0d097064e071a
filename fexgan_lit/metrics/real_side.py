"""The real frames of a comparison, read by an extractor once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.errors import UserError
from fexgan_lit.files import write_atomic
from fexgan_lit.metrics.judge_training import Progress
from fexgan_lit.metrics.streaming import ROW_CAP, FeatureReservoir, StreamedMoments

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.metrics.extractors import FeatureExtractor

#: Raised whenever what is stored changes, so that files of another version are not taken.
VERSION = 1
_BATCH = 64


@dataclass(frozen=True)
class RealSide:
    """What an extractor saw in the real frames.

    Attributes:
        moments: of all of them.
        features: of the first of them, up to the cap, (m, F) float32.
        probabilities: of the same frames, (m, C) float32, or None where the extractor names no classes.
        n: frames.
        from_cache: whether it was found on disk.
    """

    moments: StreamedMoments
    features: Tensor
    probabilities: Tensor | None
    n: int
    from_cache: bool = False


def real_statistics(
    extractor: FeatureExtractor,
    frames: FrameSet,
    rows: np.ndarray | None,
    size: int,
    cache_dir: str | Path,
    key: str,
    progress: Progress | None = None,
    cap: int = ROW_CAP,
) -> RealSide:
    """What `extractor` sees in `rows` of `frames`, from ``cache_dir/statistics`` or computed and stored there.

    Args:
        extractor: the network.
        frames: a split.
        rows: (n,) rows of the split, at least one; None takes all.
        size: pixels the frames are resized to first, as large as the generated ones they are compared with.
        cache_dir: folder of the cache; made when missing. At 2048 features a file takes up to 155 MB.
        key: names the data and the split, for example the pack's folder and the split's key.
        progress: told of every batch (done, in all); never called when the statistics are found.
        cap: rows of features kept.

    Raises:
        UserError: there are no frames, or the cache folder cannot be written.
    """
    chosen = np.arange(len(frames)) if rows is None else np.asarray(rows, dtype=np.int64)
    if not len(chosen):
        raise UserError(f"there are no real frames to compare with (split {key}); choose a split that has some")
    identity = _identity(extractor, frames, chosen, size, key, cap)
    path = Path(cache_dir) / "statistics" / f"{identity[:20]}.safetensors"
    found = _load(path, identity, extractor.feature_size, len(chosen))
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # before the work: a read-only cache is said at once
        real = read_frames(extractor, frames, chosen, size, progress, cap)
        _store(path, identity, real)
    except OSError as error:
        raise UserError(
            f"The statistics of the real frames cannot be stored in {path.parent}: {error.strerror or error}. "
            "Choose a cache folder that can be written and has 200 MB free."
        ) from error
    return real


def read_frames(
    extractor: FeatureExtractor,
    frames: FrameSet,
    rows: np.ndarray,
    size: int,
    progress: Progress | None = None,
    cap: int = ROW_CAP,
) -> RealSide:
    """The same without a cache; see `real_statistics`."""
    moments = StreamedMoments(extractor.feature_size)
    features, probabilities = FeatureReservoir(cap), FeatureReservoir(cap)
    for start in range(0, len(rows), _BATCH):
        seen = extractor(frames.floats(rows[start : start + _BATCH], size).to(extractor.device))
        moments.update(seen.features)
        features.update(seen.features)
        if seen.class_probabilities is not None:
            probabilities.update(seen.class_probabilities)
        if progress is not None:
            progress(min(start + _BATCH, len(rows)), len(rows))
    kept = features.rows
    assert kept is not None  # noqa: S101 (there is a row at least)
    return RealSide(moments, kept, probabilities.rows, moments.n)


def _identity(extractor: FeatureExtractor, frames: FrameSet, rows: np.ndarray, size: int, key: str, cap: int) -> str:
    """Hash of everything the statistics depend on."""
    which = hashlib.sha256(np.ascontiguousarray(frames.rows[rows], dtype=np.int64).tobytes()).hexdigest()
    parts = [VERSION, key, which, size, cap, extractor.name, extractor.resizer, extractor.fingerprint]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _store(path: Path, identity: str, real: RealSide) -> None:
    from safetensors.torch import save

    tensors = {"total": real.moments.total, "outer": real.moments.outer, "features": real.features}
    tensors |= {} if real.probabilities is None else {"probabilities": real.probabilities}
    plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, metadata={"key": identity, "n": str(real.n)}))


def _load(path: Path, identity: str, size: int, n: int) -> RealSide | None:
    """The stored statistics; None where they are missing, broken, or not those of `identity`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("key") != identity or about.get("n") != str(n):
                return None
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        moments = StreamedMoments(size)
        moments.n = n
        moments.total.copy_(stored["total"])
        moments.outer.copy_(stored["outer"])
        if not torch.isfinite(moments.outer).all():
            return None
        return RealSide(moments, stored["features"], stored.get("probabilities"), n, from_cache=True)
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError):
        # Whatever is wrong with the file, computing it again mends it; the caller sees from_cache=False.
        return None
