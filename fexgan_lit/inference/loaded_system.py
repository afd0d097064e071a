"""The Python interface of a trained run: load it and generate images.

>>> from fexgan_lit import load
>>> system = load(run)
>>> face = system.synthesize(image, affect="joy", strength=0.7)
>>> face.size == (system.image_size, system.image_size)
True
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from PIL import Image
from torch import Tensor

from fexgan_lit.expression import Expression, resolve_affect
from fexgan_lit.inference.conditions import (
    Affect,
    GivenFaces,
    TargetSpec,
    Units,
    target_expression,
    units_of,
    weights_of,
)
from fexgan_lit.inference.faces import ReferenceFaces, faces_of_data, kept_faces
from fexgan_lit.inference.images import ImageLike, as_batch, batches, to_images
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

    from fexgan_lit.runs.config import TrainSettings
    from fexgan_lit.systems.base import ExpressionSystem

#: Types of image that are returned as the same type.
Picture = TypeVar("Picture", Image.Image, np.ndarray, Tensor)
#: Images per batch.
BATCH = 32
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Reading(NamedTuple):
    """The output of a discriminator for one image.

    Attributes:
        realness: probability that the image is real; None if the discriminator gives no probability, as the critic of a
            Wasserstein GAN.
        affects: probability of each affect; they sum to 1.
    """

    realness: float | None
    affects: dict[str, float]


class LoadedSystem(ModelHubMixin):
    """A trained system, ready for use.

    `save_pretrained(FOLDER)`, `push_to_hub("user/name")` and `LoadedSystem.from_pretrained("user/name")` share a system
    on the Hugging Face Hub, with a model card that contains the evaluation and the configuration.

    Args:
        system: a system with trained weights, on its device, in evaluation mode.
        run: the training settings.
        folder: the run folder.

    Attributes:
        system: see `Args`.
        run: see `Args`.
        folder: see `Args`.
    """

    #: disables the mixin's record of arguments, since `config.yaml` has all settings
    _hub_mixin_config: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def __init__(self, system: ExpressionSystem, run: TrainSettings, folder: Path) -> None:
        self.system = system
        self.run = run
        self.folder = folder

    def __repr__(self) -> str:
        return f"<LoadedSystem {self.name}, {self.image_size} px, {', '.join(self.affects)}, from {self.folder.name}>"

    # ------------------------------------------------------------------ properties

    @property
    def name(self) -> str:
        """Name of the system: `fexgan`, `ganimation`, ..."""
        return str(self.system.settings.name)

    @property
    def affects(self) -> tuple[str, ...]:
        """Names of the affects, in index order.

        Examples:
            >>> "joy" in system.affects
            True
        """
        return self.system.affects

    @property
    def image_size(self) -> int:
        """S, side of the square images in pixels."""
        return self.system.image_size

    @property
    def reads(self) -> frozenset[str]:
        """Fields of `fexgan_lit.expression.Expression` that the system reads."""
        return self.system.reads

    @cached_property
    def references(self) -> ReferenceFaces:
        """The reference images of `faces`, as tensors.

        Raises:
            UserError: the run folder has no reference images, and the run's data are missing.
        """
        return kept_faces(self.folder, self.image_size) or faces_of_data(self.run, self.image_size)

    @cached_property
    def faces(self) -> dict[str, Image.Image]:
        """A neutral image of every identity by name, from `faces/*.png` of the run folder or from the run's data.

        Raises:
            UserError: see `references`.
        """
        return dict(zip(self.references.names, to_images(self.references.images), strict=True))

    # ------------------------------------------------------------------ use

    @overload
    def synthesize(
        self, image: str | Path, affect: Affect | None = ..., strength: float = ..., *, units: Units | None = ...,
        source_affect: str = ..., seed: int = ...,
    ) -> Image.Image: ...  # fmt: skip

    @overload
    def synthesize(
        self, image: Picture, affect: Affect | None = ..., strength: float = ..., *, units: Units | None = ...,
        source_affect: str = ..., seed: int = ...,
    ) -> Picture: ...  # fmt: skip

    def synthesize(
        self,
        image: ImageLike,
        affect: Affect | None = None,
        strength: float = 1.0,
        *,
        units: Units | None = None,
        source_affect: str = "neutral",
        seed: int = 0,
    ) -> Any:
        """Change the expression of the face in `image`.

        Examples:
            >>> blend = system.synthesize(image, {"anger": 0.6, "sadness": 0.8})
            >>> blend.mode
            'RGB'

        Args:
            image: a file, a Pillow image, uint8 RGB (H, W, 3) or (N, H, W, 3) of any size, or a float tensor in
                [-1, 1] of shape (3, S, S) or (N, 3, S, S).
            affect: the name of an affect, or weights of several affects.
            strength: factor on the weights. 1 is the affect as in the data; values beyond training are allowed.
            units: action units to set, 0..1, by number or name, for systems that read them.
            source_affect: affect of `image`, for systems that read it (FExGAN-Meta).
            seed: seed of random numbers, if the system uses any.

        Returns:
            The generated image, S pixels wide and high, as the type of `image` (a Pillow image for a file).

        Raises:
            UserError: an image, affect or unit is invalid, or the system reads something that is unknown for the image.
        """
        images, back = as_batch(image, self.image_size)
        target = TargetSpec(weights_of(affect, strength, self.affects), units_of(units, self.affects))
        if target.units and "aus" not in self.reads:
            raise UserError(f"{self.name} reads no action units; use affect= instead of units=")
        if not target.affects and not target.units:
            raise UserError(f"no target expression: expected affect=, one of {', '.join(self.affects)}, or units=")
        wanted = target_expression(GivenFaces(self, images), target)
        return back(self.paint(images, wanted, self._shown(source_affect, len(images)), seed))

    @torch.inference_mode()
    def paint(self, images: Tensor, wanted: Expression, shown: Expression | None = None, seed: int = 0) -> Tensor:
        """Generate images for expressions given as tensors; see `synthesize`.

        Args:
            images: source images (N, 3, S, S) in [-1, 1].
            wanted: target expressions, (N, ...).
            shown: expressions of the sources, (N, ...), for systems that read them; landmarks that a system needs and
                that are missing here are those of the run's own faces.
            seed: seed of random numbers.

        Returns:
            Generated images (N, 3, S, S) float32 in [-1, 1] on the CPU.

        Raises:
            UserError: the system needs the landmarks of the sources, which are not known.
        """
        from fexgan_lit.expression import rows_of

        if "landmarks" in self.reads & self.system.source_reads and (shown is None or shown.landmarks is None):
            shown = replace(shown or Expression(), landmarks=GivenFaces(self, images).own("landmarks"))

        device, made = self.system.device, []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for part in batches(images, BATCH):
                rows = torch.arange(len(images))[part]
                told = rows_of(shown, rows).to(device) if shown else None
                asked = rows_of(wanted, rows).to(device)
                made.append(self.system.synthesize(images[part].to(device), told, asked).float().cpu())
        return torch.cat(made)

    def _shown(self, source_affect: str, count: int) -> Expression | None:
        """Return the sources' affect (count, K), or None if it was not given and the data have no neutral affect."""
        if source_affect == "neutral" and "neutral" not in self.affects:
            return None
        index = self.affects.index(resolve_affect(source_affect, self.affects))
        return Expression.of_affects([index] * count, len(self.affects))

    def sample(
        self, n: int, affect: Affect, strength: float = 1.0, prior: str = "fitted", seed: int = 0
    ) -> list[Image.Image]:
        """Generate `n` images of new identities that show `affect`, for systems with a latent code.

        Args:
            n: number of images.
            affect: the name of an affect, or weights of several affects.
            strength: factor on the weights.
            prior: `fitted` (to the training codes, after training) or `normal` (N(0, I)).
            seed: the same seed gives the same latent codes for every affect.

        Raises:
            UserError: the system has no prior, or `affect` or `prior` is unknown.
        """
        draw = getattr(self.system, "sample", None)
        if draw is None:
            raise UserError(
                f"{self.name} has no latent code to sample; use synthesize with an image, such as one of faces"
            )
        if n < 1:
            raise UserError(f"n={n}: expected 1 or more")
        wanted = Expression.blend(weights_of(affect, strength, self.affects), self.affects, n)
        generator = torch.Generator().manual_seed(seed)
        return to_images(draw(n, wanted.to(self.system.device), prior, generator))

    @torch.inference_mode()
    def classify(self, image: ImageLike) -> Any:
        """Classify the face in `image` with the discriminator.

        Examples:
            >>> reading = system.classify(image)
            >>> abs(sum(reading.affects.values()) - 1) < 1e-4
            True

        Args:
            image: as for `synthesize`.

        Returns:
            A `Reading`, or a list of N of them for a batch (4 dimensions).

        Raises:
            UserError: the discriminator does not classify affects.
        """
        images, _ = as_batch(image, self.image_size)
        realness, logits = self.system.discriminate(images.to(self.system.device))
        if logits is None:
            raise UserError(
                f"the discriminator of {self.name} does not classify affects; those of fexgan and stargan do"
            )
        real = [None] * len(images) if realness is None else realness.float().sigmoid().tolist()
        shares = logits.float().softmax(1).tolist()
        found = [Reading(r, dict(zip(self.affects, row, strict=True))) for r, row in zip(real, shares, strict=True)]
        return found if getattr(image, "ndim", 3) == 4 else found[0]

    # ------------------------------------------------------------------ sharing

    def _save_pretrained(self, save_directory: Path) -> None:
        from fexgan_lit.inference.hub import write_shared

        write_shared(self, save_directory)

    def generate_model_card(self, **options: Any) -> ModelCard:
        """Return the README.md; see `fexgan_lit.inference.model_card.model_card` for the options."""
        from fexgan_lit.inference.model_card import model_card

        return model_card(self, **options)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, device: str = "cpu", **where: Any) -> LoadedSystem:
        from fexgan_lit.inference.hub import fetch

        return _open(fetch(model_id, **where), device)


def load(place: str | Path | None = None, device: str = "cpu", trust: Sequence[str] = ()) -> LoadedSystem:
    """Load a trained run.

    Args:
        place: a run folder, a checkpoint file in a run folder, the folder of a plain `lightning.Trainer`
            (`lightning_logs/version_0`), `user/name` of a run on the Hugging Face Hub (downloaded once), or None for
            the small FExGAN of the package.
        device: `cpu`, `cuda`, `mps`, or `auto` for a GPU if there is one.
        trust: packages whose code the run may use, for your own systems; a run folder cannot grant this itself.

    Raises:
        UserError: the run or the device does not exist, or the weights are missing or do not fit.
    """
    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.utils import trust as allowed
    from fexgan_lit.utils.hardware import pick_device

    device = pick_device(device)  # before anything is fetched
    allowed.trust(trust)
    if place is None:
        return _open(RunFolder.shipped().path, device)
    if is_hub_id(place):
        return LoadedSystem._from_pretrained(model_id=str(place), device=device)
    return _open(Path(place).expanduser(), device)


def is_hub_id(place: str | Path) -> bool:
    """Return whether `place` is a name on the Hub: `user/name`, and neither a path nor in an existing folder here.

    If a folder `user` exists, `place` is treated as a path such as outputs/RUN, and its absence is the error.
    """
    there = Path(place).exists() or Path(place).parent.exists()
    return isinstance(place, str) and not there and _HUB_ID.fullmatch(place) is not None


def _open(place: Path, device: str) -> LoadedSystem:
    """Load the run of a run folder, of a checkpoint file in it, or of a folder written by Lightning alone."""
    from fexgan_lit.runs.config import train_settings
    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.runs.weights import lightning_checkpoint, load_lightning, load_system
    from fexgan_lit.utils.hardware import pick_device

    if checkpoint := lightning_checkpoint(place):
        return LoadedSystem(*load_lightning(checkpoint, pick_device(device)), place)
    run = RunFolder.at(place)
    settings = train_settings(run.read_config())
    return LoadedSystem(load_system(place, pick_device(device)), settings, run.path)
