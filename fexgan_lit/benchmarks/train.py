"""The train suite: every system's iteration beside its plain twin and beside the time that its FLOP must take."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from fexgan_lit.benchmarks.flops import (
    COPY_BYTES,
    PRODUCT_EDGE,
    FlopsByPrecision,
    copy_block,
    matrix_product,
    product_flops,
    roofline_seconds,
)
from fexgan_lit.benchmarks.report import Result, Table
from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.benchmarks.timing import Timing
from fexgan_lit.benchmarks.train_rows import Measured, rate_results, summary, system_results
from fexgan_lit.benchmarks.turns import TurnStream
from fexgan_lit.benchmarks.twins import TWINS
from fexgan_lit.config import TrainSettings, conf_folder, train_settings
from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.expression import ACTION_UNITS, AFFECTS
from fexgan_lit.systems import build_system
from fexgan_lit.systems.base import ExpressionSystem
from fexgan_lit.trainer import build_trainer, resolve_precision
from fexgan_lit.training.accelerate import Compilation, accelerate, compile_networks
from fexgan_lit.training.cuda_graphs import WARM_UP

#: Rounds of n_critic that make a turn: a GPU is busy all the time only where the host is seldom asked to wait for it.
CYCLES = {"cpu": 1, "cuda": 20}
#: Matrix products, and copies, that make a turn.
REPEATS = {"cpu": 1, "cuda": 10}
#: Called with the name of the stage, stages done, stages in all.
StageProgress = Callable[[str, int, int], None]


def train_suite(settings: BenchmarkSettings, folder: Path, progress: StageProgress) -> tuple[list[Result], Table]:
    """Every figure, and the table with a row a system."""
    measured = []
    for number, name in enumerate(settings.systems):
        progress(name, number, len(settings.systems))
        measured.append(measure(name, settings, folder))
    results = rate_results(measured)
    for one in measured:
        results += system_results(one)
    return results, summary(measured, settings)


def composed_settings(name: str, settings: BenchmarkSettings) -> TrainSettings:
    """What `python -m fexgan_lit.train model=NAME` would use, at the sizes of the benchmark."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    overrides = [
        f"model={name}", "dataset=folder", "dataset.root=.", f"dataset.image_size={settings.image_size}",
        f"dataset.batch_size={settings.batch_size}", f"model.width={settings.width}",
        f"trainer.precision={settings.precision}", f"trainer.cuda_graphs={settings.cuda_graphs}",
        f"trainer.accelerator={'gpu' if torch.cuda.is_available() else 'cpu'}",
    ]  # fmt: skip
    if GlobalHydra.instance().is_initialized():  # the door was composed by Hydra
        return train_settings(compose("train", overrides))
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return train_settings(compose("train", overrides))


def built(options: TrainSettings) -> ExpressionSystem:
    """The system with initial weights; its perceptual network, if it has one, is VGG19's with random weights."""
    from fexgan_lit.systems.landmark_label.perceptual import VGG19Start
    from fexgan_lit.systems.landmark_label.system import LandmarkLabel

    system = build_system(options, AFFECTS)
    if isinstance(system, LandmarkLabel):
        system.set_perceptual(VGG19Start(options.model.perceptual_layer), "random weights, which cost the same")
    return system


def noise_batch(pairs: int, size: int, affects: int = len(AFFECTS), seed: int = 0) -> PairBatch:
    """`pairs` pairs of seeded noise, `size` px, laid out as the feed lays them out, with all that a system may read."""
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
    """Train a system and its twin on noise, turn and turn about with matrix products."""
    options = composed_settings(name, settings)
    cycle = int(options.optimizer.n_critic)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    # a GPU holds the frames of a run, too (`trainer.data_on_device`)
    system, batch = built(options), noise_batch(settings.batch_size, settings.image_size).to(device)
    cycles, repeats = CYCLES[device.type], REPEATS[device.type]

    bf16 = resolve_precision(settings.precision, options.trainer.accelerator) == "bf16-mixed"
    plain = copy.deepcopy(system).to(device, memory_format=torch.channels_last)
    published = TWINS[name](plain, itertools.repeat(batch), bf16)
    with FlopsByPrecision() as counter:  # by torch's modules, whatever kernels spare of it
        repeated(lambda: next(published), cycle)()
    accelerate(system, device, kernels=options.trainer.kernels != "false", channels_last=options.trainer.channels_last)
    loop = TWINS[name](copy.deepcopy(system).to(device), itertools.repeat(batch), bf16)
    twin_cycle = repeated(lambda: next(loop), cycle)
    twin_cycle()  # Adam makes its moments once
    edge = 256 if settings.quick else PRODUCT_EDGE[device.type]
    block = 1 << 20 if settings.quick else COPY_BYTES[device.type]
    products = {str(kind): repeated(matrix_product(kind, device, edge), repeats) for kind in counter.counts}
    products["copy"] = repeated(copy_block(device, block), repeats)

    compilation = compile_networks(system, device) if settings.compile else Compilation((), "")
    both = compilation.networks and not options.trainer.cuda_graphs  # a recording holds one of the two
    stances = {"ours": "force_eager", "compiled": "default"} if both else {"ours": None}
    others = {**products, "twin": repeated(twin_cycle, cycles)}
    stream = TurnStream(batch, system, cycle * cycles, stances, others, settings.rounds,
                        warm_up=WARM_UP + 2 if options.trainer.cuda_graphs else 1)  # fmt: skip
    said = fit(system, stream, options, folder)

    seconds = stream.timings
    an_iteration = {turn: Timing(seconds[turn].seconds / (cycle * cycles)) for turn in ("twin", *stances)}
    rates = {kind: repeats * product_flops(edge) / seconds[str(kind)].seconds for kind in counter.counts}
    copies = repeats * 2 * block / seconds["copy"].seconds
    return Measured(
        name, cycle, an_iteration["ours"], an_iteration["twin"],
        flops={kind: count / cycle for kind, count in counter.counts.items()},
        gigabytes=sum(each.bytes for each in counter.operations) / cycle / 1e9,
        rates=rates, copies=copies, roofline=Timing(roofline_seconds(counter.operations, rates, copies) / cycle),
        compiled=an_iteration.get("compiled"), compile_s=stream.compile_s, note=compilation.line, graphs=said,
    )  # fmt: skip


def repeated(task: Callable[[], object], times: int) -> Callable[[], None]:
    """A task that does another so many times."""

    def repeat() -> None:
        for _ in range(times):
            task()

    return repeat


def fit(system: ExpressionSystem, stream: TurnStream, options: TrainSettings, folder: Path) -> str:
    """Run the stream through the trainer of `train`, with what is called in each of its iterations.

    Returns:
        what became of `trainer.cuda_graphs`, a line, or nothing where it is off.
    """
    from rich.console import Console

    from fexgan_lit.callbacks import LossMonitor, RunProgressBar
    from fexgan_lit.runfolder import RunFolder
    from fexgan_lit.trainer import root_device
    from fexgan_lit.training.cuda_graphs import CUDAGraphStrategy, why_not_captured

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
    return " ".join(said)
