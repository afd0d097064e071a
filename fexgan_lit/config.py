"""From a composed configuration to typed settings and objects; every problem of a config in one message."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.errors import UserError
from fexgan_lit.sweeps.settings import SweepSettings

if TYPE_CHECKING:
    from lightning.pytorch import Callback

T = TypeVar("T")

#: The only names a `_target_` may have; a config that arrives in a run folder is data, not code.
TARGETS = (
    "fexgan_lit.systems.fexgan.system.FExGAN",
    "fexgan_lit.systems.ganimation.system.GANimation",
    "fexgan_lit.systems.landmark_label.system.LandmarkLabel",
    "fexgan_lit.systems.stargan.system.StarGAN",
    "fexgan_lit.callbacks.AdversarialCut",
    "fexgan_lit.callbacks.LinearDecay",
)


@dataclass
class TrainerSettings:
    """How long, where and how often; `conf/trainer/default.yaml` explains each field."""

    max_steps: int = 100_000
    max_minutes: float | None = None
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    sync_batchnorm: bool = False
    go_on: bool = False
    precision: str = "auto"
    channels_last: bool = True
    compile: bool = False
    cuda_graphs: bool = False
    data_on_device: str = "auto"
    micro_batch: int | None = None
    auto_batch: bool = False
    memory_limit_gb: float | None = None
    profile: bool = False
    profile_iterations: int = 20
    threads: int | None = None
    deterministic: bool = False
    log_every: int = 50
    val_every: int = 1000
    figures_every: int = 1000
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        self.data_on_device = str(self.data_on_device).lower()  # true and false arrive as words, but capitalised

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        choices = {"accelerator": ("auto", "cpu", "gpu", "mps"), "precision": ("auto", "float32", "bf16"),
                   "strategy": ("auto", "ddp"), "data_on_device": ("auto", "true", "false")}  # fmt: skip
        expected = {name: f"one of {', '.join(allowed)}" for name, allowed in choices.items()}
        counts = (
            "max_steps", "log_every", "checkpoint_every", "profile_iterations", "devices", "num_nodes",
        )  # fmt: skip
        positive = ("max_minutes", "threads", "micro_batch", "memory_limit_gb")
        expected |= dict.fromkeys(counts, "1 or more")
        expected |= dict.fromkeys(("val_every", "figures_every"), "0 (only at the end) or more")
        expected |= dict.fromkeys(positive, "null or a positive number")
        if self.precision in ("fp16", "float16", "16", "half"):
            expected["precision"] += (
                " (float16 needs scaled losses, which two optimizers do not share; bf16 needs none)"
            )

        def usable(name: str, value: Any) -> bool:
            if name in choices:
                return value in choices[name]
            if name in positive:
                return value is None or value > 0
            return value >= (1 if name in counts else 0)

        values = {name: getattr(self, name) for name in expected}
        found = [f"trainer.{n}={v}: expected {expected[n]}" for n, v in values.items() if not usable(n, v)]
        if self.profile and self.cuda_graphs:
            found.append(
                "trainer.profile=true times the parts of one iteration as it is launched; expected "
                "trainer.cuda_graphs=false"
            )
        return found


@dataclass
class MetricsSettings:
    """What is measured; `conf/metrics/default.yaml` explains each field."""

    judge: bool = True
    samples: int = 210
    inception_weights: str | None = None

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = [] if self.samples >= 2 else [f"metrics.samples={self.samples}: expected 2 or more"]
        if self.inception_weights and not Path(self.inception_weights).is_file():
            found.append(f"metrics.inception_weights={self.inception_weights}: there is no such file")
        return found


@dataclass
class LoggerSettings:
    """Where numbers and pictures go besides the run folder."""

    name: str = "csv"
    mode: str = "offline"
    project: str = "fexgan_lit"
    entity: str | None = None
    group: str | None = None
    tags: list[str] | None = None
    weights: bool = True
    patience: float = 60.0

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        checks = {"name": ("csv", "tensorboard", "wandb"), "mode": ("offline", "online")}
        found = [
            f"logger.{field}={getattr(self, field)}: expected one of {', '.join(allowed)}"
            for field, allowed in checks.items()
            if getattr(self, field) not in allowed
        ]
        return found if self.patience > 0 else [*found, f"logger.patience={self.patience}: expected seconds above 0"]


@dataclass
class TrainSettings:
    """A whole training run, typed.

    Attributes:
        model: dataclass of the chosen system, as are `loss` and `optimizer`.
        data: what the run was trained on (see `fexgan_lit.data.datamodule.data_facts`); None before it started.
    """

    seed: int
    dataset: DatasetConfig
    model: Any
    loss: Any
    optimizer: Any
    trainer: TrainerSettings
    metrics: MetricsSettings
    logger: LoggerSettings
    callbacks: dict[str, Callback]
    system: type[Any]
    sweep: SweepSettings = field(default_factory=SweepSettings)
    data: dict[str, Any] | None = None


def conf_folder() -> Path:
    """The folder `conf/`: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def load_target(name: str) -> Any:
    """The class or function an allowed `_target_` names.

    Raises:
        UserError: the name is not in `TARGETS`; nothing of it is imported.
    """
    if name not in TARGETS:
        raise UserError(f"_target_: {name} is refused; a configuration may only name: {', '.join(TARGETS)}")
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def typed(cls: type[T], values: Mapping[str, Any], section: str, problems: list[str]) -> T:
    """Fill the dataclass `cls` from `values`, adding every misspelt key and wrong type to `problems`."""
    schema = OmegaConf.structured(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for key, value in values.items():
        if key == "_target_":
            continue
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            problems.append(f"{section}.{key}: unknown." + (f" Did you mean {section}.{near[0]}?" if near else ""))
            continue
        if value is None and isinstance(schema[key], DictConfig):
            continue  # null in the YAML so that the command line can give a mapping; the default is an empty one
        try:
            if isinstance(value, Mapping) and schema[key] is None:
                schema.merge_with({key: value})  # settings inside settings; an assignment would not look into them
            else:
                schema[key] = value
        except OmegaConfBaseException as error:
            problems.append(f"{section}.{key}={value}: {str(error).splitlines()[0]}")
    settings: Any = OmegaConf.to_object(schema)
    return settings


def checked_options(cls: type[T], values: Mapping[str, Any], section: str) -> T:
    """The options of a door as its dataclass `cls`, which has `problems()`.

    Raises:
        UserError: one message with every value that cannot be used.
    """
    problems: list[str] = []
    settings: Any = typed(cls, values, section, problems)
    problems += [] if problems else settings.problems()
    if problems:
        raise UserError("the options cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return settings


def train_settings(cfg: DictConfig) -> TrainSettings:
    """Check a composed training configuration as a whole.

    Raises:
        UserError: one message with every problem found.
    """
    tree: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    problems: list[str] = []
    check_sections(tree)
    tree["trainer"].pop("iterations_per_call", None)  # in run folders of version 0.1; it changed no weights
    system = load_target(str(tree["model"].get("_target_")))
    parts = {
        "dataset": typed(DatasetConfig, tree["dataset"], "dataset", problems),
        "model": typed(system.settings_class, tree["model"], "model", problems),
        "loss": typed(system.loss_class, tree["loss"], "loss", problems),
        "optimizer": typed(system.optimizer_class, tree["optimizer"], "optimizer", problems),
        "trainer": typed(TrainerSettings, tree["trainer"], "trainer", problems),
        "metrics": typed(MetricsSettings, tree["metrics"], "metrics", problems),
        "logger": typed(LoggerSettings, tree["logger"], "logger", problems),
        # a run folder of an earlier version has none
        "sweep": typed(SweepSettings, tree.get("sweep") or {}, "sweep", problems),
    }
    if not problems:
        for part in parts.values():
            problems.extend(part.problems())
        problems.extend(_mismatches(system, parts))
    if not isinstance(tree["seed"], int):
        problems.append(f"seed={tree['seed']}: expected a whole number")
    callbacks = build_callbacks(tree.get("callbacks") or {}, problems)
    if problems:
        raise UserError("the configuration cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    return TrainSettings(seed=tree["seed"], callbacks=callbacks, system=system, data=tree.get("data"), **parts)


def check_sections(tree: Mapping[str, Any]) -> None:
    """Raise a UserError if a section of a training configuration is not there, as in a file from elsewhere."""
    sections = ("dataset", "model", "loss", "optimizer", "trainer", "metrics", "logger")
    missing = [name for name in sections if not isinstance(tree.get(name), dict)]
    if missing or "seed" not in tree:
        raise UserError(f"the configuration lacks {', '.join(missing) or 'seed'}; expected one that training wrote")


def build_callbacks(options: Mapping[str, Any], problems: list[str]) -> dict[str, Callback]:
    """The schedules of the group `callbacks`, without those set to null; what cannot be built goes to `problems`."""
    built: dict[str, Callback] = {}
    for name, values in options.items():
        if values is None:
            continue
        arguments = {key: value for key, value in values.items() if key != "_target_"}
        try:
            built[name] = load_target(str(values.get("_target_")))(**arguments)
        except (TypeError, UserError) as error:
            problems.append(f"callbacks.{name}: {error}")
    return built


def _mismatches(system: Any, parts: Mapping[str, Any]) -> list[str]:
    """Values that are fine alone but not together."""
    found = []
    ours, data = parts["model"].image_size, parts["dataset"]
    if ours != data.image_size:
        found.append(
            f"model.image_size={ours} but dataset.image_size={data.image_size}: set dataset.image_size alone, the "
            "model follows"
        )
    trainer: TrainerSettings = parts["trainer"]
    world = max(1, trainer.devices * trainer.num_nodes)
    if world > 1 and trainer.accelerator == "mps":
        found.append(f"trainer.accelerator=mps with {world} processes: expected cpu, gpu or auto")
    if data.batch_size % world:
        most = "more processes than pairs" if data.batch_size < world else "they cannot share its pairs evenly"
        found.append(
            f"dataset.batch_size={data.batch_size} on {world} processes (trainer.devices={trainer.devices}, "
            f"trainer.num_nodes={trainer.num_nodes}): {most}; expected a multiple of {world}, it is the batch of all "
            "together"
        )
    elif data.batch_size // world < system.min_batch:
        each = f", {data.batch_size // world} for each of {world} processes" if world > 1 else ""
        found.append(f"dataset.batch_size={data.batch_size}{each}: {system.min_batch_reason}")
    elif problem := micro_batch_problem(system, data.batch_size // world, trainer.micro_batch):
        found.append(problem)
    return found


def micro_batch_problem(system: Any, batch_size: int, micro_batch: int | None) -> str | None:
    """Why `system` (a class) cannot work off `batch_size` pairs `micro_batch` at a time, or None where it can."""
    if micro_batch is None or not 0 < micro_batch < batch_size:
        return None
    asked = f"trainer.micro_batch={micro_batch} with dataset.batch_size={batch_size}"
    if system.whole_batch_reason:
        return f"{asked}: {system.__name__} cannot work off a batch in parts: {system.whole_batch_reason}"
    smallest = batch_size // -(-batch_size // micro_batch)
    if smallest < system.min_batch:
        return f"{asked} leaves a part of {smallest}: {system.min_batch_reason}"
    return None
