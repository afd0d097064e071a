"""The end of a training run: prior, scores, figures, portable weights and report.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from fexgan_lit import figures
from fexgan_lit.expression import COMPLEX_PAIRS, Expression
from fexgan_lit.hub import save_weights
from fexgan_lit.metrics.frechet import make_fid
from fexgan_lit.metrics.measure import (
    AffectGrid,
    affect_grid,
    complex_faces,
    grid_similarity,
    measure,
)
from fexgan_lit.metrics.sampling import cycling_affects, frame_features, report_samples
from fexgan_lit.metrics.suite import TrainingSuite
from fexgan_lit.metrics.unpaired import UnpairedSuite, measure_unpaired
from fexgan_lit.result import ERROR, make_result, write_result
from fexgan_lit.run_report import Results, named_tables, write_report
from fexgan_lit.trackers.csv import RunCsvLogger
from fexgan_lit.trackers.send import log_confusion, log_ending, log_numbers, log_picture, log_table
from fexgan_lit.trackers.tracker import Ending

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import FixedPairLoader
    from fexgan_lit.watch import Watch

#: Training frames encoded for the fitted prior, and pairs measured on the training split.
_CODES, _TRAIN_PAIRS = 4096, 512
#: Rows of the figure of random samples.
_SAMPLE_ROWS = 8


def finish(watch: Watch) -> Results:
    """Fit the prior, measure, draw, write; everything lands in the run folder and at the loggers."""
    system = watch.system.eval()
    with watch.console.status("  fitting the prior, measuring, drawing"):
        if hasattr(system, "fit_prior"):
            fit_prior(watch)
        save_weights(system, watch.run.weights)
        grid = affect_grid(system, watch.shown_frames) if watch.data.labelled else None
        results = measure_all(watch, grid)
        draw_all(watch, results, grid)
    log_all(watch, results)
    write_report(watch, results)
    record(watch, results)
    return results


def record(watch: Watch, results: Results) -> None:
    """Say in `result.json` that the run is finished, last of all; an error that ended it before is mended."""
    numbers, clock = final_numbers(results), watch.clock
    (watch.run.path / ERROR).unlink(missing_ok=True)
    result = make_result(
        "finished", iteration=watch.system.iteration, seconds=clock.seconds, started=clock.began, metrics=numbers
    )
    write_result(watch.run.path, result)


@torch.no_grad()
def fit_prior(watch: Watch) -> None:
    """Draw a code for training frames, each told a random affect as in training, and fit the mixture to them."""
    system: Any = watch.system
    frames = watch.data.train
    generator = torch.Generator().manual_seed(watch.settings.seed)
    chosen = torch.randperm(len(frames), generator=generator)[:_CODES]
    codes = []
    for rows in chosen.split(256):
        images = frames.floats(rows.numpy(), system.image_size).to(system.device)
        told = system.expression(torch.randint(len(system.affects), (len(rows),), generator=generator))
        own = system.expression(torch.from_numpy(frames.affect[rows.numpy()]))
        codes.append(system.draw_codes(images, own, told, generator))
    system.fit_prior(torch.cat(codes), seed=watch.settings.seed)


def train_pairs(watch: Watch) -> FixedPairLoader:
    """Fixed pairs of the training split to measure on."""
    from fexgan_lit.data.pairs import FixedPairLoader

    d, data = watch.settings.dataset, watch.data
    return FixedPairLoader(data.train, data.measured_pairs(data.train, _TRAIN_PAIRS), d.batch_size, d.image_size)


def measure_all(watch: Watch, grid: AffectGrid | None) -> Results:
    """What can be measured on both splits, and what the system noticed meanwhile."""
    watch.system.notices()  # those of the training
    results = measure_pairs(watch, grid) if watch.data.has_truth and grid is not None else measure_strangers(watch)
    if watch.concerns is not None and watch.concerns.standing:
        results.notes["at the end of training"] = watch.concerns.standing
    if notices := watch.system.notices():
        results.notes["asked for"] = "; ".join(notices)
    return results


def measure_strangers(watch: Watch) -> Results:
    """The metrics that need no true frame, on both splits."""
    data, seed = watch.data, watch.settings.dataset.split_seed
    suite = UnpairedSuite("train", seed)
    results = Results(train=measure_unpaired(watch.system, train_pairs(watch), suite), val=None, unpaired=True)
    if data.val_dataloader():
        suite = UnpairedSuite("val", seed, make_fid(watch.settings.metrics.inception_weights))
        results.val = measure_unpaired(watch.system, data.val_dataloader(), suite)  # type: ignore[arg-type]
    results.recipes, results.notes = suite.recipes(), suite.notes()
    return results


def measure_pairs(watch: Watch, grid: AffectGrid) -> Results:
    """The metric suite on both splits, the grid, and samples of every prior."""
    d, data, judge = watch.settings.dataset, watch.data, watch.judge
    train_suite = TrainingSuite(data.affects, judge, split="train", seed=d.split_seed)
    loader = train_pairs(watch)
    results = Results(train=measure(watch.system, loader, train_suite), val=None, grid_ssim=grid_similarity(grid))
    suite = train_suite
    if data.val_dataloader():
        fid = make_fid(watch.settings.metrics.inception_weights)
        suite = TrainingSuite(data.affects, judge, split="val", seed=d.split_seed, fid=fid)
        results.val = measure(watch.system, data.val_dataloader(), suite)  # type: ignore[arg-type]
    results.recipes, results.notes, results.confusion = suite.recipes(), suite.notes(), suite.confusion()
    if "d_real_binary" not in results.train:
        results.notes["discriminator"] = "a critic's score has no threshold, so it takes no share of faces for real"
    if judge is not None and d.split == "identity" and results.val is not None:
        results.notes["identity kept"] = "the judge has never seen the validation split's people and cannot name them"
    if judge is not None and hasattr(watch.system, "sample"):
        features = frame_features(judge, data.train)
        for prior in ("normal", "fitted"):
            asked = cycling_affects(watch.settings.metrics.samples, len(data.affects))
            results.priors[prior] = report_samples(judge, draw_samples(watch, prior, asked), asked, features)
    return results


def draw_samples(watch: Watch, prior: str, asked: Tensor) -> Tensor:
    """Faces (n, 3, S, S) from a prior with the asked affects (n,); the same for the same seed."""
    system: Any = watch.system
    generator = torch.Generator().manual_seed(watch.settings.seed)
    parts = [system.sample(len(a), system.expression(a), prior, generator).cpu() for a in asked.split(64)]
    return torch.cat(parts)


def draw_all(watch: Watch, results: Results, grid: AffectGrid | None) -> None:
    """The papers' figures, those of the system alone, and loss curves, into the run folder."""
    pictures = results.pictures
    if grid is not None:
        draw_affects(watch, results, grid)
    sheets = watch.sheets(watch.system) if grid is None else watch.system.sheets(*_on_device(grid, watch.system.device))
    for sheet in sheets:
        pictures[sheet.name] = figures.complex_grid(sheet.references, sheet.cells, sheet.rows, sheet.columns)
        results.captions[sheet.name] = sheet.caption
    if results.confusion is not None:
        pictures["confusion"] = figures.confusion_figure(results.confusion, watch.data.affects)
    history = next(logger for logger in watch.loggers if isinstance(logger, RunCsvLogger)).history()
    losses = {name: curve for name, curve in history.items() if name.startswith("loss/") and curve[0]}
    if losses:
        pictures["losses"] = figures.loss_curves(losses)
    watch.run.figures.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        picture.save(watch.run.figures / f"{name}.png")


def draw_affects(watch: Watch, results: Results, grid: AffectGrid) -> None:
    """The papers' figures: affects (5 and 7), random samples (4 and 6), complex expressions (6 and 8)."""
    data, K = watch.data, len(watch.data.affects)
    pictures = results.pictures
    verdicts = None
    if watch.judge is not None:
        verdicts = watch.judge.read(grid.generated.flatten(0, 1)).affect.view(-1, K)  # (I*K,) -> (I, K)
    pictures["affects"] = figures.affect_grid(
        grid.references, grid.generated, grid.identities, data.affects, verdicts=verdicts
    )
    if data.has_truth:
        pictures["affects_and_truth"] = figures.truth_grid(
            grid.references, grid.generated, grid.truth, grid.identities, data.affects
        )
    pairs = [pair for pair in COMPLEX_PAIRS if set(pair) <= set(data.affects)]
    if pairs:
        faces = complex_faces(watch.system, grid, pairs)
        names = [" + ".join(pair) for pair in pairs]
        pictures["complex"] = figures.complex_grid(grid.references, faces, grid.identities, names)
    for prior in ("normal", "fitted") if hasattr(watch.system, "sample") else ():
        asked = cycling_affects(_SAMPLE_ROWS * K, K)
        samples = draw_samples(watch, prior, asked).unflatten(0, (_SAMPLE_ROWS, K))  # (R*K, ...) -> (R, K, ...)
        pictures[f"samples_{prior}"] = figures.sample_grid(samples, data.affects)


def _on_device(grid: AffectGrid, device: torch.device) -> tuple[Tensor, Expression, list[Expression], tuple[str, ...]]:
    """What `sheets` asks for."""
    wanted = [asked.to(device) for asked in grid.wanted]
    return grid.references.to(device), grid.shown.to(device), wanted, grid.identities


def final_numbers(results: Results) -> dict[str, float]:
    """Every number measured after training, named as in metrics.csv."""
    numbers = {f"final/train/{k}": v for k, v in results.train.items()}
    numbers |= {f"final/val/{k}": v for k, v in (results.val or {}).items()}
    if results.grid_ssim is not None:
        numbers["final/grid_ssim"] = results.grid_ssim
    for prior, report in results.priors.items():
        numbers |= {f"final/{prior}/{k}": v for k, v in report.metrics().items()}
    return numbers


def log_all(watch: Watch, results: Results) -> None:
    """Final numbers, pictures and tables to every logger."""
    iteration, numbers = watch.system.iteration, final_numbers(results)
    log_numbers(watch.loggers, numbers, iteration)
    for name, picture in results.pictures.items():
        log_picture(watch.loggers, f"figures/{name}", picture, iteration, name.replace("_", " "))
    for name, table in named_tables(watch, results).items():
        log_table(watch.loggers, f"tables/{name}", table.header, table.rows, iteration)
    if results.confusion is not None:
        log_confusion(watch.loggers, "tables/confusion", results.confusion.tolist(), watch.data.affects, iteration)
    config: Any = OmegaConf.to_container(watch.run.read_config())
    log_ending(watch.loggers, Ending(watch.run, config, iteration, numbers, watch.data.key))
