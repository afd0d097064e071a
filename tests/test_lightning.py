"""Systems and data with nothing but public Lightning around them: a notebook, resumed fits, damaged checkpoints."""

from __future__ import annotations

import copy
import csv
import functools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from safetensors.torch import load_file

from fexgan_lit import load
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.metrics.judges.affect import JudgeRecipe
from fexgan_lit.runs.config import train_settings
from fexgan_lit.systems.base import ExpressionSystem
from fexgan_lit.systems.checkpoints import WholeCheckpointIO, read_checkpoint
from fexgan_lit.training.callbacks import AdversarialCut, LinearDecay
from fexgan_lit.utils.errors import UserError
from tests.conftest import TINY, UNLOGGED, run_train
from tests.runs.test_config import composed

#: 4 iterations an epoch
CARTOONS = {
    "name": "studio_cartoon", "image_size": 32, "batch_size": 10, "identities": 2, "takes": 2, "frames": 3,
    "split": "take", "val_fraction": 0.5, "min_target_intensity": 0.0,
}  # fmt: skip


def make_data(judge: bool = False) -> FrameDataModule:
    return FrameDataModule(DatasetConfig(**CARTOONS), judge=judge)


def make_system(model: str, affects: tuple[str, ...], **loss) -> ExpressionSystem:
    motions = ("model.motion_width=0.02", "optimizer.motion_batch=6") if model == "motion_texture" else ()
    settings = train_settings(composed(f"model={model}", "dataset.image_size=32", "model.width=0.07", *motions))
    torch.manual_seed(0)
    if model == "landmark_label" and "perceptual" not in loss:
        loss["perceptual"] = 0.0  # its network would be a judge, which takes seconds to train
    if model == "motion_texture":
        loss["identity"] = 0.0  # likewise
    for name, value in loss.items():
        setattr(settings.loss, name, value)
    return settings.system(settings.model, settings.loss, settings.optimizer, affects)


def make_trainer(folder: Path, *callbacks, **changes) -> lightning.Trainer:
    options = {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
               "logger": False, "log_every_n_steps": 1, "check_val_every_n_epoch": None,
               "val_check_interval": 5}  # fmt: skip
    return lightning.Trainer(default_root_dir=folder, callbacks=list(callbacks), **(options | changes))


@pytest.fixture
def data() -> FrameDataModule:
    return make_data()


# two optimizers in turn, a single one, and one for each part; StarGAN goes through Lightning in all that follows
@pytest.mark.parametrize("model", ["fexgan", "bridge", "motion_texture"])
def test_a_notebook_with_public_lightning_alone(model, data, tmp_path):
    system = make_system(model, data.affects)  # the data open themselves
    logger = CSVLogger(tmp_path, "logs")
    keep, best = ModelCheckpoint(save_last=True, every_n_train_steps=4), ModelCheckpoint(monitor="val/ssim", mode="max")
    callbacks = (keep, best, LinearDecay(0.5), LearningRateMonitor())
    trainer = make_trainer(tmp_path, *callbacks, logger=logger, max_epochs=1, val_check_interval=3)
    trainer.fit(system, datamodule=data)

    assert trainer.global_step == system.iteration == 4, "an iteration counts once, however many optimizers step"
    assert trainer.callback_metrics["val/ssim"] > -1
    assert trainer.callback_metrics["loss/generator"].isfinite()
    (validated,) = trainer.validate(system, datamodule=data, verbose=False)
    train, val = trainer.test(system, datamodule=data, verbose=False)
    assert validated["val/ssim"] == pytest.approx(val["final/val/ssim"])
    assert "final/train/psnr" in train
    assert train.keys() & val.keys() == {"step"}, "Lightning prints each metric once"
    faces = torch.cat(trainer.predict(system, datamodule=data))
    assert faces.shape == (len(data.val), 3, 32, 32)
    assert faces.abs().max() <= 1

    again = type(system).load_from_checkpoint(keep.last_model_path).eval()
    run = load(logger.log_dir)
    batch = next(iter(data.val_dataloader()))
    K = len(data.affects)
    asked = batch.source, batch.source_expression(K), batch.target_expression(K)
    for other in (again, run.system):
        assert (other.synthesize(*asked) - system.eval().synthesize(*asked)).abs().max() == 0
    if hasattr(system, "sample"):
        joy = system.expression([data.affects.index("joy")])
        assert system.sample(1, joy, prior="fitted").shape == (1, 3, 32, 32), "trainer.test fits the prior"


def test_the_notebook_of_the_documentation(tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "use_from_python.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "import lightning" in block)
    for shown, small in (
        ('{"name": "studio_cartoon", "image_size": 64}', "CARTOONS, judge=False"),
        ('"image_size": 64', '"image_size": 32'),
        ('EarlyStopping("val/fd_judge")', 'EarlyStopping("val/ssim")'), ("max_steps=900", "max_steps=2"),
        ("val_check_interval=300", "val_check_interval=2"), ("every_n_train_steps=100", "every_n_train_steps=1"),
        ('"width": 0.5', '"width": 0.07'),
    ):  # fmt: skip
        assert shown in code
        code = code.replace(shown, small)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40)).save("face.png")
    exec(code, {"CARTOONS": CARTOONS})  # noqa: S102 (our own page)
    assert list(tmp_path.glob("lightning_logs/version_0/checkpoints/last.ckpt"))


def test_a_judge_is_trained_where_a_validation_or_a_loss_wants_it(tmp_path, monkeypatch):
    brief = functools.partial(JudgeRecipe, min_images=640, max_images=640)
    monkeypatch.setattr("fexgan_lit.metrics.judges.affect.JudgeRecipe", brief)
    data = make_data(judge=True)
    system = make_system("landmark_label", data.affects, perceptual=1.0)
    stop = EarlyStopping("val/fd_judge", patience=1)
    trainer = make_trainer(tmp_path, stop, max_epochs=1, val_check_interval=2)
    trainer.fit(system, datamodule=data)
    assert system.perceptual is not None
    assert trainer.callback_metrics["val/fd_judge"] > 0
    assert "val/judge_identity_accuracy" in trainer.callback_metrics


def test_a_fit_teaches_ganimation_what_its_affects_mean(data, tmp_path):
    system = make_system("ganimation", data.affects)
    make_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(system, datamodule=data)
    assert system.expression([0]).aus is not None


def test_the_adversarial_weight_is_cut_after_an_epoch_of_the_data(data, tmp_path):
    system, seen = make_system("fexgan", data.affects), []

    class Look(AdversarialCut):
        def on_train_batch_end(self, trainer, system, *_):
            seen.append(system.adversarial_binary)

    make_trainer(tmp_path, Look(epoch=1), max_epochs=2, limit_val_batches=0).fit(system, datamodule=data)
    assert seen == [1.0] * 4 + [0.1] * 4


def test_lightning_options_of_a_quick_look(data, tmp_path):
    system = make_system("stargan", data.affects)
    make_trainer(tmp_path, fast_dev_run=2).fit(system, datamodule=data)
    trainer = make_trainer(tmp_path, limit_train_batches=2, max_epochs=2, limit_val_batches=1)
    trainer.fit(system, datamodule=data)
    assert trainer.global_step == system.iteration == 4


# ---------------------------------------------------------------------- resume


#: Three epochs, and a look at a batch after iterations 5 and 10.
TWELVE = {"max_epochs": -1, "max_steps": 12, "limit_val_batches": 1}


class Keep(lightning.Callback):
    """Save a checkpoint after each iteration of `at`, and one in a validation."""

    def __init__(self, folder: Path, at: set[int]) -> None:
        self.folder, self.at = folder, at

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step in self.at:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt", weights_only=False)

    def on_validation_end(self, trainer, *_) -> None:
        trainer.save_checkpoint(self.folder / f"val{trainer.global_step}.ckpt", weights_only=False)

    def on_train_epoch_end(self, trainer, *_) -> None:
        trainer.save_checkpoint(self.folder / f"epoch{trainer.global_step}.ckpt", weights_only=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[ExpressionSystem, Path]:
    """A StarGAN after three epochs of four iterations, and checkpoints of its way there."""
    folder, data = tmp_path_factory.mktemp("whole"), make_data()
    system = make_system("stargan", data.affects)
    keep = Keep(folder, {4, 5, 12})
    trainer = make_trainer(folder, keep, LinearDecay(0.3), **TWELVE)
    trainer.fit(system, datamodule=data)
    return system, folder


@pytest.mark.parametrize("name", ["4", "epoch4", "5", "val10", "12"])
def test_a_fit_goes_on_from_any_position_to_the_same_weights(whole, name, tmp_path):
    system, folder = whole
    other = make_system("stargan", system.affects)
    for parameter in other.parameters():
        parameter.data.zero_()
    logger = CSVLogger(tmp_path)
    trainer = make_trainer(tmp_path, LinearDecay(0.3), logger=logger, log_every_n_steps=2, **TWELVE)
    trainer.fit(other, datamodule=make_data(), ckpt_path=folder / f"{name}.ckpt", weights_only=True)
    logger.save()
    assert trainer.global_step == other.iteration == 12
    theirs = other.state_dict()
    assert [key for key, value in system.state_dict().items() if not torch.equal(value, theirs[key])] == []
    begun = int("".join(filter(str.isdigit, name)))
    table = Path(logger.log_dir) / "metrics.csv"
    rows = csv.DictReader(table.read_text().splitlines()) if table.exists() else ()
    logged = {int(row["step"]) for row in rows if row.get("loss/generator")}
    assert logged == {step for step in range(2, 13, 2) if step > begun}, "rows are due at the same iterations"


def test_a_finished_fit_made_longer_equals_a_long_one(data, tmp_path):
    ends = []
    for lengths in ([6], [3, 6]):  # of epochs of 4
        keep = ModelCheckpoint(tmp_path, save_last=True, enable_version_counter=False, every_n_train_steps=3)
        system, checkpoint = make_system("fexgan", data.affects), None
        for length in lengths:
            trainer = make_trainer(tmp_path, keep, max_epochs=-1, max_steps=length, limit_val_batches=0)
            trainer.fit(system, datamodule=make_data(), ckpt_path=checkpoint, weights_only=True)
            checkpoint = keep.last_model_path
        ends.append(system.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_a_checkpoint_of_version_0_1_goes_on(whole, tmp_path):
    """It holds neither loops nor schedules, and `global_step` counts optimizer steps."""
    system, folder = whole
    old = read_checkpoint(folder / "5.ckpt")
    for key in ("loops", "system", "hyper_parameters", "datamodule_hyper_parameters"):
        del old[key]
    old |= {"lr_schedulers": [], "global_step": 6}
    torch.save(old, tmp_path / "old.ckpt")
    other = make_system("stargan", system.affects)
    trainer = make_trainer(tmp_path, LinearDecay(0.3), **TWELVE)
    trainer.fit(other, datamodule=make_data(), ckpt_path=tmp_path / "old.ckpt", weights_only=True)
    assert trainer.global_step == 12
    theirs = other.state_dict()
    assert [key for key, value in system.state_dict().items() if not torch.equal(value, theirs[key])] == []


# ---------------------------------------------------------------------- damage


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def changed(**values):
    def change(path: Path) -> None:
        checkpoint = torch.load(path, weights_only=True)
        for key, value in values.items():
            checkpoint[key] = value(checkpoint[key]) if callable(value) else value
        torch.save(checkpoint, path)

    return change


def without_moments(states):
    states = copy.deepcopy(states)
    del states[1]["state"][0]
    return states


DAMAGE = {
    "a flipped bit": (flipped, "checksum differs"),
    "half a file": (cut, "not a training checkpoint"),
    "an empty file": (lambda path: path.write_bytes(b""), r"not a training checkpoint: it is empty \(0 bytes\)"),
    "an optimizer too few": (changed(optimizer_states=lambda states: states[:1]), "states of 1 optimizers, expected 2"),
    "an optimizer too many": (
        changed(optimizer_states=lambda states: [*states, states[0]]),
        "3 optimizers, expected 2",
    ),
    "a missing moment": (changed(optimizer_states=without_moments), "state of optimizer 1"),
    "a negative iteration": (changed(iteration=-4), "iteration count is -4"),
    "no number": (changed(iteration="many"), "iteration count is 'many'"),
    "another count": (changed(iteration=7), "count is 7, expected Lightning's count of 5"),
    "another system": (changed(system="fexgan_lit.systems.fexgan.system.FExGAN"), "written by the system .*FExGAN"),
    "other networks": (changed(state_dict=lambda state: {"a": state["average.to_rgb.weight"]}), "other networks"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused(whole, damage, tmp_path):
    system, folder = whole
    path = tmp_path / "damaged.ckpt"
    path.write_bytes((folder / "5.ckpt").read_bytes())
    do, message = DAMAGE[damage]
    do(path)
    trainer = make_trainer(tmp_path, max_epochs=-1, max_steps=12, plugins=[WholeCheckpointIO()])
    with pytest.raises(UserError, match=message):
        trainer.fit(make_system("stargan", system.affects), datamodule=make_data(), ckpt_path=path)


def test_a_checkpoint_is_whole_or_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"state_dict": {}, "iteration": 3}, path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"No space left.*still holds the previous checkpoint"):
        WholeCheckpointIO().save_checkpoint({"state_dict": {}, "iteration": 4}, path)
    assert read_checkpoint(path)["iteration"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


# ---------------------------------------------------------------------- the command

#: The command, killed when it has measured and is about to draw.
KILLED = """
import os, signal, fexgan_lit.training.final_metrics
fexgan_lit.training.final_metrics.draw = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from fexgan_lit.train import main
main()
"""


@pytest.mark.fault
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_killed_in_its_final_metrics_ends_as_if_it_was_not(tmp_path):
    options = [*TINY, "trainer.max_steps=4", "metrics.judge=true", "metrics.samples=20"]
    run_train(tmp_path, *options, "hydra.run.dir=whole")
    command = [sys.executable, "-c", KILLED, *options, "hydra.run.dir=killed"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=200, check=False)
    assert done.returncode == -signal.SIGKILL
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert not (killed / "result.json").exists()
    run_train(tmp_path, "run=killed")
    ends = [json.loads((run / "result.json").read_text())["metrics"] for run in (killed, whole)]
    assert ends[0] == ends[1]
    for path in whole.rglob("figures/*.png"):
        assert (killed / path.relative_to(whole)).read_bytes() == path.read_bytes(), path.name
    for path in whole.rglob("*.safetensors"):
        ours, theirs = load_file(path), load_file(killed / path.relative_to(whole))
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items()), path.name


def test_a_damaged_checkpoint_ends_the_command_with_exit_code_2(tmp_path):
    begun = run_train(tmp_path, *UNLOGGED, "trainer.max_steps=3", "hydra.run.dir=run")
    flipped(tmp_path / "run" / "checkpoints" / "last.ckpt")
    done = run_train(tmp_path, "run=run", "trainer.max_steps=5", check=False)
    assert done.returncode == 2
    assert "checksum differs" in done.stderr
    opened = "data       studio_cartoon"
    assert (opened in begun.stdout, opened in done.stdout) == (True, False), "the checkpoint is read before the data"
    assert "Traceback" not in done.stderr
