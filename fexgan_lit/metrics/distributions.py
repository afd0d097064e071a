"""Metrics that compare two sets of feature vectors as distributions, and the cached features of real images.

The Fréchet distance, KID and the inception score come from torchmetrics. Precision, recall, density and coverage, which
torchmetrics does not have, are implemented here.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.metrics.extractors import FeatureExtractor

#: Most real images in a comparison, evenly spaced over the split.
MOST_REAL = 10_000
#: Number and size of KID's subsets; number of splits of the inception score.
SUBSETS, SUBSET_SIZE, SPLITS = 100, 1000, 10
#: Rows of a distance matrix that are in memory at once.
_BLOCK = 1024
#: Batch size of the feature extraction.
_BATCH = 64


class Given(nn.Module):
    """Replace the feature network of a torchmetrics metric where `update` already gets features.

    Args:
        size: length F of a feature vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size  # torchmetrics reads this attribute

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (B, F) unchanged."""
        return features


class FrechetDistance(FrechetInceptionDistance):
    """The Fréchet distance of torchmetrics for features (B, F), clamped at 0; `reset` keeps the real features."""

    def __init__(self, size: int) -> None:
        super().__init__(feature=Given(size), reset_real_features=False)

    def compute(self) -> Tensor:
        """Return the distance; with a singular covariance, rounding may make the unclamped value slightly negative."""
        return super().compute().clamp(min=0)


class KID(KernelInceptionDistance):
    """KID (Binkowski et al. 2018) of torchmetrics for features (B, F), with smaller subsets if there are few images.

    Args:
        size: length F of a feature vector.
        seed: seed of the random subsets.
    """

    def __init__(self, size: int, seed: int) -> None:
        with warnings.catch_warnings():  # torchmetrics warns about its memory use
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(feature=Given(size), subsets=SUBSETS, reset_real_features=False)
        self.seed = seed

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation over the subsets."""
        self.subset_size = min(SUBSET_SIZE, len(torch.cat(self.real_features)), len(torch.cat(self.fake_features)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return super().compute()


class SeededInceptionScore(InceptionScore):
    """The inception score (Salimans et al. 2016) of torchmetrics for class probabilities (B, C).

    Args:
        classes: number of classes C.
        seed: seed of the shuffle.
    """

    def __init__(self, classes: int, seed: int) -> None:
        with warnings.catch_warnings():  # torchmetrics warns about its memory use
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(feature=Given(classes), splits=SPLITS)
        self.seed = seed

    def update(self, imgs: Tensor) -> None:
        """Add probabilities; torchmetrics takes logits, and the softmax of log-probabilities is the probabilities."""
        super().update(imgs.clamp(min=torch.finfo(imgs.dtype).tiny).log())

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation over the splits."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a single split has no deviation
            torch.manual_seed(self.seed)
            return super().compute()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Return the Fréchet distance of two sets of feature vectors, (N, F) and (M, F); N and M are at least 2."""
    metric = FrechetDistance(real.shape[1]).to(real.device)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return float(metric.compute())


def small_sample_note(n: int, features: int) -> str | None:
    """Return a warning if `n` images are too few for a covariance of `features` dimensions, otherwise None."""
    if n > features:
        return None
    return f"only {n} images for {features} feature dimensions: the distance is biased upwards; compare only at equal n"


class PRDC(NamedTuple):
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Attributes:
        precision: fraction of generated images inside the real manifold.
        recall: fraction of real images inside the generated manifold.
        density: mean number of real neighbourhoods around a generated image, divided by k; may exceed 1.
        coverage: fraction of real images with a generated image in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Tensor, fake: Tensor, k: int = 5) -> PRDC:
    """Return precision, recall, density and coverage for neighbourhoods up to the k-th neighbour.

    Distances are computed in blocks of rows, so memory grows linearly with the number of vectors.

    Args:
        real: (N, F).
        fake: (M, F).
        k: the radius of a vector's neighbourhood is the distance to its k-th nearest other vector of the same set.

    Raises:
        ValueError: a set has k or fewer vectors.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"neighbourhoods of {k} need {k + 1} images a side; got {len(real)} real, {len(fake)} fake")
    # Centring does not change the distances, and smaller numbers lose less precision in the squares.
    centre = real.double().mean(dim=0)
    real, fake = (real.double() - centre).float(), (fake.double() - centre).float()
    real_radii, fake_radii = neighbour_radii(real, k), neighbour_radii(fake, k)
    within_fake, covered, inside = [], [], torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    for rows in torch.arange(len(real), device=real.device).split(_BLOCK):
        distances = _squared_distances(real[rows], fake)  # (block, M)
        within_real = distances < real_radii[rows, None]
        inside += within_real.sum(dim=0)
        within_fake.append((distances < fake_radii).any(dim=1))
        covered.append(within_real.any(dim=1))
    precision, recall = (inside > 0).double().mean(), torch.cat(within_fake).double().mean()
    density = inside.double().mean() / k
    return PRDC(float(precision), float(recall), float(density), float(torch.cat(covered).double().mean()))


def neighbour_radii(x: Tensor, k: int) -> Tensor:
    """Return the squared distance (N,) of every row of `x` (N, F) to its k-th nearest other row."""
    radii = []
    for rows in torch.arange(len(x), device=x.device).split(_BLOCK):
        distances = _squared_distances(x[rows], x)
        distances[torch.arange(len(rows), device=x.device), rows] = torch.inf  # exclude the vector itself
        radii.append(distances.topk(k, dim=1, largest=False).values[:, -1])
    return torch.cat(radii)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared distances (N, M), at least 0, of (N, F) and (M, F)."""
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return torch.addmm(squares, x, y.mT, alpha=-2).clamp_(min=0)


def real_features(
    extractor: FeatureExtractor,
    frames: FrameSet,
    rows: np.ndarray,
    size: int,
    cache_dir: str | Path,
    key: str,
    progress: Callable[[int, int], None] | None = None,
    most: int = MOST_REAL,
) -> Tensor:
    """Return the features (n, F) float32 of `rows` of `frames`, cached in ``cache_dir/statistics``.

    Args:
        extractor: the feature extractor.
        frames: a split.
        rows: (n,) rows of the split, at least one.
        size: size in pixels that the frames are resized to first; it must equal the size of the generated images.
        cache_dir: folder of the cache; created if missing. With 2048 features a file takes up to 82 MB.
        key: identifies the data and the split, for example the pack's folder and the split's key.
        progress: called after every batch with (frames done, total); never called if the features are cached.
        most: most frames to read, evenly spaced over `rows`.

    Raises:
        UserError: there are no frames, or the cache folder is not writable.
    """
    from safetensors.torch import save

    if not len(rows):
        raise UserError(f"split {key} has no real frames to compare with; choose a split with frames")
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
    which = hashlib.sha256(np.ascontiguousarray(frames.rows[rows], dtype=np.int64).tobytes()).hexdigest()
    parts = [2, key, which, size, extractor.name, extractor.resizer, extractor.fingerprint]  # 2: file format
    identity = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    path = Path(cache_dir) / "statistics" / f"{identity[:20]}.safetensors"
    if (found := _stored(path, identity, (len(rows), extractor.feature_size))) is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # before the work, so that a read-only cache fails at once
        read = []
        for start in range(0, len(rows), _BATCH):
            images = frames.floats(rows[start : start + _BATCH], size).to(extractor.device)
            read.append(extractor(images).features.float().cpu())
            if progress is not None:
                progress(min(start + _BATCH, len(rows)), len(rows))
        features = torch.cat(read)
        write_atomic(path, save({"features": features}, metadata={"key": identity}))
    except OSError as error:
        raise UserError(
            f"The features of the real frames cannot be stored in {path.parent}: {error.strerror or error}. "
            "Choose a writable cache folder with 100 MB of free space."
        ) from error
    return features


def _stored(path: Path, identity: str, shape: tuple[int, int]) -> Tensor | None:
    """Return the stored features, or None where they are missing, broken or belong to another `identity`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            features = file.get_tensor("features")
            right = (file.metadata() or {}).get("key") == identity and features.shape == shape
            return features if right and features.isfinite().all() else None
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError):
        return None
