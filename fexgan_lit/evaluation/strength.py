"""Does the shown strength follow the asked one? Every affect of every identity at rising strengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fexgan_lit.metrics.expression_scores import affect_margin, affect_prototypes, au_intensity, strength_follows

if TYPE_CHECKING:
    from fexgan_lit.evaluation.contenders import Trained
    from fexgan_lit.evaluation.ground import Ground
    from fexgan_lit.metrics.judges import JudgeBench

#: Strengths asked for.
ASKED = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Strength:
    """How the shown strength follows the asked one.

    Attributes:
        rho: Spearman's rank correlation, mean over all series.
        by_affect: the same by affect; neutral is left out.
        flat: series in which nothing changed at all.
        series: how many there are.
        how: how strength was measured, in words.
    """

    rho: float
    by_affect: dict[str, float]
    flat: int
    series: int
    how: str


@torch.no_grad()
def measure_strength(contender: Trained, ground: Ground, judges: JudgeBench) -> Strength | None:
    """Ask for every affect of every identity at rising strengths; None where there is no affect to ask for."""
    from fexgan_lit.data.wanted import at_strength
    from fexgan_lit.metrics.measure import affect_grid

    system, affects = contender.system, ground.data.affects
    grid = affect_grid(system, ground.frames)
    asked_affects = [k for k, name in enumerate(affects) if name != "neutral"]
    if not asked_affects:
        return None
    shown, device = grid.shown, system.device
    faces = torch.stack(
        [
            torch.stack(
                [
                    system.synthesize(
                        grid.references.to(device), shown.to(device), at_strength(shown, grid.wanted[k], s).to(device)
                    ).cpu()
                    for s in ASKED
                ],
                dim=1,
            )
            for k in asked_affects
        ]
    )  # fmt: skip  (A, I, L, 3, S, S)
    A, identities, L = faces.shape[:3]
    index = torch.tensor(asked_affects).repeat_interleave(identities * L)  # (A*I*L,)
    measured, how = intensities(faces.flatten(0, 2), index, ground, judges)
    score = strength_follows(torch.tensor(ASKED).expand(A * identities, L), measured.view(A * identities, L))
    by_affect = score.per_series.view(A, identities).mean(1).tolist()
    names = [affects[k] for k in asked_affects]
    return Strength(score.rho, dict(zip(names, by_affect, strict=True)), score.flat, A * identities, how)


def intensities(faces: Tensor, affect: Tensor, ground: Ground, judges: JudgeBench) -> tuple[Tensor, str]:
    """How strongly faces (N, 3, S, S) show the asked affects (N,): (N,), and how that was measured."""
    train = ground.data.train
    aus = judges.aus(faces) if train.aus is not None else None
    if aus is not None:
        rest, directions = affect_prototypes(train)
        known = ~aus.isnan().any(0)  # a user's judge may not read all units
        values = au_intensity(aus[:, known], rest[known], directions[affect][:, known])
        if values.isfinite().all():
            return values, "action units read from the face, along the affect's direction in the training frames"
    return affect_margin(judges.affect_logits(faces), affect), "the judge's logit of the affect less the next one"
