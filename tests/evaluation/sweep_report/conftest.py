"""Sweeps written by hand, and runs with weights nobody trained: what they make means nothing, where it goes does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console

from fexgan_lit.data.datamodule import FrameDataModule, data_facts
from fexgan_lit.evaluation.sweep_report import report as sweep_report
from fexgan_lit.evaluation.sweep_report.read import Sweep, SweepRun
from fexgan_lit.runs.build import build_system
from fexgan_lit.runs.config import train_settings
from fexgan_lit.runs.result import RunResult, write_result
from fexgan_lit.runs.weights import save_weights
from tests.conftest import TINY
from tests.runs.test_config import composed

FD, ACCURACY, SSIM = "final/val/fd_judge", "final/val/judge_affect_accuracy", "final/val/ssim"


def result(metrics: Mapping[str, float], **options: Any) -> RunResult:
    known = {"status": "finished", "iteration": 900, "seconds": 60.0, "machine": "a machine", "torch": "2.13.0"}
    return RunResult(metrics=dict(metrics), **(known | options))


def finished_run(name: str, values: Mapping[str, Any], **metrics: float) -> SweepRun:
    """A run in memory; `fd=1.0` stands for the validation's fd_judge."""
    names = {"fd": FD, "accuracy": ACCURACY, "ssim": SSIM}
    return SweepRun(name, Path(name), values, "finished", result({names[k]: v for k, v in metrics.items()}))


def sweep_of(*runs: SweepRun) -> Sweep:
    """A sweep in memory whose axes are those of its runs."""
    axes = {axis: list(dict.fromkeys(run.values[axis] for run in runs)) for axis in runs[0].values}
    return Sweep(Path("sweep"), axes, runs)


def write_sweep(folder: Path, runs: Mapping[str, Mapping[str, Any]], **more: Any) -> Path:
    """A sweep folder with its sweep.yaml and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    axes: dict[str, list[Any]] = {}
    for values in runs.values():
        for axis, value in values.items():
            axes[axis] = [*axes.get(axis, []), *([value] if value not in axes.get(axis, []) else [])]
    content = {"version": 1, "command": "python -m fexgan_lit.train -m ...", "axes": axes, "kind": "grid", "base": {}}
    OmegaConf.save(OmegaConf.create(content | {"runs": dict(runs)} | more), folder / "sweep.yaml")
    return folder


def write_run(folder: Path, metrics: Mapping[str, float] | None = None, **options: Any) -> Path:
    """A run folder with a result, or without one where there are no metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    if metrics is not None:
        write_result(folder, result(metrics, **options))
    return folder


def write_trained(folder: Path, cache: Path, *overrides: str, fd: float = 1.0) -> Path:
    """A run folder as training leaves it, with initial weights and made-up results."""
    groups = [override for override in overrides if override.startswith("model=")]
    cfg = composed(*TINY, *groups)  # once for all runs of a model; it takes longer than all the rest
    cfg.merge_with_dotlist([f"dataset.cache_dir={cache}", *(each for each in overrides if each not in groups)])
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = train_settings(cfg)
    data = FrameDataModule(settings.dataset, settings.seed)
    system = build_system(settings, data.affects)
    plain |= {"data": data_facts(data), "model": plain["model"] | asdict(system.settings)}
    plain["loss"] |= asdict(system.loss_weights)
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(plain), folder / "config.yaml")
    save_weights(system, folder / "weights")
    (folder / "figures").mkdir()
    Image.new("RGB", (8, 8), "#204060").save(folder / "figures" / "affects.png")
    (folder / "report.md").write_text(REPORT.format(folder=folder))
    (folder / "metrics.csv").write_text("iteration,loss/generator\n2,1.5\n")
    write_result(folder, result({FD: fd, ACCURACY: 0.9, SSIM: 0.5}))
    return folder


REPORT = """# fexgan on studio_cartoon

- command: `python -m fexgan_lit.train` with the `config.yaml` beside this file; seed 0
- fexgan_lit 0.1.0, torch 2.13.0, Python 3.11.7, Linux x86_64, 1 threads
- data studio_cartoon: 84 frames, 2 identities
- split 42 frames train, 42 validate

**Image quality and the judge's verdict**

|  | SSIM | fd_judge |
|---|---:|---:|
| Validation, generated | 0.500 | **1.000** |
| *A paper* | *0.9* | *-* |

- judge in {folder}/judge and at https://example.org/a/b

## affects

A reference frame of every identity.

![affects](figures/affects.png)

## How each number was made

- `ssim`: Gaussian 11x11
"""


@pytest.fixture
def quiet() -> Console:
    return Console(quiet=True)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without pictures, where a test is about something else: they take a second each."""
    monkeypatch.setattr(sweep_report, "draw_sweep", lambda _: ({}, []))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two settings with two seeds each, every run with weights."""
    folder = tmp_path_factory.mktemp("trained")
    runs = {f"beta-{b}_seed-{s}": {"loss.beta": b, "seed": s} for b in (1.0, 2.0) for s in (1, 2)}
    sweep = write_sweep(folder / "sweep", runs)
    for number, (name, values) in enumerate(runs.items()):
        overrides = [f"{axis}={value}" for axis, value in values.items()]
        write_trained(sweep / name, folder / "cache", *overrides, "trainer.max_steps=7", fd=1.0 + number)
    return sweep


def numbers(path: Path) -> dict[str, Any]:
    """The content of a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content
