"""The identity judge: an embedding in which frames of one person are close, and its training."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fexgan_lit.metrics.identity import Verification, rank1, tar_at_far
from fexgan_lit.metrics.judges.backbone import FaceTrunk
from fexgan_lit.metrics.judges.cache import JudgeKind
from fexgan_lit.metrics.judges.fitting import FitRecipe, Progress, augment, fit, working_size

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


class IdentityNet(FaceTrunk):
    """Network that embeds a face on the unit sphere.

    Args:
        working_size: input size of the network in pixels, a multiple of 16.
        widths: channels after the stem and after each of the three blocks.
        feature_size: length F of the features before the projection.
        embedding_size: length E of an embedding.
    """

    def __init__(
        self,
        working_size: int = 64,
        widths: tuple[int, int, int, int] = (16, 32, 64, 96),
        feature_size: int = 128,
        embedding_size: int = 64,
    ) -> None:
        super().__init__(working_size, widths, feature_size)
        self.embedding_size = embedding_size
        self.projection = nn.Linear(feature_size, embedding_size, bias=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, S, S) in [-1, 1] to embeddings (B, E) of length 1."""
        return F.normalize(self.projection(self.embed(images)), dim=1)


@dataclass
class IdentityJudge:
    """A trained identity judge with its held-out scores.

    The held-out scores are the ceiling of the same scores for generated frames: real frames are recognised from one
    neutral gallery frame of each take of a person (see `gallery_and_probes`).

    Attributes:
        net: the frozen network, in evaluation mode.
        image_size: size in pixels of the images it was trained for.
        people: identities in the training.
        strangers: number of held-out identities outside `people`.
        rank1: fraction of held-out probes whose nearest gallery frame shows the same person; None if not measurable.
        tar: true accept rates by false accept rate, both as fractions; None where a rate is not measurable.
        impostors: number of impostor pairs for `tar`.
        n_gallery: number of held-out frames in the gallery.
        n_held_out: number of held-out probes.
        n_train: number of training frames.
        seed: seed of initialisation, order and augmentation.
        seconds: training time.
        from_cache: whether it was loaded from the cache.
        recipe: the training options.
    """

    net: IdentityNet
    image_size: int
    people: tuple[str, ...]
    n_train: int
    seed: int
    strangers: int = 0
    rank1: float | None = None
    tar: dict[str, float | None] = field(default_factory=dict)
    impostors: int = 0
    n_gallery: int = 0
    n_held_out: int = 0
    seconds: float = 0.0
    from_cache: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)

    def embed(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Return unit-length embeddings (N, E) of images (N, 3, S, S) in [-1, 1] on the CPU, without gradients."""
        device = next(self.net.parameters()).device
        with torch.no_grad():
            return torch.cat([self.net(chunk.to(device)).cpu() for chunk in images.split(batch_size)])

    def to(self, device: torch.device | str) -> IdentityJudge:
        """Move the network to `device` and return `self`."""
        self.net.to(device)
        return self

    def describe(self) -> str:
        """Return one line for reports, with training set and recognition rates."""
        start = f"identity embedding trained on {self.n_train} frames of {len(self.people)} people (seed {self.seed})"
        if self.rank1 is None:
            return f"{start}; its Rank-1 is unknown without held-out frames"
        who = f", {self.strangers} of their people outside its training" if self.strangers else ""
        rates = "".join(
            f", TAR at FAR {float(far):.1%} {f'{tar:.1%}' if tar is not None else 'not measurable'}"
            for far, tar in self.tar.items()
        )
        return (
            f"{start}; on {self.n_held_out} held-out real frames against a gallery of {self.n_gallery}{who}: "
            f"Rank-1 {self.rank1:.1%}{rates} ({self.impostors} impostor pairs)"
        )


@dataclass(frozen=True)
class IdentityRecipe(FitRecipe):
    """Training options of the identity judge.

    Attributes:
        scale: factor on the cosines before the softmax.
        margin: value subtracted from the cosine of the true person.
        embedding_size: length E of an embedding.
        most_probes: most held-out probes, evenly spaced.
    """

    widths: tuple[int, int, int, int] = (16, 32, 64, 96)
    max_images: int = 12_000
    scale: float = 16.0
    margin: float = 0.2
    embedding_size: int = 64
    most_probes: int = 2048


class Embedder(Protocol):
    """Anything that embeds faces."""

    def embed(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Map images (N, 3, S, S) in [-1, 1] to embeddings (N, E)."""
        ...


def can_tell_people(frames: FrameSet) -> bool:
    """Return whether `frames` show at least two people."""
    return len(np.unique(frames.identity)) >= 2


def train_identity_judge(
    train: FrameSet,
    held_out: FrameSet | None,
    *,
    image_size: int,
    seed: int = 0,
    recipe: IdentityRecipe | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> IdentityJudge:
    """Train an identity judge on `train` and evaluate it on `held_out`, possibly with other people; see `train_judge`.

    Raises:
        ValueError: `train` shows fewer than two people.
    """
    recipe = recipe or IdentityRecipe()
    if not can_tell_people(train):
        raise ValueError("an identity judge needs training frames of at least two people")
    start = time.perf_counter()
    size = working_size(image_size, recipe)
    known = np.unique(train.identity)
    judge = IdentityJudge(
        net=_fit(train, size, seed, recipe, torch.device(device), progress),
        image_size=image_size,
        people=tuple(train.identities[i] for i in known),
        n_train=len(train),
        seed=seed,
        recipe=asdict(recipe),
    )
    if held_out is not None:
        _measure(judge, held_out, recipe.most_probes, size)
    judge.seconds = time.perf_counter() - start
    return judge


def _fit(
    frames: FrameSet,
    size: int,
    seed: int,
    recipe: IdentityRecipe,
    device: torch.device,
    progress: Progress | None,
) -> IdentityNet:
    person = torch.from_numpy(np.unique(frames.identity, return_inverse=True)[1])  # (n,) in 0..people-1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = IdentityNet(size, recipe.widths, embedding_size=recipe.embedding_size).to(device)
        centres = nn.Linear(recipe.embedding_size, int(person.max()) + 1, bias=False).to(device)
    generator = torch.Generator().manual_seed(seed)

    def loss_of(chunk: np.ndarray) -> Tensor:
        images = augment(frames.floats(chunk, size), recipe, generator)
        cosines = net(images.to(device)) @ F.normalize(centres.weight, dim=1).mT  # (B, E) @ (E, I) -> (B, I)
        return margin_loss(cosines, person[chunk].to(device), recipe.scale, recipe.margin)

    fit(nn.ModuleList([net, centres]), np.arange(len(frames)), loss_of, recipe, generator, progress)
    return net.freeze()


def margin_loss(cosines: Tensor, person: Tensor, scale: float, margin: float) -> Tensor:
    """Return the cross-entropy of cosines with a margin: equation 4 of CosFace (Wang et al., 2018).

    Args:
        cosines: (B, I) in [-1, 1], between embeddings and the centres of the people.
        person: (B,) int64.
        scale: factor on the cosines.
        margin: value subtracted from the cosine of the true person.
    """
    return F.cross_entropy(scale * (cosines - margin * F.one_hot(person, cosines.shape[1])), person)


def gallery_and_probes(frames: FrameSet, most_probes: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of `frames` in the gallery and the rows of the probes, both int64 and ascending.

    The gallery holds the first neutral frame of every take of a person, or of the person's first affect if there are no
    neutral frames. Probes are the person's frames of all other affects. People with a single affect are left out.
    """
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else -1
    take = frames.take if frames.take is not None else np.zeros(len(frames), np.int64)
    gallery, probes = [], []
    for i in np.unique(frames.identity):
        rows = np.flatnonzero(frames.identity == i)
        rest = neutral if (frames.affect[rows] == neutral).any() else int(frames.affect[rows].min())
        still, others = rows[frames.affect[rows] == rest], rows[frames.affect[rows] != rest]
        if len(others):
            gallery.append(still[np.unique(take[still], return_index=True)[1]])
            probes.append(others)
    if not gallery:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    every = np.sort(np.concatenate(probes))
    spread = np.unique(np.linspace(0, len(every) - 1, min(most_probes, len(every))).round().astype(np.int64))
    return np.sort(np.concatenate(gallery)), every[spread]


def embed_rows(judge: Embedder, frames: FrameSet, rows: np.ndarray, size: int) -> Tensor:
    """Return embeddings (n, E) of the frames `rows` (n,), computed in batches."""
    chunks = np.array_split(rows, -(-len(rows) // 256))
    return torch.cat([judge.embed(frames.floats(chunk, size)) for chunk in chunks])


@dataclass(frozen=True)
class Recognition:
    """Recognition rates of an embedding on real frames.

    Attributes:
        rank1: fraction of recognised probes.
        verification: true accept rate at each false accept rate.
        n_gallery: number of frames in the gallery.
        n_probes: number of probes.
        people: identities of the frames.
    """

    rank1: float
    verification: list[Verification]
    n_gallery: int
    n_probes: int
    people: tuple[str, ...]


def recognise(judge: Embedder, frames: FrameSet, size: int, most_probes: int = 2048) -> Recognition | None:
    """Evaluate an embedding on real `frames`; return None unless at least two people have two affects each."""
    gallery, probes = gallery_and_probes(frames, most_probes)
    people = np.unique(frames.identity[gallery])
    if len(people) < 2:
        return None
    known, unknown = (embed_rows(judge, frames, rows, size) for rows in (gallery, probes))
    who = [torch.from_numpy(frames.identity[rows]) for rows in (gallery, probes)]
    return Recognition(
        rank1=rank1(known, who[0], unknown, who[1]),
        verification=tar_at_far(known, who[0], unknown, who[1]),
        n_gallery=len(gallery),
        n_probes=len(probes),
        people=tuple(frames.identities[i] for i in people),
    )


def _measure(judge: IdentityJudge, held_out: FrameSet, most: int, size: int) -> None:
    """Set the recognition rates of `judge` on the frames of `held_out`."""
    found = recognise(judge, held_out, size, most)
    if found is None:
        return
    judge.rank1 = found.rank1
    judge.tar = {str(point.far): point.tar for point in found.verification}
    judge.impostors = found.verification[0].impostors
    judge.n_gallery, judge.n_held_out = found.n_gallery, found.n_probes
    judge.strangers = len(set(found.people) - set(judge.people))


#: Judges of identity in the cache.
IDENTITY: JudgeKind[IdentityJudge] = JudgeKind(
    name="identity",
    version=1,
    judge=IdentityJudge,
    recipe=lambda: IdentityRecipe(),
    train=train_identity_judge,
    network=lambda facts, recipe, size: IdentityNet(size, recipe.widths, embedding_size=recipe.embedding_size),
    facts=lambda train, held_out: train.identities,
)
load_or_train_identity_judge = IDENTITY.load_or_train
