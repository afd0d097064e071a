"""The judge and the metric suite of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fexgan_lit.metrics.distributions import real_features
from fexgan_lit.metrics.extractors import FeatureExtractor, JudgeExtractor, make_inception
from fexgan_lit.metrics.groups import (
    DiscriminatorMetrics,
    DistributionMetrics,
    JudgeMetrics,
    PixelMetrics,
    UnpairedMetrics,
)
from fexgan_lit.metrics.judges.affect import load_or_train_judge
from fexgan_lit.metrics.judges.files import Unavailable
from fexgan_lit.metrics.suite import MetricGroup, MetricSuite
from fexgan_lit.utils.cache import cache_root

if TYPE_CHECKING:
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.metrics.judges.affect import Judge


def judge_of(data: FrameDataModule) -> Judge | None:
    """Return the judge of a data set, trained on first use; None if no judge is configured or possible."""
    if not data.wants_judge or not data.has_truth:
        return None
    if "judge" not in data.computed:
        # validation, which may be the first use, runs without gradients
        with data.stages() as stages, torch.inference_mode(mode=False), torch.enable_grad():
            report = stages("training the judge")
            data.computed["judge"] = load_or_train_judge(
                data.train, data.val, image_size=data.config.image_size,
                cache_dir=cache_root(data.config.cache_dir), key=data.key,
                progress=(lambda done, total, *_: report(done, total)) if report else None,
            )  # fmt: skip
    judge: Judge | None = data.computed["judge"]
    return judge


def metric_suite(
    data: FrameDataModule, split: str, *, fid: bool = False, device: torch.device | None = None
) -> MetricSuite:
    """Return the metric suite for the pairs of `train` or `val`.

    Args:
        data: the data module.
        split: split of the pairs and of the real frames for distribution metrics.
        fid: whether to compute FID on `val` if the Inception weights are available.
        device: device of the extractors and the suite.
    """
    extractors: dict[str, FeatureExtractor | Unavailable] = {}
    groups: list[MetricGroup] = [UnpairedMetrics()]
    if data.has_truth:
        groups = [PixelMetrics(), DiscriminatorMetrics()]
        judge = judge_of(data)
        if judge is not None:
            groups.append(JudgeMetrics(judge, ceiling=True))
            extractors["judge"] = JudgeExtractor(judge.net)
    if fid and split == "val":
        extractors["inception"] = make_inception(data.inception_weights)
    there = {name: e.to(device) for name, e in extractors.items() if not isinstance(e, Unavailable)}
    real = {name: _features(data, split, extractor) for name, extractor in there.items()}
    groups.append(DistributionMetrics(extractors, real))
    suite = MetricSuite(groups, f"split={split}, seed={data.config.split_seed}", paired=data.has_truth)
    return suite.to(device)


def _features(data: FrameDataModule, split: str, extractor: FeatureExtractor) -> torch.Tensor:
    """Return the features (n, F) of a split's real frames, cached for later validations."""
    key = (split, extractor.name)
    if key not in data.computed:
        frames = data.train if split == "train" or data.val is None else data.val
        with data.stages() as stages, torch.inference_mode(mode=False):
            data.computed[key] = real_features(
                extractor, frames, data.target_rows(frames), data.config.image_size,
                cache_root(data.config.cache_dir), f"{data.key}/{split}",
                stages(f"reading the real frames with the {extractor.title}"),
            )  # fmt: skip
    return data.computed[key]
