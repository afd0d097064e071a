"""Convert a composed configuration to typed settings and objects; one message lists all its problems."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fexgan_lit.data.config import DatasetConfig, name_problems
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.utils.errors import UserError, did_you_mean
from fexgan_lit.utils.hardware import PRECISIONS
from fexgan_lit.utils.hydra import MOVED
from fexgan_lit.utils.options import ANY_SEED, Options, argument_problems, option, typed
from fexgan_lit.utils.trust import ALIASES, load_target, targets_in

if TYPE_CHECKING:
    from lightning.pytorch import Callback


SAMPLERS = ("tpe", "random", "nsgaii")


DIRECTIONS = ("minimize", "maximize")


@dataclass
class PruningSettings(Options):
    """When a job of a sweep is stopped early (pruned)."""

    section = "sweep.pruning"

    warmup: int = option(0, at_least=0)
    min_runs: int = option(4, at_least=1)
    quantile: float = option(0.5, "a share between 0 and 1, such as 0.5", above=0, below=1)


@dataclass
class SweepSettings(Options):
    """The options of a sweep; a grid only reads `objectives` and `pruning`, a search reads all of them."""

    section = "sweep"

    objectives: list[str] = field(default_factory=list)
    pruning: PruningSettings | None = None
    trials: int = option(50, at_least=1, at_most=1_000_000)
    jobs: int = option(1, at_least=1, at_most=4096)
    sampler: str = option("tpe", choices=SAMPLERS)
    startup: int = option(10, at_least=1)
    seed: int = 0
    space: Any = None

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        found = [
            f"sweep.objectives: {text}: expected minimize:METRIC or maximize:METRIC"
            for text in self.objectives
            if text.partition(":")[0] not in DIRECTIONS or not text.partition(":")[2].strip()
        ]
        if self.pruning is not None and not self.objectives:
            found.append("sweep.pruning: it compares runs by sweep.objectives, which is empty")
        return found

    @property
    def directions(self) -> dict[str, str]:
        """Maps metrics, named as in metrics.csv, to minimize or maximize; a bare name means the validation split."""
        parts = [text.partition(":") for text in self.objectives]
        return {(name.strip() if "/" in name else f"final/val/{name.strip()}"): way for way, _, name in parts}


#: Arguments of Lightning's `Trainer`, and the options of this project that replace them.
_TWICE = {
    "max_time": "max_minutes", "profiler": "profile", "val_check_interval": "val_every",
    "log_every_n_steps": "log_every",
}  # fmt: skip


@dataclass
class TrainerSettings(Options):
    """The options of the trainer: length, device, intervals; `conf/trainer/default.yaml` explains each field.

    Attributes:
        lightning: further arguments of Lightning's `Trainer` (`+trainer.limit_train_batches=3`).
    """

    section = "trainer"

    max_steps: int = option(100_000, at_least=1)
    max_minutes: float | None = option(None, "null or a positive number", above=0)
    accelerator: str = option("auto", choices=("auto", "cpu", "gpu", "mps"))
    devices: int = option(1, at_least=1, at_most=4096)
    num_nodes: int = option(1, at_least=1, at_most=65536)
    sync_batchnorm: bool = False
    go_on: bool = False
    precision: str = option(
        "auto", "one of auto, float32, bf16 (not float16, which needs scaled losses that two optimizers do not share)",
        choices=("auto", "float32", "bf16", *PRECISIONS),
    )  # fmt: skip
    kernels: str = option("auto", choices=("auto", "false"))
    channels_last: bool = True
    compile: bool = False
    cuda_graphs: bool = False
    data_on_device: str = option("auto", choices=("auto", "true", "false"))
    micro_batch: int | None = option(None, "null or a positive number", at_least=1)
    auto_batch: bool = False
    memory_limit_gb: float | None = option(None, "null or a positive number", above=0)
    profile: bool = False
    profile_iterations: int = option(20, at_least=1, at_most=100_000)
    threads: int | None = option(None, at_least=1, at_most=1024)
    deterministic: bool = False
    log_every: int = option(50, at_least=1)
    val_every: int = option(1000, "0 (only at the end) or more", at_least=0)
    figures_every: int = option(1000, "0 (only at the end) or more", at_least=0)
    checkpoint_every: int = option(500, at_least=1)
    lightning: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # OmegaConf converts true and false to "True" and "False"
        self.data_on_device, self.kernels = str(self.data_on_device).lower(), str(self.kernels).lower()

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        found = []
        for theirs, ours in _TWICE.items():
            if theirs in self.lightning and getattr(self, ours) != getattr(TrainerSettings(), ours):
                found.append(f"trainer.{theirs} and trainer.{ours} set the same value; expected one of them")
        if self.lightning.get("gradient_clip_val") is not None:
            found.append(
                "trainer.gradient_clip_val: Lightning has none in manual optimisation; expected optimizer.clip_norm"
            )
        if self.profile and self.cuda_graphs:
            found.append(
                "trainer.profile=true times the parts of one iteration as it is launched; expected "
                "trainer.cuda_graphs=false"
            )
        return found


@dataclass
class MetricsSettings(Options):
    """The options of the metrics; `conf/metrics/default.yaml` explains each field."""

    section = "metrics"

    judge: bool = True
    samples: int = option(210, at_least=2, at_most=1_000_000)
    inception_weights: str | None = None

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        if self.inception_weights and not os.path.isfile(self.inception_weights):  # noqa: PTH113 (a Path raises)
            return [f"metrics.inception_weights={self.inception_weights}: there is no such file"]
        return []


@dataclass
class LoggerSettings(Options):
    """The options of the loggers, which receive metrics and figures in addition to the run folder.

    Attributes:
        use: whether each logger is used, by name; if empty, only `name` is used, as in run folders of version 0.1.
        own: configurations of the user's own Lightning loggers by name.
    """

    section = "logger"

    name: str = "csv"
    use: dict[str, bool] = field(default_factory=dict)
    mode: str = option("offline", choices=("offline", "online"))
    project: str = "fexgan_lit"
    entity: str | None = None
    group: str | None = None
    tags: list[str] | None = None
    weights: bool = True
    patience: float = option(60.0, "seconds above 0", above=0)
    own: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the loggers in use."""
        return [name for name, used in self.use.items() if used] or [self.name]

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        known = ("csv", "tensorboard", "wandb")
        return [f"logger={name}: expected some of {', '.join(known)}" for name in self.names if name not in known]


@dataclass
class TrainSettings:
    """The typed settings of a training run.

    Attributes:
        model: the settings of the system; `model`, `loss` and `optimizer` are dataclasses of the system.
        start: the run, or model of the package, whose weights the training starts from; None for random ones.
        data: facts about the training data (see `fexgan_lit.data.datamodule.data_facts`); None before the run starts.
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
    start: str | None = None


def train_settings(cfg: DictConfig) -> TrainSettings:
    """Convert and check a composed training configuration; its classes must be in `TARGETS` or trusted packages.

    Raises:
        UserError: one message that lists all problems.
    """
    tree: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    problems: list[str] = []
    check_sections(tree)
    # from run folders of earlier versions; neither has an effect on the weights
    tree["trainer"].pop("iterations_per_call", None)
    if (strategy := tree["trainer"].pop("strategy", "auto")) not in ("auto", "ddp"):
        problems.append(f"trainer.strategy={strategy}: {MOVED['trainer.strategy']}")
    system = load_system_class(str(tree["model"].get("_target_")))
    tree["trainer"] = split_trainer(tree["trainer"], problems)
    given = {name: value for name, value in tree["logger"].items() if isinstance(value, dict) and "_target_" in value}
    kept = {name: value for name, value in tree["logger"].items() if name not in given}
    tree["logger"] = {**kept, "own": {**(kept.get("own") or {}), **given}}
    for section in ("trainer", "logger"):
        try:
            for target in targets_in(tree[section]):
                load_target(target)
        except UserError as error:
            raise UserError(f"{section}: {error}") from error
    parts = {
        "dataset": typed(DatasetConfig, tree["dataset"], "dataset", problems),
        "model": typed(system.settings_class, tree["model"], "model", problems),
        "loss": typed(system.loss_class, tree["loss"], "loss", problems),
        "optimizer": typed(system.optimizer_class, tree["optimizer"], "optimizer", problems),
        "trainer": typed(TrainerSettings, tree["trainer"], "trainer", problems),
        "metrics": typed(MetricsSettings, tree["metrics"], "metrics", problems),
        "logger": typed(LoggerSettings, tree["logger"], "logger", problems),
        # run folders of earlier versions have no section sweep
        "sweep": typed(SweepSettings, tree.get("sweep") or {}, "sweep", problems),
    }
    if not problems:
        for part in parts.values():
            problems.extend(part.problems())
        problems.extend(_mismatches(system, parts))
    if type(tree["seed"]) is not int:
        problems.append(f"seed={tree['seed']}: expected a whole number")
    problems += ANY_SEED.problem("seed", tree["seed"])
    problems += data_problems(tree.get("data") or {})
    callbacks = build_callbacks(tree.get("callbacks") or {}, problems)
    if problems:
        raise UserError("the configuration cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    start = None if tree.get("start") is None else str(tree["start"])
    return TrainSettings(
        seed=tree["seed"], callbacks=callbacks, system=system, data=tree.get("data"), start=start, **parts
    )


def check_sections(tree: Mapping[str, Any]) -> None:
    """Raise a UserError if a section of a training configuration is missing or has another form."""
    for group, moved in MOVED.items():
        if isinstance(tree.get(group), str):
            raise UserError(f"{group}={tree[group]}: {moved}")
    for group in ("dataset", "model"):
        section = tree.get(group)
        if isinstance(section, dict) and isinstance(section.get(group), dict):
            raise UserError(
                f"{group}.{group}: a file in conf/{group} that has sections begins with the line # @package _global_"
            )
    sections = ("dataset", "model", "loss", "optimizer", "trainer", "metrics", "logger")
    missing = [name for name in sections if not isinstance(tree.get(name), dict)]
    if missing or "seed" not in tree:
        hint = ", or a file of the model with a section optimizer" if missing == ["optimizer"] else ""
        lacking = ", ".join(missing) or "seed"
        raise UserError(f"the configuration lacks {lacking}; expected one that training wrote{hint}")
    for name in ("data", "callbacks", "sweep"):
        if not isinstance(tree.get(name) or {}, dict):
            raise UserError(f"{name}: {tree[name]!r}; expected a mapping")


def data_problems(facts: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each invalid fact about a run's data (`fexgan_lit.data.datamodule.data_facts`)."""
    found = []
    for name in ("affects", "identities"):
        names = facts.get(name, [])
        if not isinstance(names, list) or not all(isinstance(each, str) and "\n" not in each for each in names):
            found.append(f"data.{name}: expected a list of names, found {names!r:.80}")
        elif len(set(names)) < len(names):
            found.append(f"data.{name}: a name occurs twice")
    found += [
        f"data.{name}={facts[name]!r:.80}: expected a whole number"
        for name in ("train_frames", "val_frames") if type(facts.get(name, 0)) is not int
    ]  # fmt: skip
    framing, largest = facts.get("framing"), facts.get("largest_units")
    if framing is not None and not (_numbers(framing, list) and len(framing) == 3 and framing[2] > 0):
        found.append(f"data.framing={framing!r:.80}: expected three numbers, the last above 0")
    if largest is not None and not (_numbers(largest, dict) and {f"AU{u:02d}" for u in ACTION_UNITS} == set(largest)):
        found.append(f"data.largest_units={largest!r:.80}: expected a number for each of the {len(ACTION_UNITS)} units")
    return found if not facts or facts.get("affects") else [*found, "data.affects: expected one name or more"]


def _numbers(value: Any, kind: type) -> bool:
    """Return whether `value` is a list or mapping of numbers below a million; NaN and infinity are none."""
    values = value.values() if isinstance(value, dict) else value
    return isinstance(value, kind) and all(isinstance(v, int | float) and abs(v) < 1e6 for v in values)


def load_system_class(name: str) -> Any:
    """Import the class of the system in `model._target_`.

    Raises:
        UserError: the class is not trusted, or is not a system.
    """
    from fexgan_lit.systems.base import ExpressionSystem

    found = load_target(name)
    if not (isinstance(found, type) and issubclass(found, ExpressionSystem)):
        raise UserError(f"model._target_={name} is refused; expected a class derived from {ExpressionSystem.__name__}")
    return found


def split_trainer(options: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Move arguments of Lightning's `Trainer` in the group `trainer` to `lightning`; add unknown ones to `problems`."""
    if options.get("devices") == "auto":
        import torch

        gpus = torch.cuda.device_count() if options.get("accelerator") in ("auto", "gpu") else 0
        options = {**options, "devices": max(1, gpus)}
    ours = [f.name for f in fields(TrainerSettings)]
    foreign = {str(name): value for name, value in options.items() if name not in ours}
    if not foreign:
        return dict(options)
    from lightning.pytorch import Trainer

    theirs = [name for name in inspect.signature(Trainer.__init__).parameters if name != "self"]
    elsewhere = {"callbacks": "callbacks.NAME", "logger": "logger.NAME", "default_root_dir": "hydra.run.dir"}
    for name in foreign:
        if name in elsewhere:
            problems.append(f"trainer.{name}: expected {elsewhere[name]} in its place")
        elif name not in theirs:
            hint = did_you_mean(name, [*ours, *theirs], "trainer.")
            problems.append(f"trainer.{name}: unknown here and to Lightning's Trainer.{hint}")
    kept = {name: value for name, value in options.items() if name in ours}
    given = {name: value for name, value in foreign.items() if name in theirs and name not in elsewhere}
    return {**kept, "lightning": {**(kept.get("lightning") or {}), **given}}


def build_callbacks(options: Mapping[str, Any], problems: list[str]) -> dict[str, Callback]:
    """Instantiate the callbacks that are not null; messages on invalid ones are added to `problems`."""
    from hydra.errors import HydraException
    from hydra.utils import instantiate
    from lightning.pytorch import Callback

    built: dict[str, Callback] = {}
    for name, values in options.items():
        if values is None:
            continue
        if not isinstance(values, Mapping):
            problems.append(f"callbacks.{name}: {values!r}; expected a mapping with _target_, or null")
            continue
        try:
            for found in targets_in(values):
                load_target(found)
            target = str(values.get("_target_"))
            if wrong := argument_problems(f"callbacks.{name}", load_target(target), values):
                problems += wrong
                continue
            built[name] = instantiate({**values, "_target_": ALIASES.get(target, target)})
        except (TypeError, HydraException, UserError) as error:
            cause = error if isinstance(error, UserError) else error.__cause__ or error
            problems.append(f"callbacks.{name}: {(str(cause).splitlines() or ['it cannot be built'])[0]}")
        else:
            if not isinstance(built[name], Callback):
                problems.append(f"callbacks.{name}: {values.get('_target_')} is not a callback of Lightning")
    return built


def _mismatches(system: Any, parts: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each combination of valid sections that is not allowed."""
    found = name_problems("model.name", str(parts["model"].name))
    ours, data = parts["model"].image_size, parts["dataset"]
    if ours != data.image_size:
        found.append(
            f"model.image_size={ours} but dataset.image_size={data.image_size}: set only dataset.image_size, which "
            "the model follows"
        )
    trainer: TrainerSettings = parts["trainer"]
    world = max(1, trainer.devices * trainer.num_nodes)
    if world > 1 and trainer.accelerator == "mps":
        found.append(f"trainer.accelerator=mps with {world} processes: expected cpu, gpu or auto")
    if data.batch_size % world:
        most = "more processes than pairs" if data.batch_size < world else "they cannot share its pairs evenly"
        found.append(
            f"dataset.batch_size={data.batch_size} on {world} processes (trainer.devices={trainer.devices}, "
            f"trainer.num_nodes={trainer.num_nodes}): {most}; expected a multiple of {world}, since it is the batch of "
            "all processes together"
        )
    elif data.batch_size // world < system.min_batch:
        each = f", {data.batch_size // world} for each of {world} processes" if world > 1 else ""
        found.append(f"dataset.batch_size={data.batch_size}{each}: {system.min_batch_reason}")
    elif problem := micro_batch_problem(system, data.batch_size // world, trainer.micro_batch):
        found.append(problem)
    return found


def micro_batch_problem(system: Any, batch_size: int, micro_batch: int | None) -> str | None:
    """Return why the class `system` cannot process `batch_size` pairs in parts of `micro_batch`, or None."""
    if micro_batch is None or not 0 < micro_batch < batch_size:
        return None
    asked = f"trainer.micro_batch={micro_batch} with dataset.batch_size={batch_size}"
    if system.whole_batch_reason:
        return f"{asked}: {system.__name__} cannot process a batch in parts: {system.whole_batch_reason}"
    smallest = batch_size // -(-batch_size // micro_batch)
    if smallest < system.min_batch:
        return f"{asked} leaves a part of {smallest}: {system.min_batch_reason}"
    return None
