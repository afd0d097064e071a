"""A few hundred steps on a handful of images, beside the data of the run so that these are not forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fexgan_lit.errors import UserError
from fexgan_lit.expression import Expression
from fexgan_lit.generation.expressions import rows_of
from fexgan_lit.losses import absolute_difference

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.generation.handful import Handful
    from fexgan_lit.systems.base import ExpressionSystem

#: Networks through which faces are made; the others of a system only judge.
MAKERS = ("encoder", "decoder", "generator")
#: Images of the handful, and as many pairs of the run's data, in one step.
_BATCH = 12
#: Steps between two calls of the progress.
_TELL = 10


def tunable(system: ExpressionSystem, names: Sequence[str] | None) -> dict[str, nn.Module]:
    """The networks to tune: those called `names`; None: the decoder, or the generator of a system without one.

    Raises:
        UserError: the system makes faces with none of that name.
    """
    there = {name: part for name, part in system.portable_parts().items() if name in MAKERS}
    if names is None:
        return {name: there[name] for name in ("decoder",) if name in there} or there
    unknown = [name for name in names if name not in there]
    if unknown or not names:
        raise UserError(
            f"networks={list(names)}: expected some of {', '.join(there)}, by which {system.settings.name} makes faces"
        )
    return {name: there[name] for name in names}


@dataclass(frozen=True)
class TuningRecipe:
    """How the tuning goes.

    Attributes:
        steps: of Adam.
        rate: of Adam.
        keep: weight of the reconstruction of the run's own data; 0 forgets them.
    """

    steps: int = 300
    rate: float = 2e-4
    keep: float = 1.0


def tune(
    system: ExpressionSystem, parts: Sequence[nn.Module], handful: Handful, old: Iterator[PairBatch],
    recipe: TuningRecipe, seed: int, progress: Callable[[int], None] | None = None,
) -> list[tuple[float, float]]:  # fmt: skip
    """Train `parts` of `system` in place, with the running statistics of their norms and without dropout.

    The loss is the reconstruction that all systems share, L1 between what is made of a source and the true image
    (equation 2 of FExGAN): on the handful, plus `keep` times that on pairs of the run's data.

    Returns:
        both parts of the loss, step by step.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [parameter for part in parts for parameter in part.parameters()]
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.Adam(weights, recipe.rate, betas=(0.5, 0.999))
    system.eval()
    history = []
    for step in range(recipe.steps):
        chosen = handful.learnt[torch.randint(len(handful.learnt), (_BATCH,), generator=generator)]
        new = reconstruction(system, *handful.pairs(chosen, generator))
        kept = reconstruction(system, *_parts_of(next(old), len(system.affects))) if recipe.keep else new.new_zeros(())
        optimizer.zero_grad(set_to_none=True)
        (new + recipe.keep * kept).backward()
        optimizer.step()
        history.append((new.item(), kept.item()))
        if progress is not None and (step + 1) % _TELL == 0:
            progress(_TELL)
    for weight in weights:
        weight.requires_grad_(False)
    return history


def reconstruction(
    system: ExpressionSystem, source: Tensor, shown: Expression, target: Tensor, wanted: Expression
) -> Tensor:
    """Mean |made - true| of a batch: sources (B, 3, S, S), targets the same, in [-1, 1]."""
    device = system.device
    made = system(source.to(device), shown.to(device), wanted.to(device))
    return absolute_difference(made, target.to(device))


def _parts_of(batch: PairBatch, affects: int) -> tuple[Tensor, Expression, Tensor, Expression]:
    """The first pairs of a batch of the run's data, as `Handful.pairs` gives them."""
    few = range(min(_BATCH, len(batch)))
    shown, wanted = rows_of(batch.source_expression(affects), few), rows_of(batch.target_expression(affects), few)
    return batch.source[: len(few)], shown, batch.target[: len(few)], wanted
