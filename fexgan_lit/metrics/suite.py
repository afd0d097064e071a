"""One suite of metrics, used in validation, at the end of training and by `evaluate`.

A suite is made of groups: each holds torchmetrics metrics that are fed with the same answers. A metric that computes a
value a pair, (N,), gives intervals, breakdowns and paired differences; its figure is the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.aggregation import CatMetric

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.extractors import Features
    from fexgan_lit.systems.base import ExpressionSystem


class Answer(NamedTuple):
    """What is measured.

    Attributes:
        batch: the pairs.
        generated: (B, 3, S, S) in [-1, 1], for the targets of `batch`.
        outcome: what the system's discriminator says; None where no system made the faces.
        system: that made them, or None.
        seen: what networks have read in `generated` already, by name of the extractor; groups share it.
    """

    batch: PairBatch
    generated: Tensor
    outcome: ValidationOutput | None
    system: ExpressionSystem | None
    seen: dict[str, Features]


class MetricGroup(nn.Module):
    """Base of all groups.

    Attributes:
        per_pair: metrics that compute (N,) values, NaN where a pair has none, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.per_pair = nn.ModuleDict()

    def update(self, answer: Answer) -> None:
        """Add a batch."""
        raise NotImplementedError

    def keep(self, name: str, values: Tensor) -> None:
        """Add values (B,) to the metric `name`."""
        if name not in self.per_pair:
            self.per_pair[name] = CatMetric(nan_strategy="disable", sync_on_compute=False)
        cast(Metric, self.per_pair[name]).update(values.detach().cpu())

    def columns(self) -> dict[str, Tensor]:
        """Values (N,) by metric, on the CPU."""
        metrics = {name: cast(Metric, metric) for name, metric in self.per_pair.items()}
        return {name: metric.compute().cpu().reshape(-1) for name, metric in metrics.items() if metric.update_called}

    def numbers(self) -> dict[str, float]:
        """Metrics of the whole set that are no means over pairs."""
        return {}

    def recipes(self) -> dict[str, str]:
        """One line a metric: how it was computed."""
        return {}

    def notes(self) -> dict[str, str]:
        """What to print beside a figure, or in the place of one that is absent; known once `numbers` was asked for."""
        return {}

    def confusion(self) -> Tensor | None:
        """Counts (K, K) int64, row the asked affect, column the judge's verdict; None where nobody judges."""
        return None


class MetricSuite(nn.Module):
    """Groups of metrics over the same pairs; update with batches, compute, reset.

    A metric that cannot be computed is missing from `compute` and has its reason in `notes`. Every process measures all
    pairs, as one would, so nothing is gathered.

    Args:
        groups: what is measured; a group that lets others share what it read comes before them.
        where: of which pairs, for the recipes.
        paired: whether the targets are true frames of what is asked for, so that a discriminator's verdict counts.
    """

    def __init__(self, groups: Sequence[MetricGroup], where: str = "", paired: bool = True) -> None:
        super().__init__()
        self.groups = nn.ModuleList(groups)
        self.where, self.paired, self.n = where, paired, 0
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.sync_on_compute = False

    def add(self, system: ExpressionSystem, batch: PairBatch) -> None:
        """Let `system` answer a batch on its device and add what it made; draws no random number."""
        output = system.validation_step(batch)
        self.update(batch, output.generated, output, system)

    @torch.no_grad()
    def update(
        self, batch: PairBatch, generated: Tensor, outcome: ValidationOutput | None = None,
        system: ExpressionSystem | None = None,
    ) -> None:  # fmt: skip
        """Add a batch; see `Answer`."""
        self.n += len(generated)
        answer = Answer(batch, generated.float(), outcome if self.paired else None, system, {})
        for group in self._groups:
            group.update(answer)

    def per_pair(self) -> dict[str, Tensor]:
        """Values of every pair by metric, (N,) each, NaN where a pair has none, in the order the pairs came."""
        return {name: column for group in self._groups for name, column in group.columns().items()}

    def numbers(self) -> dict[str, float]:
        """Metrics of the whole set that are no means over pairs."""
        return {name: value for group in self._groups for name, value in group.numbers().items()} if self.n else {}

    def compute(self) -> dict[str, float]:
        """Every metric that has seen images, by name."""
        means = {name: float(column.double().nanmean()) for name, column in self.per_pair().items()}
        return means | self.numbers()

    def confusion(self) -> Tensor | None:
        """See `MetricGroup.confusion`; None before the first image."""
        found = [counts for group in self._groups if self.n and (counts := group.confusion()) is not None]
        return found[0] if found else None

    def recipes(self) -> dict[str, str]:
        """One line a metric: on what and how it was computed, for the report."""
        end = f"; n={self.n}" + (f", {self.where}" if self.where else "")
        return {name: line + end for group in self._groups for name, line in group.recipes().items()}

    def notes(self) -> dict[str, str]:
        """What to print beside a figure, or instead of one that is missing; known once `compute` was asked for."""
        return {name: note for group in self._groups for name, note in group.notes().items()}

    def reset(self) -> None:
        """Forget all batches."""
        self.n = 0
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()

    @property
    def _groups(self) -> list[MetricGroup]:
        return cast("list[MetricGroup]", list(self.groups))


class ValidationOutput(NamedTuple):
    """One measured batch: what was made and what the discriminator says of the real source and of it.

    Attributes:
        generated: (B, 3, S, S) in [-1, 1].
        real_realness: (B,) of the sources; a map of patches is averaged.
        real_affect: (B, K) class logits of the sources, or None where the discriminator has no class head.
        fake_realness: (B,) of the generated faces.
        fake_affect: (B, K) class logits of the generated faces, or None.
        calibrated: whether realness is a logit, so that its sign says real or generated. The score of a Wasserstein
            critic is none: only differences mean something.
    """

    generated: Tensor
    real_realness: Tensor
    real_affect: Tensor | None
    fake_realness: Tensor
    fake_affect: Tensor | None
    calibrated: bool = True
