"""What a user declares of a judge of theirs: by options, or in a file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fexgan_lit.errors import UserError

#: Channels of each colour order.
COLOURS = {"rgb": 3, "bgr": 3, "grey": 1}
SIDECARS = (".yaml", ".yml", ".json")


@dataclass
class OwnJudgeSettings:
    """What a user says of a judge of theirs; a file of the same name ending in .yaml, .yml or .json may say it, too.

    Attributes:
        path: TorchScript (.pt, .ts) or ONNX (.onnx) file; None: no judge of one's own.
        classes: what its outputs stand for, in order: affects, or numbers of action units. An identity judge has none.
        input_size: side in pixels of the square pictures it takes.
        range: values of black and white in its pictures, for example [0, 1].
        mean: of each channel, taken from those values, or None.
        std: of each channel, by which they are divided then, or None.
        colour: rgb, bgr or grey, the order and number of its channels; None is rgb.
        output: of an affect judge: logits or probabilities; None is logits.
        scale: of an action-unit judge: its value for full intensity, 5 for OpenFace's scale; None is 1.
    """

    path: str | None = None
    classes: list[str] | None = None
    input_size: int | None = None
    range: list[float] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    colour: str | None = None
    output: str | None = None
    scale: float | None = None

    def problems(self, section: str = "judge", needs_classes: bool = True) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = [f"{section}.{name}: {wrong}" for name, wrong in self._wrong_values()]
        if self.input_size is None:
            found.append(f"{section}.input_size: not given; expected the side of its pictures in pixels")
        if self.range is None:
            found.append(f"{section}.range: not given; expected the values of black and white, for example [0, 1]")
        if needs_classes and not self.classes:
            found.append(f"{section}.classes: not given; expected the names of its outputs in order")
        elif needs_classes and len(set(self.classes or ())) < len(self.classes or ()):
            found.append(f"{section}.classes={self.classes}: a name occurs twice")
        return found

    def _wrong_values(self) -> list[tuple[str, str]]:
        colour = self.colour or "rgb"
        channels = COLOURS.get(colour)
        wrong = [] if channels else [("colour", f"{self.colour!r}; expected one of {', '.join(COLOURS)}")]
        if self.output not in (None, "logits", "probabilities"):
            wrong.append(("output", f"{self.output!r}; expected logits or probabilities"))
        if self.input_size is not None and self.input_size < 8:
            wrong.append(("input_size", f"{self.input_size}; expected 8 or more"))
        if self.range is not None and not (len(self.range) == 2 and self.range[0] < self.range[1]):
            wrong.append(("range", f"{self.range}; expected two rising numbers"))
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and channels is not None and len(values) != channels:
                wrong.append((name, f"{values}; expected {channels} numbers, one a channel of {colour}"))
        if self.std is not None and any(value <= 0 for value in self.std):
            wrong.append(("std", f"{self.std}; expected positive numbers"))
        if self.scale is not None and self.scale <= 0:
            wrong.append(("scale", f"{self.scale}; expected a positive number"))
        return wrong


def declared(settings: OwnJudgeSettings) -> OwnJudgeSettings:
    """`settings` with what the file beside the judge says where they say nothing, and defaults where neither does.

    Raises:
        UserError: that file cannot be read, or says something that means nothing.
    """
    beside = _beside(Path(settings.path).expanduser()) if settings.path is not None else None
    said = _sidecar(beside) if beside is not None else {}
    given = {name: value for name, value in vars(settings).items() if value is not None}
    return OwnJudgeSettings(**{"colour": "rgb", "output": "logits", "scale": 1.0, **said, **given})


def _beside(path: Path) -> Path | None:
    """The declaration beside the file `path` of a judge."""
    return next((p for p in map(path.with_suffix, SIDECARS) if p.is_file()), None)


def _sidecar(path: Path) -> dict[str, Any]:
    """What the file `path` declares."""
    import yaml

    known = [name for name in vars(OwnJudgeSettings()) if name != "path"]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # every JSON file is YAML
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}. Expected a judge's declaration in YAML or JSON.") from error
    wrong = [str(key) for key in content if key not in known] if isinstance(content, Mapping) else ["no mapping"]
    if wrong:
        raise UserError(f"{path} is no declaration of a judge ({', '.join(wrong)}); it may say: {', '.join(known)}.")
    return {name: value for name, value in _typed(path, content).items() if value is not None}


def _typed(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with the types of the declaration, by the schema that options go through, too."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    schema = OmegaConf.structured(OwnJudgeSettings)
    for name, value in content.items():
        try:
            schema[name] = value
        except OmegaConfBaseException as error:
            raise UserError(f"{path}, {name}={value!r}: {str(error).splitlines()[0]}") from error
    return vars(OmegaConf.to_object(schema))
