"""Judges of the user's own in place of the trained ones: their declaration, and what their networks read in images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS, normalise_affect
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import read_yaml

#: Channels of each colour order.
COLOURS = {"rgb": 3, "bgr": 3, "grey": 1}


SIDECARS = (".yaml", ".yml", ".json")


@dataclass
class ExternalJudgeSettings:
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


def declared(settings: ExternalJudgeSettings) -> ExternalJudgeSettings:
    """`settings` with what the file beside the judge says where they say nothing, and defaults where neither does.

    Raises:
        UserError: that file cannot be read, or says something that means nothing.
    """
    beside = _beside(Path(settings.path).expanduser()) if settings.path is not None else None
    said = _sidecar(beside) if beside is not None else {}
    given = {name: value for name, value in vars(settings).items() if value is not None}
    return ExternalJudgeSettings(**{"colour": "rgb", "output": "logits", "scale": 1.0, **said, **given})


def _beside(path: Path) -> Path | None:
    """The declaration beside the file `path` of a judge."""
    return next((p for p in map(path.with_suffix, SIDECARS) if p.is_file()), None)


def _sidecar(path: Path) -> dict[str, Any]:
    """What the file `path` declares."""
    known = [name for name in vars(ExternalJudgeSettings()) if name != "path"]
    content = read_yaml(path)  # every JSON file is YAML
    wrong = [str(key) for key in content if key not in known] if isinstance(content, Mapping) else ["no mapping"]
    if wrong:
        raise UserError(f"{path} is no declaration of a judge ({', '.join(wrong)}); it may say: {', '.join(known)}.")
    return {name: value for name, value in _typed(path, content).items() if value is not None}


def _typed(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with the types of the declaration, by the schema that options go through, too."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    schema = OmegaConf.structured(ExternalJudgeSettings)
    for name, value in content.items():
        try:
            schema[name] = value
        except OmegaConfBaseException as error:
            raise UserError(f"{path}, {name}={value!r}: {str(error).splitlines()[0]}") from error
    return vars(OmegaConf.to_object(schema))


#: Pictures (B, C, S, S) as the judge wants them -> numbers (B, D), both on the CPU.
Network = Callable[[Tensor], Tensor]


class OwnReading(NamedTuple):
    """What a user's affect judge says of a batch, in the order of the data set's affects: logits (B, K)."""

    affect_logits: Tensor

    @property
    def affect(self) -> Tensor:
        """The verdict, (B,) int64 in 0..K-1."""
        return self.affect_logits.argmax(dim=1)


@dataclass
class ExternalJudge:
    """A user's network and what they declared of it.

    Attributes:
        network: takes and gives CPU tensors.
        settings: the declaration.
        name: for reports, usually the file's.
    """

    network: Network
    settings: ExternalJudgeSettings
    name: str

    def raw(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """What the network gives for images (N, 3, S, S) in [-1, 1]: (N, D) float32 on the CPU.

        Raises:
            UserError: it gives something else than one row of finite numbers an image, or fails.
        """
        with torch.no_grad():
            return torch.cat([self._answer(self._as_declared(chunk)) for chunk in images.cpu().split(batch_size)])

    def _answer(self, pictures: Tensor) -> Tensor:
        try:
            answer = self.network(pictures)
        except Exception as error:  # whatever a user's code raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise UserError(
                f"{self.name} fails on pictures {tuple(pictures.shape)}: {reason}. "
                "Check input_size and colour of its declaration."
            ) from error
        if not isinstance(answer, Tensor):
            raise UserError(f"{self.name} gives a {type(answer).__name__}; expected one tensor (B, D)")
        answer = answer.detach().float().cpu()
        answer = answer.flatten(1) if answer.ndim > 2 and answer.shape[2:].numel() == 1 else answer  # (B, D, 1, 1)
        if answer.ndim != 2 or len(answer) != len(pictures):
            raise UserError(
                f"{self.name} gives numbers of shape {tuple(answer.shape)} for {len(pictures)} pictures; expected "
                f"({len(pictures)}, D)"
            )
        if not answer.isfinite().all():
            raise UserError(f"{self.name} gives numbers that are not finite; check range, mean and std")
        return answer

    def _as_declared(self, images: Tensor) -> Tensor:
        """Size, colour, range and normalisation of the declaration, in this order."""
        s = self.settings
        size, range_ = s.input_size or images.shape[-1], s.range or [-1.0, 1.0]
        if images.shape[-1] != size:
            images = nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
        if s.colour == "grey":
            weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # luma of ITU-R BT.601
            images = (images * weights).sum(dim=1, keepdim=True)
        elif s.colour == "bgr":
            images = images.flip(1)
        low, high = range_
        images = low + (images.clamp(-1, 1) + 1) / 2 * (high - low)
        for values, change in ((s.mean, torch.sub), (s.std, torch.div)):
            if values is not None:
                images = change(images, images.new_tensor(values).view(1, -1, 1, 1))
        return images.contiguous()

    def check_outputs(self, count: int | None) -> None:
        """Try the network on two grey pictures.

        Args:
            count: the numbers a picture it has to give, or None for any.

        Raises:
            UserError: it gives another number of them, or `raw` fails.
        """
        found = self.raw(torch.zeros(2, 3, 64, 64)).shape[1]
        if count is not None and found != count:
            raise UserError(
                f"{self.name} gives {found} numbers a picture, but its declaration names {count} classes; "
                "expected one class an output, in order"
            )


@dataclass
class OwnAffectJudge:
    """A user's affect judge with its outputs in the order of the data set.

    Attributes:
        judge: the network.
        affects: of the data set.
        columns: its output of each of them.
        unused: classes it knows and the data set does not.
        affect_accuracy: share of held-out frames named rightly, or None; filled in by `judges.load_or_train_judges`.
        n_held_out: frames behind it.
    """

    judge: ExternalJudge
    affects: tuple[str, ...]
    columns: list[int]
    unused: tuple[str, ...] = ()
    affect_accuracy: float | None = None
    n_held_out: int = 0

    @classmethod
    def of(cls, judge: ExternalJudge, affects: Sequence[str]) -> OwnAffectJudge:
        """Match the declared classes to `affects` by name, built-in aliases included.

        Raises:
            UserError: the judge does not know one of `affects`, or its outputs are not the declared ones.
        """
        names = [normalise_affect(name) for name in judge.settings.classes or ()]
        judge.check_outputs(len(names))
        lacking = [affect for affect in affects if affect not in names]
        if lacking or len(set(names)) < len(names):
            problem = f"does not know {', '.join(lacking)}" if lacking else "names one affect twice"
            raise UserError(
                f"{judge.name} {problem}: its classes are {', '.join(names)}; the data set has {', '.join(affects)}. "
                "Correct classes= (names in the order of its outputs), use a judge of these affects, or narrow the "
                "data with dataset.affects=[...]."
            )
        unused = tuple(name for name in names if name not in affects)
        return cls(judge, tuple(affects), [names.index(affect) for affect in affects], unused)

    def read(self, images: Tensor, batch_size: int = 256) -> OwnReading:
        """Read images (N, 3, S, S) in [-1, 1]; the softmax of the logits is over the data set's affects alone."""
        answer = self.judge.raw(images, batch_size)[:, self.columns]
        if self.judge.settings.output == "probabilities":
            answer = answer.clamp(min=1e-12).log()
        return OwnReading(answer)

    def describe(self) -> str:
        """One line for reports."""
        left_out = f"; its classes {', '.join(self.unused)} are left out" if self.unused else ""
        if self.affect_accuracy is None:
            return f"{self.judge.name}, your own affect judge{left_out}; no held-out frames, its accuracy is unknown"
        return (
            f"{self.judge.name}, your own affect judge{left_out}; on {self.n_held_out} held-out frames: "
            f"affect {self.affect_accuracy:.1%}"
        )


@dataclass
class OwnUnitJudge:
    """A user's action-unit judge with its outputs in the order of `ACTION_UNITS`.

    Attributes:
        judge: the network.
        columns: its output of each unit it knows.
        units: positions of those units in `ACTION_UNITS`; the others read NaN.
        au_errors: mean absolute error of each unit on held-out frames, NaN where it does not know it; None without.
        au_errors_of_constant: the same of the training frames' mean or median, whichever is better; None without.
        n_held_out: frames behind them.
    """

    judge: ExternalJudge
    columns: list[int]
    units: list[int]
    au_errors: list[float] | None = None
    au_errors_of_constant: list[float] | None = None
    n_held_out: int = 0
    missing: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.missing = tuple(unit for i, unit in enumerate(ACTION_UNITS) if i not in self.units)

    @classmethod
    def of(cls, judge: ExternalJudge) -> OwnUnitJudge:
        """Match the declared classes, such as 12, AU12 or AU12_r, to `ACTION_UNITS`.

        Raises:
            UserError: a class is no action unit, none is one of the 17, or its outputs are not the declared ones.
        """
        names = judge.settings.classes or []
        judge.check_outputs(len(names))
        numbers = [_unit_number(name, judge.name) for name in names]
        known = [i for i, unit in enumerate(ACTION_UNITS) if unit in numbers]
        if not known:
            raise UserError(f"{judge.name} knows none of the action units {', '.join(map(str, ACTION_UNITS))}")
        return cls(judge, [numbers.index(ACTION_UNITS[i]) for i in known], known)

    @property
    def au_error(self) -> float | None:
        """Mean of `au_errors` over the units it knows."""
        return None if self.au_errors is None else torch.tensor(self.au_errors).nanmean().item()

    @property
    def au_error_of_constant(self) -> float | None:
        """Mean of `au_errors_of_constant` over the units it knows."""
        if self.au_errors_of_constant is None:
            return None
        return torch.tensor(self.au_errors_of_constant)[self.units].mean().item()

    def read(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """(N, 17) in [0, 1] of images (N, 3, S, S) in [-1, 1]; NaN for units it does not know."""
        answer = self.judge.raw(images, batch_size)[:, self.columns] / (self.judge.settings.scale or 1.0)
        aus = torch.full((len(answer), len(ACTION_UNITS)), float("nan"))
        aus[:, self.units] = answer.clamp(0, 1)
        return aus

    def describe(self) -> str:
        """One line for reports."""
        lacking = f" (without {', '.join(f'AU{unit}' for unit in self.missing)})" if self.missing else ""
        if self.au_error is None:
            return f"{self.judge.name}, your own action-unit judge{lacking}; its error on this data is unknown"
        constant = self.au_error_of_constant
        than = "" if constant is None else f" ({constant:.3f} by the best constant answers)"
        return (
            f"{self.judge.name}, your own action-unit judge{lacking}; on {self.n_held_out} held-out frames: "
            f"off by {self.au_error:.3f} of 1 on average{than}"
        )


@dataclass
class OwnIdentityJudge:
    """A user's identity embedding.

    Attributes:
        judge: the network.
        rank1: on held-out true frames, or None; filled in by `judges.load_or_train_judges`.
        n_held_out: frames behind it.
    """

    judge: ExternalJudge
    rank1: float | None = None
    n_held_out: int = 0

    @classmethod
    def of(cls, judge: ExternalJudge) -> OwnIdentityJudge:
        """Check that it gives one vector a picture.

        Raises:
            UserError: it does not.
        """
        judge.check_outputs(None)
        return cls(judge)

    def embed(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Unit embeddings (N, E) of images (N, 3, S, S) in [-1, 1]."""
        return nn.functional.normalize(self.judge.raw(images, batch_size), dim=1)

    def describe(self) -> str:
        """One line for reports."""
        if self.rank1 is None:
            return f"{self.judge.name}, your own identity judge; not measured on this data"
        return (
            f"{self.judge.name}, your own identity judge; on {self.n_held_out} held-out true frames: "
            f"Rank-1 {self.rank1:.1%}"
        )


def _unit_number(name: str, judge: str) -> int:
    word = str(name).strip().lower().removeprefix("au").split("_")[0]
    if not word.isdigit():
        raise UserError(f"{judge}: class {name!r} is no action unit; expected a number such as 12 or AU12")
    return int(word)
