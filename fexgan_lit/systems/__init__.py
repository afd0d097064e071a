"""The published systems behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fexgan_lit.config import TrainSettings
    from fexgan_lit.systems.base import ExpressionSystem


def build_system(settings: TrainSettings, affects: Sequence[str]) -> ExpressionSystem:
    """The system that `settings` describe, with initial weights that depend on its seed alone."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return settings.system(settings.model, settings.loss, settings.optimizer, affects, settings.seed)
