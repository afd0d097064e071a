"""The generator in 8 bits for the CPU, calibrated and evaluated on real faces."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fexgan_lit.inference.export.onnx import open_session, quiet, run_session
from fexgan_lit.metrics.pixels import psnr, ssim
from fexgan_lit.systems.base import exportable
from fexgan_lit.utils.timing import Spread, take_turns

if TYPE_CHECKING:
    from fexgan_lit.inference.loaded_system import LoadedSystem

    Reader = Callable[[Tensor], Tensor]
    from fexgan_lit.metrics.judges.affect import Judge


#: Batch size of calibration and comparison.
_BATCH = 8


_ROUNDS = 21


@dataclass(frozen=True)
class Int8Report:
    """Accuracy, size and speed of the 8-bit generator.

    Attributes:
        images: number of compared images.
        origin: description of these images.
        ssim: SSIM of the 8-bit images to the float images, mean and minimum.
        psnr: PSNR of the 8-bit images to the float images in dB, mean and minimum.
        read_as_asked: share of images that each reader classifies as the target affect: (float, 8 bits).
        megabytes: sizes of the two files, (float, 8 bits).
        faster: speed-up over float, by batch size.
        threads: threads of onnxruntime during timing.
    """

    images: int
    origin: str
    ssim: tuple[float, float]
    psnr: tuple[float, float]
    read_as_asked: dict[str, tuple[float, float]]
    megabytes: tuple[float, float]
    faster: dict[int, Spread]
    threads: int

    def plain(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class RealInputs:
    """Reference images with every affect, as inputs of the generator.

    Attributes:
        values: inputs (N, ...) by name.
        asked: (N,) index of the affect.
        face: (N,) index of the reference image.
        origin: description of the images.
    """

    values: dict[str, Tensor]
    asked: Tensor
    face: Tensor
    origin: str = "the reference faces of the run and every affect"

    def split(self) -> tuple[RealInputs, RealInputs]:
        """Split into inputs for calibration and for evaluation: alternate faces, or all twice if there is one face."""
        odd = self.face % 2 == 1
        if not odd.any():
            return self, replace(self, origin=f"{self.origin}, which were also used for calibration")
        others = replace(self._where(odd), origin="the reference faces not used for calibration and every affect")
        return self._where(~odd), others

    def _where(self, chosen: Tensor) -> RealInputs:
        values = {name: value[chosen] for name, value in self.values.items()}
        return replace(self, values=values, asked=self.asked[chosen], face=self.face[chosen])

    def rows(self, part: slice) -> dict[str, Tensor]:
        """Return the inputs of some rows."""
        return {name: value[part] for name, value in self.values.items()}

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """Yield all inputs in batches."""
        for start in range(0, len(self.asked), _BATCH):
            yield self.rows(slice(start, start + _BATCH))


def real_inputs(loaded: LoadedSystem) -> RealInputs:
    """Return every reference image of the run with every affect.

    Raises:
        UserError: the run's faces are missing, or the system reads something that is unknown for them.
    """
    from fexgan_lit.inference.conditions import GivenFaces, TargetSpec, target_expression

    faces, affects = loaded.references.images, loaded.affects
    wanted = [target_expression(GivenFaces(loaded, faces), TargetSpec({name: 1.0})) for name in affects]
    fields = {name: torch.cat([each.known[name] for each in wanted]) for name in wanted[0].known}
    known = {"image": faces.repeat(len(affects), 1, 1, 1), **fields, **_shown(loaded, len(affects))}
    inputs = exportable(loaded.system).export_modules()["generator"].inputs
    asked = torch.arange(len(affects)).repeat_interleave(len(faces))
    face = torch.arange(len(faces)).repeat(len(affects))
    return RealInputs({name: known[name].float() for name in inputs}, asked, face)


def _shown(loaded: LoadedSystem, times: int) -> dict[str, Tensor]:
    """Return the expressions of the reference images, repeated: affect and, if known, landmarks."""
    references, neutral = loaded.references, "neutral" if "neutral" in loaded.affects else loaded.affects[0]
    index = [loaded.affects.index(neutral)] * len(references.images)
    affect = torch.nn.functional.one_hot(torch.tensor(index), len(loaded.affects)).float()
    shown = {"source_affect": affect.repeat(times, 1)}
    if references.frames is not None and references.frames.landmarks is not None:
        points = torch.from_numpy(references.frames.landmarks[references.rows])
        shown["source_landmarks"] = points.repeat(times, 1, 1)
    return shown


def write_int8(source: Path, path: Path, inputs: RealInputs) -> None:
    """Quantise the ONNX file `source` to 8-bit weights and activations, calibrated on `inputs`, and write it to `path`.

    onnxruntime's static quantisation scales weights per channel and activations per tensor.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Faces(CalibrationDataReader):  # the reader that the quantiser requires
        def __init__(self) -> None:
            self.rest = inputs.batches()

        def get_next(self) -> Mapping[str, Any] | None:
            batch = next(self.rest, None)
            return None if batch is None else {name: value.numpy() for name, value in batch.items()}

    with tempfile.TemporaryDirectory() as scratch, quiet():
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared), str(path), Faces(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip


def measure_int8(source: Path, path: Path, inputs: RealInputs, readers: Mapping[str, Reader]) -> Int8Report:
    """Compare the 8-bit file `path` with the float file on real faces: similarity, classification, size, speed.

    Args:
        source: the float file.
        path: the 8-bit file.
        inputs: inputs of both.
        readers: functions by name that classify the affect (N,) of images.
    """
    threads = torch.get_num_threads()
    exact, small = open_session(source, threads), open_session(path, threads)
    faces = [torch.cat([run_session(each, batch)[0] for batch in inputs.batches()]) for each in (exact, small)]
    similar, decibels = ssim(faces[1], faces[0]), psnr(faces[1], faces[0])
    shares = {
        name: tuple(float((read(made) == inputs.asked).float().mean()) for made in faces)
        for name, read in readers.items()
    }
    return Int8Report(
        images=len(inputs.asked),
        origin=inputs.origin,
        ssim=(float(similar.mean()), float(similar.min())),
        psnr=(float(decibels.mean()), float(decibels.min())),
        read_as_asked=shares,  # type: ignore[arg-type]
        megabytes=(source.stat().st_size / 1e6, path.stat().st_size / 1e6),
        faster={batch: _faster(exact, small, inputs, batch) for batch in (1, 16)},
        threads=threads,
    )


def _faster(exact: Any, small: Any, inputs: RealInputs, batch: int) -> Spread:
    """Return the speed-up of `small` over `exact`, timed in turns."""
    rows = torch.arange(batch) % len(inputs.asked)
    given = {name: value[rows] for name, value in inputs.values.items()}
    timings = take_turns(
        {"exact": lambda: run_session(exact, given), "small": lambda: run_session(small, given)}, _ROUNDS
    )
    return timings["small"].times_faster(timings["exact"])


def readers_of(loaded: LoadedSystem) -> dict[str, Reader]:
    """Return the discriminator if it classifies affects, and the judge of the run's data if it is cached."""
    found: dict[str, Reader] = {}
    example = torch.zeros(1, 3, loaded.image_size, loaded.image_size)
    if loaded.system.discriminate(example)[1] is not None:
        found["discriminator"] = lambda faces: _seen(loaded.system.discriminate(faces)[1])
    judge = judge_of(loaded)
    if judge is not None:
        found["judge"] = lambda faces: judge.read(faces).affect
    return found


def judge_of(loaded: LoadedSystem) -> Judge | None:
    """Return the judge of the run's data from the cache, or None."""
    from fexgan_lit.metrics.judges.affect import kept_judge
    from fexgan_lit.utils.cache import cache_root

    data = loaded.references.data
    if data is None:
        return None
    place = cache_root(data.config.cache_dir)
    return kept_judge(data.train, image_size=data.config.image_size, cache_dir=place, key=data.key)


def _seen(scores: Tensor | None) -> Tensor:
    if scores is None:
        raise ValueError("no reading of affects")
    return scores.argmax(1)
