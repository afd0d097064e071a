"""Fine-tuning for a few hundred steps on a few images of the user, mixed with the run's data against forgetting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fexgan_lit.expression import Expression, rows_of
from fexgan_lit.inference.conditions import read_target
from fexgan_lit.inference.faces import Sources
from fexgan_lit.systems.losses import absolute_difference
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.inference.session import GenerationSession
    from fexgan_lit.systems.base import ExpressionSystem


#: Identity of the images if none is given; no identity of a data set has this name.
NEW = "new face"


#: Number of frames of the run's data used as sources for a known identity.
_FRAMES = 24


@dataclass(frozen=True, eq=False)
class FinetuneSet:
    """M images, and P source faces for each identity in them.

    Attributes:
        names: M file names.
        images: (M, 3, S, S) in [-1, 1].
        shown: expressions of the images, (M, ...).
        people: M names of identities.
        learnt: indices of the training images.
        held_out: indices of the held-out images, on which the fine-tuning is measured.
        pools: by identity, source faces (P, 3, S, S) and their expressions, (P, ...): its training images, and frames
            of the run's data if the data know the identity.
    """

    names: tuple[str, ...]
    images: Tensor
    shown: Expression
    people: tuple[str, ...]
    learnt: Tensor
    held_out: Tensor
    pools: Mapping[str, tuple[Tensor, Expression]]

    def source_for(self, index: int, generator: torch.Generator | None = None) -> tuple[Tensor, Expression]:
        """Return a source (1, 3, S, S) and its expression for image `index`; without a generator, the first one."""
        images, shown = self.pools[self.people[index]]
        row = 0 if generator is None else int(torch.randint(len(images), (1,), generator=generator))
        return images[row : row + 1], rows_of(shown, [row])

    def pairs(
        self, targets: Sequence[int] | Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Expression, Tensor, Expression]:
        """Return sources (B, 3, S, S), their expressions, the images `targets` (B,), and their expressions."""
        index = [int(target) for target in targets]
        made = [self.source_for(i, generator) for i in index]
        sources, shown = torch.cat([image for image, _ in made]), Expression.stack([each for _, each in made])
        return sources, shown, self.images[index], rows_of(self.shown, index)


def gather(session: GenerationSession, affect: Any, person: str | None, held_out: float) -> FinetuneSet:
    """Collect the user's images with labels, a split, and source faces.

    Args:
        session: the session whose sources are the images.
        affect: affect or weights for all images; None uses the annotations.
        person: identity of all images; None uses the annotations, else a new identity.
        held_out: share of each identity's images that is held out.

    Raises:
        UserError: the affects of the images are unknown.
    """
    sources = session.sources
    shown = _labelled(session, sources, affect)
    people = _people(session, sources.names, person)
    learnt, held = _split(people, held_out, session.settings.seed)
    if not len(held):
        session.say(f"{len(sources)} images are too few for a held-out set: the metrics are on the training images")
        held = learnt
    known = set(people) & set(session.data.identities)
    pools = {}
    for name in dict.fromkeys(people):
        own = sorted((i for i in learnt.tolist() if people[i] == name), key=lambda i: _liveliness(session, shown, i))
        pool = [(sources.images[own], rows_of(shown, own))]
        if name in known:
            # first, since a user will start from the real frames of a known identity
            pool.insert(0, _frames_of(session, session.data.train, name))
        images = torch.cat([image for image, _ in pool])
        pools[name] = images, Expression.stack([each for _, each in pool])
    return FinetuneSet(sources.names, sources.images, shown, people, learnt, held, pools)


def _liveliness(session: GenerationSession, shown: Expression, row: int) -> float:
    """Return how far an image is from neutral; the most neutral image of an identity is its first source."""
    if shown.affect is None or "neutral" not in session.system.affects:
        return 0.0
    return 1 - float(shown.affect[row, session.system.affects.index("neutral")])


def _labelled(session: GenerationSession, sources: Sources, affect: Any) -> Expression:
    """Return the expressions of the images, with every field that the run reads."""
    given = {name: session.own(name) for name in session.system.reads if name != "affect"}
    if affect is not None:
        if sources.shown.affect is not None:
            raise UserError(f"affect={affect}: the annotations name the affects, too; leave out one of the two")
        wish = read_target(affect, "affect", session.system.affects)
        if not wish.affects:
            raise UserError(f"affect={affect}: expected an affect, or weights such as '{{anger: 1, sadness: 1}}'")
        label = Expression.blend(wish.affects, session.system.affects, len(sources)).affect
    else:
        label = sources.shown.affect
    if label is None:
        raise UserError(
            f"images={session.settings.images}: the affects of the images are unknown. Give affect=joy or "
            "'affect={anger: 1, sadness: 1}' for all, or annotations=FILE.csv (path, affect) for each"
        )
    return replace(Expression(**given), affect=label)


def _people(session: GenerationSession, names: Sequence[str], person: str | None) -> tuple[str, ...]:
    """Return the identity of each image: `person`, or the column `identity` of the annotations."""
    if person is not None:
        return (person,) * len(names)
    if session.settings.annotations is None:
        return (NEW,) * len(names)
    from fexgan_lit.data.datasets.openface import read_annotations

    rows = read_annotations(Path(session.settings.annotations).expanduser(), "annotations")[0]
    if not {"identity", "path"} <= set(rows):
        return (NEW,) * len(names)
    by_name = {Path(path).name: str(word) for path, word in zip(rows["path"], rows["identity"], strict=True) if word}
    by_name |= {Path(name).stem: word for name, word in by_name.items()}
    return tuple(by_name.get(name, NEW) for name in names)


def _split(people: Sequence[str], held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return training and held-out indices: `held_out` of the images of each identity that has at least three."""
    rng = np.random.default_rng(seed)
    held: list[int] = []
    for name in dict.fromkeys(people):
        rows = np.flatnonzero(np.array(people) == name)
        count = max(1, round(held_out * len(rows))) if len(rows) >= 3 and held_out > 0 else 0
        held += sorted(rng.permutation(rows)[:count].tolist())
    learnt = [i for i in range(len(people)) if i not in held]
    return torch.tensor(learnt, dtype=torch.long), torch.tensor(held, dtype=torch.long)


def _frames_of(session: GenerationSession, frames: FrameSet, name: str) -> tuple[Tensor, Expression]:
    """Return some frames of an identity in the run's data, its reference first, and their expressions."""
    from fexgan_lit.data.reference import frame_expression, reference_row

    identity = frames.identities.index(name)
    rows = np.flatnonzero(frames.identity == identity)
    spread = rows[np.unique(np.linspace(0, len(rows) - 1, min(_FRAMES, len(rows))).round().astype(int))]
    first = reference_row(frames, identity)
    chosen = np.array([first, *(row for row in spread if row != first)])
    shown = frame_expression(frames, chosen)
    fields = {name: value for name, value in shown.known.items() if name in session.system.reads or name == "affect"}
    return frames.floats(chosen, session.system.image_size), Expression(**fields)


#: Networks that generate images; the others of a system only judge.
MAKERS = ("encoder", "decoder", "generator")


#: Number of the user's images, and of pairs of the run's data, in one step.
_BATCH = 12


#: Steps between two progress updates.
_TELL = 10


def tunable(system: ExpressionSystem, names: Sequence[str] | None) -> dict[str, nn.Module]:
    """Return the networks to fine-tune: `names`; None selects the decoder, or the generator if there is none.

    Raises:
        UserError: the system generates images with no network of that name.
    """
    there = {name: part for name, part in system.saved_modules().items() if name in MAKERS}
    if names is None:
        return {name: there[name] for name in ("decoder",) if name in there} or there
    unknown = [name for name in names if name not in there]
    if unknown or not names:
        raise UserError(
            f"networks={list(names)}: expected some of {', '.join(there)}, the networks that generate images"
        )
    return {name: there[name] for name in names}


@dataclass(frozen=True)
class TuningRecipe:
    """Hyperparameters of fine-tuning.

    Attributes:
        steps: number of steps of Adam.
        rate: learning rate of Adam.
        keep: weight of the reconstruction loss on the run's own data; 0 lets the system forget them.
    """

    steps: int = 300
    rate: float = 2e-4
    keep: float = 1.0


def tune(
    system: ExpressionSystem, parts: Sequence[nn.Module], handful: FinetuneSet, old: Iterator[PairBatch],
    recipe: TuningRecipe, seed: int, progress: Callable[[int], None] | None = None,
) -> list[tuple[float, float]]:  # fmt: skip
    """Train `parts` of `system` in place, with fixed running statistics and without dropout.

    The loss is the reconstruction loss of all systems, the L1 distance of generated image and target (equation 2 of
    FExGAN), on the user's images, plus `keep` times the same loss on pairs of the run's data.

    Returns:
        Both terms of the loss for every step.
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
    """Return the mean absolute difference of generated images and targets; images are (B, 3, S, S) in [-1, 1]."""
    device = system.device
    made = system(source.to(device), shown.to(device), wanted.to(device))
    return absolute_difference(made, target.to(device))


def _parts_of(batch: PairBatch, affects: int) -> tuple[Tensor, Expression, Tensor, Expression]:
    """Return the first pairs of a batch of the run's data in the form of `FinetuneSet.pairs`."""
    few = range(min(_BATCH, len(batch)))
    shown, wanted = rows_of(batch.source_expression(affects), few), rows_of(batch.target_expression(affects), few)
    return batch.source[: len(few)], shown, batch.target[: len(few)], wanted
