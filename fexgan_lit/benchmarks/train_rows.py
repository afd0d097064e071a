"""What the train suite found out, as rows: every figure on its own, and a table with a row a system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fexgan_lit.benchmarks.flops import floor_seconds
from fexgan_lit.benchmarks.report import Result, Table, number, single
from fexgan_lit.benchmarks.settings import BenchmarkSettings
from fexgan_lit.benchmarks.timing import Spread, Timing

#: An iteration of ours may take so many times that of the twin: 0.97 of its speed.
MOST_BESIDE_TWIN = 1.03
#: What the precisions are called.
PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bf16"}

COLUMNS = (
    "system", "ours ms", "quartiles", "twin ms", "/twin", "GFLOP", "floor ms", "/floor", "roof ms", "/roof",
)  # fmt: skip
COMPILED_COLUMNS = ("compiled ms", "/ours", "compile s")


@dataclass(frozen=True)
class Measured:
    """What was found out about one system.

    Attributes:
        name: of the model.
        cycle: iterations between two steps of the generator, over which an iteration is averaged.
        ours: an iteration through the trainer.
        twin: an iteration of the plain loop.
        flops: of an iteration, by precision.
        gigabytes: that its operations read and write, one by one.
        rates: of matrix products, FLOP/s, one a round, by precision.
        copies: bytes/s of a copy in memory, one a round.
        roofline: an iteration whose operations all run at full rate, one after the other.
        compiled: an iteration through the trainer with compiled networks, or None.
        compile_s: what the first compiled iterations took longer, seconds.
        note: what became of the compilation.
        graphs: what became of CUDA graphs; empty where they were not asked for.
    """

    name: str
    cycle: int
    ours: Timing
    twin: Timing
    flops: Mapping[torch.dtype, float]
    gigabytes: float
    rates: Mapping[torch.dtype, np.ndarray]
    copies: np.ndarray
    roofline: Timing
    compiled: Timing | None = None
    compile_s: float = 0.0
    note: str = ""
    graphs: str = ""

    @property
    def floor(self) -> Timing:
        """The time that the FLOP of an iteration take at the rates of the same rounds."""
        return Timing(np.asarray(floor_seconds(self.flops, self.rates)))


def rate_results(measured: Sequence[Measured]) -> list[Result]:
    """The rates of matrix products and of copies over all rounds of the run."""
    kinds = [kind for kind in PRECISIONS if any(kind in one.rates for one in measured)]
    rates = [Result(f"matrix product, {PRECISIONS[kind]}", _rate(measured, kind), "GFLOP/s") for kind in kinds]
    copies = Spread.of(np.concatenate([one.copies for one in measured]) / 1e9)
    return [*rates, Result("copy in memory", copies, "GB/s", "read and written")]


def _rate(measured: Sequence[Measured], kind: torch.dtype) -> Spread:
    return Spread.of(np.concatenate([one.rates[kind] for one in measured if kind in one.rates]) / 1e9)


def system_results(one: Measured) -> list[Result]:
    """Every figure of a system."""
    counted = ", ".join(f"{count / 1e9:.1f} in {PRECISIONS[kind]}" for kind, count in one.flops.items())
    mean = f"mean of {one.cycle} iterations, one with a generator step" if one.cycle > 1 else ""
    results = [
        Result(f"{one.name}: ours", _ms(one.ours), "ms", mean),
        Result(f"{one.name}: plain twin", _ms(one.twin), "ms", mean),
        Result(f"{one.name}: ours / twin", one.twin.times_faster(one.ours), "", "time", MOST_BESIDE_TWIN, at_most=True),
        Result(f"{one.name}: computes", single(sum(one.flops.values()) / 1e9), "GFLOP", counted),
        Result(f"{one.name}: floor", _ms(one.floor), "ms", "FLOP / rate of matrix products"),
        Result(f"{one.name}: ours / floor", one.floor.times_faster(one.ours), "", "time"),
        Result(f"{one.name}: moves", single(one.gigabytes), "GB", "read and written, operation by operation"),
        Result(f"{one.name}: roofline", _ms(one.roofline), "ms", "every operation at full rate, FLOP or bytes"),
        Result(f"{one.name}: ours / roofline", one.roofline.times_faster(one.ours), "", "time"),
        Result(f"{one.name}: 100,000 iterations", Spread.of(one.ours.seconds * 1e5 / 3600), "h", "at this rate"),
    ]
    if one.compiled is not None:
        results += [
            Result(f"{one.name}: ours, compiled", _ms(one.compiled), "ms", mean),
            Result(f"{one.name}: compiled / ours", one.ours.times_faster(one.compiled), "", "time"),
            Result(f"{one.name}: compile time", single(one.compile_s), "s", one.note),
        ]
    return results


def _ms(timing: Timing) -> Spread:
    return Spread.of(timing.seconds * 1e3)


def summary(measured: Sequence[Measured], settings: BenchmarkSettings) -> Table:
    """A row a system."""
    compiled = any(one.compiled is not None for one in measured)
    rows = [_row(one) + (_compiled_cells(one) if compiled else ()) for one in measured]
    rates = "; ".join(f"{r.name} {number(r.value.median)} {r.unit}" for r in rate_results(measured))
    cycles = [f"{one.name} {one.cycle}" for one in measured if one.cycle > 1]
    notes = [f"batch {settings.batch_size}, {settings.image_size} px, width {settings.width:g}; {rates}"]
    notes.append(
        "floor: FLOP / rate of matrix products; roofline: the sum over operations of that or, where it is more,"
    )
    notes.append("bytes / rate of copies; /: ours divided by it" + ("; /ours: compiled by ours" if compiled else ""))
    if cycles:
        notes.append(f"an iteration is the mean of one round of n_critic: {', '.join(cycles)}")
    notes += sorted({one.note for one in measured if one.note and one.compiled is None})
    notes += sorted({one.graphs for one in measured if one.graphs})
    return Table(COLUMNS + (COMPILED_COLUMNS if compiled else ()), rows, tuple(notes))


def _row(one: Measured) -> tuple[str, ...]:
    ours, twin = _ms(one.ours), _ms(one.twin)
    floors = [cell for bound in (one.floor, one.roofline) for cell in (
        number(_ms(bound).median), number(bound.times_faster(one.ours).median))]  # fmt: skip
    return (
        one.name, number(ours.median), _quartiles(ours), number(twin.median),
        f"{one.twin.times_faster(one.ours).median:.3f}", number(sum(one.flops.values()) / 1e9), *floors,
    )  # fmt: skip


def _compiled_cells(one: Measured) -> tuple[str, ...]:
    if one.compiled is None:
        return ("-",) * len(COMPILED_COLUMNS)
    ratio = one.ours.times_faster(one.compiled).median
    return number(_ms(one.compiled).median), f"{ratio:.3f}", number(one.compile_s)


def _quartiles(value: Spread) -> str:
    return f"{number(value.low)}..{number(value.high)}"
