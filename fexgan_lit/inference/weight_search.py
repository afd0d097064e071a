"""Search for weights of several affects so that a judge sees each with its target share; computation only.

FExGAN-Meta (arXiv 2203.05975, section 5) chooses its lambda by hand and names learning it as future work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fexgan_lit.expression import Expression, rows_of
from fexgan_lit.inference.conditions import Direction, combine

#: Maximum weight of an affect.
LARGEST = 10.0
#: Adam's learning rates for log-weights and for a shift of the codes; standard deviation of later starts (log-weights).
_RATE, _SHIFT_RATE, _SPREAD = 0.05, 0.02, 0.5
#: Faces per step.
_BATCH = 16
#: Steps between two progress updates.
_TELL = 10


@dataclass(frozen=True, eq=False)
class Faces:
    """N source faces of a blend, with the direction of each affect.

    Attributes:
        images: (N, 3, S, S) in [-1, 1].
        shown: expressions of the sources, (N, ...).
        directions: P directions, one for each affect of the blend.
        landmarks: (N, 68, 2), or None.
        embeddings: (N, E) embeddings of the images by the identity judge, or None.
        identity: (N,) class index of the identity for the affect judge.
    """

    images: Tensor
    shown: Expression
    directions: tuple[Direction, ...]
    landmarks: Tensor | None
    embeddings: Tensor | None
    identity: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: Tensor) -> Faces:
        """Return the faces at `index` (M,)."""

        def taken(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[index]

        directions = tuple(Direction(d.label[index], _rows(d.units, index), taken(d.motion)) for d in self.directions)
        return Faces(
            self.images[index], rows_of(self.shown, index), directions, taken(self.landmarks), taken(self.embeddings),
            self.identity[index],
        )  # fmt: skip


def _rows(units: Tensor | None, index: Tensor) -> Tensor | None:
    """Index the rows of (N, 17) or (1, 17) units; one row stands for all."""
    return units if units is None or len(units) == 1 else units[index]


@dataclass(frozen=True, eq=False)
class Aim:
    """The objective of the search.

    Attributes:
        system: a system with `forward`, and with `codes` and `paint_codes` for a shift.
        judge: function from images to a reading with `affect_logits` (B, K).
        embed: function from images to unit embeddings (B, E), or None.
        shares: (K,) target shares of the affects, which sum to 1.
        keep_identity: weight of the identity loss.
        keep_codes: weight of the shift's mean square.
    """

    system: Any
    judge: Callable[[Tensor], Any]
    embed: nn.Module | None
    shares: Tensor
    keep_identity: float = 1.0
    keep_codes: float = 0.1

    def paint(self, faces: Faces, weights: Tensor, shift: Tensor | None) -> Tensor:
        """Generate images (N, 3, S, S) with the weights (P,) and a shift (n,) of the codes; differentiable in both."""
        device = self.system.device
        asked = combine(faces.directions, weights, faces.landmarks).to(device)
        images, shown = faces.images.to(device), faces.shown.to(device)
        if shift is None:
            return self.system(images, shown, asked)
        return self.system.paint_codes(self.system.codes(images, shown, asked) + shift, asked)

    def loss(self, faces: Faces, weights: Tensor, shift: Tensor | None) -> Tensor:
        """Return the mean KL divergence of the judge's probabilities from the shares, plus identity and shift terms."""
        made = self.paint(faces, weights, shift)
        total = divergence(self.judge(made).affect_logits, self.shares.to(made.device))
        if self.embed is not None and faces.embeddings is not None and self.keep_identity:
            likeness = (self.embed(made) * faces.embeddings.to(made.device)).sum(1).mean()
            total = total + self.keep_identity * (1 - likeness)
        return total if shift is None else total + self.keep_codes * shift.square().mean()


def divergence(logits: Tensor, shares: Tensor) -> Tensor:
    """Return the mean of KL(shares || softmax(logits)) over images: `logits` (B, K), `shares` (K,)."""
    known = shares > 0
    ideal = (shares[known] * shares[known].log()).sum()
    return ideal - (shares * F.log_softmax(logits.float(), dim=1)).sum(1).mean()


@dataclass(frozen=True, eq=False)
class Found:
    """Weights (P,), a shift (n,) of the codes or None, and the loss on all faces of the search."""

    weights: Tensor
    shift: Tensor | None
    loss: float


def search(
    aim: Aim, faces: Faces, start: Sequence[float], steps: int, restarts: int, seed: int,
    progress: Callable[[int], None] | None = None,
) -> Found:  # fmt: skip
    """Return the best of several gradient descents on the logarithms of the weights.

    Args:
        aim: the objective.
        faces: source faces.
        start: P initial weights of the first descent, the papers' own; other descents start at random around them.
        steps: steps of Adam in each descent.
        restarts: number of descents.
        seed: seed of the starts and of the order of faces.
        progress: called with the number of new steps.
    """
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor(start).log()
    found = []
    for number in range(restarts):
        jitter = _SPREAD * torch.randn(len(start), generator=generator) if number else torch.zeros(len(start))
        found.append(_descend(aim, faces, centre + jitter, None, steps, generator, progress))
    return min(found, key=lambda each: each.loss)


def with_shift(
    aim: Aim, faces: Faces, found: Found, steps: int, seed: int, progress: Callable[[int], None] | None = None
) -> Found:
    """Continue from `found` with a shift of the codes, initially 0 and equal for all faces."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.zeros(aim.system.settings.latent_size)
    better = _descend(aim, faces, found.weights.log(), shift, steps, generator, progress)
    return better if better.loss < found.loss else replace(found, shift=shift)


def _descend(
    aim: Aim, faces: Faces, start: Tensor, shift: Tensor | None, steps: int, generator: torch.Generator,
    progress: Callable[[int], None] | None,
) -> Found:  # fmt: skip
    device = aim.system.device
    logs = start.clone().to(device).requires_grad_()
    moved = None if shift is None else shift.clone().to(device).requires_grad_()
    groups: list[dict[str, Any]] = [{"params": [logs], "lr": _RATE}]
    groups += [{"params": [moved], "lr": _SHIFT_RATE}] if moved is not None else []
    optimizer = torch.optim.Adam(groups)
    for step in range(steps):
        chosen = torch.randperm(len(faces), generator=generator)[:_BATCH]
        loss = aim.loss(faces.rows(chosen), _weights(logs), moved)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if progress is not None and (step + 1) % _TELL == 0:
            progress(_TELL)
    with torch.no_grad():
        weights, last = _weights(logs), None if moved is None else moved.detach()
        total = sum(
            float(aim.loss(faces.rows(part), weights, last)) * len(part)
            for part in torch.arange(len(faces)).split(_BATCH)
        )
    return Found(weights.cpu(), None if last is None else last.cpu(), total / len(faces))


def _weights(logs: Tensor) -> Tensor:
    return logs.exp().clamp(max=LARGEST)


@dataclass(frozen=True)
class Reading:
    """The judges' results for N generated images.

    Attributes:
        shares: mean probability of each affect of the blend.
        elsewhere: mean probability of all other affects.
        both: share of images in which every affect of the blend has at least half its target share.
        divergence: mean KL divergence from the target shares.
        kept: share of images in which the affect judge recognises the identity of the source.
        likeness: mean cosine similarity with the source's embedding, or None without an identity judge.
    """

    shares: tuple[float, ...]
    elsewhere: float
    both: float
    divergence: float
    kept: float
    likeness: float | None


@torch.no_grad()
def read(aim: Aim, faces: Faces, index: Sequence[int], weights: Tensor, shift: Tensor | None = None) -> Reading:
    """Generate images of `faces` with a blend and evaluate them with the judges.

    Args:
        aim: the system and the judges.
        faces: N source faces.
        index: P class indices of the blend, in the order of its directions.
        weights: (P,) weights of the blend.
        shift: (n,) shift of the codes, or None.
    """
    device = aim.system.device
    logits, people, likeness = [], [], []
    for part in torch.arange(len(faces)).split(_BATCH):
        some = faces.rows(part)
        made = aim.paint(some, weights.to(device), None if shift is None else shift.to(device))
        seen = aim.judge(made)
        logits.append(seen.affect_logits.cpu())
        people.append(seen.identity_logits.argmax(1).cpu() == some.identity)
        if aim.embed is not None and some.embeddings is not None:
            likeness.append((aim.embed(made).cpu() * some.embeddings).sum(1))
    every = torch.cat(logits)
    seen_shares = every.float().softmax(1)[:, list(index)]  # (N, P)
    asked = aim.shares[list(index)]
    return Reading(
        tuple(seen_shares.mean(0).tolist()), float(1 - seen_shares.sum(1).mean()),
        float((seen_shares >= asked / 2).all(1).float().mean()), float(divergence(every, aim.shares)),
        float(torch.cat(people).float().mean()), float(torch.cat(likeness).mean()) if likeness else None,
    )  # fmt: skip
