"""What one contender's answers are worth: values pair by pair, and numbers of the whole set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.errors import UserError
from fexgan_lit.evaluation.contenders import Contender, Trained
from fexgan_lit.evaluation.people import People
from fexgan_lit.systems.base import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from fexgan_lit.data.pairs import PairBatch


class Scorer(Protocol):
    """One group of metrics, fed batch by batch."""

    def update(self, batch: PairBatch, generated: Tensor, outcome: Outcome | None) -> None:
        """Add a batch: `generated` (B, 3, S, S) in [-1, 1] for the targets of `batch`; `outcome` of systems only."""

    def columns(self) -> dict[str, np.ndarray]:
        """Values pair by pair, (N,) each, NaN where a pair has none."""

    def numbers(self) -> dict[str, float]:
        """Metrics of the whole set that are no means over pairs."""

    def recipes(self) -> dict[str, str]:
        """One line a metric: on what and how it was computed."""

    def notes(self) -> dict[str, str]:
        """Reasons for what is missing, and what to know of a figure."""


@dataclass
class Scores:
    """Everything measured of one contender.

    Attributes:
        name: of the contender.
        columns: values pair by pair, (N,).
        numbers: metrics of the whole set.
        recipes: by metric.
        notes: by subject.
        confusion: (K, K) counts, row the asked affect, column the judge's verdict; None without a judge.
        embeddings: of the generated faces, (N, E), and who they should show, (N,); None without an identity judge.
        run: folder of the run, or None for ceiling and floor.
        seed: of the run.
    """

    name: str
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    confusion: np.ndarray | None = None
    embeddings: tuple[Tensor, Tensor] | None = None
    run: str | None = None
    seed: int | None = None

    def value(self, metric: str) -> float | None:
        """The metric as one number; None where it was not measured."""
        if metric in self.columns:
            known = self.columns[metric][~np.isnan(self.columns[metric])]
            return float(known.mean()) if len(known) else None
        return self.numbers.get(metric)

    def metrics(self) -> dict[str, float]:
        """All of them."""
        found = {name: self.value(name) for name in (*self.columns, *self.numbers)}
        return {name: value for name, value in found.items() if value is not None}


@torch.no_grad()
def score(
    contender: Contender,
    batches: Iterable[PairBatch],
    scorers: Sequence[Scorer],
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Let a contender answer every batch and measure it.

    Raises:
        UserError: its faces have values that are no numbers.
    """
    device = contender.system.device if isinstance(contender, Trained) else torch.device("cpu")
    for batch in batches:
        moved = batch.to(device)
        answer = contender.answer(moved)
        outcome = answer if isinstance(answer, Outcome) else None
        generated = answer.generated if isinstance(answer, Outcome) else answer
        check_finite(generated, contender.name)
        for scorer in scorers:
            scorer.update(moved, generated, outcome)
        if progress is not None:
            progress(len(batch))
    return gather(contender, scorers)


def gather(contender: Contender, scorers: Sequence[Scorer]) -> Scores:
    """What the scorers found."""
    made = Scores(contender.name)
    for scorer in scorers:
        made.columns |= scorer.columns()
        made.numbers |= scorer.numbers()
        made.recipes |= scorer.recipes()
        made.notes |= scorer.notes()
        confusion = getattr(scorer, "confusion", None)
        if isinstance(scorer, People):
            made.embeddings = scorer.embeddings, scorer.identity
        made.confusion = confusion if confusion is not None else made.confusion
    if isinstance(contender, Trained):
        made.run, made.seed = str(contender.run.path), contender.settings.seed
    return made


def check_finite(images: Tensor, name: str) -> None:
    """Refuse faces with values that are no numbers: a mean over them would be none either.

    Raises:
        UserError: naming how many there are.
    """
    broken = ~images.isfinite().flatten(1).all(1)  # (B, 3, S, S) -> (B,)
    if broken.any():
        raise UserError(
            f"{name}: {int(broken.sum())} of {len(images)} faces in a batch hold values that are no finite numbers, so "
            "nothing can be measured. The training of this run diverged; take an earlier checkpoint "
            "(run=RUN_DIR/checkpoints/best.ckpt) or train again with a lower optimizer.lr."
        )
