"""Tiny untrained runs of three systems on the embedded cast, and the command in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from fexgan_lit.data.datamodule import FrameDataModule, data_facts
from fexgan_lit.data.faces import worker
from fexgan_lit.expression import AFFECTS
from fexgan_lit.inference.modes import search_weights as learnt
from fexgan_lit.metrics.judges.affect import Judge, JudgeNet
from fexgan_lit.runs import weights as hub
from fexgan_lit.runs.build import build_system
from fexgan_lit.runs.config import train_settings
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.systems.base import ExpressionSystem
from tests.commands import run_here
from tests.conftest import TINY
from tests.data.fake_detector import write_detector
from tests.runs.test_config import composed

#: Numbers in a latent code.
SMALL_CODE = 8
#: What makes each system small, besides what all share.
SMALL = {
    "ganimation": ("model.residual_blocks=1", "model.width=0.07"),
    "stargan": ("model.residual_blocks=1", "model.width=0.07"),
    "lgp_gan": ("model.residual_blocks=1", "model.local_blocks=0", "model.width=0.07"),
    "pix2pix": ("model.width=0.07",),
    "landmark_fusion": ("model.width=0.07",),
    "mien": ("model.blocks=1", "model.width=0.07"),
    "bridge": ("model.width=0.07",),
    "motion_texture": ("model.width=0.07", "model.motion_width=0.02"),
    "us_gan": ("model.width=0.07",),
    "attgan": ("model.width=0.07",),
    "fexgan": (f"model.latent_size={SMALL_CODE}",),
    "fexgan_meta": (f"model.latent_size={SMALL_CODE}",),
    "landmark_label": ("model.blocks=1", "loss.perceptual=0"),
}
WHO = ("nora", "tariq")


def make_run(folder: Path, model: str, lively: bool = False, *overrides: str) -> Path:
    """A run folder as training leaves it, with initial weights.

    Args:
        folder: new.
        model: name of the system.
        lively: whether a system with codes gets larger weights and a fitted prior.
        overrides: further ones of the command line.
    """
    shared = [option for option in TINY if "latent" not in option]
    cfg = composed(f"model={model}", *shared, *SMALL[model], *overrides)
    settings = train_settings(cfg)
    data = FrameDataModule(settings.dataset, seed=settings.seed)
    system = build_system(settings, data.affects)
    system.prepare(data.train, lambda: None)
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    plain.pop("hydra", None)
    plain = OmegaConf.create(plain)
    plain.data = data_facts(data)
    if lively and hasattr(system, "fit_prior"):
        enliven(system.average)
        system.prior.fit(torch.randn(60, SMALL_CODE, generator=torch.Generator().manual_seed(0)))
    run = RunFolder.create(folder, plain)
    hub.save_weights(system, run.weights)
    return folder


def enliven(network: torch.nn.Module) -> None:
    """Larger weights than initial ones, with which faces are all grey and no change of a code or a label shows."""
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight, generator=generator)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Callable[[str], Path]:
    """The run folder of a system, made when first asked for."""
    home, made = tmp_path_factory.mktemp("runs"), {}

    def run(model: str) -> Path:
        if model not in made:
            made[model] = make_run(home / f"run_{model}", model, lively=True)
        return made[model]

    return run


@dataclass
class Done:
    """What a call of the command said and left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "generation.json").read_text())

    def asked(self, part: str) -> dict[str, Any]:
        """What the one picture whose file has `part` in its name was asked for."""
        (found,) = [picture for picture in self.record["pictures"] if part in picture["file"]]
        return found["asked"]


@pytest.fixture
def generate(tmp_path, monkeypatch) -> Callable[..., Done]:
    """Runs the command in an empty folder, results in `result`."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def call(*overrides: str, out: str | None = "result") -> Done:
        done = run_here("generate", *([f"out={out}"] if out else []), "device=cpu", *overrides)
        said = (" ".join(text.split()) for text in (done.stdout, done.stderr))
        return Done(done.returncode, *said, home / (out or "outputs"))

    return call


@pytest.fixture
def painting(monkeypatch) -> Callable[[Callable[..., torch.Tensor]], None]:
    """Replaces what every loaded system paints by a function of (source, shown, wanted)."""
    load = hub.load_system

    def by(paint: Callable[..., torch.Tensor]) -> None:
        def loaded(*given: Any) -> ExpressionSystem:
            system = load(*given)
            monkeypatch.setattr(system, "synthesize", paint)
            return system

        monkeypatch.setattr(hub, "load_system", loaded)

    return by


@pytest.fixture
def quick_judge(monkeypatch):
    """A judge that was never trained, in place of one that takes a minute."""
    torch.manual_seed(0)
    net = JudgeNet(len(AFFECTS), len(WHO), 32).freeze()
    found = Judge(net, AFFECTS, WHO, 32, 0.95, 0.95, 0.95, 0.95, 10, 10, 0)
    monkeypatch.setattr(learnt, "judges_of", lambda session: (found, None))


@pytest.fixture
def detector(tmp_path, monkeypatch):
    """The detector of the tests, which takes red patches for faces."""
    script = write_detector(tmp_path / "detector.py")
    monkeypatch.setattr(worker, "worker_command", lambda: [sys.executable, str(script)])
