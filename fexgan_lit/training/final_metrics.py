"""The end of a training run: final metrics, figures, portable weights, report.md and result.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from torch import Tensor

from fexgan_lit import figures
from fexgan_lit.expression import COMPLEX_PAIRS
from fexgan_lit.metrics.of_data import judge_of
from fexgan_lit.metrics.prior import cycling_affects, frame_features, report_samples
from fexgan_lit.runs.result import ERROR, RECONSTRUCTION_LIMIT, make_result, write_result
from fexgan_lit.runs.weights import save_weights
from fexgan_lit.systems.base import LatentPrior, Reconstructs
from fexgan_lit.systems.grids import AffectGrid, affect_grid, complex_faces, grid_similarity
from fexgan_lit.training.loggers.build import log_confusion, log_numbers, log_picture, log_summary, log_table
from fexgan_lit.training.loggers.csv import RunCsvLogger
from fexgan_lit.training.report import Results, named_tables, print_results, write_report

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.runs.config import TrainSettings
    from fexgan_lit.runs.folder import RunFolder
    from fexgan_lit.runs.result import Clock
    from fexgan_lit.systems.base import ExpressionSystem

#: Rows of the figure of random samples.
_SAMPLE_ROWS = 8


def finish(
    trainer: Trainer, system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings, run: RunFolder,
    console: Console, clock: Clock, trouble: str | None = None, short: str | None = None,
) -> Results:  # fmt: skip
    """Test the system, draw figures, and write everything to the run folder and the loggers.

    Args:
        trainer: the trainer.
        system: the trained system.
        data: the data module with the test pairs.
        settings: settings of the run.
        run: the run folder.
        console: the terminal.
        clock: the clock of the run.
        trouble: a warning about the last losses, or None.
        short: why the training ended early and how to continue it, or None.
    """
    system.condition_warnings()  # discard the warnings of the training
    with console.status("  measuring, drawing"):
        trainer.test(system, data, verbose=False)  # FExGAN fits its prior there
        save_weights(system.eval(), run.weights)
        system.to(trainer.strategy.root_device)
        grid = affect_grid(system, data.shown_frames) if data.labelled else None
        results = collect(system, data, settings, grid)
        if trouble is not None:
            results.notes["at the end of training"] = trouble
        if short is not None:
            results.notes["length"] = short
        if notices := system.condition_warnings():
            results.notes["asked for"] = "; ".join(notices)
        table = next((logger for logger in trainer.loggers if isinstance(logger, RunCsvLogger)), None)
        history = table.history() if table is not None else {}  # there is none with fast_dev_run
        draw(system, data, results, grid, {n: c for n, c in history.items() if n.startswith("loss/") and c[0]})
        run.figures.mkdir(parents=True, exist_ok=True)
        for name, picture in results.pictures.items():
            picture.save(run.figures / f"{name}.png")
        limit = system.reconstruction_limit(data.held_out_frames) if isinstance(system, Reconstructs) else None
    numbers = final_numbers(results)
    if limit is not None:
        numbers[RECONSTRUCTION_LIMIT] = limit
    log(trainer, system, data, run, results, numbers)
    write_report(results, system, data, settings, run)
    print_results(results, data, run, console)
    if short is not None:
        console.print(f"\n  {short}", style="yellow", markup=False)
    # result.json comes last and marks the run as finished; error.txt of an earlier failure is obsolete
    (run.path / ERROR).unlink(missing_ok=True)
    write_result(run.path, make_result(
        "finished", iteration=system.iteration, seconds=clock.seconds, started=clock.began, metrics=numbers
    ))  # fmt: skip
    return results


def collect(
    system: ExpressionSystem, data: FrameDataModule, settings: TrainSettings, grid: AffectGrid | None
) -> Results:
    """Collect the metrics of `trainer.test`, of the affect grid and of samples from every prior."""
    values = {split: suite.compute() for split, suite in system.suites.items()}
    suite = system.suites["val" if "val" in values else "train"]
    results = Results(train=values["train"], val=values.get("val"), recipes=suite.recipes(), notes=suite.notes())
    if not data.has_truth or grid is None:
        results.unpaired = True
        return results
    judge = judge_of(data)
    results.grid_ssim, results.confusion = grid_similarity(grid), suite.confusion()
    if judge is not None and settings.dataset.split == "identity" and results.val is not None:
        results.notes["identity kept"] = "the judge has never seen the validation split's people and cannot name them"
    if judge is not None and isinstance(system, LatentPrior):
        features = frame_features(judge, data.train)
        for prior in ("normal", "fitted"):
            asked = cycling_affects(settings.metrics.samples, len(data.affects))
            results.priors[prior] = report_samples(judge, draw_samples(system, prior, asked), asked, features)
    return results


def draw_samples(system: Any, prior: str, asked: Tensor) -> Tensor:
    """Sample faces (n, 3, S, S) from a prior with the target affects (n,), deterministic for a seed."""
    generator = torch.Generator().manual_seed(system.seed)
    parts = [system.sample(len(a), system.expression(a), prior, generator).cpu() for a in asked.split(64)]
    return torch.cat(parts)


def draw(
    system: ExpressionSystem, data: FrameDataModule, results: Results, grid: AffectGrid | None,
    losses: dict[str, tuple[list[int], list[float]]],
) -> None:  # fmt: skip
    """Draw the papers' figures, the system's own figures, the confusion matrix and the loss curves."""
    pictures = results.pictures
    if grid is None:
        sheets = data_sheets(system, data)
    else:
        draw_affects(system, data, results, grid)
        device = system.device
        wanted = [asked.to(device) for asked in grid.wanted]
        sheets = system.sample_figures(grid.references.to(device), grid.shown.to(device), wanted, grid.identities)
    for sheet in sheets:
        pictures[sheet.name] = figures.complex_grid(sheet.references, sheet.cells, sheet.rows, sheet.columns)
        results.captions[sheet.name] = sheet.caption
    if results.confusion is not None:
        pictures["confusion"] = figures.confusion_figure(results.confusion, data.affects)
    if losses:
        pictures["losses"] = figures.loss_curves(losses)


def draw_affects(system: ExpressionSystem, data: FrameDataModule, results: Results, grid: AffectGrid) -> None:
    """Draw the papers' figures: affects (5 and 7), random samples (4 and 6), complex expressions (6 and 8)."""
    pictures, K = results.pictures, len(data.affects)
    verdicts = None
    if (judge := judge_of(data)) is not None:
        verdicts = judge.read(grid.generated.flatten(0, 1)).affect.view(-1, K)  # (I*K,) -> (I, K)
    pictures["affects"] = figures.affect_grid(
        grid.references, grid.generated, grid.identities, data.affects, verdicts=verdicts
    )
    if data.has_truth:
        pictures["affects_and_truth"] = figures.truth_grid(
            grid.references, grid.generated, grid.truth, grid.identities, data.affects
        )
    pairs = [pair for pair in COMPLEX_PAIRS if set(pair) <= set(data.affects)]
    if pairs:
        faces = complex_faces(system, grid, pairs)
        names = [" + ".join(pair) for pair in pairs]
        pictures["complex"] = figures.complex_grid(grid.references, faces, grid.identities, names)
    for prior in ("normal", "fitted") if isinstance(system, LatentPrior) else ():
        asked = cycling_affects(_SAMPLE_ROWS * K, K)
        samples = draw_samples(system, prior, asked).unflatten(0, (_SAMPLE_ROWS, K))  # (R*K, ...) -> (R, K, ...)
        pictures[f"samples_{prior}"] = figures.sample_grid(samples, data.affects)


def data_sheets(system: ExpressionSystem, data: FrameDataModule, most: int = 8) -> list[Any]:
    """Draw the system's own figures for a few frames of a data set without affects."""
    import numpy as np

    from fexgan_lit.data.reference import frame_expression

    frames = data.shown_frames
    rows = np.unique(np.linspace(0, len(frames) - 1, most).astype(np.int64))
    names = [frames.identities[i] for i in frames.identity[rows]]
    references = frames.floats(rows, system.image_size).to(system.device)
    return system.sample_figures(references, frame_expression(frames, rows).to(system.device), (), names)


def progress_picture(system: ExpressionSystem, data: FrameDataModule) -> Any:
    """Draw the figure shown during training: the affect grid, or the first of the system's own figures."""
    if data.labelled:
        grid = affect_grid(system, data.shown_frames)
        return figures.affect_grid(grid.references, grid.generated, grid.identities, data.affects)
    sheet = data_sheets(system, data)[0]
    return figures.complex_grid(sheet.references, sheet.cells, sheet.rows, sheet.columns)


def final_numbers(results: Results) -> dict[str, float]:
    """Return every final metric by its name in metrics.csv."""
    numbers = {f"final/train/{k}": v for k, v in results.train.items()}
    numbers |= {f"final/val/{k}": v for k, v in (results.val or {}).items()}
    if results.grid_ssim is not None:
        numbers["final/grid_ssim"] = results.grid_ssim
    for prior, report in results.priors.items():
        numbers |= {f"final/{prior}/{k}": v for k, v in report.metrics().items()}
    return numbers


def log(
    trainer: Trainer, system: ExpressionSystem, data: FrameDataModule, run: RunFolder, results: Results,
    numbers: dict[str, float],
) -> None:  # fmt: skip
    """Send final metrics, figures and tables to every logger."""
    loggers, iteration = trainer.loggers, system.iteration
    log_numbers(loggers, numbers, iteration)
    for name, picture in results.pictures.items():
        log_picture(loggers, f"figures/{name}", picture, iteration, name.replace("_", " "))
    for name, table in named_tables(results, data).items():
        log_table(loggers, f"tables/{name}", table.header, table.rows, iteration)
    if results.confusion is not None:
        log_confusion(loggers, "tables/confusion", results.confusion.tolist(), data.affects, iteration)
    config: Any = OmegaConf.to_container(run.read_config())
    log_summary(loggers, run, config, iteration, numbers, data.key)
