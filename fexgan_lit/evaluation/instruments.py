"""What an evaluation measures with: judges, feature extractors, perceptual distance, the true frames' statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fexgan_lit.metrics.groups import (
    DiscriminatorMetrics,
    DistributionMetrics,
    GeometryMetrics,
    IdentityMetrics,
    JudgeMetrics,
    PixelMetrics,
    SourceEmbeddings,
)
from fexgan_lit.metrics.suite import MetricGroup, MetricSuite
from fexgan_lit.metrics.weights import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.evaluation.settings import EvaluationSettings, MetricSettings
    from fexgan_lit.metrics.extractors import FeatureExtractor
    from fexgan_lit.metrics.judges import JudgeBench
    from fexgan_lit.metrics.lpips import Lpips
    from fexgan_lit.stages import Stages


@dataclass(frozen=True, eq=False)
class Instruments:
    """What measures, made once for all contenders.

    Attributes:
        judges: of affect, geometry and identity.
        extractors: of features for distances between distributions, by name.
        lpips: or why there is none.
        real: features (n, F) of the true frames of the split, by extractor.
        sources: embeddings of the untouched sources, or None where nobody can tell people apart.
        seed: of subsets and shuffles.
    """

    judges: JudgeBench
    extractors: Mapping[str, FeatureExtractor | Unavailable]
    lpips: Lpips | Unavailable | None
    real: Mapping[str, Tensor]
    sources: SourceEmbeddings | None
    seed: int

    def suite(self, where: str) -> MetricSuite:
        """A fresh suite for one contender."""
        groups: list[MetricGroup] = [
            PixelMetrics(multiscale=True, lpips=self.lpips),
            JudgeMetrics(self.judges.affect, f1=True),
            DistributionMetrics(self.extractors, self.real, full=True, seed=self.seed),
            DiscriminatorMetrics(),
        ]
        if self.judges.geometry is not None or self.judges.units is not None:
            groups.append(GeometryMetrics(self.judges))
        if self.sources is not None:
            groups.append(IdentityMetrics(self.sources))
        return MetricSuite(groups, where)


def make_instruments(ground: Ground, settings: EvaluationSettings, stage: Stages) -> Instruments:
    """Train or find the judges, look for weights, and read the true frames once.

    Raises:
        UserError: weights or judges that were named cannot be used.
    """
    from fexgan_lit.data.cache import cache_root
    from fexgan_lit.metrics.distributions import real_features
    from fexgan_lit.metrics.extractors import JudgeExtractor, make_inception
    from fexgan_lit.metrics.judge import Judge
    from fexgan_lit.metrics.lpips import make_lpips

    asked = settings.metrics
    cache = cache_root(ground.data.config.cache_dir)
    judges = judge_bench(ground, asked, stage).to(settings.device)
    extractors: dict[str, FeatureExtractor | Unavailable] = {"inception": make_inception(asked.inception_weights)}
    extractors["judge"] = (
        JudgeExtractor(judges.affect.net)
        if isinstance(judges.affect, Judge)
        else Unavailable("metrics.affect_judge is a network of your own, whose features are not known")
    )
    lpips = make_lpips(asked.lpips_net, asked.lpips_backbone, asked.lpips_heads)
    real = {
        name: real_features(
            extractor.to(settings.device), ground.frames, ground.data.target_rows(ground.frames), ground.image_size,
            cache, f"{ground.data.key}/{ground.split}", stage(f"reading true frames with {name}"),
        )
        for name, extractor in extractors.items() if not isinstance(extractor, Unavailable)
    }  # fmt: skip
    sources = None
    if judges.identity is not None:
        stage("embedding true frames")
        sources = SourceEmbeddings.of(judges.identity, ground.frames, ground.image_size)
    if not isinstance(lpips, Unavailable):
        lpips.to(settings.device)
    return Instruments(judges, extractors, lpips, real, sources, settings.seed)


def judge_bench(ground: Ground, asked: MetricSettings, stage: Stages) -> JudgeBench:
    """Every judge the data allow; the user's own take their places."""
    from fexgan_lit.data.cache import cache_root
    from fexgan_lit.metrics.judges import load_or_train_judges, load_own_judges

    own = load_own_judges(asked.affect_judge, asked.au_judge, asked.identity_judge)
    running: dict[str, object] = {}

    def told(name: str, done: int, total: int) -> None:
        if running.get("name") != name:
            running.update(name=name, progress=stage(f"training the judge of {name}"))
        running["progress"](done, total)  # type: ignore[operator]

    return load_or_train_judges(
        ground.data.train, ground.data.val, image_size=ground.image_size,
        cache_dir=cache_root(ground.data.config.cache_dir), key=ground.data.key, own=own, progress=told,
    )  # fmt: skip
