"""Which metrics an evaluation takes, and the distances and distributions among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from fexgan_lit.evaluation.people import People, SourceEmbeddings
from fexgan_lit.evaluation.verdicts import Discriminator, Geometry, Verdicts
from fexgan_lit.metrics.image_quality import ImageQuality
from fexgan_lit.systems.base import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.evaluation.scores import Scorer
    from fexgan_lit.metrics.availability import Unavailable
    from fexgan_lit.metrics.extractors import FeatureExtractor
    from fexgan_lit.metrics.judges import JudgeBench
    from fexgan_lit.metrics.lpips import Lpips
    from fexgan_lit.metrics.real_side import RealSide


@dataclass(frozen=True, eq=False)
class Instruments:
    """What measures, made once for all contenders.

    Attributes:
        judges: of affect, geometry and identity.
        extractors: of features for distances between distributions, by name.
        lpips: or why there is none.
        real: what each extractor saw in the true frames of the split.
        sources: embeddings of the untouched sources, or None where nobody can tell people apart.
        seed: of subsets and shuffles.
    """

    judges: JudgeBench
    extractors: Mapping[str, FeatureExtractor | Unavailable]
    lpips: Lpips | Unavailable | None
    real: Mapping[str, RealSide]
    sources: SourceEmbeddings | None
    seed: int


def make_scorers(ground: Ground, tools: Instruments) -> list[Scorer]:
    """Fresh scorers for one contender."""
    where = ground.where
    scorers: list[Scorer] = [Quality(ground, tools), Verdicts(tools.judges.affect, where), Discriminator(where)]
    if tools.judges.geometry is not None or tools.judges.units is not None:
        scorers.append(Geometry(tools.judges, where))
    if tools.sources is not None:
        scorers.append(People(tools.sources, where))
    return scorers


class Quality:
    """Distances to the true frame, and between the distributions of generated and true frames."""

    def __init__(self, ground: Ground, tools: Instruments) -> None:
        self.real = tools.real
        self.quality = ImageQuality(tools.extractors, tools.lpips, seed=tools.seed, where=ground.where)

    def update(self, batch: PairBatch, generated: Tensor, outcome: Outcome | None) -> None:
        """See `Scorer`."""
        self.quality.update(generated, batch.target)

    def columns(self) -> dict[str, np.ndarray]:
        """SSIM, MS-SSIM, PSNR, LPIPS of every pair."""
        return {name: column.astype(np.float64) for name, column in self.quality.per_image().items()}

    def numbers(self) -> dict[str, float]:
        """Metrics of distributions."""
        columns = self.quality.per_image()
        values = self.quality.compute(self.real)
        return {name: value for name, value in values.items() if name not in columns and not name.startswith("real_")}

    def recipes(self) -> dict[str, str]:
        """See `Scorer`."""
        return self.quality.recipes()

    def notes(self) -> dict[str, str]:
        """See `Scorer`; known once `numbers` was asked for."""
        return self.quality.notes()
