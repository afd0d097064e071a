"""Identification, verification and maps from identity embeddings, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The false accept rates of Li et al., Table 6.
FALSE_ACCEPT_RATES = (0.01, 0.001)


def cosine_scores(gallery: Tensor, probes: Tensor) -> Tensor:
    """Return the cosine similarity of every probe (P, E) to every gallery embedding (G, E): (P, G) float64 in [-1, 1].

    Raises:
        ValueError: a set is empty, the embedding lengths differ, or a value is not finite.
    """
    if not len(gallery) or not len(probes) or gallery.shape[1:] != probes.shape[1:]:
        raise ValueError(f"gallery {tuple(gallery.shape)} and probes {tuple(probes.shape)}: expected (G, E), (P, E)")
    if not (gallery.isfinite().all() and probes.isfinite().all()):
        raise ValueError("embeddings must be finite")
    return F.normalize(probes.double(), dim=1) @ F.normalize(gallery.double(), dim=1).mT


def rank1(gallery: Tensor, gallery_ids: Tensor, probes: Tensor, probe_ids: Tensor) -> float:
    """Return the fraction of probes that `rank1_hits` recognises."""
    return float(rank1_hits(gallery, gallery_ids, probes, probe_ids).double().mean())


def rank1_hits(gallery: Tensor, gallery_ids: Tensor, probes: Tensor, probe_ids: Tensor) -> Tensor:
    """Return whether the nearest gallery embedding of each probe, by cosine, is of the same person: (P,) bool.

    A tie between the own person and a stranger counts as a miss, so identical embeddings recognise nobody.

    Args:
        gallery: (G, E), real frames.
        gallery_ids: (G,) int64.
        probes: (P, E), for example generated images.
        probe_ids: (P,) int64.

    Raises:
        UserError: a person among the probes is not in the gallery.
    """
    _check_enrolled(gallery_ids, probe_ids)
    hits = []
    for scores, same in _blocks(gallery, gallery_ids, probes, probe_ids):
        own = scores.masked_fill(~same, -torch.inf).amax(dim=1)
        stranger = scores.masked_fill(same, -torch.inf).amax(dim=1)
        hits.append(own > stranger)
    return torch.cat(hits)


@dataclass(frozen=True)
class Verification:
    """One point of the curve of true accepts over false accepts.

    Attributes:
        far: requested false accept rate, a fraction of the impostor pairs.
        tar: true accept rate, a fraction of the genuine pairs; None where it cannot be measured, see `note`.
        threshold: pairs with a larger cosine are accepted.
        far_reached: actual false accept rate at that threshold, at most `far`.
        genuine: number of pairs of one person.
        impostors: number of pairs of two people.
        note: remark to print beside the number, or None.
    """

    far: float
    tar: float | None
    threshold: float
    far_reached: float
    genuine: int
    impostors: int
    note: str | None = None


def tar_at_far(
    gallery: Tensor,
    gallery_ids: Tensor,
    probes: Tensor,
    probe_ids: Tensor,
    fars: Sequence[float] = FALSE_ACCEPT_RATES,
) -> list[Verification]:
    """Return the true accept rate at each false accept rate in `fars`.

    Every probe is compared with every gallery embedding. The threshold is an impostor's score, and only larger scores
    are accepted. Impostors with equal scores are therefore accepted or rejected together, and the rate never exceeds
    `far`. A rate below one impostor pair cannot be measured: `tar` is None there.

    Args:
        gallery: (G, E), real frames.
        gallery_ids: (G,) int64.
        probes: (P, E), for example generated images.
        probe_ids: (P,) int64.
        fars: rates, each above 0 and below 1.

    Raises:
        ValueError: a rate is out of range.
        UserError: there are no genuine pairs or no impostor pairs.
    """
    if not all(0 < far < 1 for far in fars):
        raise ValueError(f"false accept rates {list(fars)}: expected shares above 0 and below 1")
    own, strangers = [], []
    for scores, same in _blocks(gallery, gallery_ids, probes, probe_ids):
        own.append(scores[same])
        strangers.append(scores[~same])
    genuine, impostors = torch.cat(own), torch.cat(strangers).sort(descending=True).values
    if not len(genuine) or not len(impostors):
        raise UserError(
            f"verification needs genuine and impostor pairs; found {len(genuine)} and {len(impostors)}. "
            "Give frames of at least two people, each in gallery and probes."
        )
    return [_verification(genuine, impostors, far) for far in fars]


def _verification(genuine: Tensor, impostors: Tensor, far: float) -> Verification:
    """Return one point of the curve; `impostors` are sorted in descending order."""
    allowed = math.floor(far * len(impostors) + 1e-9)  # 0.29 * 100 is slightly less than 29 in floating point
    threshold = impostors[allowed]
    reached = float((impostors > threshold).double().mean())
    tar: float | None = float((genuine > threshold).double().mean())
    note = None if allowed >= 10 else f"decided by {allowed} of {len(impostors)} impostor pairs only"
    if allowed < 1:
        needed = math.ceil(1 / far)
        tar, note = None, f"a rate of {far:g} needs at least {needed} impostor pairs, there are {len(impostors)}"
    return Verification(far, tar, float(threshold), reached, len(genuine), len(impostors), note)


def cosine_to_source(embeddings: Tensor, sources: Tensor) -> Tensor:
    """Return the cosine similarity of each image (N, E) to its source (N, E): (N,) float64 in [-1, 1]."""
    if embeddings.shape != sources.shape:
        raise ValueError(
            f"embeddings {tuple(embeddings.shape)} and sources {tuple(sources.shape)} must have equal shapes"
        )
    return F.cosine_similarity(embeddings.double(), sources.double(), dim=1)


def acd(clip: Tensor) -> float:
    """Return the average content distance of a clip: the mean Euclidean distance of all pairs of embeddings (T, E).

    The distance is 0 if all frames show the same person; see Tulyakov et al., MoCoGAN (2018), section 4.

    Raises:
        ValueError: there are fewer than two frames.
    """
    if len(clip) < 2:
        raise ValueError(f"a clip of {len(clip)} frames has no pair of frames")
    return float(torch.pdist(clip.double()).mean())


def acd_i(clip: Tensor, source: Tensor) -> float:
    """Return the mean Euclidean distance of a clip's embeddings (T, E) to the embedding of the source image (E,)."""
    if clip.ndim != 2 or not len(clip) or source.shape != clip.shape[1:]:
        raise ValueError(f"clip {tuple(clip.shape)} and source {tuple(source.shape)}: expected (T, E) and (E,)")
    return float((clip.double() - source.double()).norm(dim=1).mean())


class IdentityMap(NamedTuple):
    """A map on which faces with similar identity features are close.

    Attributes:
        points: (n, 2) float64, centred; the axes have no meaning.
        labels: (n,), labels of the faces.
        rows: (n,) int64, indices of the faces in ascending order.
        note: method and number of faces.
    """

    points: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    note: str


def identity_map(
    features: Tensor, labels: Tensor, method: Literal["mds", "pca"] = "mds", seed: int = 0, most: int = 400
) -> IdentityMap:
    """Return a two-dimensional map of identity features.

    `mds` preserves Euclidean distances as well as possible (metric scaling by SMACOF), `pca` is the projection on the
    two principal components.

    Args:
        features: (N, E), N at least 4.
        labels: (N,), the identity of each face.
        method: `mds` or `pca`.
        seed: seed of the initialisation and of the choice of faces.
        most: most faces on the map; larger sets are sampled in proportion to the labels, at least one face per label.

    Raises:
        ValueError: there are too few faces, the method is unknown, or features are not finite.
    """
    if method not in ("mds", "pca") or len(features) < 4 or len(features) != len(labels):
        raise ValueError(
            f"identity_map: {len(features)} faces, {len(labels)} labels, method={method!r}; expected 4 or more "
            "labelled faces, and mds or pca"
        )
    rows = _spread_over_labels(labels.cpu().numpy(), most, seed)
    chosen = features.detach().cpu().double().numpy()[rows]
    if not np.isfinite(chosen).all():
        raise ValueError("identity_map: features must be finite")
    points, explained = _principal(chosen, seed)
    name = f"the two principal components ({explained:.0%} of the variance)"
    if method == "mds":
        points, name = _scaled(chosen, points, seed), "metric multidimensional scaling"
    note = f"{name} of {len(rows)} faces" + (f" out of {len(features)}" if len(rows) < len(features) else "")
    return IdentityMap(points - points.mean(axis=0), labels.cpu().numpy()[rows], rows, f"{note}, seed {seed}")


def _principal(features: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Return the two principal components (n, 2) and the share of the variance that they explain."""
    from sklearn.decomposition import PCA

    pca = PCA(n_components=2, random_state=seed)
    return pca.fit_transform(features), float(pca.explained_variance_ratio_.sum())


def _scaled(features: np.ndarray, start: np.ndarray, seed: int) -> np.ndarray:
    """Return metric scaling, initialised with the two principal components so that one run is enough."""
    from scipy.spatial.distance import pdist, squareform
    from sklearn.manifold import smacof

    start = start + 1e-6 * np.random.default_rng(seed).standard_normal(start.shape)  # avoids coincident points
    distances = squareform(pdist(features))  # exactly symmetric, also for equal features
    return smacof(distances, n_components=2, init=start, n_init=1, random_state=seed)[0]


def _spread_over_labels(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Sample the rows of at most `most` faces per label group (more only if there are more labels)."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    quotas = [max(1, len(group) * most // len(labels)) for group in groups]
    chosen = [rng.choice(group, quota, replace=False) for group, quota in zip(groups, quotas, strict=True)]
    return np.sort(np.concatenate(chosen))


def _check_enrolled(gallery_ids: Tensor, probe_ids: Tensor) -> None:
    strangers = sorted(set(probe_ids.tolist()) - set(gallery_ids.tolist()))
    if strangers:
        raise UserError(
            f"{len(strangers)} of the people among the probes have no frame in the gallery (numbers "
            f"{', '.join(map(str, strangers[:5]))}); add a frame of each, or leave them out of the probes."
        )


def _blocks(
    gallery: Tensor, gallery_ids: Tensor, probes: Tensor, probe_ids: Tensor, size: int = 1024
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the scores and whether each pair is of one person, (b, G) each, for `size` probes at a time."""
    if len(gallery) != len(gallery_ids) or len(probes) != len(probe_ids):
        raise ValueError("expected one identity per embedding")
    for some, ids in zip(probes.split(size), probe_ids.split(size), strict=True):
        yield cosine_scores(gallery, some), ids[:, None] == gallery_ids[None, :]
