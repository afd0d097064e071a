"""The inference suite: how long a face takes, part by part, from PyTorch, from Python and from ONNX."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fexgan_lit.benchmarks.material import pictures
from fexgan_lit.benchmarks.report import Result, Table, number
from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.benchmarks.timing import Spread, Timing, take_turns
from fexgan_lit.exporting.checks import answers
from fexgan_lit.systems.exported import Exported

if TYPE_CHECKING:
    from fexgan_lit.api import LoadedSystem

#: Called with the name of the stage, stages done, stages in all.
StageProgress = Callable[[str, int, int], None]
#: What is timed, by name.
Tasks = dict[str, Callable[[], object]]

BATCHES = (1, 16)
#: What `synthesize` may take beyond the networks inside it: converting the picture, seeding, checking.
_OVERHEAD = 1.2
_PYTHON, _NETWORKS = "synthesize, image in and out", "generator"


def inference_suite(settings: BenchmarkSettings, folder: Path, progress: StageProgress) -> tuple[list[Result], Table]:
    """Every part of a system in turns at each batch size; the floor is the decoder's forward alone.

    Systems without a decoder are compared with the forward of their generator.
    """
    loaded = measured_system(settings, folder)
    parts = loaded.system.export_parts()
    floor = "decoder" if "decoder" in parts else _NETWORKS
    with tempfile.TemporaryDirectory(dir=settings.scratch) as scratch:
        progress("writing ONNX files", 0, 1 + len(BATCHES))
        files = onnx_files(parts, Path(scratch))
        timings = {}
        for done, batch in enumerate(BATCHES, 1):
            progress(f"batch of {batch}", done, 1 + len(BATCHES))
            tasks = {**torch_tasks(parts, batch), **python_tasks(loaded, batch), **onnx_tasks(parts, files, batch)}
            timings[batch] = take_turns(tasks, settings.rounds)
    return results_of(timings, floor), table_of(timings, floor, loaded)


def measured_system(settings: BenchmarkSettings, folder: Path) -> LoadedSystem:
    """The run that is named, or an untrained FExGAN of the size asked for: weights do not change the time."""
    from fexgan_lit.api import LoadedSystem, load
    from fexgan_lit.benchmarks.train import composed_settings
    from fexgan_lit.expression import AFFECTS
    from fexgan_lit.systems import build_system

    if settings.run is not None:
        return load(settings.run)
    run = composed_settings("fexgan", settings)
    return LoadedSystem(build_system(run, AFFECTS).eval(), run, folder)


def torch_tasks(parts: Mapping[str, Exported], batch: int) -> Tasks:
    """A forward of each network."""
    return {name: partial(answers, part, part.draw(batch)) for name, part in parts.items()}


def python_tasks(loaded: LoadedSystem, batch: int) -> Tasks:
    """`synthesize` as users call it: a Pillow image, or an array of pictures for a batch."""
    from PIL import Image

    from fexgan_lit.data.frames import to_uint8

    if "landmarks" in loaded.reads:  # known of the run's own faces alone
        faces = loaded.references.images
        pixels = to_uint8(faces[torch.arange(batch) % len(faces)])
    else:
        pixels = np.stack(list(pictures(batch, loaded.image_size)))
    image = Image.fromarray(pixels[0]) if batch == 1 else pixels
    affect = loaded.affects[-1]
    return {_PYTHON: lambda: loaded.synthesize(image, affect)}


def onnx_files(parts: Mapping[str, Exported], folder: Path) -> dict[str, Path]:
    """Generator and decoder as ONNX and the generator in 8 bits; nothing where the packages are not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        return {}
    from fexgan_lit.exporting.int8 import RealInputs, write_int8
    from fexgan_lit.exporting.onnx_files import write_onnx

    files = {}
    for name in ("decoder", _NETWORKS):
        if name in parts:
            files[name] = folder / f"{name}.onnx"
            write_onnx(parts[name], files[name], None)
    files["int8"] = folder / "int8.onnx"
    given = parts[_NETWORKS].draw(BATCHES[-1])  # the scales do not change the time
    write_int8(files[_NETWORKS], files["int8"], RealInputs(given, torch.zeros(BATCHES[-1]), torch.zeros(BATCHES[-1])))
    return files


def onnx_tasks(parts: Mapping[str, Exported], files: Mapping[str, Path], batch: int) -> Tasks:
    """The same forwards by onnxruntime, with as many threads as torch has."""
    if not files:
        return {}
    from fexgan_lit.exporting.onnx_files import open_session, run_session

    tasks: Tasks = {}
    for name, path in files.items():
        given = parts[_NETWORKS if name == "int8" else name].draw(batch)
        label = f"{_NETWORKS}, ONNX in 8 bits" if name == "int8" else f"{name}, ONNX"
        tasks[label] = partial(run_session, open_session(path), given)
    return tasks


def results_of(timings: Mapping[int, Mapping[str, Timing]], floor: str) -> list[Result]:
    """Milliseconds and times the floor of everything, and what Python adds to the networks."""
    found = []
    for batch, each in timings.items():
        for name, timing in each.items():
            how = f"batch of {batch}"
            found.append(Result(name, Spread.of(1e3 * timing.seconds), "ms", how))
            found.append(Result(f"{name} / {floor}", each[floor].times_faster(timing), "", how))
        added = each[_NETWORKS].times_faster(each[_PYTHON])
        found.append(Result("synthesize / its networks", added, "", f"batch of {batch}", _OVERHEAD, at_most=True))
    return found


def table_of(timings: Mapping[int, Mapping[str, Timing]], floor: str, loaded: LoadedSystem) -> Table:
    """A row a part: milliseconds of a batch with quartiles, and how many times the floor that is."""
    columns = ["what"]
    for batch in timings:
        columns += [f"ms, batch {batch}", "quartiles", f"/ {floor}"]
    first = next(iter(timings.values()))
    rows = [(name, *(cell for each in timings.values() for cell in _cells(each, name, floor))) for name in first]
    size = sum(p.numel() for p in loaded.system.export_parts()[_NETWORKS].module.parameters())
    notes = (
        f"{loaded.name}, {loaded.image_size} px, {size:,} weights in the generator; torch threads: "
        f"{torch.get_num_threads()}, onnxruntime the same",
        f"floor: the forward of the {floor}; a batch of 1 comes to synthesize as a Pillow image, others as an array",
    )
    return Table(tuple(columns), rows, notes)


def _cells(each: Mapping[str, Timing], name: str, floor: str) -> tuple[str, str, str]:
    spent, ratio = Spread.of(1e3 * each[name].seconds), each[floor].times_faster(each[name])
    return number(spent.median), f"{number(spent.low)} .. {number(spent.high)}", number(ratio.median)
