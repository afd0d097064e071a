"""The numbers of one split during training: the papers' Table 1, distances to the true frames, the judge's verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy, MulticlassConfusionMatrix
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from fexgan_lit.metrics.frechet import (
    INCEPTION_FEATURES,
    JudgeFrechetDistance,
    Unavailable,
    small_sample_note,
    to_bytes,
)
from fexgan_lit.metrics.judge import Judge

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.systems.base import ExpressionSystem

#: The four columns of the papers' Table 1, in their order.
DISCRIMINATOR_METRICS = ("d_real_binary", "d_real_affect", "d_fake_binary", "d_fake_affect")


class TrainingSuite(nn.Module):
    """All metrics of one split; update with batches, compute, reset.

    A metric that cannot be computed is missing from `compute` and has its reason in `notes`.

    Args:
        affects: class order of the data set.
        judge: who names affects and identities; None leaves the judge's metrics out.
        split: name of the split, for the recipes.
        seed: of the pair sequence, for the recipes.
        fid: what `make_fid` gave, or None when FID is not wanted.
    """

    def __init__(
        self,
        affects: Sequence[str],
        judge: Judge | None,
        *,
        split: str = "val",
        seed: int | None = None,
        fid: Metric | Unavailable | None = None,
    ) -> None:
        super().__init__()
        self.affects = tuple(affects)
        self.split = split
        self.seed = seed
        self.n = 0
        self.image_size: int | None = None
        self.judge = judge
        self.judge_net = judge.net if judge is not None else None  # registered, so that it moves with the suite
        self.discriminator = nn.ModuleDict(_discriminator_metrics(len(affects)))
        self.pixels = nn.ModuleDict(
            {"ssim": StructuralSimilarityIndexMeasure(data_range=1.0), "psnr": PeakSignalNoiseRatio(data_range=1.0)}
        )
        self.verdicts = nn.ModuleDict(_judge_metrics(judge) if judge is not None else {})
        self.fid = fid if isinstance(fid, Metric) else None
        self.fid_missing = fid.reason if isinstance(fid, Unavailable) else None

    def add(self, system: ExpressionSystem, batch: PairBatch) -> None:
        """Let `system` answer a batch on its device and add what it made; draws no random number.

        The share of faces a discriminator takes for real is left out where its score has no threshold.
        """
        made = system.assess(batch)
        self.update(
            made.generated, batch.target, batch.target_affect, batch.identity, batch.source_affect,
            made.real_realness if made.calibrated else None, made.real_affect,
            made.fake_realness if made.calibrated else None, made.fake_affect,
        )  # fmt: skip

    def update(
        self,
        generated: Tensor,
        target: Tensor,
        target_affect: Tensor,
        identity: Tensor,
        source_affect: Tensor,
        real_logits: Tensor | None = None,
        real_affect_logits: Tensor | None = None,
        fake_logits: Tensor | None = None,
        fake_affect_logits: Tensor | None = None,
    ) -> None:
        """Add one batch.

        Args:
            generated: (B, 3, S, S) in [-1, 1].
            target: the true frames, the same shape and range.
            target_affect: asked affects, (B,) int64.
            identity: (B,) int64.
            source_affect: affects of the real frames the discriminator saw, (B,) int64.
            real_logits: the discriminator's real/fake logits of real frames, (B,) or (B, 1); None without one.
            real_affect_logits: its class logits of real frames, (B, K).
            fake_logits: its real/fake logits of generated frames, (B,) or (B, 1).
            fake_affect_logits: its class logits of generated frames, (B, K).
        """
        generated, target = generated.detach().float(), target.detach().float()
        self.n += len(generated)
        self.image_size = generated.shape[-1]
        self._update_discriminator("real", real_logits, real_affect_logits, source_affect)
        self._update_discriminator("fake", fake_logits, fake_affect_logits, target_affect)
        unit_generated, unit_target = ((images + 1).div(2).clamp(0, 1) for images in (generated, target))
        for _, metric in _metrics(self.pixels):
            metric.update(unit_generated, unit_target)
        self._update_judge(generated, target, target_affect, identity)
        if self.fid is not None:
            self.fid.update(to_bytes(target), real=True)
            self.fid.update(to_bytes(generated), real=False)

    def compute(self) -> dict[str, float]:
        """Every metric that has seen images, by name. With several processes, call it on all of them."""
        metrics = {
            name: metric
            for group in (self.discriminator, self.pixels, self.verdicts)
            for name, metric in _metrics(group)
            if name != "confusion"
        }
        if self.fid is not None:
            metrics["fid"] = self.fid
        if self.n < 2:
            metrics.pop("fd_judge", None)
            metrics.pop("fid", None)
        seen = {name: metric for name, metric in metrics.items() if metric.update_called}
        return {name: float(metric.compute()) for name, metric in seen.items()}

    def confusion(self) -> Tensor | None:
        """Counts (K, K) int64, row the asked affect, column the judge's verdict; None without judge or images."""
        if "confusion" not in self.verdicts or not _metric(self.verdicts, "confusion").update_called:
            return None
        return _metric(self.verdicts, "confusion").compute().cpu()

    def notes(self) -> dict[str, str]:
        """What to print beside a figure, or instead of one that is missing."""
        notes: dict[str, str] = {}
        if self.judge is None:
            notes["judge"] = "no judge: its verdicts and fd_judge are absent"
        if self.fid_missing is not None:
            notes["fid"] = f"absent: {self.fid_missing}"
        sizes = {"fd_judge": self.judge_net.feature_size if self.judge_net is not None else 0}
        sizes |= {"fid": INCEPTION_FEATURES} if self.fid is not None else {}
        for name, size in sizes.items():
            warning = small_sample_note(self.n, size)
            if warning is not None and size and self.n:
                notes[name] = warning if self.n >= 2 else "absent: a Fréchet distance needs two images a side"
        return notes

    def recipes(self) -> dict[str, str]:
        """One line a metric: on what and how it was computed, for the report."""
        where = f"n={self.n}, split={self.split}" + (f", seed={self.seed}" if self.seed is not None else "")
        pixels = f"generated against target frame, [0, 1] floats, no quantisation, at {self.image_size} px; {where}"
        binary = "discriminator's sigmoid > 0.5 on real, <= 0.5 on generated frames, evaluation mode"
        lines = dict.fromkeys(("d_real_binary", "d_fake_binary"), f"{binary}; {where}")
        lines |= dict.fromkeys(("d_real_affect", "d_fake_affect"), f"argmax of the discriminator's class head; {where}")
        lines["ssim"] = f"Gaussian 11x11, sigma 1.5, data_range 1, mean over images; {pixels}"
        lines["psnr"] = f"from the mean squared error over all pixels of all images, data_range 1; {pixels}"
        if self.judge is not None:
            lines |= _judge_recipes(self.judge, where)
        if self.fid is not None:
            lines["fid"] = (
                f"Inception-2048, bilinear to 299 px without antialias, rounded and clamped to uint8; {where}"
            )
        return lines

    def reset(self) -> None:
        """Forget all batches."""
        self.n = 0
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()

    def _update_discriminator(
        self, kind: str, logits: Tensor | None, affect_logits: Tensor | None, affect: Tensor
    ) -> None:
        if logits is not None:
            # The sigmoid is ours: torchmetrics would take logits that all lie in [0, 1] for probabilities.
            share = logits.detach().float().flatten().sigmoid()  # (B, 1) -> (B,)
            _metric(self.discriminator, f"d_{kind}_binary").update(share, torch.full_like(share, kind == "real").long())
        if affect_logits is not None:
            _metric(self.discriminator, f"d_{kind}_affect").update(affect_logits.detach().float(), affect)

    def _update_judge(self, generated: Tensor, target: Tensor, target_affect: Tensor, identity: Tensor) -> None:
        if self.judge_net is None:
            return
        with torch.no_grad():
            fake, real = self.judge_net(generated), self.judge_net(target)
        _metric(self.verdicts, "judge_affect_accuracy").update(fake.affect, target_affect)
        _metric(self.verdicts, "judge_identity_accuracy").update(fake.identity, identity)
        _metric(self.verdicts, "real_judge_affect_accuracy").update(real.affect, target_affect)
        _metric(self.verdicts, "real_judge_identity_accuracy").update(real.identity, identity)
        _metric(self.verdicts, "confusion").update(fake.affect, target_affect)
        _metric(self.verdicts, "fd_judge").update(target, real=True, features=real.features)
        _metric(self.verdicts, "fd_judge").update(generated, real=False, features=fake.features)


def _metric(group: nn.ModuleDict, name: str) -> Metric:
    return cast(Metric, group[name])


def _metrics(group: nn.ModuleDict) -> Iterator[tuple[str, Metric]]:
    return ((name, cast(Metric, module)) for name, module in group.items())


def _discriminator_metrics(classes: int) -> dict[str, nn.Module]:
    def per_kind(kind: str) -> dict[str, nn.Module]:
        return {
            f"d_{kind}_binary": BinaryAccuracy(validate_args=False),
            f"d_{kind}_affect": _micro_accuracy(classes),
        }

    return per_kind("real") | per_kind("fake")


def _judge_metrics(judge: Judge) -> dict[str, nn.Module]:
    affects, identities = len(judge.affects), len(judge.identities)
    return {
        "judge_affect_accuracy": _micro_accuracy(affects),
        "judge_identity_accuracy": _micro_accuracy(identities),
        "real_judge_affect_accuracy": _micro_accuracy(affects),
        "real_judge_identity_accuracy": _micro_accuracy(identities),
        "confusion": MulticlassConfusionMatrix(affects, validate_args=False),
        "fd_judge": JudgeFrechetDistance(judge.net),
    }


def _micro_accuracy(classes: int) -> nn.Module:
    # Two classes at least: torchmetrics refuses one, and a data set may hold a single identity.
    return MulticlassAccuracy(max(2, classes), average="micro", validate_args=False)


def _judge_recipes(judge: Judge, where: str) -> dict[str, str]:
    size = judge.net.working_size
    seen = f"images averaged to {size} px, [-1, 1] floats, no quantisation; {judge.describe()}; {where}"
    return {
        "judge_affect_accuracy": f"judge's affect on generated frames against the asked one; {seen}",
        "judge_identity_accuracy": f"judge's identity on generated frames against the source's; {seen}",
        "real_judge_affect_accuracy": f"ceiling: judge's affect on the true target frames; {seen}",
        "real_judge_identity_accuracy": f"ceiling: judge's identity on the true target frames; {seen}",
        "fd_judge": f"Fréchet distance on the judge's {judge.net.feature_size} features (not FID), "
        f"generated against target frames; {seen}",
    }
