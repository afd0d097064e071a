"""From the composed configuration of the door to typed options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.config import LoggerSettings, typed
from fexgan_lit.errors import UserError
from fexgan_lit.evaluation.settings import (
    AugmentationSettings,
    ClipSettings,
    EvaluationSettings,
    MetricSettings,
    PlaceSettings,
)
from fexgan_lit.metrics.own_declaration import OwnJudgeSettings


def evaluation_settings(cfg: DictConfig) -> tuple[EvaluationSettings, LoggerSettings]:
    """The typed options.

    Raises:
        UserError: one message with every value that cannot be used.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    problems: list[str] = []
    place = typed(PlaceSettings, tree.pop("dataset"), "dataset", problems)
    augmentation = typed(AugmentationSettings, tree.pop("augmentation"), "augmentation", problems)
    clips = typed(ClipSettings, tree.pop("clips"), "clips", problems)
    networks = tree.pop("metrics")
    own: dict[str, Any] = {
        name: typed(OwnJudgeSettings, networks.pop(name), f"metrics.{name}", problems)
        for name in ("affect_judge", "au_judge", "identity_judge")
    }
    logger = typed(LoggerSettings, tree.pop("logger"), "logger", problems)
    metrics = typed(MetricSettings, networks, "metrics", problems)
    settings = typed(EvaluationSettings, {k: v for k, v in tree.items() if k != "out"}, "evaluate", problems)
    settings.dataset, settings.metrics = place, replace(metrics, **own)
    settings.augmentation, settings.clips = augmentation, clips
    problems += [] if problems else [*settings.problems(), *logger.problems()]
    if problems:
        raise UserError("the configuration cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    return settings, logger
