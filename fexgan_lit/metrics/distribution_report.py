"""The distribution metrics of one extractor under their names, with what to say where one cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fexgan_lit.metrics.distributions import PRDC, inception_score, kid, prdc
from fexgan_lit.metrics.frechet import small_sample_note

if TYPE_CHECKING:
    from fexgan_lit.metrics.extractors import FeatureExtractor
    from fexgan_lit.metrics.real_side import RealSide

#: k of precision, recall, density and coverage; subsets of KID and their size; parts of the inception score.
NEIGHBOURS, SUBSETS, SUBSET_SIZE, SPLITS = 5, 100, 1000, 10

#: Metric -> its name on Inception, which is that of the literature, and the stem of its name on another extractor.
_NAMES = {"frechet": ("fid", "fd"), "kid": ("kid", "kid"), "score": ("inception_score", "is")}


def metric_name(extractor: str, metric: str) -> str:
    """What `metric` is called on the features of `extractor`: `fid`, but `fd_judge`."""
    literature, stem = _NAMES.get(metric, (metric, metric))
    return literature if extractor == "inception" else f"{stem}_{extractor}"


def metric_names(extractor: str) -> tuple[str, ...]:
    """Every metric on the features of `extractor`, the Fréchet distance first."""
    return tuple(metric_name(extractor, metric) for metric in (*_NAMES, *PRDC._fields))


def compare(
    name: str, real: RealSide, fake: RealSide, seed: int, device: torch.device
) -> tuple[dict[str, float], dict[str, str]]:
    """All figures of two sides on the features of extractor `name`, and notes by metric.

    Args:
        name: of the extractor.
        real: what it saw in the real frames.
        fake: what it saw in the generated ones.
        seed: of KID's subsets and the score's shuffle.
        device: where matrices of features are multiplied.
    """
    values: dict[str, float] = {}
    notes: dict[str, str] = {}
    called = {metric: metric_name(name, metric) for metric in (*_NAMES, *PRDC._fields)}
    fewer = min(real.n, fake.n)
    if fewer < 2:
        few = f"absent: it needs two images a side; there are {real.n} real and {fake.n} generated"
        return values, {called["frechet"]: few, called["kid"]: few}
    values[called["frechet"]] = fake.moments.frechet(real.moments)
    small = small_sample_note(fewer, real.features.shape[1])
    if small is not None:
        notes[called["frechet"]] = f"{small}; {called['kid']} has no such bias"
    features = real.features.to(device), fake.features.to(device)
    distance = kid(*features, SUBSETS, SUBSET_SIZE, seed)
    values |= {called["kid"]: distance.mean, f"{called['kid']}_std": distance.std}
    notes |= {called["kid"]: distance.note} if distance.note else {}
    for prefix, side in (("", fake), ("real_", real)):
        if side.probabilities is not None:
            score = inception_score(side.probabilities, SPLITS, seed)
            values |= {prefix + called["score"]: score.mean, f"{prefix}{called['score']}_std": score.std}
            notes |= {prefix + called["score"]: score.note} if score.note else {}
    if fewer > NEIGHBOURS:
        values |= {called[metric]: value for metric, value in prdc(*features, NEIGHBOURS)._asdict().items()}
    else:
        reason = f"absent: neighbourhoods of {NEIGHBOURS} need {NEIGHBOURS + 1} images a side; there are {fewer}"
        notes |= {called[metric]: reason for metric in PRDC._fields}
    return values, notes


def recipes(name: str, extractor: FeatureExtractor, size: int, cap: int, seed: int) -> dict[str, str]:
    """One line a metric of `compare`, for images of `size` pixels."""
    seen = f"{extractor.describe()}; images at {size} px"
    called = {metric: metric_name(name, metric) for metric in (*_NAMES, *PRDC._fields)}
    first = f"first {cap} images a side"
    lines = {called["frechet"]: f"Fréchet distance in double precision, all images; {seen}"}
    subsets = f"{SUBSETS} subsets of {SUBSET_SIZE}, mean and standard deviation, seed {seed}"
    lines[called["kid"]] = f"unbiased MMD^2 with the kernel (x.y/F + 1)^3, {subsets}, {first}; {seen}"
    parts = f"{SPLITS} shuffled splits, mean and standard deviation, seed {seed}, {first}"
    lines[called["score"]] = f"exponential of the mean KL of the classes' probabilities, {parts}; {seen}"
    lines[f"real_{called['score']}"] = f"ceiling: the same of the real frames, {parts}; {seen}"
    lines |= {called[m]: f"{m} by neighbourhoods of k={NEIGHBOURS}, {first}; {seen}" for m in PRDC._fields}
    return lines
