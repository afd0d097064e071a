"""The user's own judges in place of trained ones: declaration, input conversion and output order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fexgan_lit.expression import ACTION_UNITS, normalise_affect
from fexgan_lit.utils.errors import UserError

#: Published networks that can take the place of the judges of affect and identity (`metrics.external`).
EXTERNALS = ("face_api",)
#: Number of channels of each colour order.
COLOURS = {"rgb": 3, "bgr": 3, "grey": 1}


@dataclass
class ExternalJudgeSettings:
    """Declaration of a user's judge, also in a file beside it with the same stem and suffix .yaml, .yml or .json.

    Attributes:
        path: TorchScript (.pt, .ts) or ONNX (.onnx) file; None for no judge of the user's own.
        classes: names of the outputs in order: affects, or numbers of action units; none for an identity judge.
        input_size: side of the square input images in pixels.
        range: input values of black and white, for example [0, 1].
        mean: value of each channel that is subtracted after the conversion to `range`, or None.
        std: value of each channel that the difference is divided by, or None.
        colour: rgb, bgr or grey, the order and number of the input channels; None is rgb.
        output: output of an affect judge: logits or probabilities; None is logits.
        scale: output of an action-unit judge for full intensity, 5 for OpenFace's scale; None is 1.
        crop: part of a frame that it sees, as [left, top, right, bottom] in 0..1, resized to the square input; None is
            the whole frame.
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
    crop: list[float] | None = None

    def problems(self, section: str = "judge", needs_classes: bool = True) -> list[str]:
        """Return one sentence per invalid value, with what was expected."""
        found = [f"{section}.{name}: {wrong}" for name, wrong in self._wrong_values()]
        if self.input_size is None:
            found.append(f"{section}.input_size: not given; expected the side of its input images in pixels")
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
        if self.input_size is not None and not 8 <= self.input_size <= 4096:
            wrong.append(("input_size", f"{self.input_size}; expected 8 to 4096"))
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
        if self.crop is not None and (trouble := crop_trouble(self.crop)):
            wrong.append(("crop", trouble))
        return wrong


def crop_trouble(crop: Sequence[float]) -> str | None:
    """Return what is wrong with a crop [left, top, right, bottom], or None."""
    if len(crop) == 4 and 0 <= crop[0] < crop[2] <= 1 and 0 <= crop[1] < crop[3] <= 1:
        return None
    return f"{list(crop)}; expected [left, top, right, bottom] in 0..1 with left < right and top < bottom"


#: Images (B, C, S, S) in the judge's format -> numbers (B, D), both on the judge's device.
Network = Callable[[Tensor], Tensor]


class OwnReading(NamedTuple):
    """Output of a user's affect judge for a batch: logits (B, K) in the order of the data set's affects."""

    affect_logits: Tensor

    @property
    def affect(self) -> Tensor:
        """Predicted affects, (B,) int64 in 0..K-1."""
        return self.affect_logits.argmax(dim=1)


@dataclass
class ExternalJudge:
    """A user's network with its declaration.

    Attributes:
        network: function from tensors to tensors on the same device.
        settings: the declaration.
        name: name for reports, usually the file name.
        whose: `your own`, or another word for reports.
        crop_origin: where the crop comes from, for reports.
        device: where the network runs.
    """

    network: Network
    settings: ExternalJudgeSettings
    name: str
    whose: str = "your own"
    crop_origin: str = "as declared"
    device: torch.device | str = "cpu"

    def to(self, device: torch.device | str) -> ExternalJudge:
        """Move the network to `device` if it is a module of Python; files of users stay on the CPU."""
        if isinstance(self.network, nn.Module) and not isinstance(self.network, torch.jit.ScriptModule):
            self.network.to(device)
            self.device = device
        return self

    def describe(self, kind: str) -> str:
        """Return name, kind (such as `affect`) and crop for reports."""
        crop = self.settings.crop
        where = "" if crop is None else f" of the part {', '.join(f'{side:g}' for side in crop)} ({self.crop_origin})"
        return f"{self.name}, {self.whose} {kind} judge{where}"

    def raw(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Return the network's output for images (N, 3, S, S) in [-1, 1]: (N, D) float32 on the CPU.

        Raises:
            UserError: the network fails, or its output is not one row of finite numbers per image.
        """
        with torch.no_grad():
            chunks = images.to(self.device).split(batch_size)
            return torch.cat([self._answer(self._as_declared(chunk)) for chunk in chunks])

    def _answer(self, pictures: Tensor) -> Tensor:
        try:
            answer = self.network(pictures)
        except Exception as error:  # whatever a user's code raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise UserError(
                f"{self.name} fails on images {tuple(pictures.shape)}: {reason}. "
                "Check input_size and colour in its declaration."
            ) from error
        if not isinstance(answer, Tensor):
            raise UserError(f"{self.name} returns a {type(answer).__name__}; expected one tensor (B, D)")
        answer = answer.detach().float().cpu()
        answer = answer.flatten(1) if answer.ndim > 2 and answer.shape[2:].numel() == 1 else answer  # (B, D, 1, 1)
        if answer.ndim != 2 or len(answer) != len(pictures):
            raise UserError(
                f"{self.name} returns the shape {tuple(answer.shape)} for {len(pictures)} images; expected "
                f"({len(pictures)}, D)"
            )
        if not answer.isfinite().all():
            raise UserError(f"{self.name} returns numbers that are not finite; check range, mean and std")
        return answer

    def _as_declared(self, images: Tensor) -> Tensor:
        """Apply crop, size, colour, range and normalisation of the declaration, in this order."""
        s = self.settings
        if s.crop is not None:  # outwards to whole pixels, so that it is never empty
            left, top = (math.floor(side * images.shape[-1] + 1e-6) for side in s.crop[:2])
            right, bottom = (math.ceil(side * images.shape[-1] - 1e-6) for side in s.crop[2:])
            images = images[..., top:bottom, left:right]
        size, range_ = s.input_size or images.shape[-1], s.range or [-1.0, 1.0]
        if images.shape[-2:] != (size, size):
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
        """Run the network on two grey images.

        Args:
            count: expected number of outputs per image, or None for any.

        Raises:
            UserError: the number differs, or `raw` fails.
        """
        found = self.raw(torch.zeros(2, 3, 64, 64)).shape[1]
        if count is not None and found != count:
            raise UserError(
                f"{self.name} returns {found} numbers per image, but its declaration has {count} classes; "
                "expected one class per output, in order"
            )


@dataclass
class OwnAffectJudge:
    """A user's affect judge with its outputs in the order of the data set.

    Attributes:
        judge: the network.
        affects: affects of the data set.
        columns: output index of each affect.
        unused: classes of the judge that the data set does not have.
        affect_accuracy: accuracy on held-out frames, or None; set by `load_or_train_judges`.
        n_held_out: number of held-out frames.
    """

    judge: ExternalJudge
    affects: tuple[str, ...]
    columns: list[int]
    unused: tuple[str, ...] = ()
    affect_accuracy: float | None = None
    n_held_out: int = 0

    @classmethod
    def of(cls, judge: ExternalJudge, affects: Sequence[str]) -> OwnAffectJudge:
        """Match the declared classes to `affects` by name, including built-in aliases.

        Raises:
            UserError: a class is missing, or the outputs do not match the declaration.
        """
        names = [normalise_affect(name) for name in judge.settings.classes or ()]
        judge.check_outputs(len(names))
        lacking = [affect for affect in affects if affect not in names]
        if lacking or len(set(names)) < len(names):
            problem = f"does not know {', '.join(lacking)}" if lacking else "has one affect twice"
            raise UserError(
                f"{judge.name} {problem}: its classes are {', '.join(names)}; the data set has {', '.join(affects)}. "
                "Correct classes= (names in the order of its outputs), use a judge of these affects, or narrow the "
                "data with dataset.affects=[...]."
            )
        unused = tuple(name for name in names if name not in affects)
        return cls(judge, tuple(affects), [names.index(affect) for affect in affects], unused)

    def read(self, images: Tensor, batch_size: int = 256) -> OwnReading:
        """Evaluate images (N, 3, S, S) in [-1, 1]; the logits' softmax is over the data set's affects alone."""
        answer = self.judge.raw(images, batch_size)[:, self.columns]
        if self.judge.settings.output == "probabilities":
            answer = answer.clamp(min=1e-12).log()
        return OwnReading(answer)

    def describe(self) -> str:
        """Return one line for reports."""
        left_out = f"; its classes {', '.join(self.unused)} are left out" if self.unused else ""
        start = f"{self.judge.describe('affect')}{left_out}"
        if self.affect_accuracy is None:
            return f"{start}; its accuracy is unknown"
        return f"{start}; on {self.n_held_out} held-out frames: affect {self.affect_accuracy:.1%}"


@dataclass
class OwnUnitJudge:
    """A user's action-unit judge with its outputs in the order of `ACTION_UNITS`.

    Attributes:
        judge: the network.
        columns: output index of each known unit.
        units: positions of the known units in `ACTION_UNITS`; the others are NaN.
        au_errors: mean absolute error of each unit on held-out frames, NaN for unknown units; None without held-out
            frames.
        au_errors_of_constant: the same for the better of the training frames' mean and median; None without.
        n_held_out: number of held-out frames.
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
            UserError: a class is not an action unit, none is one of the 17, or the outputs do not match the
                declaration.
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
        """Mean of `au_errors` over the known units."""
        return None if self.au_errors is None else torch.tensor(self.au_errors).nanmean().item()

    @property
    def au_error_of_constant(self) -> float | None:
        """Mean of `au_errors_of_constant` over the known units."""
        if self.au_errors_of_constant is None:
            return None
        return torch.tensor(self.au_errors_of_constant)[self.units].mean().item()

    def read(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Estimate (N, 17) in [0, 1] of images (N, 3, S, S) in [-1, 1]; NaN for unknown units."""
        answer = self.judge.raw(images, batch_size)[:, self.columns] / (self.judge.settings.scale or 1.0)
        aus = torch.full((len(answer), len(ACTION_UNITS)), float("nan"))
        aus[:, self.units] = answer.clamp(0, 1)
        return aus

    def describe(self) -> str:
        """Return one line for reports."""
        lacking = f" (without {', '.join(f'AU{unit}' for unit in self.missing)})" if self.missing else ""
        start = f"{self.judge.describe('action-unit')}{lacking}"
        if self.au_error is None:
            return f"{start}; its error on this data is unknown"
        constant = self.au_error_of_constant
        than = "" if constant is None else f" ({constant:.3f} for the best constant)"
        return f"{start}; on {self.n_held_out} held-out frames: off by {self.au_error:.3f} of 1 on average{than}"


@dataclass
class OwnIdentityJudge:
    """A user's identity embedding.

    Attributes:
        judge: the network.
        rank1: Rank-1 on held-out real frames, or None; set by `load_or_train_judges`.
        n_held_out: number of held-out probes.
    """

    judge: ExternalJudge
    rank1: float | None = None
    n_held_out: int = 0

    @classmethod
    def of(cls, judge: ExternalJudge) -> OwnIdentityJudge:
        """Check that the network returns one vector per image.

        Raises:
            UserError: the output has another shape.
        """
        judge.check_outputs(None)
        return cls(judge)

    def embed(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Return unit-length embeddings (N, E) of images (N, 3, S, S) in [-1, 1]."""
        return nn.functional.normalize(self.judge.raw(images, batch_size), dim=1)

    def describe(self) -> str:
        """Return one line for reports."""
        start = self.judge.describe("identity")
        if self.rank1 is None:
            return f"{start}; not measured on this data"
        return f"{start}; on {self.n_held_out} held-out real frames: Rank-1 {self.rank1:.1%}"


def _unit_number(name: str, judge: str) -> int:
    word = str(name).strip().lower().removeprefix("au").split("_")[0]
    if not word.isdigit():
        raise UserError(f"{judge}: class {name!r} is not an action unit; expected a number such as 12 or AU12")
    return int(word)
