"""How two sets of feature vectors differ as distributions: KID, precision and recall, density and coverage; and the IS.

Everything here takes features and knows nothing of images or networks. The Fréchet distance is in `frechet`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Rows of a distance matrix that are held at once.
_BLOCK = 1024


class Spread(NamedTuple):
    """Mean and standard deviation (of the population) over subsets or splits, and what was changed for want of images.

    Attributes:
        mean: the figure.
        std: over the subsets.
        note: a sentence, or None where nothing was changed.
    """

    mean: float
    std: float
    note: str | None = None


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


def kid(real: Tensor, fake: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> Spread:
    """Kernel inception distance (Binkowski et al. 2018): unbiased MMD^2 with the kernel (x.y / F + 1)^3.

    Unlike the Fréchet distance it is not biased by the number of images; it may come out slightly negative.

    Args:
        real: (N, F).
        fake: (M, F).
        subsets: how many pairs of subsets are drawn, each without replacement.
        size: vectors in a subset; fewer where a side has fewer.
        seed: of the draws.

    Raises:
        ValueError: a side has fewer than two vectors.
    """
    smaller = min(len(real), len(fake))
    if smaller < 2:
        raise ValueError(f"KID needs two images a side; got {len(real)} real, {len(fake)} generated")
    taken = min(size, smaller)
    generator = torch.Generator().manual_seed(seed)
    values = [
        polynomial_mmd(_draw(real, taken, generator), _draw(fake, taken, generator)) for _ in range(max(1, subsets))
    ]
    column = torch.stack(values).double()
    note = f"subsets of {taken} in place of {size}: there are no more images a side" if taken < size else None
    return Spread(float(column.mean()), float(column.std(unbiased=False)), note)


def polynomial_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of (N, F) and (M, F) under (x.y / F + 1)^3, a float64 scalar."""
    inner = [_kernel_sum(side, side) - _kernel_diagonal(side) for side in (x, y)]
    n, m = len(x), len(y)
    return inner[0] / (n * (n - 1)) + inner[1] / (m * (m - 1)) - 2 * _kernel_sum(x, y) / (n * m)


def inception_score(probabilities: Tensor, splits: int = 10, seed: int = 0) -> Spread:
    """Exponential of the mean divergence of p(class | image) from p(class), over shuffled splits (Salimans 2016).

    1 where every image has the same probabilities, C where C classes are named with certainty and come equally often.

    Args:
        probabilities: (N, C), rows sum to 1.
        splits: parts of which the score is taken; as many as images where those are fewer.
        seed: of the shuffle.

    Raises:
        ValueError: there is no image.
    """
    if not len(probabilities):
        raise ValueError("an inception score needs an image")
    parts = min(splits, len(probabilities))
    order = torch.randperm(len(probabilities), generator=torch.Generator().manual_seed(seed))
    scores = [_score(part) for part in probabilities.double()[order.to(probabilities.device)].tensor_split(parts)]
    column = torch.stack(scores)
    note = f"{parts} splits in place of {splits}: there are no more images" if parts < splits else None
    return Spread(float(column.mean()), float(column.std(unbiased=False)), note)


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


def _draw(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=generator)[:count].to(x.device)]


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    base = (x @ y.mT).div_(x.shape[1]).add_(1)
    # the sum of cubes is taken row by row in single, over the rows in double precision
    return (base * base).mul_(base).sum(dim=1).double().sum()


def _kernel_diagonal(x: Tensor) -> Tensor:
    return (x.square().sum(dim=1) / x.shape[1] + 1).pow(3).double().sum()


def _score(probabilities: Tensor) -> Tensor:
    marginal = probabilities.mean(dim=0)
    # sum p log(p / q) = -H(p) - sum p log q; entr(0) is 0 and a class that never comes has p = q = 0
    cross = torch.special.xlogy(probabilities, marginal).sum(dim=1)
    return (-torch.special.entr(probabilities).sum(dim=1) - cross).mean().exp()
