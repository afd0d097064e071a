"""Metrics that rank 0 computes while the others wait."""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torchmetrics import Metric

Suite = TypeVar("Suite", bound=nn.Module)


def alone(suite: Suite) -> Suite:
    """The same suite, whose metrics do not gather from other processes: those would never come, and it would hang."""
    for metric in suite.modules():
        if isinstance(metric, Metric):
            metric.distributed_available_fn = _nobody
    return suite


def _nobody() -> bool:
    return False
