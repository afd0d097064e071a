"""The options of `python -m fexgan_lit.evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.metrics.judges.external import ExternalJudgeSettings
from fexgan_lit.runs.config import LoggerSettings
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hardware import device_problems, pick_device
from fexgan_lit.utils.options import typed

SPLITS = ("val", "train")


PROTOCOLS = ("quality", "augmentation", "clips")


NETWORKS = ("judge", "resnet18")


STRENGTHS = ("follow", "full")


@dataclass
class PlaceSettings:
    """Where the data are now; what a run was trained on stays as it was.

    Attributes:
        root: folder of the data set; None: where the run found it.
        cache_dir: of packs and judges; None: as the run had it.
        workers: threads that decode; None: as the run had it.
    """

    MOST: ClassVar = {"workers": 1024}

    root: str | None = None
    cache_dir: str | None = None
    workers: int | None = None


@dataclass
class MetricSettings:
    """Where networks that no training of ours makes come from; `conf/evaluate.yaml` explains each field."""

    inception_weights: str | None = None
    lpips_net: str = "alex"
    lpips_backbone: str | None = None
    lpips_heads: str | None = None
    affect_judge: ExternalJudgeSettings = field(default_factory=ExternalJudgeSettings)
    au_judge: ExternalJudgeSettings = field(default_factory=ExternalJudgeSettings)
    identity_judge: ExternalJudgeSettings = field(default_factory=ExternalJudgeSettings)


@dataclass
class AugmentationSettings:
    """How the worth of generated frames as training data is measured; `conf/evaluate.yaml` explains each field."""

    MOST: ClassVar = {"times": 1000, "seeds": 1000}

    times: list[int] = field(default_factory=lambda: [0, 1, 5, 10])
    seeds: int = 3
    real_share: float = 1.0
    network: str = "judge"
    images: int = 12_000
    most_generated: int = 100_000

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = []
        if not self.times or min(self.times) < 0 or len(set(self.times)) < len(self.times):
            found.append(f"augmentation.times={list(self.times)}: expected different whole numbers of 0 or more.")
        if not 0 < self.real_share <= 1:
            found.append(f"augmentation.real_share={self.real_share}: expected a share above 0 and up to 1.")
        if self.network not in NETWORKS:
            found.append(f"augmentation.network={self.network}: expected one of {', '.join(NETWORKS)}.")
        for name, least in {"seeds": 1, "images": 640, "most_generated": 1}.items():  # ten steps at least
            if getattr(self, name) < least:
                found.append(f"augmentation.{name}={getattr(self, name)}: expected {least} or more.")
        return found


@dataclass
class ClipSettings:
    """Which clips are made and what is asked for; `conf/evaluate.yaml` explains each field."""

    most: int | None = None
    strength: str = "follow"

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = []
        if self.strength not in STRENGTHS:
            found.append(f"clips.strength={self.strength}: expected one of {', '.join(STRENGTHS)}.")
        if self.most is not None and self.most < 2:
            found.append(f"clips.most={self.most}: expected 2 or more.")
        return found


@dataclass
class EvaluationSettings:
    """What is measured, on how many pairs; `conf/evaluate.yaml` explains each field."""

    MOST: ClassVar = {"batch_size": 65536, "bootstrap": 1_000_000, "shown": 1000}

    run: str | None = None
    runs: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    protocol: str = "quality"
    split: str = "val"
    pairs: int | None = None
    batch_size: int = 64
    bootstrap: int = 2000
    seed: int = 0
    shown: int = 8
    device: str = "cpu"
    dataset: PlaceSettings = field(default_factory=PlaceSettings)
    metrics: MetricSettings = field(default_factory=MetricSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)

    @property
    def places(self) -> list[str]:
        """Every run that was named; a pattern such as ``multirun/DIR/*`` names all run folders it matches."""
        named = [*([self.run] if self.run else []), *self.runs]
        return [place for name in named for place in _matches(name)]

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = []
        if not self.places:
            found.append("run=null: name a run folder with run=RUN_DIR, or several with runs=[A,B,C].")
        if self.protocol not in PROTOCOLS:
            found.append(f"protocol={self.protocol}: expected one of {', '.join(PROTOCOLS)}.")
        if self.split not in SPLITS:
            found.append(f"split={self.split}: expected one of {', '.join(SPLITS)}.")
        elif self.split != "val" and self.protocol == "augmentation":
            found.append(
                f"split={self.split}: the classifiers learn from the training frames, so expected split=val to test on "
                "with protocol=augmentation."
            )
        found += [*self.augmentation.problems(), *self.clips.problems(), *device_problems(self.device)]
        found += [
            f"runs: {place}: no run folder of that pattern; expected folders with a config.yaml."
            for place in self.places
            if _is_pattern(place)
        ]
        for name, least in {"batch_size": 1, "bootstrap": 100, "shown": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                found.append(f"{name}={getattr(self, name)}: expected {least} or more.")
        if self.pairs is not None and self.pairs < 2:
            found.append(f"pairs={self.pairs}: expected 2 or more.")
        if self.names and len(self.names) != len(self.places):
            found.append(
                f"names has {len(self.names)} entries for {len(self.places)} runs: give one a run, runs of one name "
                "are taken for seeds of one configuration."
            )
        return found


def _is_pattern(place: str) -> bool:
    return any(character in place for character in "*?") and not Path(place).exists()


def _matches(place: str) -> list[str]:
    """The run folders a pattern matches in order of their names; the place itself where it is none or matches none."""
    if not _is_pattern(place):
        return [place]
    path = Path(place).expanduser()
    start = Path(path.anchor) if path.is_absolute() else Path()
    found = sorted(p for p in start.glob(str(path.relative_to(path.anchor))) if (p / "config.yaml").is_file())
    return [str(p) for p in found] or [place]


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
        name: typed(ExternalJudgeSettings, networks.pop(name), f"metrics.{name}", problems)
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
    settings.device = pick_device(settings.device)
    return settings, logger
