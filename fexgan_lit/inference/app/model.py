"""The model behind the page: generates images of faces, and reads them with discriminator and judge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.datasets.labels import has_affects
from fexgan_lit.data.frames import to_float
from fexgan_lit.data.packing.sources import fit_square
from fexgan_lit.expression import ACTION_UNITS, Expression, rows_of
from fexgan_lit.inference.conditions import GivenFaces, TargetSpec, target_expression
from fexgan_lit.systems.base import LatentPrior
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.inference.app.requests import FaceRequest
    from fexgan_lit.inference.loaded_system import LoadedSystem
    from fexgan_lit.metrics.judges.affect import Judge


class AppModel:
    """A loaded system behind the page.

    Args:
        loaded: the system.
        label: its name on the page.

    Attributes:
        judge: judge of the training data, once found in the cache; else None.
    """

    def __init__(self, loaded: LoadedSystem, label: str) -> None:
        self.loaded = loaded
        self.label = label
        self.judge: Judge | None = None
        #: a face and the same face at rest
        self._at_rest: tuple[Tensor, Tensor] | None = None

    @property
    def size(self) -> int:
        """Side of its images in pixels."""
        return self.loaded.image_size

    @property
    def affects(self) -> tuple[str, ...]:
        """Names of its affects; empty if it was trained on frames without affects."""
        return self.loaded.affects if has_affects(self.loaded.affects) else ()

    @property
    def has_prior(self) -> bool:
        """Whether it can sample new identities."""
        return isinstance(self.loaded.system, LatentPrior)

    @property
    def is_told_source(self) -> bool:
        """Whether it reads the affect of the source (FExGAN-Meta, depending on its settings)."""
        return getattr(self.loaded.system.settings, "encoder_label", None) == "source"

    def facts(self) -> dict[str, Any]:
        """Return what the page needs to know about the system."""
        return {"label": self.label, "model": self.loaded.name, "size": self.size, "affects": list(self.affects),
                "units": list(ACTION_UNITS) if "aus" in self.loaded.reads else [],
                "largest_units": self.loaded.largest_units,
                "random": self.has_prior, "told_source": self.is_told_source}  # fmt: skip

    # ------------------------------------------------------------------ faces

    @cached_property
    def cast(self) -> dict[str, Tensor]:
        """A reference image of every identity by name, (1, 3, S, S) in [-1, 1].

        Raises:
            UserError: the run folder has no reference images, and the run's data are missing.
        """
        found = self.loaded.references
        return {name: found.images[i : i + 1] for i, name in enumerate(found.names)}

    def fitted(self, pixels: np.ndarray) -> Tensor:
        """Convert an image (S, S, 3) uint8 RGB of any size to an input of this system, (1, 3, size, size)."""
        return to_float(fit_square(pixels, self.size)[None])

    def stranger_note(self, pixels: np.ndarray) -> str:
        """Return a sentence if the face in `pixels` (S, S, 3) uint8 is none of this system's cast, else nothing."""
        found = self.loaded.strangers(self.fitted(pixels))
        return f"{self.label}: {self.loaded.stranger_note(found, ['your picture'])}." if found else ""

    # ------------------------------------------------------------------ generation

    def wanted(self, face: Tensor | None, asked: FaceRequest) -> Expression:
        """Convert a request to an expression (1, ...) in the fields that this system reads; the default is weight 0.

        Affects and action units that this system does not know are left out.

        Args:
            face: the source, (1, 3, S, S), or None for a sampled identity.
            asked: the request.

        Raises:
            UserError: the system reads something that is unknown for the face.
        """
        weights = {name: asked.weights.get(name, 0.0) for name in self.affects}
        if face is None:
            return Expression.blend(weights, self.affects)
        units = asked.units if "aus" in self.loaded.reads else {}
        if not weights and not units:
            units = {ACTION_UNITS[0]: 0.0}
        return target_expression(GivenFaces(self.loaded, face), TargetSpec(weights, units))

    def at_rest(self, face: Tensor) -> Tensor:
        """Bring a face (1, 3, S, S) to rest; see `LoadedSystem.at_rest`. The last face is kept."""
        if self._at_rest is None or not torch.equal(self._at_rest[0], face):
            self._at_rest = face, self.loaded.at_rest(face)
        return self._at_rest[1]

    def paint(
        self, face: Tensor, wanted: Expression, shows: str | Sequence[str] = "neutral", rested: bool = False
    ) -> Tensor:
        """Generate images of one face (1, 3, S, S) with the expressions `wanted` (N, ...): (N, 3, S, S) in [-1, 1].

        Args:
            face: the source or sources.
            wanted: the target expressions.
            shows: affect of the source, or of each source, for a system that reads it.
            rested: whether the sources are faces at rest.
        """
        count, shown = rows_in(wanted), None
        if rested:
            shown = Expression(aus=torch.zeros(count, len(ACTION_UNITS)))
        if self.is_told_source:
            names = [shows] * count if isinstance(shows, str) else shows
            index = [self.affects.index(name) if name in self.affects else 0 for name in names]
            shown = Expression.of_affects(index, len(self.affects))
        return self.loaded.paint(face.expand(count, -1, -1, -1).contiguous(), wanted, shown)

    @torch.inference_mode()
    def draw(self, seed: int, wanted: Expression) -> Tensor:
        """Generate the identity of a seed with the expressions `wanted` (N, ...): (N, 3, S, S) in [-1, 1].

        Codes are sampled from the mixture fitted to the training codes if there is one, else from N(0, I).

        Raises:
            UserError: this system cannot sample identities.
        """
        system: Any = self.loaded.system
        if not self.has_prior:
            raise UserError(f"{self.label} has no latent code to sample; choose a character or drop an image")
        prior, made = "fitted" if system.prior.fitted else "normal", []
        for row in range(rows_in(wanted)):  # one by one, so that the same seed gives the same code
            one = rows_of(wanted, [row]).to(system.device)
            made.append(system.sample(1, one, prior, torch.Generator().manual_seed(seed)).float().cpu())
        return torch.cat(made)

    # ------------------------------------------------------------------ reading

    @torch.inference_mode()
    def read(self, face: Tensor) -> dict[str, Any]:
        """Read one face (1, 3, S, S) with discriminator and judge.

        Returns:
            ``realness`` (a probability), ``affects`` (probabilities by name), ``units`` (by number, if the
            discriminator reads them) and ``judge`` (probabilities by name); None if not available.
        """
        system: Any = self.loaded.system
        realness, logits = system.discriminate(face.to(system.device))
        units = system.read_units(face.to(system.device))[0] if hasattr(system, "read_units") else None
        judged = None if self.judge is None else self.judge.read(face).affect_logits
        return {
            "realness": None if realness is None else round(float(realness.float().sigmoid()), 4),
            "affects": self._shares(logits),
            "units": None if units is None else _by_name(map(str, ACTION_UNITS), units.clamp(0, 1)),
            "judge": self._shares(judged),
        }

    def _shares(self, logits: Tensor | None) -> dict[str, float] | None:
        return None if logits is None else _by_name(self.loaded.affects, logits[0].float().softmax(0))


def _by_name(names: Any, values: Tensor) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(names, values.tolist(), strict=True)}


def rows_in(expression: Expression) -> int:
    """Return N of a batch (N, ...)."""
    return len(next(iter(expression.known.values())))


def cached_judge(loaded: LoadedSystem) -> Judge | None:
    """Return the judge of a run's data from the cache of training or evaluation.

    Return None if there is none, or the data are missing, have changed or are not prepared: this function trains and
    prepares nothing.
    """
    from fexgan_lit.metrics.judges.affect import kept_judge
    from fexgan_lit.utils.cache import cache_root

    data = loaded.prepared_data if (cache_root(loaded.run.dataset.cache_dir) / "judges").is_dir() else None
    if data is None:
        return None
    try:
        judge = kept_judge(
            data.train, image_size=loaded.image_size, cache_dir=cache_root(data.config.cache_dir), key=data.key
        )
    except (UserError, OSError):
        return None
    return None if judge is None else judge.to(loaded.system.device)
