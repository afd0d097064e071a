"""The Python interface of a trained run: load it and generate images.

>>> from fexgan_lit import load
>>> system = load(run)
>>> face = system.synthesize(image, affect="joy", strength=0.7)
>>> face.size == (system.image_size, system.image_size)
True
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from PIL import Image
from torch import Tensor

from fexgan_lit.expression import ACTION_UNITS, Expression, resolve_affect, rows_of
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
from fexgan_lit.inference.images import ImageLike, as_batch, batches, photo_pixels, to_images
from fexgan_lit.runs.result import RECONSTRUCTION_LIMIT, read_result, write_result
from fexgan_lit.systems.base import Reconstructs
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.faces.geometry import Framing
    from fexgan_lit.runs.config import TrainSettings
    from fexgan_lit.systems.base import ExpressionSystem

#: Types of image that are returned as the same type.
Picture = TypeVar("Picture", Image.Image, np.ndarray, Tensor)
#: Images per batch.
BATCH = 32
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class _NotPreparedError(Exception):
    """The run's data are not prepared yet."""


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

    @cached_property
    def prepared_data(self) -> FrameDataModule | None:
        """The run's data if they can be opened without preparing frames; None if they are missing or have changed."""
        from fexgan_lit.data.datamodule import FrameDataModule
        from fexgan_lit.utils.cache import cache_root

        if not (cache_root(self.run.dataset.cache_dir) / "packs").is_dir():
            return None

        def stop(done: int, total: int) -> None:
            raise _NotPreparedError

        data = FrameDataModule(self.run.dataset, self.run.seed, self.run.system.pairing)
        data.stages = lambda: nullcontext(lambda _: stop)
        try:
            data.setup()
        except (UserError, _NotPreparedError, OSError):
            return None
        return data if tuple(data.affects) == self.affects else None

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Facts about the training data: those that training kept, else those of the data if they are prepared."""
        kept = self.run.data or {}
        if "framing" in kept or "largest_units" in kept:
            return kept
        from fexgan_lit.data.datamodule import data_facts

        return kept if self.prepared_data is None else {**data_facts(self.prepared_data), **kept}

    @property
    def framing(self) -> Framing | None:
        """Where the training frames lie relative to a face; None if that is not known."""
        from fexgan_lit.data.faces.geometry import Framing

        if self.run.dataset.crop == "face":
            return self.usual_framing
        known = self.facts.get("framing")
        return Framing(*known) if known else None

    @property
    def usual_framing(self) -> Framing:
        """The framing of `dataset.crop=face`, for a run whose own is not known."""
        from fexgan_lit.data.faces.geometry import Framing

        return Framing(0.0, 0.0, 1 + 2 * self.run.dataset.crop_margin)

    @property
    def trained_strength(self) -> float:
        """Largest weight of an affect in training: 1, or 3 (standard deviations) if lambda is from N(0, 1)."""
        return 1.0 if getattr(self.system.settings, "lambda_mode", "one") == "one" else 3.0

    @property
    def largest_units(self) -> dict[int, float] | None:
        """Largest value of each action unit in training, in hundredths; None if unknown or not read.

        In hundredths so that a full unit is not beyond a training that reached 0.9996.
        """
        known = self.facts.get("largest_units") if "aus" in self.reads else None
        return None if known is None else {unit: round(float(known[f"AU{unit:02d}"]), 2) for unit in ACTION_UNITS}

    def _warn_beyond(self, target: TargetSpec) -> None:
        """Warn about weights of affects and action units that exceed those of training."""
        largest = self.largest_units or {}
        asked = {name: (weight, self.trained_strength) for name, weight in target.affects.items()}
        asked |= {f"AU{unit}": (value, largest.get(unit, 1.0)) for unit, value in target.units.items()}
        beyond = [
            f"{name} {value:.3g} (up to {most:.3g})" for name, (value, most) in asked.items() if value > most + 1e-4
        ]
        if beyond:
            warnings.warn(f"beyond training, where faces may break: {', '.join(beyond)}", stacklevel=3)

    @cached_property
    def reconstruction_limit(self) -> float | None:
        """The largest `reconstruction_error` of a face of the cast, for systems that only draw their cast.

        Training leaves it in result.json. For older runs it is measured on the run's data, if they are prepared, and
        added there. None if it is not known, or if the system draws any face.
        """
        if not isinstance(self.system, Reconstructs):
            return None
        result = read_result(self.folder) if self.folder.is_dir() else None
        if result is not None and RECONSTRUCTION_LIMIT in result.metrics:
            return result.metrics[RECONSTRUCTION_LIMIT]
        data = self.prepared_data
        if data is None:
            return None
        limit = self.system.reconstruction_limit(data.held_out_frames)
        if result is not None:
            with suppress(OSError):  # a shared run may not be writable
                metrics = {**result.metrics, RECONSTRUCTION_LIMIT: limit}
                write_result(self.folder, replace(result, metrics=metrics))
        return limit

    # ------------------------------------------------------------------ use

    def strangers(self, images: Tensor) -> dict[int, float]:
        """Find images (N, 3, S, S) in [-1, 1] of faces that a system with a fixed cast was not trained on.

        Returns:
            The `reconstruction_error` of each such image by its index; empty if the limit is not known, or if the
            system draws any face.
        """
        limit = self.reconstruction_limit
        if limit is None or not isinstance(self.system, Reconstructs):
            return {}
        parts = [images[part].to(self.system.device) for part in batches(images, BATCH)]
        errors = torch.cat([self.system.reconstruction_error(part) for part in parts]).tolist()
        return {i: error for i, error in enumerate(errors) if error > limit}

    def stranger_note(self, found: dict[int, float], names: Sequence[str]) -> str:
        """Describe the result of `strangers` in a sentence, with the names of all images."""
        first = [f"{names[i]} ({error:.1f})" for i, error in found.items()][:5]
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        return (
            f"not a face of this {self.name}'s cast: {', '.join(first)}{more}. Redrawn unchanged, a picture differs by "
            f"so many grey levels; held-out frames of the cast by at most {self.reconstruction_limit:.1f}. The result "
            "shows whom the networks know, or a blur; GANimation and MIEN edit other faces"
        )

    @overload
    def synthesize(
        self, image: str | Path, affect: Affect | None = ..., strength: float = ..., *, units: Units | None = ...,
        source_affect: str = ..., neutral_first: bool = ..., seed: int = ...,
    ) -> Image.Image: ...  # fmt: skip

    @overload
    def synthesize(
        self, image: Picture, affect: Affect | None = ..., strength: float = ..., *, units: Units | None = ...,
        source_affect: str = ..., neutral_first: bool = ..., seed: int = ...,
    ) -> Picture: ...  # fmt: skip

    def synthesize(
        self,
        image: ImageLike,
        affect: Affect | None = None,
        strength: float = 1.0,
        *,
        units: Units | None = None,
        source_affect: str = "neutral",
        neutral_first: bool = False,
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
            strength: factor on the weights. 1 is the affect as in the data; values beyond training are allowed, with a
                warning.
            units: action units to set, 0..1, by number or name, for systems that read them.
            source_affect: affect of `image`, for systems that read it (FExGAN-Meta).
            neutral_first: whether to bring the face to rest before, for systems that read action units.
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
        self._warn_beyond(target)
        wanted = target_expression(GivenFaces(self, images), target)
        shown = self._shown(source_affect, len(images))
        if neutral_first:
            images, shown = self.at_rest(images), Expression(aus=torch.zeros(len(images), len(ACTION_UNITS)))
        return back(self.paint(images, wanted, shown, seed))

    def at_rest(self, images: Tensor, shown: Expression | None = None) -> Tensor:
        """Bring faces (N, 3, S, S) to rest: all action units 0.

        Args:
            images: the faces.
            shown: their action units (N, 17), if they are known.

        Raises:
            UserError: the system reads no action units.
        """
        if "aus" not in self.reads:
            raise UserError(f"neutral_first=true: {self.name} reads no action units; ganimation, mien and bridge do")
        return self.paint(images, Expression(aus=torch.zeros(len(images), len(ACTION_UNITS))), shown)

    def edit(
        self, photo: str | Path | Image.Image | np.ndarray, affect: Affect | None = None, strength: float = 1.0, *,
        which: int | str | None = None, box: Sequence[float] | None = None, **options: Any,
    ) -> Image.Image:  # fmt: skip
        """Change the expression of the faces in a photograph, and paste them back in full size.

        Args:
            photo: a file, a Pillow image, or uint8 RGB (H, W, 3).
            affect: see `synthesize`.
            strength: see `synthesize`.
            which: `all`, or the number of the face from the left, from 1; needed if the photograph has several.
            box: left, top, right and bottom in pixels around a face, from the middle of the forehead to the chin and
                from ear to ear; None uses the face detector.
            options: other arguments of `synthesize`.

        Raises:
            UserError: there is no face or no detector, there are several faces and no `which`, or see `synthesize`.
        """
        from fexgan_lit.inference import paste

        pixels = photo_pixels(photo)
        framing = self.framing or self.usual_framing
        with nullcontext() if box is not None else paste.face_worker() as worker:
            found = paste.squares_in(pixels, framing, worker, () if box is None else [box])
        if not found:
            raise UserError(f"no face found in the picture; {paste.BOX_HINT}")
        squares = [found[i - 1][0] for i in paste.chosen_faces("the picture", len(found), which)]
        crops = np.stack([square.cut(pixels, self.image_size) for square in squares])
        for square, face in zip(squares, self.synthesize(crops, affect, strength, **options), strict=True):
            square.put_back(pixels, face)
        return Image.fromarray(pixels)

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
                f"the discriminator of {self.name} does not classify affects; those of FExGAN, StarGAN, US-GAN, AttGAN "
                "and LGP-GAN do"
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
            (`lightning_logs/version_0`), `user/name` of a run on the Hugging Face Hub (downloaded once), or the name of
            a model of the package: `mien_128` (None takes it) or `mien`, which edit any face, `cartoon`, a small
            FExGAN, or another system that knows the cartoon characters, such as `stargan`
            (`fexgan_lit.runs.folder.SHIPPED`).
        device: `cpu`, `cuda`, `mps`, or `auto` for a GPU if there is one.
        trust: packages whose code the run may use, for your own systems; a run folder cannot grant this itself.

    Raises:
        UserError: the run or the device does not exist, or the weights are missing or do not fit.
    """
    from fexgan_lit.runs.folder import SHIPPED, RunFolder, is_shipped
    from fexgan_lit.utils import trust as allowed
    from fexgan_lit.utils.hardware import pick_device

    device = pick_device(device)  # before anything is fetched
    allowed.trust(trust)
    if place is None or is_shipped(place):
        return _open(RunFolder.shipped(str(place or SHIPPED[0])).path, device)
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
    return LoadedSystem(load_system(place, pick_device(device), settings), settings, run.path)
