"""Who is measured: trained systems, and beside them the true frames (ceiling) and the untouched sources (floor)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.evaluation.config import EvaluationSettings
    from fexgan_lit.inference.loaded_system import LoadedSystem
    from fexgan_lit.metrics.suite import ValidationOutput
    from fexgan_lit.runs.config import TrainSettings
    from fexgan_lit.systems.base import ExpressionSystem

#: Names of the rows that no system made.
CEILING, FLOOR = "true frames (ceiling)", "untouched sources (floor)"


class Method(Protocol):
    """Something that answers pairs with faces."""

    @property
    def name(self) -> str:
        """Of its row; methods of one name are seeds of one configuration."""

    def answer(self, batch: PairBatch) -> Tensor | ValidationOutput:
        """Faces (B, 3, S, S) in [-1, 1] for the targets of a batch."""


@dataclass(frozen=True)
class RealImages:
    """The true target frames: what no system can beat."""

    name: str = CEILING

    def answer(self, batch: PairBatch) -> Tensor:
        """The targets."""
        return batch.target


@dataclass(frozen=True)
class SourceCopy:
    """The sources returned as they are: the baseline that does nothing."""

    name: str = FLOOR

    def answer(self, batch: PairBatch) -> Tensor:
        """The sources."""
        return batch.source


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained system out of its run folder.

    Attributes:
        name: of its row.
        loaded: the opened run.
    """

    name: str
    loaded: LoadedSystem

    @property
    def system(self) -> ExpressionSystem:
        """The system, in evaluation mode."""
        return self.loaded.system

    def answer(self, batch: PairBatch) -> ValidationOutput:
        """What the system makes of a batch, and what its discriminator says of it."""
        return self.system.validation_step(batch)


def open_methods(settings: EvaluationSettings, progress: Callable[[int, int], None]) -> list[Trained]:
    """The systems of every run that was named; a run without a name of its own is called by its model.

    Raises:
        UserError: there is no run, or its weights do not fit.
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
    """Everything that decides what a run learns, but for its seed: runs that agree in it are seeds of one another."""
    from dataclasses import asdict

    parts: dict[str, Any] = {name: asdict(getattr(settings, name)) for name in ("model", "loss", "optimizer")}
    parts["dataset"] = {
        key: value for key, value in asdict(settings.dataset).items() if key not in ("root", "cache_dir", "workers")
    }
    parts["length"] = (settings.trainer.max_steps, settings.trainer.max_minutes)
    parts["trainer"] = {name: getattr(settings.trainer, name) for name in ("precision", "micro_batch")}
    parts["callbacks"] = {name: vars(callback) for name, callback in settings.callbacks.items()}
    return parts


def tell_apart(methods: list[Trained]) -> list[Trained]:
    """Give runs of different configurations different names, those of one configuration the same.

    The first configuration of a name keeps it; the others get the options in which they differ from it.
    """
    from dataclasses import replace

    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    named = []
    for method in methods:
        flat = _flat(configuration(method.loaded.run))
        known = groups.setdefault(method.name, [])
        label = next((label for label, other in known if other == flat), None)
        if label is None:
            label = method.name if not known else f"{method.name} ({_difference(known[0][1], flat)})"
            known.append((label, flat))
        named.append(replace(method, name=label))
    return named


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Every value as text, by its full name."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def _difference(first: dict[str, str], other: dict[str, str], most: int = 3) -> str:
    changed = [f"{key}={other.get(key)}" for key in sorted(first | other) if first.get(key) != other.get(key)]
    more = f", {len(changed) - most} more" if len(changed) > most else ""
    return ", ".join(changed[:most]) + more
