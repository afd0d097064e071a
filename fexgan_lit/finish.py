"""The end of a training run: prior, scores, figures, portable weights and report.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fexgan_lit import figures
from fexgan_lit.expression import COMPLEX_PAIRS, Expression
from fexgan_lit.hub import save_weights
from fexgan_lit.loggers import RunCsvLogger, log_numbers, log_picture, log_table
from fexgan_lit.metrics.frechet import make_fid
from fexgan_lit.metrics.measure import (
    AffectGrid,
    affect_grid,
    complex_faces,
    grid_similarity,
    measure,
)
from fexgan_lit.metrics.sampling import cycling_affects, frame_features, report_samples
from fexgan_lit.metrics.suite import DISCRIMINATOR_METRICS, TrainingSuite
from fexgan_lit.run_report import Results, write_report

if TYPE_CHECKING:
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
        grid = affect_grid(system, watch.shown_frames)
        results = measure_all(watch, grid)
        draw_all(watch, results, grid)
    log_all(watch, results)
    write_report(watch, results)
    return results


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


def measure_all(watch: Watch, grid: AffectGrid) -> Results:
    """The metric suite on both splits, the grid, and samples of every prior."""
    from fexgan_lit.data.pairs import FixedPairLoader, fixed_pairs

    d, data, judge = watch.settings.dataset, watch.data, watch.judge
    pairs = fixed_pairs(data.train, d.split_seed, _TRAIN_PAIRS, d.min_target_intensity, d.targets == "exact")
    train_suite = TrainingSuite(data.affects, judge, split="train", seed=d.split_seed)
    loader = FixedPairLoader(data.train, pairs, d.batch_size, d.image_size)
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
    if watch.concerns is not None and watch.concerns.standing:
        results.notes["at the end of training"] = watch.concerns.standing
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


def draw_all(watch: Watch, results: Results, grid: AffectGrid) -> None:
    """The papers' figures: affects (5 and 7), random samples (4 and 6), complex expressions (6 and 8), loss curves."""
    data, K = watch.data, len(watch.data.affects)
    pictures = results.pictures
    verdicts = None
    if watch.judge is not None:
        verdicts = watch.judge.read(grid.generated.flatten(0, 1)).affect.view(-1, K)  # (I*K,) -> (I, K)
    pictures["affects"] = figures.affect_grid(
        grid.references, grid.generated, grid.identities, data.affects, verdicts=verdicts
    )
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
    for sheet in watch.system.sheets(*_on_device(grid, watch.system.device)):
        pictures[sheet.name] = figures.complex_grid(sheet.references, sheet.cells, sheet.rows, sheet.columns)
        results.captions[sheet.name] = sheet.caption
    if results.confusion is not None:
        pictures["confusion"] = figures.confusion_figure(results.confusion, data.affects)
    history = next(logger for logger in watch.loggers if isinstance(logger, RunCsvLogger)).history()
    losses = {name: curve for name, curve in history.items() if name.startswith("loss/") and curve[0]}
    if losses:
        pictures["losses"] = figures.loss_curves(losses)
    watch.run.figures.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        picture.save(watch.run.figures / f"{name}.png")


def _on_device(grid: AffectGrid, device: torch.device) -> tuple[Tensor, Expression, list[Expression], tuple[str, ...]]:
    """What `sheets` asks for."""
    wanted = [asked.to(device) for asked in grid.wanted]
    return grid.references.to(device), grid.shown.to(device), wanted, grid.identities


def log_all(watch: Watch, results: Results) -> None:
    """Final numbers, pictures and tables to every logger."""
    iteration = watch.system.iteration
    numbers = {f"final/train/{k}": v for k, v in results.train.items()}
    numbers |= {f"final/val/{k}": v for k, v in (results.val or {}).items()}
    numbers["final/grid_ssim"] = results.grid_ssim
    for prior, report in results.priors.items():
        numbers |= {f"final/{prior}/{k}": v for k, v in report.metrics().items()}
    log_numbers(watch.loggers, numbers, iteration)
    for name, picture in results.pictures.items():
        log_picture(watch.loggers, f"figures/{name}", picture, iteration, name.replace("_", " "))
    splits = {"train": results.train, "val": results.val or {}}
    rows = [[split, *(values.get(k) for k in DISCRIMINATOR_METRICS)] for split, values in splits.items() if values]
    log_table(watch.loggers, "tables/discriminator", ["split", *DISCRIMINATOR_METRICS], rows)
    if results.confusion is not None:
        affects = list(watch.data.affects)
        counts = [[a, *row] for a, row in zip(affects, results.confusion.tolist(), strict=True)]
        log_table(watch.loggers, "tables/confusion", ["asked / judged", *affects], counts)
