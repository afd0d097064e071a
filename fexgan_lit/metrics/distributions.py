"""How two sets of feature vectors differ as distributions, and the real images' side of the comparison.

The Fréchet distance, KID and the inception score are torchmetrics'; precision, recall, density and coverage, which it
does not have, are here.
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

#: Real images of a comparison at most, spread evenly over the split.
MOST_REAL = 10_000
#: Subsets of KID and their size; parts of the inception score.
SUBSETS, SUBSET_SIZE, SPLITS = 100, 1000, 10
#: Rows of a distance matrix that are held at once.
_BLOCK = 1024
#: Images read at once.
_BATCH = 64


class Given(nn.Module):
    """Takes the place of the network of a torchmetrics metric: what `update` is given are features already.

    Args:
        size: F, the length of a feature vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size  # where torchmetrics looks for it

    def forward(self, features: Tensor) -> Tensor:
        """The features (B, F)."""
        return features


class FrechetDistance(FrechetInceptionDistance):
    """torchmetrics' Fréchet distance of features (B, F), zero or more; `reset` keeps the real side."""

    def __init__(self, size: int) -> None:
        super().__init__(feature=Given(size), reset_real_features=False)

    def compute(self) -> Tensor:
        """A scalar; the eigenvalues of a singular covariance may leave it a rounding error below zero."""
        return super().compute().clamp(min=0)


class KID(KernelInceptionDistance):
    """torchmetrics' KID (Binkowski et al. 2018) of features (B, F), with smaller subsets where there are fewer images.

    Args:
        size: F.
        seed: of the draws.
    """

    def __init__(self, size: int, seed: int) -> None:
        with warnings.catch_warnings():  # that features are kept
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(feature=Given(size), subsets=SUBSETS, reset_real_features=False)
        self.seed = seed

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the subsets."""
        self.subset_size = min(SUBSET_SIZE, len(torch.cat(self.real_features)), len(torch.cat(self.fake_features)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return super().compute()


class SeededInceptionScore(InceptionScore):
    """torchmetrics' inception score (Salimans et al. 2016) of class probabilities (B, C).

    Args:
        classes: C.
        seed: of the shuffle.
    """

    def __init__(self, classes: int, seed: int) -> None:
        with warnings.catch_warnings():  # that features are kept
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(feature=Given(classes), splits=SPLITS)
        self.seed = seed

    def update(self, imgs: Tensor) -> None:
        """Add probabilities; torchmetrics takes logits, and the softmax of their logarithms is they themselves."""
        super().update(imgs.clamp(min=torch.finfo(imgs.dtype).tiny).log())

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the parts."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the deviation of a single part
            torch.manual_seed(self.seed)
            return super().compute()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance of two sets of feature vectors, (N, F) and (M, F), N and M at least 2."""
    metric = FrechetDistance(real.shape[1]).to(real.device)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return float(metric.compute())


def small_sample_note(n: int, features: int) -> str | None:
    """What to say when a covariance of `features` dimensions was estimated from `n` images, or None when it is fine."""
    if n > features:
        return None
    return f"only {n} images for {features} feature dimensions: the distance is biased upwards, compare at equal n only"


class PRDC(NamedTuple):
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Attributes:
        precision: share of generated images within the real manifold.
        recall: share of real images within the generated manifold.
        density: real neighbourhoods a generated image lies in, relative to k; may exceed 1.
        coverage: share of real images with a generated one in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Tensor, fake: Tensor, k: int = 5) -> PRDC:
    """Precision, recall, density and coverage by neighbourhoods reaching to the k-th neighbour.

    Distances come in blocks of rows, so that memory grows with the number of vectors and not with its square.

    Args:
        real: (N, F).
        fake: (M, F).
        k: which neighbour on its own side ends the neighbourhood of a vector, itself not counted.

    Raises:
        ValueError: a side has not more than k vectors.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"neighbourhoods of {k} need {k + 1} images a side; got {len(real)} real, {len(fake)} fake")
    # Distances do not change when both sides are moved, and small numbers lose less in the squares.
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
    """Squared distance (N,) of every row of `x` (N, F) to its k-th nearest other row."""
    radii = []
    for rows in torch.arange(len(x), device=x.device).split(_BLOCK):
        distances = _squared_distances(x[rows], x)
        distances[torch.arange(len(rows), device=x.device), rows] = torch.inf  # not itself
        radii.append(distances.topk(k, dim=1, largest=False).values[:, -1])
    return torch.cat(radii)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, F), (M, F) -> (N, M), zero or more."""
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
    """The features (n, F) float32 of `rows` of `frames`, from ``cache_dir/statistics`` or read and stored there.

    Args:
        extractor: the network.
        frames: a split.
        rows: (n,) rows of the split, at least one.
        size: pixels the frames are resized to first, as large as the generated ones they are compared with.
        cache_dir: folder of the cache; made when missing. At 2048 features a file takes up to 82 MB.
        key: names the data and the split, for example the pack's folder and the split's key.
        progress: told of every batch (done, in all); never called when the features are found.
        most: frames read, spread evenly over `rows`.

    Raises:
        UserError: there are no frames, or the cache folder cannot be written.
    """
    from safetensors.torch import save

    if not len(rows):
        raise UserError(f"there are no real frames to compare with (split {key}); choose a split that has some")
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
    which = hashlib.sha256(np.ascontiguousarray(frames.rows[rows], dtype=np.int64).tobytes()).hexdigest()
    parts = [2, key, which, size, extractor.name, extractor.resizer, extractor.fingerprint]  # 2: of the file's form
    identity = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    path = Path(cache_dir) / "statistics" / f"{identity[:20]}.safetensors"
    if (found := _stored(path, identity, (len(rows), extractor.feature_size))) is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # before the work: a read-only cache is said at once
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
            "Choose a cache folder that can be written and has 100 MB free."
        ) from error
    return features


def _stored(path: Path, identity: str, shape: tuple[int, int]) -> Tensor | None:
    """The stored features; None where they are missing, broken, or not those of `identity`: reading them mends it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            features = file.get_tensor("features")
            right = (file.metadata() or {}).get("key") == identity and features.shape == shape
            return features if right and features.isfinite().all() else None
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError):
        return None
