"""`studio_mixed`: the people and the cartoon characters of both studios in one data set."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.base import Studio
from fexgan_lit.synthetic.cartoon.studio import CartoonStudio
from fexgan_lit.synthetic.human.studio import HumanStudio
from fexgan_lit.synthetic.takes import FaceState


@dataclass(frozen=True)
class MixedStudio(Studio):
    """Characters 0, 2, 4, ... are those of `HumanStudio`, characters 1, 3, 5, ... those of `CartoonStudio`.

    Takes (pose, gaze, light) are drawn by the number of the character here.

    Attributes:
        facekit: see `HumanStudio`.

    Raises:
        UserError: an argument is out of range, or there is no complete model at `facekit`.
    """

    kind: ClassVar[str] = "mixed"
    version: ClassVar[int] = 1

    identities: int = 18
    facekit: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.parts  # noqa: B018 (checks the model)

    @cached_property
    def parts(self) -> tuple[HumanStudio, CartoonStudio]:
        """The studios of the people and of the cartoon characters."""
        shared = {field.name: getattr(self, field.name) for field in fields(Studio)}
        people, cartoons = (self.identities + 1) // 2, max(1, self.identities // 2)
        return (
            HumanStudio(**{**shared, "identities": people}, facekit=self.facekit),
            CartoonStudio(**{**shared, "identities": cartoons}),
        )

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that determines the pixels, JSON-serialisable: the recipes of both studios."""
        arguments = {name: value for name, value in super().recipe.items() if name != "facekit"}
        return {**arguments, "parts": [part.recipe for part in self.parts]}

    @property
    def people(self) -> tuple[str, ...]:
        """Names in row order; those of cartoon characters begin with ``cartoon_``."""
        people, cartoons = (part.people for part in self.parts)
        return tuple(f"cartoon_{cartoons[k // 2]}" if k % 2 else people[k // 2] for k in range(self.identities))

    def paint(self, person: int, act: FaceState, size: int) -> NDArray[np.uint8]:
        """Render a character: (size, size, 3) RGB."""
        return self.parts[person % 2].paint(person // 2, act, size)

    def landmarks(self, person: int, act: FaceState, size: int) -> NDArray[np.float64]:
        """Return (68, 2) Multi-PIE points in pixels."""
        return self.parts[person % 2].landmarks(person // 2, act, size)
