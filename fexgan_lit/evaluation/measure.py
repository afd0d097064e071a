"""Score one method: metrics per pair and metrics of the whole test set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.evaluation.methods import Method, Trained
from fexgan_lit.metrics.groups import (
    DiscriminatorMetrics,
    DistributionMetrics,
    GeometryMetrics,
    IdentityMetrics,
    JudgeMetrics,
    PixelMetrics,
    SourceEmbeddings,
)
from fexgan_lit.metrics.judges.files import Unavailable
from fexgan_lit.metrics.suite import MetricGroup, MetricSuite, ValidationOutput
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.evaluation.config import EvaluationSettings, MetricSettings
    from fexgan_lit.evaluation.test_set import TestSet
    from fexgan_lit.metrics.effnet import EffnetExtractor
    from fexgan_lit.metrics.extractors import FeatureExtractor
    from fexgan_lit.metrics.judges.affect import Judge
    from fexgan_lit.metrics.judges.panel import JudgePanel
    from fexgan_lit.metrics.lpips import Lpips
    from fexgan_lit.utils.console import Stages


@dataclass(frozen=True, eq=False)
class MetricModels:
    """The networks and reference features that the metrics use, loaded once for all methods.

    Attributes:
        judges: the judges of affect, geometry and identity.
        trained: the judge of affects trained on the data, where `judges` has another one.
        extractors: feature extractors for distances between distributions, by name.
        lpips: the LPIPS network, or the reason why it is unavailable.
        effnet: the network of another perceptual distance, or the reason why it is unavailable.
        real: features (n, F) of the real images of the split, by extractor.
        sources: identity embeddings of the sources; None without an identity judge.
        seed: seed of subsets and shuffles.
    """

    judges: JudgePanel
    trained: Judge | None
    extractors: Mapping[str, FeatureExtractor | Unavailable]
    lpips: Lpips | Unavailable | None
    effnet: EffnetExtractor | Unavailable | None
    real: Mapping[str, Tensor]
    sources: SourceEmbeddings | None
    seed: int

    def suite(self, where: str) -> MetricSuite:
        """Return a new metric suite for one method; `where` names the pairs in the recipes."""
        groups: list[MetricGroup] = [
            PixelMetrics(multiscale=True, lpips=self.lpips, effnet=self.effnet),
            JudgeMetrics(self.judges.affect, f1=True),
            DistributionMetrics(self.extractors, self.real, full=True, seed=self.seed),
            DiscriminatorMetrics(),
        ]
        if self.trained is not None:
            groups.append(JudgeMetrics(self.trained, prefix="trained_"))
        if self.judges.geometry is not None or self.judges.units is not None:
            groups.append(GeometryMetrics(self.judges))
        if self.sources is not None:
            groups.append(IdentityMetrics(self.sources))
        return MetricSuite(groups, where)


def make_metric_models(test_set: TestSet, settings: EvaluationSettings, stage: Stages) -> MetricModels:
    """Train or load the judges, load pretrained weights and compute the features of the real images.

    Raises:
        UserError: weights or judges that the settings name cannot be used.
    """
    from fexgan_lit.metrics.distributions import real_features
    from fexgan_lit.metrics.effnet import make_effnet
    from fexgan_lit.metrics.extractors import JudgeExtractor, make_inception
    from fexgan_lit.metrics.judges.affect import Judge, load_or_train_judge
    from fexgan_lit.metrics.lpips import make_lpips
    from fexgan_lit.utils.cache import cache_root

    asked = settings.metrics
    cache = cache_root(test_set.data.config.cache_dir)
    judges = judge_bench(test_set, asked, stage).to(settings.device)
    trained = None
    if not isinstance(judges.affect, Judge):
        trained = load_or_train_judge(
            test_set.data.train, test_set.data.val, image_size=test_set.image_size, cache_dir=cache,
            key=test_set.data.key, device=settings.device, progress=stage("training the affect judge"),
        )  # fmt: skip
    extractors: dict[str, FeatureExtractor | Unavailable] = {"inception": make_inception(asked.inception_weights)}
    extractors["judge"] = (
        JudgeExtractor(judges.affect.net)
        if isinstance(judges.affect, Judge)
        else Unavailable("the affect judge is no network of ours, so that its features are not known")
    )
    effnet = extractors["effnet"] = make_effnet()
    lpips = make_lpips(asked.lpips_net, asked.lpips_backbone, asked.lpips_heads)
    real = {
        name: real_features(
            extractor.to(settings.device), test_set.frames, test_set.data.target_rows(test_set.frames),
            test_set.image_size, cache, f"{test_set.data.key}/{test_set.split}",
            stage(f"computing {name} features of the true frames"),
        )
        for name, extractor in extractors.items() if not isinstance(extractor, Unavailable)
    }  # fmt: skip
    sources = None
    if judges.identity is not None:
        stage("computing identity embeddings of the true frames")
        sources = SourceEmbeddings.of(judges.identity, test_set.frames, test_set.image_size)
    if not isinstance(lpips, Unavailable):
        lpips.to(settings.device)
    return MetricModels(judges, trained, extractors, lpips, effnet, real, sources, settings.seed)


def judge_bench(test_set: TestSet, asked: MetricSettings, stage: Stages) -> JudgePanel:
    """Load or train every judge that the data allow; `metrics.external` and judges of the user replace them."""
    from fexgan_lit.metrics.judges.face_api_weights import face_api_judges, face_crop
    from fexgan_lit.metrics.judges.panel import load_or_train_judges, load_own_judges
    from fexgan_lit.utils.cache import cache_root

    data = test_set.data
    if asked.external is not None:
        crop = face_crop(data.config.layout_name, data.train)
        own = load_own_judges(aus=asked.au_judge)
        own = replace(own, **face_api_judges(data.config.cache_dir, crop, asked.affect_judge, asked.identity_judge))
    else:
        own = load_own_judges(asked.affect_judge, asked.au_judge, asked.identity_judge)
    running: dict[str, object] = {}

    def told(name: str, done: int, total: int) -> None:
        if running.get("name") != name:
            running.update(name=name, progress=stage(f"training the {name} judge"))
        running["progress"](done, total)  # type: ignore[operator]

    return load_or_train_judges(
        data.train, data.val, image_size=test_set.image_size, cache_dir=cache_root(data.config.cache_dir), key=data.key,
        own=own, progress=told,
    )  # fmt: skip


@dataclass
class Scores:
    """All metrics of one method.

    Attributes:
        name: name of the method.
        columns: values per pair, (N,), by metric.
        numbers: metrics of the whole test set, by name.
        recipes: how each metric was computed, by metric.
        notes: remarks, by subject.
        confusion: (K, K) counts, rows are target affects, columns the judge's predictions; None without a judge.
        embeddings: identity embeddings of the generated images, (N, E), and the identity labels, (N,); None without an
            identity judge.
        units: estimated action units of the generated images, (N, 17); None without a judge of action units.
        landmarks: estimated landmarks of the frames of clips, (N, 68, 2); None for other protocols or without a judge.
        run: the run folder; None for ceiling and floor.
        seed: seed of the run.
    """

    name: str
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    confusion: np.ndarray | None = None
    embeddings: tuple[Tensor, Tensor] | None = None
    units: Tensor | None = None
    landmarks: Tensor | None = None
    run: str | None = None
    seed: int | None = None

    def value(self, metric: str) -> float | None:
        """Return a metric of the whole set, or the mean over the pairs; None if it was not measured."""
        if metric in self.columns:
            known = self.columns[metric][~np.isnan(self.columns[metric])]
            return float(known.mean()) if len(known) else None
        return self.numbers.get(metric)

    def metrics(self) -> dict[str, float]:
        """Return all measured metrics by name."""
        found = {name: self.value(name) for name in (*self.columns, *self.numbers)}
        return {name: value for name, value in found.items() if value is not None}


@torch.no_grad()
def score(
    method: Method,
    batches: Iterable[PairBatch],
    suite: MetricSuite,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Generate the images of every batch with a method and compute all metrics.

    Raises:
        UserError: a generated image has values that are not finite, or there is no pair.
    """
    device = method.system.device if isinstance(method, Trained) else torch.device("cpu")
    suite.to(device)
    for batch in batches:
        moved = batch.to(device)
        answer = method.answer(moved)
        outcome = answer if isinstance(answer, ValidationOutput) else None
        generated = answer.generated if isinstance(answer, ValidationOutput) else answer
        check_finite(generated, method.name)
        suite.update(moved, generated, outcome)
        if progress is not None:
            progress(len(batch))
    if not suite.n:
        raise UserError("no image was generated, so there is nothing to measure. Check that the split is not empty.")
    columns = {name: column.double().numpy() for name, column in suite.per_pair().items()}
    made = Scores(method.name, columns, suite.numbers(), suite.recipes(), suite.notes())
    confusion = suite.confusion()
    made.confusion = None if confusion is None else confusion.numpy()
    identity = [group for group in suite.groups if isinstance(group, IdentityMetrics)]
    made.embeddings = identity[0].embeddings if identity else None
    made.units = next((group.estimates for group in suite.groups if isinstance(group, GeometryMetrics)), None)
    if isinstance(method, Trained):
        made.run, made.seed = str(method.loaded.folder), method.loaded.run.seed
    return made


def check_finite(images: Tensor, name: str) -> None:
    """Check that all images (B, 3, S, S) are finite.

    Raises:
        UserError: some are not; the message counts them.
    """
    broken = ~images.isfinite().flatten(1).all(1)  # (B, 3, S, S) -> (B,)
    if broken.any():
        raise UserError(
            f"{name}: {int(broken.sum())} of {len(images)} generated images in a batch have values that are not "
            "finite, so they cannot be measured. The training of this run diverged. Use an earlier checkpoint "
            "(run=RUN_DIR/checkpoints/best.ckpt) or train again with a lower optimizer.lr."
        )
