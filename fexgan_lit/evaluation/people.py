"""Whether a face is still the same person: the scorer of identity embeddings (Li et al., Table 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.metrics.recognition import FALSE_ACCEPT_RATES, cosine_to_source, rank1_hits, tar_at_far
from fexgan_lit.systems.base import Outcome

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.identity_judge import IdentityJudge
    from fexgan_lit.metrics.own_judges import OwnIdentityJudge

#: By false accept rate.
_TAR = {0.01: "tar_far1", 0.001: "tar_far01"}


@dataclass(frozen=True, eq=False)
class SourceEmbeddings:
    """Untouched frames as an identity judge sees them.

    Attributes:
        judge: who embeds.
        frames: every frame of the split, (n, E).
        gallery: rows of the split that others are recognised from.
        identity: of every frame, (n,) int64.
    """

    judge: IdentityJudge | OwnIdentityJudge
    frames: Tensor
    gallery: np.ndarray
    identity: Tensor

    @classmethod
    def of(cls, judge: IdentityJudge | OwnIdentityJudge, frames: FrameSet, size: int) -> SourceEmbeddings | None:
        """Embed a split once; None where it has no gallery."""
        from fexgan_lit.metrics.identity_training import embed_rows, gallery_and_probes

        gallery, _ = gallery_and_probes(frames)
        if not len(gallery):
            return None
        rows = np.arange(len(frames))
        return cls(judge, embed_rows(judge, frames, rows, size), gallery, torch.from_numpy(frames.identity))


class People:
    """Rank-1, true accepts at given false accepts, similarity to the source; probes are the generated faces."""

    def __init__(self, sources: SourceEmbeddings, where: str) -> None:
        self.sources = sources
        self.where = where
        self._embeddings: list[Tensor] = []
        self._source_rows: list[Tensor] = []
        self._notes: dict[str, str] = {}

    def update(self, batch: PairBatch, generated: Tensor, outcome: Outcome | None) -> None:
        """See `Scorer`."""
        self._embeddings.append(self.sources.judge.embed(generated))
        self._source_rows.append(batch.source_row.cpu())

    @property
    def embeddings(self) -> Tensor:
        """Of the generated faces, (N, E)."""
        return torch.cat(self._embeddings)

    @property
    def identity(self) -> Tensor:
        """Who the sources are, (N,) int64."""
        return self.sources.identity[torch.cat(self._source_rows)]

    def columns(self) -> dict[str, np.ndarray]:
        """Whether each face is recognised, and its cosine to its source."""
        s, rows = self.sources, torch.cat(self._source_rows)
        hits = rank1_hits(s.frames[s.gallery], s.identity[s.gallery], self.embeddings, self.identity)
        cosine = cosine_to_source(self.embeddings, s.frames[rows])
        return {"rank1": hits.double().numpy(), "identity_cosine": cosine.numpy()}

    def numbers(self) -> dict[str, float]:
        """True accept rates; one that cannot be told has its reason in `notes`."""
        s = self.sources
        points = tar_at_far(s.frames[s.gallery], s.identity[s.gallery], self.embeddings, self.identity)
        self._notes = {_TAR[p.far]: p.note for p in points if p.note is not None}
        return {_TAR[p.far]: p.tar for p in points if p.tar is not None}

    def recipes(self) -> dict[str, str]:
        """See `Scorer`."""
        s = self.sources
        seen = (
            f"gallery {len(s.gallery)} untouched frames (the first of every take at rest), probes the generated faces; "
            f"{s.judge.describe()}; {self.where}"
        )
        lines = {
            _TAR[far]: f"share of pairs of one person accepted at FAR {far:g}; {seen}" for far in FALSE_ACCEPT_RATES
        }
        lines["rank1"] = f"share of probes whose nearest gallery frame shows the source's person; {seen}"
        lines["identity_cosine"] = f"cosine of the embeddings of face and source, mean; {seen}"
        return lines

    def notes(self) -> dict[str, str]:
        """See `Scorer`; known once `numbers` was asked for."""
        return self._notes
