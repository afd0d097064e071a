"""Who is it still? Identification, verification and maps from identity embeddings, as pure functions."""

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
    """Cosine similarity of every probe (P, E) to every gallery embedding (G, E): (P, G) float64 in [-1, 1].

    Raises:
        ValueError: one side is empty, the lengths of the embeddings differ, or something is not finite.
    """
    if not len(gallery) or not len(probes) or gallery.shape[1:] != probes.shape[1:]:
        raise ValueError(f"gallery {tuple(gallery.shape)} and probes {tuple(probes.shape)}: expected (G, E), (P, E)")
    if not (gallery.isfinite().all() and probes.isfinite().all()):
        raise ValueError("embeddings must be finite")
    return F.normalize(probes.double(), dim=1) @ F.normalize(gallery.double(), dim=1).mT


def rank1(gallery: Tensor, gallery_ids: Tensor, probes: Tensor, probe_ids: Tensor) -> float:
    """Share of probes that `rank1_hits` says are recognised."""
    return float(rank1_hits(gallery, gallery_ids, probes, probe_ids).double().mean())


def rank1_hits(gallery: Tensor, gallery_ids: Tensor, probes: Tensor, probe_ids: Tensor) -> Tensor:
    """Whether the gallery embedding nearest to each probe, by cosine, is of the same person: (P,) bool.

    A probe as near to a stranger as to its own person counts as missed: embeddings that are all alike recognise
    nobody.

    Args:
        gallery: (G, E), untouched frames.
        gallery_ids: (G,) int64.
        probes: (P, E), for example generated frames.
        probe_ids: (P,) int64.

    Raises:
        UserError: somebody among the probes is not in the gallery.
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
    """One point of the curve of true accepts over false ones.

    Attributes:
        far: the false accept rate asked for, a share of the impostor pairs.
        tar: share of the genuine pairs accepted; None where it cannot be told, with the reason in `note`.
        threshold: pairs with a larger cosine are accepted.
        far_reached: the false accept rate at that threshold, at most `far`.
        genuine: pairs of one person.
        impostors: pairs of two people.
        note: what to say beside the figure, or None.
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
    """True accept rate where at most a share `far` of the impostor pairs is accepted, for each of `fars`.

    Every probe is compared with every gallery embedding. The threshold lies on an impostor's score and only larger
    scores pass, so that of impostors with one score all or none do, and the rate asked for is never exceeded. A rate
    below one impostor pair cannot be measured: `tar` is None there.

    Args:
        gallery: (G, E), untouched frames.
        gallery_ids: (G,) int64.
        probes: (P, E), for example generated frames.
        probe_ids: (P,) int64.
        fars: each above 0 and below 1.

    Raises:
        ValueError: a rate is out of range.
        UserError: there is no pair of one person, or none of two.
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
            f"verification needs pairs of one person and pairs of two; found {len(genuine)} and {len(impostors)}. "
            "Give frames of at least two people, each in gallery and probes."
        )
    return [_verification(genuine, impostors, far) for far in fars]


def _verification(genuine: Tensor, impostors: Tensor, far: float) -> Verification:
    """`impostors` in falling order."""
    allowed = math.floor(far * len(impostors) + 1e-9)  # 0.29 * 100 is a little less than 29 in floating point
    threshold = impostors[allowed]
    reached = float((impostors > threshold).double().mean())
    tar: float | None = float((genuine > threshold).double().mean())
    note = None if allowed >= 10 else f"decided by {allowed} of {len(impostors)} impostor pairs only"
    if allowed < 1:
        needed = math.ceil(1 / far)
        tar, note = None, f"a rate of {far:g} needs at least {needed} impostor pairs, there are {len(impostors)}"
    return Verification(far, tar, float(threshold), reached, len(genuine), len(impostors), note)


def cosine_to_source(embeddings: Tensor, sources: Tensor) -> Tensor:
    """Cosine similarity of each face (N, E) to the face it was made from (N, E): (N,) float64 in [-1, 1]."""
    if embeddings.shape != sources.shape:
        raise ValueError(f"embeddings {tuple(embeddings.shape)} and sources {tuple(sources.shape)} must be alike")
    return F.cosine_similarity(embeddings.double(), sources.double(), dim=1)


def acd(clip: Tensor) -> float:
    """Average content distance of a clip: mean Euclidean distance of all pairs of its frames' embeddings (T, E).

    0 where the face stays the same person in all frames; from Tulyakov et al., MoCoGAN (2018), section 4.

    Raises:
        ValueError: fewer than two frames.
    """
    if len(clip) < 2:
        raise ValueError(f"a clip of {len(clip)} frames has no pair of frames")
    return float(torch.pdist(clip.double()).mean())


def acd_i(clip: Tensor, source: Tensor) -> float:
    """Mean Euclidean distance of a clip's embeddings (T, E) to that of the picture it was made from (E,)."""
    if clip.ndim != 2 or not len(clip) or source.shape != clip.shape[1:]:
        raise ValueError(f"clip {tuple(clip.shape)} and source {tuple(source.shape)}: expected (T, E) and (E,)")
    return float((clip.double() - source.double()).norm(dim=1).mean())


class IdentityMap(NamedTuple):
    """Faces laid out so that faces of like identity features lie close.

    Attributes:
        points: (n, 2) float64, centred; the axes have no meaning.
        labels: (n,), of those faces.
        rows: (n,) int64, which of the given faces they are, ascending.
        note: how the map was made, and of how many faces.
    """

    points: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    note: str


def identity_map(
    features: Tensor, labels: Tensor, method: Literal["mds", "tsne"] = "mds", seed: int = 0, most: int = 400
) -> IdentityMap:
    """A two-dimensional map of identity features.

    `mds` keeps Euclidean distances as well as it can (metric scaling by SMACOF), `tsne` neighbourhoods.

    Args:
        features: (N, E), N at least 4.
        labels: (N,) who each face is.
        method: of the two.
        seed: of the start, and of the choice where there are too many faces.
        most: faces on the map; of more, as many of each label as its share allows, at least one.

    Raises:
        ValueError: too few faces, a method of another name, or features that are not finite.
    """
    if method not in ("mds", "tsne") or len(features) < 4 or len(features) != len(labels):
        raise ValueError(f"identity_map: {len(features)} faces, {len(labels)} labels, method={method!r}; expected 4 up")
    rows = _spread_over_labels(labels.cpu().numpy(), most, seed)
    chosen = features.detach().cpu().double().numpy()[rows]
    if not np.isfinite(chosen).all():
        raise ValueError("identity_map: features must be finite")
    points = _scaled(chosen, seed) if method == "mds" else _neighbours(chosen, seed)
    name = {"mds": "metric multidimensional scaling", "tsne": "t-SNE"}[method]
    note = f"{name} of {len(rows)} faces" + (f" out of {len(features)}" if len(rows) < len(features) else "")
    return IdentityMap(points - points.mean(axis=0), labels.cpu().numpy()[rows], rows, f"{note}, seed {seed}")


def _scaled(features: np.ndarray, seed: int) -> np.ndarray:
    """Metric scaling that starts from the two main directions, so that one start is enough."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import smacof
    from sklearn.metrics import pairwise_distances

    start = PCA(n_components=2, random_state=seed).fit_transform(features)
    start = start + 1e-6 * np.random.default_rng(seed).standard_normal(start.shape)  # no two points in one place
    return smacof(pairwise_distances(features), n_components=2, init=start, n_init=1, random_state=seed)[0]


def _neighbours(features: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)


def _spread_over_labels(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Rows of at most `most` faces (more only if there are more labels), drawn label by label."""
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
            f"{len(strangers)} of the people to be recognised have no frame in the gallery (numbers "
            f"{', '.join(map(str, strangers[:5]))}); add a frame of each, or leave them out of the probes."
        )


def _blocks(
    gallery: Tensor, gallery_ids: Tensor, probes: Tensor, probe_ids: Tensor, size: int = 1024
) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores and whether the pair is of one person, (b, G) each, for `size` probes at a time."""
    if len(gallery) != len(gallery_ids) or len(probes) != len(probe_ids):
        raise ValueError("every embedding needs the number of its person")
    for some, ids in zip(probes.split(size), probe_ids.split(size), strict=True):
        yield cosine_scores(gallery, some), ids[:, None] == gallery_ids[None, :]
