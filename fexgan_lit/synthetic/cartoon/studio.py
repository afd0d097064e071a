"""The embedded data set: cartoon characters that perform the seven affects in front of a plain wall."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

from fexgan_lit.synthetic.base import Studio
from fexgan_lit.synthetic.cartoon.canvas import Image, Points
from fexgan_lit.synthetic.cartoon.cast import make_cast
from fexgan_lit.synthetic.cartoon.identity import Identity
from fexgan_lit.synthetic.cartoon.painter import Painter, landmarks
from fexgan_lit.synthetic.takes import FaceState


@lru_cache(maxsize=64)
def _painter(who: Identity, size: int, framing: tuple[float, float, float]) -> Painter:
    return Painter(who, size, framing)


@dataclass(frozen=True)
class CartoonStudio(Studio):
    """Procedural cartoon characters: eight hand-made ones, and random ones from the seed."""

    kind: ClassVar[str] = "cartoon"
    version: ClassVar[int] = 3

    @cached_property
    def cast(self) -> tuple[Identity, ...]:
        """The characters in row order."""
        return make_cast(self.identities, self.seed, self.population)

    @property
    def people(self) -> tuple[str, ...]:
        """Names of the characters in row order."""
        return tuple(who.name for who in self.cast)

    def paint(self, person: int, act: FaceState, size: int) -> Image:
        """Render a character: (size, size, 3) RGB."""
        return _painter(self.cast[person], size, act.framing).paint(act)

    def landmarks(self, person: int, act: FaceState, size: int) -> Points:
        """Return (68, 2) Multi-PIE points in pixels."""
        return landmarks(self.cast[person], act, size)
