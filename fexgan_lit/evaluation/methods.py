"""The methods under test: trained systems, the real images (ceiling) and the unchanged sources (floor)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from fexgan_lit.runs.sweeps.record import flatten

if TYPE_CHECKING:
    from collections.abc import Callable

    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.inference.loaded_system import LoadedSystem
    from fexgan_lit.metrics.suite import ValidationOutput
    from fexgan_lit.runs.config import TrainSettings
    from fexgan_lit.systems.base import ExpressionSystem

#: Names of the rows of the two baselines.
CEILING, FLOOR = "true frames (ceiling)", "untouched sources (floor)"


class Method(Protocol):
    """A method that generates an image for each pair."""

    @property
    def name(self) -> str:
        """Name of its table row; methods with the same name are seeds of one configuration."""

    def answer(self, batch: PairBatch) -> Tensor | ValidationOutput:
        """Return images (B, 3, S, S) in [-1, 1] for the targets of a batch."""


@dataclass(frozen=True)
class RealImages:
    """The real target frames: the best that a system can reach."""

    name: str = CEILING

    def answer(self, batch: PairBatch) -> Tensor:
        """Return the real target frames (B, 3, S, S)."""
        return batch.target


@dataclass(frozen=True)
class SourceCopy:
    """The baseline that returns the sources unchanged."""

    name: str = FLOOR

    def answer(self, batch: PairBatch) -> Tensor:
        """Return the source frames (B, 3, S, S)."""
        return batch.source


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained system loaded from its run folder.

    Attributes:
        name: name of its table row.
        loaded: the loaded run.
    """

    name: str
    loaded: LoadedSystem

    @property
    def system(self) -> ExpressionSystem:
        """The system, in evaluation mode."""
        return self.loaded.system

    def answer(self, batch: PairBatch) -> ValidationOutput:
        """Return the generated images and the outputs of the discriminator."""
        return self.system.validation_step(batch)


def open_methods(settings: EvaluationSettings, progress: Callable[[int, int], None]) -> list[Trained]:
    """Load the system of every run in the settings; a run without a name is named after its model.

    Raises:
        UserError: a run does not exist, or its weights do not fit.
    """
    from fexgan_lit.inference.loaded_system import load

    names: list[str | None] = [*settings.names] or [None] * len(settings.places)
    opened = []
    for number, (place, name) in enumerate(zip(settings.places, names, strict=True)):
        progress(number, len(settings.places))
        loaded = load(place, settings.device)
        opened.append(Trained(name or loaded.name, loaded))
    return opened if settings.names else tell_apart(opened)


def configuration(settings: TrainSettings) -> dict[str, Any]:
    """Return the options that determine what a run learns, except the seed.

    Runs with equal configurations are seeds of one another.
    """
    from dataclasses import asdict

    parts: dict[str, Any] = {name: asdict(getattr(settings, name)) for name in ("model", "loss", "optimizer")}
    parts["dataset"] = {
        key: value for key, value in asdict(settings.dataset).items() if key not in ("root", "cache_dir", "workers")
    }
    parts["start"] = settings.start
    parts["length"] = (settings.trainer.max_steps, settings.trainer.max_minutes)
    parts["trainer"] = {name: getattr(settings.trainer, name) for name in ("precision", "micro_batch")}
    parts["callbacks"] = {name: vars(callback) for name, callback in settings.callbacks.items()}
    return parts


def tell_apart(methods: list[Trained]) -> list[Trained]:
    """Give runs of different configurations different names, and runs of one configuration the same name.

    The first configuration keeps its name; the names of the others list the options that differ from it.
    """
    from dataclasses import replace

    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    named = []
    for method in methods:
        flat = {key: str(value) for key, value in flatten(configuration(method.loaded.run)).items()}
        known = groups.setdefault(method.name, [])
        label = next((label for label, other in known if other == flat), None)
        if label is None:
            label = method.name if not known else f"{method.name} ({_difference(known[0][1], flat)})"
            known.append((label, flat))
        named.append(replace(method, name=label))
    return named


def _difference(first: dict[str, str], other: dict[str, str], most: int = 3) -> str:
    changed = [f"{key}={other.get(key)}" for key in sorted(first | other) if first.get(key) != other.get(key)]
    more = f", {len(changed) - most} more" if len(changed) > most else ""
    return ", ".join(changed[:most]) + more
