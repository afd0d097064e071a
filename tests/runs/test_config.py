"""The configuration: YAML and dataclasses agree, every option composes, every mistake of a config is named at once."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.runs.config import MetricsSettings, TrainerSettings, train_settings
from fexgan_lit.runs.folder import run_folder_name
from fexgan_lit.systems.fexgan.config import FExGANSettings
from fexgan_lit.systems.fexgan.losses import FExGANLossSettings
from fexgan_lit.systems.fexgan.system import DualOptimizerSettings
from fexgan_lit.systems.ganimation.config import GANimationLossSettings, GANimationOptimizerSettings, GANimationSettings
from fexgan_lit.systems.stargan.config import StarGANLossSettings, StarGANSettings
from fexgan_lit.systems.wgan import WassersteinOptimizerSettings
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import conf_folder
from fexgan_lit.utils.trust import TARGETS, load_target


def composed(*overrides: str):
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("train", list(overrides))


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("loss/fexgan", FExGANLossSettings),
        ("optimizer/adam", DualOptimizerSettings),
        ("trainer/default", TrainerSettings),
        ("metrics/default", MetricsSettings),
        ("base/dataset", DatasetConfig),
        ("model/fexgan", FExGANSettings),
        ("model/ganimation", GANimationSettings),
        ("loss/ganimation", GANimationLossSettings),
        ("optimizer/ganimation", GANimationOptimizerSettings),
        ("model/stargan", StarGANSettings),
        ("loss/stargan", StarGANLossSettings),
        ("optimizer/stargan", WassersteinOptimizerSettings),
    ],
)
def test_every_field_is_in_the_yaml_and_the_other_way_round(path, schema):
    names = {f.name for f in fields(schema)}
    written = OmegaConf.to_container(OmegaConf.load(conf_folder() / f"{path}.yaml"), resolve=False)
    assert set(written) - {"_target_"} == names


@pytest.mark.parametrize(
    ("path", "defaults"),
    [
        ("metrics/default", MetricsSettings()),
        ("loss/fexgan", FExGANLossSettings()),
        ("optimizer/adam", DualOptimizerSettings()),
        ("trainer/default", TrainerSettings()),
        ("loss/ganimation", GANimationLossSettings()),
        ("optimizer/ganimation", GANimationOptimizerSettings()),
        ("loss/stargan", StarGANLossSettings()),
        ("optimizer/stargan", WassersteinOptimizerSettings()),
    ],
)
def test_yaml_and_dataclass_have_the_same_defaults(path, defaults):
    written = OmegaConf.to_container(OmegaConf.load(conf_folder() / f"{path}.yaml"))
    assert written == {f.name: getattr(defaults, f.name) for f in fields(defaults)}


@pytest.mark.parametrize("group", ["dataset", "trainer", "logger", "callbacks"])
def test_every_shipped_option_makes_usable_settings(group):
    assert options(group)
    for option in options(group):
        settings = train_settings(composed(f"{group}={option}"))
        assert settings.system.__name__ == "FExGAN"


@pytest.mark.parametrize("model", options("model"))
def test_every_model_makes_usable_settings_on_every_data_set(model):
    for dataset in options("dataset"):
        settings = train_settings(composed(f"model={model}", f"dataset={dataset}"))
        assert settings.model.name == model


def test_losses_and_optimizers_belong_to_models():
    assert set(options("loss")) == set(options("model"))
    assert set(options("optimizer")) == {*options("model"), "adam"}
    assert train_settings(composed("optimizer=adam", "dataset=folder")).optimizer == DualOptimizerSettings()
    assert set(options("schedule")) <= set(options("model"))
    for model in (conf_folder() / "tuning").iterdir():
        assert model.name in options("model")
        assert {path.stem for path in model.glob("*.yaml")} <= set(options("dataset"))


def test_every_experiment_makes_usable_settings():
    for option in options("experiment"):
        train_settings(composed(f"experiment={option}"))


def test_papers_settings_of_the_two_published_runs():
    ferg, mhfed = (
        train_settings(composed("dataset=ferg")),
        train_settings(composed("dataset=mhfed", "model=fexgan_meta")),
    )
    assert (ferg.dataset.val_fraction, mhfed.dataset.val_fraction) == (0.2, 0.3)
    assert (ferg.dataset.augmentation, mhfed.dataset.augmentation) == ("fexgan", "none")
    assert (ferg.dataset.image_size, ferg.dataset.batch_size, ferg.model.width, ferg.optimizer.lr) == (
        128,
        32,
        1.0,
        2e-4,
    )
    assert ferg.callbacks["adversarial_cut"].epoch == 50
    assert mhfed.callbacks["adversarial_cut"].epoch is None
    assert mhfed.trainer.max_steps == 100_000
    assert (ferg.model.encoder_label, mhfed.model.encoder_label) == ("target", "source")


def test_all_problems_come_in_one_message():
    cfg = composed("loss.alpha=-1", "trainer.precision=float8", "dataset.batch_size=0", "model.preset=book")
    OmegaConf.set_struct(cfg, False)
    cfg.loss.gama = 3
    with pytest.raises(UserError) as error:
        train_settings(cfg)
    assert "loss.gama: unknown. Did you mean loss.gamma?" in str(error.value)
    del cfg.loss["gama"]
    with pytest.raises(UserError) as error:
        train_settings(cfg)
    for name in ("loss.alpha=-1", "trainer.precision=float8", "dataset.batch_size=0", "model.preset=book"):
        assert name in str(error.value)


def test_image_size_is_said_once():
    with pytest.raises(UserError, match=r"dataset\.image_size"):
        train_settings(composed("model.image_size=64", "dataset.image_size=128"))


def test_a_mapping_can_be_given_on_the_command_line():
    settings = train_settings(composed("dataset=folder", "dataset.aliases={happy_face: joy, blink: ignore}"))
    assert settings.dataset.aliases == {"happy_face": "joy", "blink": "ignore"}
    assert train_settings(composed("dataset=folder")).dataset.aliases == {}


def test_only_listed_targets_are_loaded():
    for name in TARGETS:
        assert callable(load_target(name))
    with pytest.raises(UserError, match="refused"):
        load_target("subprocess.Popen")


def test_callbacks_are_checked_with_the_rest_and_can_be_left_out():
    with pytest.raises(UserError) as error:
        train_settings(composed("callbacks.linear_decay.start=2", "loss.alpha=-1", "+callbacks.adversarial_cut.from=3"))
    for words in ("callbacks.linear_decay", "start=2", "loss.alpha=-1", "callbacks.adversarial_cut", "from"):
        assert words in str(error.value)
    assert set(train_settings(composed("callbacks.adversarial_cut=null")).callbacks) == {"linear_decay"}


def test_run_folder_of_a_checkpoint_is_its_run(tmp_path):
    checkpoint = tmp_path / "a" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    (tmp_path / "a" / "config.yaml").touch()
    assert run_folder_name(str(checkpoint), None, "m", "d", 0) == str(tmp_path / "a")
    assert run_folder_name(str(tmp_path / "a"), None, "m", "d", 0) == str(tmp_path / "a")
    assert run_folder_name(None, "x", "m", "d", 0).endswith("_x")


def test_a_configuration_of_version_0_1_is_read():
    assert train_settings(composed("+trainer.iterations_per_call=10")).trainer == train_settings(composed()).trainer
