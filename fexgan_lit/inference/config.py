"""The common options of `generate`, and the check that every other option belongs to the selected mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fexgan_lit.utils.errors import UserError, did_you_mean
from fexgan_lit.utils.hardware import device_problems
from fexgan_lit.utils.options import Options, option, typed

#: Modes whose faces can be pasted back into the original images.
PASTING = ("transform", "blend", "expressions")


#: The library of named expressions where no other is named.
LIBRARY = "expressions.yaml"

#: Modes without `neutral_first`: they have no source faces, or train on them.
NOT_EDITING = ("random", "lambda", "tune")


@dataclass
class GenerateSettings(Options):
    """The options that all modes share; `conf/generate.yaml` explains each field."""

    run: str | None = None
    mode: str = "transform"
    out: str | None = None
    who: Any = None
    images: str | None = None
    annotations: str | None = None
    others: str | None = None
    paste: bool = False
    which: Any = None
    box: Any = None
    neutral_first: bool = False
    root: str | None = None
    seed: int = 0
    batch_size: int = option(32, at_least=1, at_most=65536)
    device: str = "auto"

    @property
    def names(self) -> tuple[str, ...]:
        """The faces selected by `who`, in that order; empty means all."""
        if self.who is None:
            return ()
        chosen = self.who if isinstance(self.who, list) else [self.who]
        return tuple(str(name) for name in chosen)

    @property
    def boxes(self) -> list[list[float]]:
        """The boxes around faces in `box`: left, top, right and bottom in pixels."""
        several = isinstance(self.box, list) and self.box and isinstance(self.box[0], list)
        return self.box if several else [] if self.box is None else [self.box]

    def conflicts(self) -> list[str]:
        """Return a sentence for each combination of valid values that is not allowed."""
        found = []
        for name in ("images", "annotations", "others", "root"):
            place = getattr(self, name)
            path = Path(place or "").expanduser()
            if place is not None and not path.is_file() and not path.is_dir():  # reading a pipe would block
                found.append(f"{name}={place}: there is no such file or folder")
        if self.annotations is not None and self.images is None and self.mode != "animate":
            found.append(f"annotations={self.annotations}: it describes the images of images=FILE|DIR; give both")
        if isinstance(self.who, Mapping) or self.who == []:
            found.append(f"who={self.who}: expected a name or a list of names")
        if self.others is not None and (self.mode in NOT_EDITING or self.box is not None):
            found.append(f"others={self.others}: expected a mode that edits faces, and no box=")
        found += self._paste_problems()
        if self.neutral_first and self.mode in NOT_EDITING:
            found.append(f"neutral_first=true: mode={self.mode} does not edit source faces; expected another mode")
        return [*found, *device_problems(self.device)]

    def _paste_problems(self) -> list[str]:
        found = []
        if self.paste and (self.images is None or self.mode not in PASTING):
            modes = " or ".join(f"mode={mode}" for mode in PASTING)
            found.append(f"paste=true: it puts new faces back into your images; expected images=FILE|DIR and {modes}")
        if self.which is not None and not (self.which == "all" or (type(self.which) is int and self.which >= 1)):
            found.append(f"which={self.which}: expected all, or the number of a face counted from the left, from 1")
        if self.which is not None and not self.paste:
            found.append(f"which={self.which}: it chooses among the faces that paste=true finds; give both")
        if not all(_is_box(box) for box in self.boxes):
            found.append(
                f"box={self.box}: expected [left,top,right,bottom] in pixels around a face, or a list of such boxes"
            )
        folder = self.images is not None and Path(self.images).expanduser().is_dir()
        if self.box is not None and (folder or self.which is not None or not self.paste):
            found.append(f"box={self.box}: expected paste=true, one image as images=FILE, and no which=")
        return found


def _is_box(box: Any) -> bool:
    numbers = isinstance(box, list) and len(box) == 4 and all(type(n) in (int, float) for n in box)
    return numbers and box[0] < box[2] and box[1] < box[3]


def general_settings(tree: Mapping[str, Any], problems: list[str]) -> GenerateSettings:
    """Read the common options from the composed configuration; sentences on invalid values are added to `problems`."""
    own = {field.name for field in fields(GenerateSettings)}
    return _typed(GenerateSettings, {name: value for name, value in tree.items() if name in own}, problems)


def mode_options(tree: Mapping[str, Any], mode: str, modes: Mapping[str, type], problems: list[str]) -> Any:
    """Read the options of `mode`; null means the default of the mode.

    Args:
        tree: the composed configuration.
        mode: the selected mode.
        modes: the options' dataclass of every mode.
        problems: receives a sentence for every option of another mode and every invalid value.

    Raises:
        UserError: the mode does not exist; the error suggests the nearest.
    """
    if mode not in modes:
        raise UserError(f"mode={mode}: expected one of {', '.join(modes)}.{did_you_mean(mode, modes, 'mode=')}")
    own = [field.name for field in fields(modes[mode])]
    general = {field.name for field in fields(GenerateSettings)}
    given = {name: value for name, value in tree.items() if name not in general and value is not None}
    for name in given:
        if name not in own:
            others = [f"mode={other}" for other, cls in modes.items() if name in {field.name for field in fields(cls)}]
            problems.append(
                f"{name}={given[name]}: mode={mode} has no such option, but {' and '.join(others) or 'no mode'} has. "
                f"Its options: {', '.join(own)}.{did_you_mean(name, own)}"
            )
    return _typed(modes[mode], {name: value for name, value in given.items() if name in own}, problems)


def _typed(cls: type, values: Mapping[str, Any], problems: list[str]) -> Any:
    """Fill and check the dataclass `cls`."""
    wrong: list[str] = []
    settings: Any = typed(cls, values, "", wrong)
    problems += wrong or settings.problems()
    return settings
