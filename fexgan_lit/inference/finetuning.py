"""A few hundred steps on a few images of the user, mixed with the data of the run so that it does not forget them."""

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


#: Who the images show where nobody says; a name no person of a data set has.
NEW = "new face"


#: Frames of the run's data that a known person's images are made from.
_FRAMES = 24


@dataclass(frozen=True, eq=False)
class FinetuneSet:
    """M images, and for each person in them P faces from which they are made.

    Attributes:
        names: M of files.
        images: (M, 3, S, S) in [-1, 1].
        shown: what they show, (M, ...).
        people: (M) names.
        learnt: indices of the images that are learnt from.
        held_out: indices of the others, on which the tuning is measured.
        pools: by person, faces (P, 3, S, S) and what they show, (P, ...): images learnt from, and of a person of the
            run's data some of their frames.
    """

    names: tuple[str, ...]
    images: Tensor
    shown: Expression
    people: tuple[str, ...]
    learnt: Tensor
    held_out: Tensor
    pools: Mapping[str, tuple[Tensor, Expression]]

    def source_for(self, index: int, generator: torch.Generator | None = None) -> tuple[Tensor, Expression]:
        """A face (1, 3, S, S) of the person of image `index` and what it shows; the first one without a generator."""
        images, shown = self.pools[self.people[index]]
        row = 0 if generator is None else int(torch.randint(len(images), (1,), generator=generator))
        return images[row : row + 1], rows_of(shown, [row])

    def pairs(
        self, targets: Sequence[int] | Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Expression, Tensor, Expression]:
        """Sources (B, 3, S, S), what they show, the images `targets` (B,) of the handful, and what those show."""
        index = [int(target) for target in targets]
        made = [self.source_for(i, generator) for i in index]
        sources, shown = torch.cat([image for image, _ in made]), Expression.stack([each for _, each in made])
        return sources, shown, self.images[index], rows_of(self.shown, index)


def gather(session: GenerationSession, affect: Any, person: str | None, held_out: float) -> FinetuneSet:
    """The images of the user's with their labels, split and beside the faces they are made from.

    Args:
        session: whose faces are the images.
        affect: what all of them show, an affect or weights; None: what the annotations say.
        person: who all of them show; None: what the annotations say, else somebody new.
        held_out: share of each person's images that is not learnt from.

    Raises:
        UserError: nobody says what they show.
    """
    sources = session.sources
    shown = _labelled(session, sources, affect)
    people = _people(session, sources.names, person)
    learnt, held = _split(people, held_out, session.settings.seed)
    if not len(held):
        session.say(f"{len(sources)} images are too few to hold any back: the tuning is measured on what it learnt")
        held = learnt
    known = set(people) & set(session.data.identities)
    pools = {}
    for name in dict.fromkeys(people):
        own = sorted((i for i in learnt.tolist() if people[i] == name), key=lambda i: _liveliness(session, shown, i))
        pool = [(sources.images[own], rows_of(shown, own))]
        if name in known:
            # first: a known person's true frames are what a user will start from
            pool.insert(0, _frames_of(session, session.data.train, name))
        images = torch.cat([image for image, _ in pool])
        pools[name] = images, Expression.stack([each for _, each in pool])
    return FinetuneSet(sources.names, sources.images, shown, people, learnt, held, pools)


def _liveliness(session: GenerationSession, shown: Expression, row: int) -> float:
    """How far from neutral an image is; the calmest one of a person stands first, to make others from."""
    if shown.affect is None or "neutral" not in session.system.affects:
        return 0.0
    return 1 - float(shown.affect[row, session.system.affects.index("neutral")])


def _labelled(session: GenerationSession, sources: Sources, affect: Any) -> Expression:
    """What the images show, in every field the run reads."""
    given = {name: session.own(name) for name in session.system.reads if name != "affect"}
    if affect is not None:
        if sources.shown.affect is not None:
            raise UserError(f"affect={affect}: the annotations name the affects already; leave one of them out")
        wish = read_target(affect, "affect", session.system.affects)
        if not wish.affects:
            raise UserError(f"affect={affect}: expected an affect, or weights such as '{{anger: 1, sadness: 1}}'")
        label = Expression.blend(wish.affects, session.system.affects, len(sources)).affect
    else:
        label = sources.shown.affect
    if label is None:
        raise UserError(
            f"images={session.settings.images}: nobody says what they show. Say it with affect=joy or "
            "'affect={anger: 1, sadness: 1}' for all, or with annotations=FILE.csv (path, affect) for each"
        )
    return replace(Expression(**given), affect=label)


def _people(session: GenerationSession, names: Sequence[str], person: str | None) -> tuple[str, ...]:
    """Who the images show: `person`, or the column `identity` of the annotations."""
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
    """Indices to learn from and to measure on: of every person with three images or more, `held_out` of them."""
    rng = np.random.default_rng(seed)
    held: list[int] = []
    for name in dict.fromkeys(people):
        rows = np.flatnonzero(np.array(people) == name)
        count = max(1, round(held_out * len(rows))) if len(rows) >= 3 and held_out > 0 else 0
        held += sorted(rng.permutation(rows)[:count].tolist())
    learnt = [i for i in range(len(people)) if i not in held]
    return torch.tensor(learnt, dtype=torch.long), torch.tensor(held, dtype=torch.long)


def _frames_of(session: GenerationSession, frames: FrameSet, name: str) -> tuple[Tensor, Expression]:
    """Some frames of a person of the run's data, the reference first, and what they show."""
    from fexgan_lit.data.reference import frame_expression, reference_row

    identity = frames.identities.index(name)
    rows = np.flatnonzero(frames.identity == identity)
    spread = rows[np.unique(np.linspace(0, len(rows) - 1, min(_FRAMES, len(rows))).round().astype(int))]
    first = reference_row(frames, identity)
    chosen = np.array([first, *(row for row in spread if row != first)])
    shown = frame_expression(frames, chosen)
    fields = {name: value for name, value in shown.known.items() if name in session.system.reads or name == "affect"}
    return frames.floats(chosen, session.system.image_size), Expression(**fields)


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
    there = {name: part for name, part in system.saved_modules().items() if name in MAKERS}
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
    system: ExpressionSystem, parts: Sequence[nn.Module], handful: FinetuneSet, old: Iterator[PairBatch],
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
    """The first pairs of a batch of the run's data, as `FinetuneSet.pairs` gives them."""
    few = range(min(_BATCH, len(batch)))
    shown, wanted = rows_of(batch.source_expression(affects), few), rows_of(batch.target_expression(affects), few)
    return batch.source[: len(few)], shown, batch.target[: len(few)], wanted
