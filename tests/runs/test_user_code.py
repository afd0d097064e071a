"""Lightning's options, callbacks and a package of the user's own, from the command line; what a run folder may name."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fexgan_lit import load
from fexgan_lit.runs.config import train_settings
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.training.callbacks import AdversarialCut, LinearDecay
from fexgan_lit.training.trainer import build_trainer
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.trust import TARGETS, foreign_packages, load_target, trust
from tests.conftest import TINY, UNLOGGED, run_train, write_frames
from tests.runs.test_config import composed

PACKAGE = '''
from lightning.pytorch import Callback
from fexgan_lit.systems.fexgan.system import FExGAN

class Greeting(Callback):
    def __init__(self, word):
        self.word = word

    def on_train_start(self, trainer, system):
        print(f"greeting: {self.word} {type(system).__name__}")

class OwnGAN(FExGAN):
    """A system of the user's."""

from fexgan_lit.data.datasets.characters import MHFED as OWN_LAYOUT
'''


DATA = ("dataset=folder", "dataset.root=data")


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a run with a system, callbacks and a data set that are not ours, and what it printed."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "ownpkg.py").write_text(PACKAGE)
    write_frames(folder / "data", frames=2)
    done = run_train(
        folder, *TINY, *DATA, "dataset.layout=ownpkg.OWN_LAYOUT", "model._target_=ownpkg.OwnGAN",
        "+callbacks.mine._target_=ownpkg.Greeting",
        "+callbacks.mine.word=hello", "+callbacks.rates._target_=lightning.pytorch.callbacks.LearningRateMonitor",
        "+trainer.limit_train_batches=3", "trainer.max_steps=4", "hydra.run.dir=run",
    )  # fmt: skip
    return folder, done.stdout


def test_a_command_may_name_any_class(own):
    folder, printed = own
    assert "greeting: hello OwnGAN" in printed
    config = OmegaConf.load(folder / "run" / "config.yaml")
    assert config.trust == ["lightning", "ownpkg"], "a request to whoever opens the run"
    rows = list(csv.DictReader((folder / "run" / "metrics.csv").open()))
    assert any(row.get("lr-Adam") for row in rows)


def test_a_run_folder_with_code_needs_trust_again(own):
    folder, _ = own
    refused = run_train(folder, "run=run", "trainer.max_steps=5", check=False)
    assert refused.returncode == 2
    assert "ownpkg.OwnGAN is refused" in refused.stderr
    assert re.search(r"is refused, .* trust=\[ownpkg\] allows .* fexgan_lit\.systems", refused.stderr), "the cure first"
    assert "greeting" not in refused.stdout
    goes_on = run_train(folder, "run=run", "trainer.max_steps=5", "trust=[ownpkg,lightning]")
    assert "resuming at iteration 4" in goes_on.stdout
    assert "greeting: hello" in goes_on.stdout


def test_load_asks_for_trust_too(own):
    with pytest.raises(UserError, match=r"trust=\[ownpkg\]"):
        load(own[0] / "run")


def test_a_data_set_that_is_no_layout_is_refused(own):
    refused = run_train(own[0], *TINY, *DATA, "dataset.layout=ownpkg.Greeting", check=False)
    assert "dataset.layout=ownpkg.Greeting: no such layout" in refused.stderr


def test_fast_dev_run_tries_everything_once(tmp_path):
    done = run_train(tmp_path, *UNLOGGED, "+trainer.fast_dev_run=true", "hydra.run.dir=run")
    assert "training 1/1" in done.stdout
    assert (tmp_path / "run" / "figures" / "affects.png").is_file()


MISTAKES = {
    "misspelt": (["+trainer.limit_train_batch=3"], "Did you mean trainer.limit_train_batches"),
    "two names": (["+trainer.max_time=00:01:00:00", "trainer.max_minutes=3"], "set the same value"),
    "the profilers": (["+trainer.profiler=simple", "trainer.profile=true"], "trainer.profiler and trainer.profile"),
    "clipping": (["+trainer.gradient_clip_val=1.0"], "optimizer.clip_norm"),
    "another group": (["+trainer.callbacks=[]"], "callbacks.NAME in its place"),
    "half precision": (["trainer.precision=16-mixed"], "float16, which needs scaled losses"),
    "no such callback": (["+callbacks.mine._target_=fexgan_lit.training.callbacks.Nope"], "callbacks.mine: _target_"),
    "wrong arguments": (
        ["+callbacks.mine._target_=lightning.pytorch.callbacks.EarlyStopping"], "callbacks.mine: .*monitor",
    ),
    "no callback": (["+callbacks.mine._target_=pathlib.Path"], "callbacks.mine: pathlib.Path is not a callback"),
    "no such logger": (["+logger.mine._target_=lightning.Nope"], "lightning.Nope: there is no such class"),
    "no system": (["model._target_=os.system"], "os.system is refused"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_the_option(mistake):
    overrides, message = MISTAKES[mistake]
    config = composed(*overrides)
    trust(foreign_packages(OmegaConf.to_container(config)))
    with pytest.raises(UserError, match=message):
        train_settings(config)


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "\\${oc.create:{_target_:os.getcwd}}"])
def test_an_interpolation_of_a_run_folder_becomes_neither_a_secret_nor_a_class(tmp_path, value):
    (tmp_path / "config.yaml").write_text(f"dataset: {{root: '{value}'}}\n")
    with pytest.raises(UserError, match="contains an interpolation"):
        RunFolder(tmp_path).read_config()


def test_lightning_options_reach_the_trainer_in_its_own_words(tmp_path):
    options = ("+trainer.limit_val_batches=2", "+trainer.max_epochs=3", "trainer.precision=32-true")
    settings = train_settings(composed(*options, "trainer.devices=auto", "trainer.accelerator=cpu")).trainer
    assert settings.devices == 1
    trainer = build_trainer(settings, [], [], str(tmp_path))
    assert (trainer.limit_val_batches, trainer.max_epochs, trainer.precision) == (2, 3, "32-true")


def test_the_allow_list_holds_what_is_ours_alone():
    assert [name for name in TARGETS if not name.startswith("fexgan_lit.")] == []
    for name in TARGETS:
        load_target(name)
    with pytest.raises(UserError, match="Popen is refused"):
        load_target("subprocess.Popen")


def test_names_of_version_0_1_mean_the_classes_of_today():
    old = composed("callbacks.linear_decay.start=0.5")
    old.callbacks.adversarial_cut._target_ = "fexgan_lit.callbacks.AdversarialCut"
    old.callbacks.linear_decay._target_ = "fexgan_lit.callbacks.LinearDecay"
    assert foreign_packages(OmegaConf.to_container(old)) == []
    built = train_settings(old).callbacks
    assert {type(callback) for callback in built.values()} == {AdversarialCut, LinearDecay}
    assert load_target("fexgan_lit.callbacks.LinearDecay") is LinearDecay


def test_a_folder_that_a_command_adds_to_conf_is_searched(tmp_path):
    for place, text in (("experiment/mine", "seed: 3"), ("tuning/fexgan/mine", "model: {width: 3}")):
        file = tmp_path / "more" / f"{place}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(f"# @package _global_\n{text}\n")
    refused = run_train(
        tmp_path, "--config-dir", "more", "experiment=mine", "tuning=fexgan/mine", "dataset.image_size=3", check=False
    )
    assert refused.returncode == 2
    assert "dataset.image_size=3" in refused.stderr, "all else was found"
    for way in (("--config-dir", "more"), ("--config-dir=more",), ("hydra.searchpath=[file://more]",)):
        refused = run_train(tmp_path, *way, "experiment=mine", "experiment=yours", "loss.alfa=1", check=False)
        assert refused.returncode == 2
        assert "experiment=mine" not in refused.stderr
        assert "experiment=yours: there is no such file in conf/experiment" in refused.stderr
        assert "loss_weights, meta_humans, mhfed_small, mien, mine, systems" in refused.stderr
        assert "loss.alfa=1" in refused.stderr
