"""`studio_human`: people rendered from ICT-FaceKit, an open substitute for MH-FED."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.base import Studio
from fexgan_lit.synthetic.human.cast import make_cast
from fexgan_lit.synthetic.human.identity import Identity
from fexgan_lit.synthetic.human.model import content_hash, load_model
from fexgan_lit.synthetic.takes import FaceState
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.synthetic.human.painter import Marker, Painter


@lru_cache(maxsize=16)
def _painter(facekit: str, key: str, who: Identity, seed: int) -> Painter:
    from fexgan_lit.synthetic.human.painter import Painter

    return Painter(load_model(facekit, key), who, seed)


@lru_cache(maxsize=256)
def _marker(facekit: str, key: str, who: Identity) -> Marker:
    from fexgan_lit.synthetic.human.painter import Marker

    return Marker(load_model(facekit, key), who)


@dataclass(frozen=True)
class HumanStudio(Studio):
    """People with ICT-FaceKit heads: ten hand-made ones, and random ones from the seed.

    Attributes:
        facekit: path of a checkout of ICT-FaceKit or of the compact .npz file; the recipe has a hash of its content.

    Raises:
        UserError: an argument is out of range, or there is no complete model at `facekit`.
    """

    kind: ClassVar[str] = "human"
    version: ClassVar[int] = 2

    identities: int = 10
    facekit: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.facekit:
            raise UserError(
                "dataset.facekit: found nothing, expected a checkout of ICT-FaceKit; get it at "
                "https://github.com/USC-ICT/ICT-FaceKit (MIT licence) and set dataset.facekit to its folder."
            )
        load_model(self.facekit, self._key)

    @cached_property
    def _key(self) -> str:
        return content_hash(self.facekit)

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that determines the pixels, JSON-serialisable: arguments, renderer version and model hash."""
        arguments = {name: value for name, value in super().recipe.items() if name != "facekit"}
        # version 3 changed images of 128 px alone (3 x 3 samples a pixel, 4 x 4 before): other packs stay valid
        return {**arguments, "version": 3 if self.size == 128 else self.version, "model": self._key}

    @cached_property
    def cast(self) -> tuple[Identity, ...]:
        """The people in row order."""
        return make_cast(self.identities, self.seed, self.population)

    @property
    def people(self) -> tuple[str, ...]:
        """Names of the people in row order."""
        return tuple(who.name for who in self.cast)

    def paint(self, person: int, act: FaceState, size: int) -> NDArray[np.uint8]:
        """Render a person: (size, size, 3) RGB."""
        return _painter(self.facekit, self._key, self.cast[person], person).paint(act, size)

    def landmarks(self, person: int, act: FaceState, size: int) -> NDArray[np.float64]:
        """Return (68, 2) Multi-PIE points in pixels, projected from fixed vertices of the posed head."""
        return _marker(self.facekit, self._key, self.cast[person]).landmarks(act, size)
