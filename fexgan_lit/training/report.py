"""Write report.md of a training run, and print its tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fexgan_lit.metrics.of_data import judge_of
from fexgan_lit.metrics.prior import SamplingReport
from fexgan_lit.metrics.tables import quality_table, table1
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.tables import TextTable, escaped
from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console
    from torch import Tensor

    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.runs.config import TrainSettings
    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.systems.base import ExpressionSystem


@dataclass
class Results:
    """The results in report.md.

    Attributes:
        train: metric suite on pairs of the training split.
        val: metric suite on the validation pairs; None if there are none.
        grid_ssim: mean SSIM of the affect grid against the strongest real frame of each cell; None without such frames.
        priors: results of the judge on samples of each prior.
        recipes: how each metric was computed.
        notes: reasons for missing metrics.
        confusion: (K, K) counts on validation pairs (training pairs if there are none), or None.
        pictures: figures by name.
        captions: captions of the figures that only this system has.
        unpaired: whether `train` and `val` are from `UnpairedMetrics`, because the data have no real frames of the
            target expressions.
    """

    train: dict[str, float]
    val: dict[str, float] | None
    grid_ssim: float | None = None
    priors: dict[str, SamplingReport] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    confusion: Tensor | None = None
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    unpaired: bool = False


CAPTIONS = {
    "affects": "A reference frame of every identity turned into every affect (Figures 5 and 7 of the papers).",
    "affects_and_truth": "The same faces above the strongest true frame of each cell.",
    "samples_normal": "Faces drawn from the prior N(0, I), one column per affect (Figures 4 and 6).",
    "samples_fitted": "Faces drawn from the Gaussian mixture fitted to the training codes (`prior=fitted`).",
    "complex": "Two target affects at once, which training never uses (Figures 6 and 8).",
    "confusion": "The target affect against the affect that the judge reads.",
    "losses": "Losses over the iterations.",
}


def sampling_table(priors: Mapping[str, SamplingReport]) -> TextTable:
    """Return the table of prior samples: accuracy of affects, identities, evenness, distance to training frames."""
    rows = []
    for name, r in priors.items():
        distance = "-" if r.fd_judge is None else f"{r.fd_judge:.3f}"
        rows.append((
            "N(0, I)" if name == "normal" else name, f"{r.n}", f"{r.affect_accuracy:.3f}",
            f"{r.identities_seen} of {r.identities_total}", f"{max(r.shares.values()):.2f}",
            f"{r.entropy:.2f} ({r.entropy_relative:.2f} of the maximum)", distance,
        ))  # fmt: skip
    header = ("Prior", "n", "affect as asked", "identities seen", "largest share", "entropy (nats)", "fd_judge")
    return TextTable("Random sampling from the prior", header, tuple(rows))


def unpaired_table(results: Results) -> TextTable:
    """Return the table of metrics that need no real target frame, with notes on the missing ones."""
    columns = {"there and back: SSIM": "back_ssim", "own expression: SSIM": "own_ssim", "change": "change"}
    columns |= {"AUs, critic's error": "units_error", "on real frames": "real_units_error", "FID": "fid"}
    splits = {"Train": results.train, "Validation": results.val}
    shown = {title: name for title, name in columns.items() if any(name in (v or {}) for v in splits.values())}
    rows = tuple(
        (split, *(f"{values[name]:.3f}" if name in values else "-" for name in shown.values()))
        for split, values in splits.items()
        if values is not None
    )
    notes = tuple(f"{name}: {note}" for name, note in results.notes.items())
    return TextTable("Without true frames to compare with", ("", *shown), rows, 0, notes)


def named_tables(results: Results, data: FrameDataModule) -> dict[str, TextTable]:
    """Return the tables of a run by short names, in the order of the report."""
    if results.unpaired:
        return {"unpaired": unpaired_table(results)}
    found = {}
    if "d_real_binary" in results.train:  # only systems with a real/fake discriminator have it
        found["table1"] = table1(results.train, results.val, classes=len(data.affects))
    found["quality"] = quality_table(results.train, results.val, judge_of(data), notes=results.notes)
    return found | ({"priors": sampling_table(results.priors)} if results.priors else {})


def width_of(settings: TrainSettings) -> str:
    """Return the factor on all channel counts as text, or an empty text for systems without it."""
    width = getattr(settings.model, "width", None)
    return "" if width is None else f"width {width:g}"


def write_report(
    results: Results, system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings, run: RunFolder
) -> None:
    """Write report.md."""
    captions = CAPTIONS | results.captions
    pictures = [
        f"## {name.replace('_', ' ')}\n\n{captions[name]}\n\n![{name}](figures/{name}.png)\n"
        for name in results.pictures
    ]
    recipes = "\n".join(f"- `{name}`: {recipe}" for name, recipe in results.recipes.items())
    text = "\n".join([
        f"# {settings.model.name} on {settings.dataset.name}\n",
        "\n".join(facts(system, data, settings)) + "\n",
        *(table.markdown() for table in named_tables(results, data).values()),
        *([] if results.grid_ssim is None else [
            f"The affect grid against the strongest true frame of each cell: SSIM {results.grid_ssim:.3f}.\n"
        ]),
        *pictures,
        f"## How each number was made\n\n{recipes}\n",
    ])  # fmt: skip
    write_atomic(run.report, text)


def facts(system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings) -> list[str]:
    """Return the facts of a run as a Markdown list."""
    import platform

    import torch

    s, width = settings, width_of(settings)
    loss = ", ".join(f"{name} {value:g}" for name, value in vars(s.loss).items() if type(value) in (int, float))
    return [
        f"- command: `python -m fexgan_lit.train` with the `config.yaml` beside this file; seed {s.seed}",
        f"- {system.iteration} iterations of {s.dataset.batch_size} pairs at {s.dataset.image_size} px, "
        f"{width}{', ' if width else ''}loss: {loss}",
        *([f"- started from the weights of {escaped(s.start)}"] if s.start else []),
        *(f"- {escaped(fact)}" for fact in system.summary_lines()),
        f"- fexgan_lit {__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        *(f"- {escaped(line)}" for line in data.summary.lines() if not line.startswith("pack")),
    ]


def print_results(results: Results, data: FrameDataModule, run: RunFolder, console: Console) -> None:
    """Print the tables and the paths of the results."""
    for table in named_tables(results, data).values():
        console.print()
        console.print(table.rich())
    console.print(
        "" if results.grid_ssim is None else f"\n  affect grid against true frames: SSIM {results.grid_ssim:.3f}"
    )
    first = next(iter(results.pictures), None)
    console.print(f"  pictures   {run.figures}{f' ({first}.png first)' if first else ''}", markup=False)
    console.print(f"  report     {run.report}", markup=False)
    console.print(f"  weights    {run.weights}", markup=False)
