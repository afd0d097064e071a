"""Sweeps in the process of the tests, since starting one takes longer than its runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import make_result, now, write_result
from fexgan_lit.utils.errors import UserError
from tests.conftest import TINY

_OWN = ("trainer.checkpoint_every=1", "trainer.max_steps=3", "trainer.log_every=1000")
#: Runs of half a second: a checkpoint every iteration, and no curve of the losses to draw.
SMALL = (*[o for o in TINY if o.partition("=")[0] not in {own.partition("=")[0] for own in _OWN}], *_OWN)


def without(overrides: Sequence[str]) -> list[str]:
    """The options of a small run that a test does not give itself."""
    given = {override.partition("=")[0] for override in overrides}
    return [option for option in SMALL if option.partition("=")[0] not in given]


def quick_training(cfg: DictConfig, console: Any, place: Any) -> None:
    """What a run of a sweep leaves, without its training: the best SSIM has the loss with the smallest alpha."""
    if cfg.dataset.batch_size == 4000:
        raise UserError("dataset.batch_size=4000: more than there are")
    run = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    run.write_config(cfg)
    run.last.touch()
    metrics = {"final/val/ssim": 1 / (1 + cfg.loss.alpha)}
    write_result(
        run.path, make_result("finished", iteration=cfg.trainer.max_steps, seconds=0, started=now(), metrics=metrics)
    )


@dataclass
class Ended:
    """What a command left: exit code, what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def train(tmp_path, monkeypatch, capfd) -> Callable[..., Ended]:
    """`python -m fexgan_lit.train -m ...` in a folder of the test's own, with and without training and report."""
    monkeypatch.chdir(tmp_path)

    def call(*overrides: str, small: bool = True, report: bool = False, trained: bool = False) -> Ended:
        from fexgan_lit.train import main

        capfd.readouterr()
        code = 0
        with monkeypatch.context() as patch:
            patch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it, and it is to be as before afterwards
            patch.setattr(sys, "argv", ["train", "-m", *(without(overrides) if small else ()), *overrides])
            if not report:
                patch.setattr("fexgan_lit.evaluation.sweep_report.report.write_sweep_report", lambda *_: None)
            if not trained:
                patch.setattr("fexgan_lit.train.train_run", quick_training)
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        printed = capfd.readouterr()
        return Ended(code, printed.out, printed.err)

    return call


@pytest.fixture
def the_sweep(tmp_path) -> Callable[[], Path]:
    """The only sweep folder there is."""

    def find() -> Path:
        (folder,) = (tmp_path / "multirun").iterdir()
        return folder

    return find
