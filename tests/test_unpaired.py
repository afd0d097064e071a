"""`python -m fexgan_lit.train model=ganimation dataset=emotionet`: frames with action units and nothing else."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest
import torch

from fexgan_lit.expression import Expression
from fexgan_lit.runs.weights import load_system
from fexgan_lit.utils.errors import UserError
from tests.commands import run_command
from tests.conftest import TINY, run_train
from tests.data.standins import write_emotionet

OPTIONS = [option for option in TINY if "latent_size" not in option]
UNITS = ("model=ganimation", "dataset=emotionet", "optimizer.n_critic=2", "metrics.judge=true", "trainer.val_every=3",
         "trainer.figures_every=3")  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A run of six iterations, and what it printed."""
    folder = tmp_path_factory.mktemp("unpaired")
    root = write_emotionet(folder / "set", 14)
    printed = run_train(
        folder, *OPTIONS, *UNITS, f"dataset.root={root}", "trainer.max_steps=6", brief_judge=True
    ).stdout
    return next((folder / "outputs").iterdir()), printed


def test_the_run_says_what_is_absent_and_measures_the_rest(finished):
    run, printed = finished
    report = (run / "report.md").read_text()
    for text in (printed, report):
        assert "no real target frames to compare with" in text
        assert "there and back: SSIM" in text
        assert "no affects" in text
        assert "random frames of any identity" in text
        assert "Table 1" not in text
        assert "unlabelled" not in text
    assert "the grid of affects: the frames have no affects" in printed
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["iteration"] for row in rows if row["val/back_ssim"]] == ["3", "6"]
    assert "val/ssim" not in rows[0]
    assert float(rows[-1]["final/val/units_error"]) > 0


def test_single_units_take_the_place_of_the_grid(finished):
    run = finished[0]
    found = {path.name for path in (run / "figures").glob("*.png")}
    assert found == {"action_units.png", "attention.png", "losses.png"}
    assert sorted(path.name for path in (run / "figures/progress").iterdir()) == [
        "sheet_000003.png", "sheet_000006.png",
    ]  # fmt: skip
    assert not (run / "checkpoints/best.ckpt").exists()


def test_the_run_folder_gives_the_system_back(finished):
    system = load_system(finished[0])
    face = system.synthesize(torch.zeros(1, 3, 32, 32), None, Expression(aus=torch.full((1, 17), 0.5)))
    assert face.shape == (1, 3, 32, 32)
    with pytest.raises(UserError, match="without affects"):
        system.expression([0])


def test_the_other_doors_take_the_run_or_say_why_not(finished, tmp_path):
    def command(name: str, *overrides: str) -> subprocess.CompletedProcess:
        return run_command(tmp_path, name, f"run={finished[0]}", *overrides, timeout=120)

    refused = command("evaluate")
    assert refused.returncode == 2
    assert "no true frame to compare generated ones with" in " ".join(refused.stderr.split())
    made = command("generate", "mode=action_units", "units=[12]", "strengths=[0,1]", f"out={tmp_path / 'faces'}")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "faces/sheet.png").is_file()
