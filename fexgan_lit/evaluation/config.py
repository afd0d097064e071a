"""The options of `python -m fexgan_lit.evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.data.config import EXPRESSIONS, FRAMINGS, POPULATIONS, STUDIOS
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.metrics.judges.external import EXTERNALS, ExternalJudgeSettings, crop_trouble
from fexgan_lit.runs.config import LoggerSettings
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hardware import device_problems, pick_device
from fexgan_lit.utils.options import Options, option, typed

SPLITS = ("val", "train")


PROTOCOLS = ("quality", "augmentation", "clips", "complex", "intensity", "photographs", "transfer", "unseen")


NETWORKS = ("judge", "resnet18")


STRENGTHS = ("follow", "full")


#: The action units that change the pixels of the rendered casts most, by the mean of both casts, without the blink.
MOVED_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 20, 26)


@dataclass
class TestDataSettings(Options):
    """The data to measure on; None means the option of the run. `conf/evaluate.yaml` explains each field.

    With `root`, `cache_dir` and `workers` alone these are the run's own data, in another place. Any other option makes
    them data that no run was trained on, such as other people of a studio.
    """

    section = "dataset"
    __test__ = False  # not a class of tests

    root: str | None = None
    cache_dir: str | None = None
    workers: int | None = option(None, at_least=1, at_most=1024)
    name: str | None = option(None, choices=STUDIOS)
    facekit: str | None = None
    population: str | None = option(None, choices=POPULATIONS)
    identities: int | None = option(None, at_least=1, at_most=10_000)
    framing: str | None = option(None, choices=FRAMINGS)
    expressions: str | None = option(None, choices=EXPRESSIONS)
    min_target_intensity: float | None = option(None, at_least=0, at_most=1)
    studio_seed: int | None = None

    @property
    def other(self) -> dict[str, Any]:
        """The options that make the data others than those of the runs."""
        own = ("root", "cache_dir", "workers", "facekit")
        return {name: value for name, value in vars(self).items() if value is not None and name not in own}


@dataclass
class MetricSettings(Options):
    """The networks for metrics that no training of ours makes; `conf/evaluate.yaml` explains each field."""

    section = "metrics"

    external: str | None = option(None, f"{', '.join(EXTERNALS)}, or null", choices=EXTERNALS)
    inception_weights: str | None = None
    lpips_net: str = "alex"
    lpips_backbone: str | None = None
    lpips_heads: str | None = None
    affect_judge: ExternalJudgeSettings = field(default_factory=ExternalJudgeSettings)
    au_judge: ExternalJudgeSettings = field(default_factory=ExternalJudgeSettings)
    identity_judge: ExternalJudgeSettings = field(default_factory=ExternalJudgeSettings)

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        if self.external is None:
            return []
        found = []
        for name in ("affect_judge", "identity_judge"):
            judge = getattr(self, name)
            given = [key for key, value in vars(judge).items() if value is not None and key != "crop"]
            if given:
                options = ", ".join(f"metrics.{name}.{key}" for key in given)
                found.append(
                    f"metrics.external={self.external} takes the place of metrics.{name}, so that {options} cannot be "
                    f"given too; expected one of both, or only metrics.{name}.crop"
                )
            elif judge.crop is not None and (trouble := crop_trouble(judge.crop)):
                found.append(f"metrics.{name}.crop: {trouble}")
        return found


@dataclass
class AugmentationSettings(Options):
    """Options of the augmentation protocol, which trains on generated frames; `conf/evaluate.yaml` explains each."""

    section = "augmentation"

    times: list[int] = option(
        [0, 1, 5, 10], "different whole numbers, 0 or more", at_least=0, at_most=1000, empty=False
    )
    seeds: int = option(3, at_least=1, at_most=1000)
    real_share: float = option(1.0, "a share above 0 and up to 1", above=0, at_most=1)
    network: str = option("judge", choices=NETWORKS)
    images: int = option(12_000, at_least=640)  # at least ten steps
    most_generated: int = option(100_000, at_least=1)

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        if len(set(self.times)) < len(self.times):
            return [f"augmentation.times={list(self.times)}: expected different whole numbers"]
        return []


@dataclass
class ClipSettings(Options):
    """The number of clips and their target strength; `conf/evaluate.yaml` explains each field."""

    section = "clips"

    most: int | None = option(None, at_least=2)
    strength: str = option("follow", choices=STRENGTHS)


@dataclass
class ComplexSettings(Options):
    """The mixtures of protocol=complex; `conf/evaluate.yaml` explains each field."""

    section = "complex"

    sources: int = option(8, at_least=1)
    strengths: list[float] = option([0.5, 1.0], "strengths above 0 and up to 1", above=0, at_most=1, empty=False)
    ratios: list[float] = option([0.5, 1.0, 2.0], "ratios from 0.1 to 10", at_least=0.1, at_most=10, empty=False)
    triples: bool = True


@dataclass
class IntensitySettings(Options):
    """The ramps of protocol=intensity; `conf/evaluate.yaml` explains each field."""

    section = "intensity"

    sources: int = option(8, at_least=1)
    strengths: list[float] = option(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], "strengths in 0..1", at_least=0, at_most=1
    )
    units: list[int] = option(list(MOVED_UNITS), f"some of {', '.join(map(str, ACTION_UNITS))}", choices=ACTION_UNITS)
    unit_levels: list[float] = option([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], "levels in 0..1", at_least=0, at_most=1)

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        return [
            f"intensity.{name}={list(values)}: expected three different values or more, since two are always on a line"
            for name, values in (("strengths", self.strengths), ("unit_levels", self.unit_levels))
            if len(set(values)) < 3
        ]


@dataclass
class PhotographSettings(Options):
    """The pictures of protocol=photographs; `conf/evaluate.yaml` explains each field."""

    section = "photographs"

    table: str | None = None


@dataclass
class TransferSettings(Options):
    """The expressions of protocol=transfer; `conf/evaluate.yaml` explains each field."""

    section = "transfer"

    sources: int = option(8, at_least=2)
    strengths: list[float] = option([1.0], "strengths above 0 and up to 1", above=0, at_most=1, empty=False)


@dataclass
class UnseenSettings(Options):
    """The people and the tuning of protocol=unseen; `conf/evaluate.yaml` explains each field."""

    section = "unseen"

    people: int = option(4, at_least=1, at_most=1000)
    frames: list[int] = option([1, 5, 10, 20], "numbers of frames, 1 or more; [] for zero-shot only", at_least=1)
    pairs: int = option(64, at_least=2)
    steps: int = option(200, at_least=0, at_most=100_000)
    keep: float = option(0.5, "a share of 0 or more, below 1", at_least=0, below=1)


@dataclass
class EvaluationSettings(Options):
    """The options of an evaluation; `conf/evaluate.yaml` explains each field."""

    run: str | None = None
    runs: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    protocol: str = option("quality", choices=PROTOCOLS)
    split: str = option("val", choices=SPLITS)
    pairs: int | None = option(None, at_least=2)
    batch_size: int = option(64, at_least=1, at_most=65536)
    bootstrap: int = option(2000, at_least=100, at_most=1_000_000)
    seed: int = 0
    shown: int = option(8, at_least=1, at_most=1000)
    device: str = "cpu"
    dataset: TestDataSettings = field(default_factory=TestDataSettings)
    metrics: MetricSettings = field(default_factory=MetricSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)
    complex: ComplexSettings = field(default_factory=ComplexSettings)
    intensity: IntensitySettings = field(default_factory=IntensitySettings)
    photographs: PhotographSettings = field(default_factory=PhotographSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    unseen: UnseenSettings = field(default_factory=UnseenSettings)

    @property
    def places(self) -> list[str]:
        """The paths of all given runs; a pattern such as ``multirun/DIR/*`` becomes the run folders that match."""
        named = [*([self.run] if self.run else []), *self.runs]
        return [place for name in named for place in _matches(name)]

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        found = device_problems(self.device)
        if self.metrics.external is not None and self.protocol == "augmentation":
            found.append(f"metrics.external={self.metrics.external}: protocol=augmentation asks no judge; leave it out")
        if not self.places:
            found.append("no run is given; expected a run folder, run=RUN_DIR, or several, runs=[A,B,C]")
        if self.split != "val" and self.protocol == "augmentation":
            found.append(
                f"split={self.split}: protocol=augmentation trains classifiers on the training frames; expected "
                "split=val, to test on other frames"
            )
        if self.protocol == "photographs":
            if self.photographs.table is None:
                found.append("photographs.table: not given; expected a CSV with the columns image, person and affect")
            if self.dataset.other:
                given = ", ".join(f"dataset.{name}" for name in self.dataset.other)
                found.append(f"{given}: protocol=photographs measures the pictures of photographs.table; leave it out")
        found += [
            f"runs: {place}: no run folder matches the pattern; expected folders with a config.yaml"
            for place in self.places
            if _is_pattern(place)
        ]
        if self.names and self.places and len(self.names) != len(self.places):
            found.append(
                f"names: {len(self.names)} for {len(self.places)} runs; expected one per run; runs of the same name "
                "are treated as seeds of one configuration"
            )
        return found


def _is_pattern(place: str) -> bool:
    return any(character in place for character in "*?") and not Path(place).exists()


def _matches(place: str) -> list[str]:
    """Return the run folders that a pattern matches, sorted; or `place` if it is not a pattern or matches none."""
    if not _is_pattern(place):
        return [place]
    path = Path(place).expanduser()
    start = Path(path.anchor) if path.is_absolute() else Path()
    found = sorted(p for p in start.glob(str(path.relative_to(path.anchor))) if (p / "config.yaml").is_file())
    return [str(p) for p in found] or [place]


def evaluation_settings(cfg: DictConfig) -> tuple[EvaluationSettings, LoggerSettings]:
    """Convert and check the options of the composed configuration.

    Raises:
        UserError: one message that lists all invalid values.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    problems: list[str] = []
    place = typed(TestDataSettings, tree.pop("dataset"), "dataset", problems)
    protocols: dict[str, Any] = {
        options.section: typed(options, tree.pop(options.section), options.section, problems)
        for options in (
            AugmentationSettings,
            ClipSettings,
            ComplexSettings,
            IntensitySettings,
            PhotographSettings,
            TransferSettings,
            UnseenSettings,
        )
    }
    networks = tree.pop("metrics")
    own: dict[str, Any] = {
        name: typed(ExternalJudgeSettings, networks.pop(name), f"metrics.{name}", problems)
        for name in ("affect_judge", "au_judge", "identity_judge")
    }
    logger = typed(LoggerSettings, tree.pop("logger"), "logger", problems)
    metrics = typed(MetricSettings, networks, "metrics", problems)
    settings = typed(EvaluationSettings, {k: v for k, v in tree.items() if k != "out"}, "evaluate", problems)
    settings = replace(settings, dataset=place, metrics=replace(metrics, **own), **protocols)
    problems += [] if problems else [*settings.problems(), *logger.problems()]
    if problems:
        raise UserError("the configuration cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    settings.device = pick_device(settings.device)
    return settings, logger
