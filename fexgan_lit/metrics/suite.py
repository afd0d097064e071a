"""The metric suite for validation, the end of training and `evaluate`.

A suite consists of groups of torchmetrics metrics that all get the same generated batches. Metrics with one value per
pair, (N,), provide intervals, breakdowns and paired differences; their result is the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.aggregation import CatMetric

from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.extractors import Features
    from fexgan_lit.systems.base import ExpressionSystem


class Answer(NamedTuple):
    """A generated batch to be measured.

    Attributes:
        batch: the pairs.
        generated: generated images for the targets of `batch`, (B, 3, S, S) in [-1, 1].
        outcome: output of the system's discriminator; None where no system generated the images.
        system: the system that generated the images, or None.
        seen: features of `generated` by extractor name, shared between the groups.
    """

    batch: PairBatch
    generated: Tensor
    outcome: ValidationOutput | None
    system: ExpressionSystem | None
    seen: dict[str, Features]


class MetricGroup(nn.Module):
    """Base class of the metric groups.

    Attributes:
        per_pair: metrics with (N,) values by name; NaN where a pair has no value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.per_pair = nn.ModuleDict()

    def update(self, answer: Answer) -> None:
        """Add a batch."""
        raise NotImplementedError

    def keep(self, name: str, values: Tensor) -> None:
        """Append values (B,) to the metric `name`."""
        if name not in self.per_pair:
            self.per_pair[name] = CatMetric(nan_strategy="disable", sync_on_compute=False)
        cast(Metric, self.per_pair[name]).update(values.detach().cpu())

    def columns(self) -> dict[str, Tensor]:
        """Return the values (N,) of each metric, on the CPU."""
        metrics = {name: cast(Metric, metric) for name, metric in self.per_pair.items()}
        return {name: metric.compute().cpu().reshape(-1) for name, metric in metrics.items() if metric.update_called}

    def numbers(self) -> dict[str, float]:
        """Return the metrics of all pairs together, such as `fd_judge`, by name; see `columns` for single pairs."""
        return {}

    def recipes(self) -> dict[str, str]:
        """Return one line per metric on its computation."""
        return {}

    def notes(self) -> dict[str, str]:
        """Return remarks on metrics, or the reasons for absent metrics; call `numbers` first."""
        return {}

    def confusion(self) -> Tensor | None:
        """Return counts (K, K) int64, rows the targets, columns the judge's predictions; None without a judge."""
        return None


class MetricSuite(nn.Module):
    """Groups of metrics over the same pairs, with `update`, `compute` and `reset`.

    A metric that cannot be computed is missing from `compute` and has its reason in `notes`. Every process measures all
    pairs, so results are not gathered.

    Args:
        groups: the metric groups; a group that shares its features must come before the groups that use them.
        where: description of the pairs, for the recipes.
        paired: whether the targets are real frames of the target expression, so that the discriminator is measured.
    """

    def __init__(self, groups: Sequence[MetricGroup], where: str = "", paired: bool = True) -> None:
        super().__init__()
        self.groups = nn.ModuleList(groups)
        self.where, self.paired, self.n = where, paired, 0
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.sync_on_compute = False

    def add(self, system: ExpressionSystem, batch: PairBatch, output: ValidationOutput | None = None) -> None:
        """Add the output of `system` for a batch, or let it generate one on its device without random numbers.

        Raises:
            UserError: the output is not a `ValidationOutput`, or its images have another shape than the targets.
        """
        output = system.validation_step(batch) if output is None else output
        expected = f"expected a ValidationOutput with generated images {tuple(batch.target.shape)}"
        if not isinstance(output, ValidationOutput):
            raise UserError(f"{type(system).__name__}.validation_step returned a {type(output).__name__}; {expected}")
        if output.generated.shape != batch.target.shape:
            found = tuple(output.generated.shape)
            raise UserError(f"{type(system).__name__}.validation_step generated images {found}; {expected}")
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
        """Return the values by metric, (N,) each, in the order of the pairs; NaN where a pair has no value."""
        return {name: column for group in self._groups for name, column in group.columns().items()}

    def numbers(self) -> dict[str, float]:
        """Return the `numbers` of all groups; empty before the first image."""
        return {name: value for group in self._groups for name, value in group.numbers().items()} if self.n else {}

    def compute(self) -> dict[str, float]:
        """Return every metric with images by name."""
        means = {name: float(column.double().nanmean()) for name, column in self.per_pair().items()}
        return means | self.numbers()

    def confusion(self) -> Tensor | None:
        """See `MetricGroup.confusion`; None before the first image."""
        found = [counts for group in self._groups if self.n and (counts := group.confusion()) is not None]
        return found[0] if found else None

    def recipes(self) -> dict[str, str]:
        """Return one line per metric on its computation, for the report."""
        end = f"; n={self.n}" + (f", {self.where}" if self.where else "")
        return {name: line + end for group in self._groups for name, line in group.recipes().items()}

    def notes(self) -> dict[str, str]:
        """Return remarks on metrics, or the reasons for absent metrics; call `compute` first."""
        return {name: note for group in self._groups for name, note in group.notes().items()}

    def reset(self) -> None:
        """Reset all metrics."""
        self.n = 0
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()

    @property
    def _groups(self) -> list[MetricGroup]:
        return cast("list[MetricGroup]", list(self.groups))


class ValidationOutput(NamedTuple):
    """Output of a validation step: generated images, and the discriminator's outputs for sources and generated images.

    Attributes:
        generated: (B, 3, S, S) in [-1, 1].
        real_realness: (B,) for the sources; maps of patches are averaged.
        real_affect: (B, K) class logits of the sources, or None where the discriminator has no class head.
        fake_realness: (B,) for the generated images.
        fake_affect: (B, K) class logits of the generated images, or None.
        calibrated: whether realness is a logit, whose sign separates real from generated. The score of a Wasserstein
            critic is not a logit: only differences are meaningful.
    """

    generated: Tensor
    real_realness: Tensor
    real_affect: Tensor | None
    fake_realness: Tensor
    fake_affect: Tensor | None
    calibrated: bool = True
