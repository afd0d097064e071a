"""What one contender's answers are worth: values pair by pair, and numbers of the whole set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.errors import UserError
from fexgan_lit.evaluation.contenders import Contender, Trained
from fexgan_lit.metrics.groups import IdentityMetrics
from fexgan_lit.systems.base import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.metrics.suite import MetricSuite


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
    suite: MetricSuite,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Let a contender answer every batch and measure it.

    Raises:
        UserError: its faces have values that are no numbers, or there is no pair.
    """
    device = contender.system.device if isinstance(contender, Trained) else torch.device("cpu")
    suite.to(device)
    for batch in batches:
        moved = batch.to(device)
        answer = contender.answer(moved)
        outcome = answer if isinstance(answer, Outcome) else None
        generated = answer.generated if isinstance(answer, Outcome) else answer
        check_finite(generated, contender.name)
        suite.update(moved, generated, outcome)
        if progress is not None:
            progress(len(batch))
    if not suite.n:
        raise UserError("there is nothing to measure: no image was generated; is the split empty?")
    columns = {name: column.double().numpy() for name, column in suite.per_pair().items()}
    made = Scores(contender.name, columns, suite.numbers(), suite.recipes(), suite.notes())
    confusion = suite.confusion()
    made.confusion = None if confusion is None else confusion.numpy()
    identity = [group for group in suite.groups if isinstance(group, IdentityMetrics)]
    made.embeddings = identity[0].embeddings if identity else None
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
