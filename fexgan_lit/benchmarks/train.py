"""The train suite: compare every system's iteration with a plain PyTorch loop and with hardware limits."""

from __future__ import annotations

import copy
import io
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.inputs import random_motions
from fexgan_lit.benchmarks.plain_loops import PLAIN_LOOPS
from fexgan_lit.benchmarks.report import Progress, Result, Table, number, quartiles
from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.expression import ACTION_UNITS, AFFECTS
from fexgan_lit.runs.build import build_system
from fexgan_lit.runs.config import TrainSettings, train_settings
from fexgan_lit.systems.base import ExpressionSystem
from fexgan_lit.training.accelerate import accelerate, compile_networks
from fexgan_lit.training.cuda_graphs import WARM_UP
from fexgan_lit.training.flops import FlopsByPrecision, copy_block, matrix_product, roofline_seconds
from fexgan_lit.training.trainer import build_trainer
from fexgan_lit.utils.hardware import resolve_precision
from fexgan_lit.utils.hydra import conf_folder
from fexgan_lit.utils.timing import Spread, Timing

#: Rounds of n_critic per turn; a GPU needs many, since the synchronization at the end of a turn leaves it idle.
CYCLES = {"cpu": 1, "cuda": 20}
#: Matrix products or copies per turn.
REPEATS = {"cpu": 1, "cuda": 10}
#: Size of the square matrices whose product is timed: large enough for the full rate and tens of milliseconds.
PRODUCT_EDGE = {"cpu": 2048, "cuda": 8192}
#: Bytes of the block whose copy is timed: larger than any cache.
COPY_BYTES = {"cpu": 128 << 20, "cuda": 1 << 30}
#: The most time of the library's iteration, as a factor of the plain loop's: 0.97 of its speed.
MOST_BESIDE_PLAIN = 1.03
#: Names of the precisions.
PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bf16"}
COPY = "copy in memory"


@dataclass(frozen=True)
class Measured:
    """The measurements of one system.

    Attributes:
        name: name of the model.
        cycle: iterations per generator step, over which times are averaged.
        timings: time of an iteration: "ours" in the trainer, "plain" in the plain loop, "floor" and "roofline" at full
            rate, and "compiled" in the trainer with compiled networks, if measured.
        flops: FLOP of an iteration, by precision.
        gigabytes: GB that the operations of an iteration read and write.
        rates: GFLOP/s of "matrix product, PRECISION" and GB/s of "copy in memory", one value per round.
        compile_s: additional seconds of the first compiled iterations.
        notes: notes on compilation and CUDA graphs, if they were enabled.
    """

    name: str
    cycle: int
    timings: Mapping[str, Timing]
    flops: Mapping[torch.dtype, float]
    gigabytes: float
    rates: Mapping[str, np.ndarray]
    compile_s: float = 0.0
    notes: Sequence[str] = ()

    def figures(self) -> dict[str, Result]:
        """Return every result by its table column."""
        ours, plain, floor, roofline = (self.timings[key] for key in ("ours", "plain", "floor", "roofline"))
        counted = ", ".join(f"{count / 1e9:.1f} in {PRECISIONS[kind]}" for kind, count in self.flops.items())
        mean = f"mean of {self.cycle} iterations, one with a generator step" if self.cycle > 1 else ""
        moved = f"every operation at full rate, FLOP or bytes; {self.gigabytes:.3g} GB read and written"
        beside = plain.times_faster(ours)
        found = {
            "ours ms": Result("ours", ours.ms(), "ms", mean),
            "plain ms": Result("plain loop", plain.ms(), "ms", mean),
            "/plain": Result("ours / plain loop", beside, "", "time", MOST_BESIDE_PLAIN, at_most=True),
            "GFLOP": Result("computes", Spread.of(sum(self.flops.values()) / 1e9), "GFLOP", counted),
            "floor ms": Result("floor", floor.ms(), "ms", "FLOP / rate of matrix products"),
            "/floor": Result("ours / floor", floor.times_faster(ours), "", "time"),
            "roof ms": Result("roofline", roofline.ms(), "ms", moved),
            "/roof": Result("ours / roofline", roofline.times_faster(ours), "", "time"),
        }
        if compiled := self.timings.get("compiled"):
            found |= {
                "compiled ms": Result("ours, compiled", compiled.ms(), "ms", mean),
                "/ours": Result("compiled / ours", ours.times_faster(compiled), "", "time"),
                "compile s": Result("compile time", Spread.of(self.compile_s), "s"),
            }
        return {column: replace(each, name=f"{self.name}: {each.name}") for column, each in found.items()}


def run(settings: BenchmarkSettings, folder: Path, progress: Progress) -> tuple[list[Result], Table]:
    """Measure one system after the other."""
    measured = []
    for done, name in enumerate(settings.systems):
        progress(name, done, len(settings.systems))
        measured.append(measure(name, settings, folder))
    return tabulated(measured, settings)


def tabulated(measured: Sequence[Measured], settings: BenchmarkSettings) -> tuple[list[Result], Table]:
    """Return all results, and a table with a row for every system."""
    rates = []
    for name in sorted({name for one in measured for name in one.rates}, reverse=True):
        values = np.concatenate([one.rates[name] for one in measured if name in one.rates])
        rates.append(Result(name, Spread.of(values), "GB/s" if name == COPY else "GFLOP/s"))
    figures = {one.name: one.figures() for one in measured}
    widest = max(figures.values(), key=len)
    columns = list(widest)
    rows = []
    for name, found in figures.items():
        cells = [
            "-" if column not in found
            else f"{found[column].value.median:.3f}" if column.startswith("/")
            else number(found[column].value.median)
            for column in columns
        ]  # fmt: skip
        rows.append([name, cells[0], quartiles(found["ours ms"].value), *cells[1:]])
    cycles = [f"{one.name} {one.cycle}" for one in measured if one.cycle > 1]
    notes = [
        f"batch {settings.batch_size}, {settings.image_size} px, width {settings.width:g}; "
        + "; ".join(f"{each.name} {number(each.value.median)} {each.unit}" for each in rates),
        "floor: FLOP / rate of matrix products; roofline: the sum over operations of the larger of that and bytes /",
        "rate of copies; columns with /: ours divided by it"
        + ("; /ours: compiled divided by ours" if "/ours" in columns else ""),
        *([f"an iteration is the mean of one round of n_critic: {', '.join(cycles)}"] if cycles else []),
        *sorted({note for one in measured for note in one.notes}),
    ]
    results = [*rates, *(each for found in figures.values() for each in found.values())]
    return results, Table(["system", columns[0], "quartiles", *columns[1:]], rows, notes)


def composed_settings(name: str, settings: BenchmarkSettings) -> TrainSettings:
    """Return the settings of `python -m fexgan_lit.train model=NAME` at the sizes of the benchmark."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    overrides = [
        f"model={name}", "dataset=folder", "dataset.root=.", f"dataset.image_size={settings.image_size}",
        f"dataset.batch_size={settings.batch_size}", f"model.width={settings.width}",
        f"trainer.precision={settings.precision}", f"trainer.cuda_graphs={settings.cuda_graphs}",
        f"trainer.accelerator={'gpu' if torch.cuda.is_available() else 'cpu'}",
    ]  # fmt: skip
    if GlobalHydra.instance().is_initialized():  # the command was composed by Hydra
        return train_settings(compose("train", overrides))
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return train_settings(compose("train", overrides))


def built(options: TrainSettings) -> ExpressionSystem:
    """Return the system with initial weights, without a judge.

    Its perceptual network, if any, is VGG19 with random weights, and its motions are random.
    """
    from fexgan_lit.systems.landmark_label.perceptual import VGG19Start
    from fexgan_lit.systems.landmark_label.system import LandmarkLabel
    from fexgan_lit.systems.motion_texture.system import MotionTexture

    system = build_system(options, AFFECTS)
    if isinstance(system, MotionTexture):
        system.loss_weights.identity = 0.0
        system.set_motions(random_motions(100, len(AFFECTS), options.model.steps))
    elif isinstance(system, LandmarkLabel):
        system.set_perceptual(VGG19Start(options.model.perceptual_layer), "random weights, which cost the same")
    return system


def noise_batch(pairs: int, size: int, affects: int = len(AFFECTS), seed: int = 0) -> PairBatch:
    """Return `pairs` pairs of seeded noise at `size` px in channels-last format, with all annotations."""
    g = torch.Generator().manual_seed(seed)
    images = torch.rand(2, pairs, 3, size, size, generator=g) * 2 - 1
    source, target = (image.contiguous(memory_format=torch.channels_last) for image in images)
    classes = torch.randint(affects, (2, pairs), generator=g)
    rows = torch.arange(pairs)
    units = torch.rand(2, pairs, len(ACTION_UNITS), generator=g)
    points = torch.rand(2, pairs, 68, 2, generator=g) * 1.6 - 0.8
    return PairBatch(source, target, classes[0], classes[1], torch.zeros_like(rows), rows, rows,
                     units[0], units[1], points[0], points[1])  # fmt: skip


def measure(name: str, settings: BenchmarkSettings, folder: Path) -> Measured:
    """Time a system and its plain loop on noise, in turns with matrix products and copies."""
    options = composed_settings(name, settings)
    cycle = getattr(options.optimizer, "n_critic", 1)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    # the batch is on the device, as with `trainer.data_on_device` in a run
    system, batch = built(options), noise_batch(settings.batch_size, settings.image_size).to(device)
    cycles, repeats = CYCLES[device.type], REPEATS[device.type]
    bf16 = resolve_precision(settings.precision, options.trainer.accelerator) == "bf16-mixed"

    published = copy.deepcopy(system).to(device, memory_format=torch.channels_last)
    loop = PLAIN_LOOPS[name](published, itertools.repeat(batch), bf16)
    with FlopsByPrecision() as counter:  # of torch's modules, since faster kernels save FLOP
        repeated(lambda: next(loop), cycle)()
    accelerate(system, device, kernels=options.trainer.kernels != "false", channels_last=options.trainer.channels_last)
    loop = PLAIN_LOOPS[name](copy.deepcopy(system).to(device), itertools.repeat(batch), bf16)
    repeated(lambda: next(loop), cycle)()  # Adam creates its state in the first step

    edge = 256 if settings.quick else PRODUCT_EDGE[device.type]
    block = 1 << 20 if settings.quick else COPY_BYTES[device.type]
    products = {kind: f"matrix product, {PRECISIONS[kind]}" for kind in counter.counts}
    others = {called: repeated(matrix_product(kind, device, edge), repeats) for kind, called in products.items()}
    others[COPY] = repeated(copy_block(device, block), repeats)
    others["plain"] = repeated(lambda: next(loop), cycle * cycles)

    notes: list[str] = []
    stances: dict[str, str | None] = {"ours": None}
    if settings.compile:
        compilation = compile_networks(system, device)
        # with CUDA graphs, only one of eager and compiled can be recorded
        if compilation.networks and not options.trainer.cuda_graphs:
            stances = {"ours": "force_eager", "compiled": "default"}
        else:
            notes.append(compilation.line)
    warm_up = WARM_UP + 2 if options.trainer.cuda_graphs else 1
    stream = TurnStream(batch, cycle * cycles, stances, others, settings.rounds, warm_up)
    notes += fit(system, stream, options, folder)

    seconds = {name: np.array(each[warm_up:]) for name, each in stream.seconds.items()}
    timings = {turn: Timing(seconds[turn] / (cycle * cycles)) for turn in ("plain", *stances)}
    rates = {kind: repeats * 2 * edge**3 / seconds[called] for kind, called in products.items()}
    copies = repeats * 2 * block / seconds[COPY]
    timings["floor"] = Timing(sum(count / rates[kind] for kind, count in counter.counts.items()) / cycle)
    timings["roofline"] = Timing(roofline_seconds(counter.operations, rates, copies) / cycle)
    longer = stream.seconds["compiled"][0] - np.median(seconds["compiled"]) if "compiled" in stances else 0.0
    return Measured(
        name, cycle, timings,
        flops={kind: count / cycle for kind, count in counter.counts.items()},
        gigabytes=sum(each.bytes for each in counter.operations) / cycle / 1e9,
        rates={**{called: rates[kind] / 1e9 for kind, called in products.items()}, COPY: copies / 1e9},
        compile_s=max(0.0, float(longer)), notes=notes,
    )  # fmt: skip


def repeated(task: Callable[[], object], times: int) -> Callable[[], None]:
    """Return a task that calls `task` `times` times."""

    def repeat() -> None:
        for _ in range(times):
            task()

    return repeat


class TurnStream:
    """Batches for a Lightning trainer that alternate with other tasks; the turns of both are timed.

    The trainer's turn is timed from its first batch until the trainer asks for the batch after the last, so the time
    includes everything in an iteration, also moving the batch to the device. One more batch follows the last turn, to
    stop the clock.

    Args:
        batch: the batch of every iteration.
        iterations: iterations of the trainer per turn.
        stances: the trainer's turns per round, by name, each with a stance for `torch.compiler.set_stance` or None.
        others: the other tasks, by name.
        rounds: number of timed rounds.
        warm_up: number of rounds before them.

    Attributes:
        seconds: times of every round including the warm-up, by name.
    """

    def __init__(
        self, batch: PairBatch, iterations: int, stances: Mapping[str, str | None],
        others: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1,
    ) -> None:  # fmt: skip
        self.batch, self.iterations, self.stances, self.others = batch, iterations, stances, others
        self.rounds, self.warm_up = rounds, warm_up
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def __len__(self) -> int:
        """Return the number of the trainer's iterations."""
        return (self.rounds + self.warm_up) * len(self.stances) * self.iterations + 1

    def __iter__(self) -> Iterator[PairBatch]:
        for _ in range(self.warm_up + self.rounds):
            for name, task in self.others.items():
                with self._clock(name):
                    task()
            for name, stance in self.stances.items():
                if stance is not None:
                    torch.compiler.set_stance(stance)
                with self._clock(name):
                    for _ in range(self.iterations):
                        yield self.batch
        yield self.batch

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        started = self._now()
        yield
        self.seconds[name].append(self._now() - started)

    def _now(self) -> float:
        if self.batch.source.device.type == "cuda":
            torch.cuda.synchronize(self.batch.source.device)
        return time.perf_counter()


def fit(system: ExpressionSystem, stream: TurnStream, options: TrainSettings, folder: Path) -> list[str]:
    """Run the stream through the trainer of `train`, with the callbacks of a run.

    Returns:
        Notes on the use of CUDA graphs; empty if `trainer.cuda_graphs` is off.
    """
    from rich.console import Console

    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.training.callbacks import LossMonitor, RunProgressBar
    from fexgan_lit.training.cuda_graphs import CUDAGraphStrategy, why_not_captured
    from fexgan_lit.utils.hardware import root_device

    console, said = Console(file=io.StringIO()), []
    strategy: CUDAGraphStrategy | str = "auto"
    if options.trainer.cuda_graphs:
        device = root_device(options.trainer.accelerator)
        if reason := why_not_captured(system, device, 1):
            said.append(f"graphs     nothing: {reason}")
        else:
            strategy = CUDAGraphStrategy(device, said.append)
    callbacks = [*options.callbacks.values(), LossMonitor(RunFolder(folder), console), RunProgressBar(console)]
    settings = replace(options.trainer, max_steps=len(stream), val_every=0)
    build_trainer(settings, callbacks, [], str(folder), strategy=strategy).fit(system, stream)
    return said
