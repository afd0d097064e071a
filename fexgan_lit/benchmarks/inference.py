"""The inference suite: the time per batch of each exported part in PyTorch and ONNX, and of `synthesize`."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.inputs import pictures
from fexgan_lit.benchmarks.report import Progress, Result, Table, number, quartiles
from fexgan_lit.inference.export.write import answers
from fexgan_lit.systems.base import exportable
from fexgan_lit.systems.export import Exported
from fexgan_lit.utils.timing import Timing, take_turns

if TYPE_CHECKING:
    from fexgan_lit.inference.loaded_system import LoadedSystem

BATCHES = (1, 16)
#: The most time of `synthesize`, as a factor of its networks' time; it converts the image, seeds and checks.
OVERHEAD = 1.2
PYTHON, NETWORKS = "synthesize, image in and out", "generator"


def run(settings: BenchmarkSettings, folder: Path, progress: Progress) -> tuple[list[Result], Table]:
    """Time every part of a system in turns at each batch size, relative to the forward pass of the decoder.

    Systems without a decoder are compared with the forward pass of their generator.
    """
    loaded = measured_system(settings, folder)
    parts = exportable(loaded.system).export_modules()
    floor = "decoder" if "decoder" in parts else NETWORKS
    timings: dict[int, dict[str, Timing]] = {}
    with tempfile.TemporaryDirectory(dir=settings.scratch) as scratch:
        progress("writing ONNX files", 0, 1 + len(BATCHES))
        files = onnx_files(parts, Path(scratch))
        for done, batch in enumerate(BATCHES, 1):
            progress(f"batch of {batch}", done, 1 + len(BATCHES))
            tasks: dict[str, Callable[[], object]] = {
                name: partial(answers, part, part.draw(batch)) for name, part in parts.items()
            }
            tasks |= {PYTHON: synthesizing(loaded, batch), **onnx_tasks(parts, files, batch)}
            timings[batch] = take_turns(tasks, settings.rounds)
    weights = sum(p.numel() for p in parts[NETWORKS].module.parameters())
    notes = (
        f"{loaded.name}, {loaded.image_size} px, {weights:,} weights in the generator; torch threads: "
        f"{torch.get_num_threads()}, onnxruntime the same",
        f"floor: the forward pass of the {floor}; synthesize gets a Pillow image for a batch of 1, else an array",
    )
    return tabulated(timings, floor, notes)


def measured_system(settings: BenchmarkSettings, folder: Path) -> LoadedSystem:
    """Return the run in the settings, or else an untrained FExGAN: the weights do not change the time."""
    from fexgan_lit.benchmarks.train import composed_settings
    from fexgan_lit.expression import AFFECTS
    from fexgan_lit.inference.loaded_system import LoadedSystem, load
    from fexgan_lit.runs.build import build_system

    if settings.run is not None:
        return load(settings.run)
    options = composed_settings("fexgan", settings)
    return LoadedSystem(build_system(options, AFFECTS).eval(), options, folder)


def synthesizing(loaded: LoadedSystem, batch: int) -> Callable[[], object]:
    """Return a call of `synthesize` with a Pillow image for a batch of 1, or an array of images for larger batches."""
    from PIL import Image

    from fexgan_lit.data.frames import to_uint8

    if "landmarks" in loaded.reads:  # only the run's own faces have landmarks
        faces = loaded.references.images
        pixels = to_uint8(faces[torch.arange(batch) % len(faces)])
    else:
        pixels = np.stack(list(pictures(batch, loaded.image_size)))
    image = Image.fromarray(pixels[0]) if batch == 1 else pixels
    return partial(loaded.synthesize, image, loaded.affects[-1])


def onnx_files(parts: Mapping[str, Exported], folder: Path) -> dict[str, Path]:
    """Write generator and decoder as ONNX, and the generator in 8 bits; nothing if the packages are missing."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        return {}
    from fexgan_lit.inference.export.int8 import RealInputs, write_int8
    from fexgan_lit.inference.export.onnx import write_onnx

    files = {name: folder / f"{name}.onnx" for name in ("decoder", NETWORKS, "int8")}
    for name in {"decoder", NETWORKS} & set(parts):
        write_onnx(parts[name], files[name], None)
    none = torch.zeros(BATCHES[-1])  # the inputs set the quantization scales, which do not change the time
    write_int8(files[NETWORKS], files["int8"], RealInputs(parts[NETWORKS].draw(BATCHES[-1]), none, none))
    return {name: path for name, path in files.items() if path.exists()}


def onnx_tasks(parts: Mapping[str, Exported], files: Mapping[str, Path], batch: int) -> dict[str, Callable[[], object]]:
    """Return the forward passes of the ONNX files in onnxruntime, with as many threads as torch uses."""
    from fexgan_lit.inference.export.onnx import open_session, run_session

    return {
        f"{NETWORKS}, ONNX in 8 bits" if name == "int8" else f"{name}, ONNX": partial(
            run_session, open_session(path), parts[NETWORKS if name == "int8" else name].draw(batch)
        )
        for name, path in files.items()
    }


def tabulated(
    timings: Mapping[int, Mapping[str, Timing]], floor: str, notes: tuple[str, ...]
) -> tuple[list[Result], Table]:
    """Return all times in milliseconds and relative to the floor, and a table with a row for every part."""
    results, columns = [], ["what"]
    rows = {name: [name] for name in next(iter(timings.values()))}
    for batch, each in timings.items():
        how = f"batch of {batch}"
        columns += [f"ms, batch {batch}", "quartiles", f"/ {floor}"]
        for name, timing in each.items():
            spent, ratio = timing.ms(), each[floor].times_faster(timing)
            results += [Result(name, spent, "ms", how), Result(f"{name} / {floor}", ratio, "", how)]
            rows[name] += [number(spent.median), quartiles(spent), number(ratio.median)]
        added = each[NETWORKS].times_faster(each[PYTHON])
        results.append(Result("synthesize / its networks", added, "", how, OVERHEAD, at_most=True))
    return results, Table(columns, list(rows.values()), notes)
