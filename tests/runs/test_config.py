"""The configuration: YAML and dataclasses agree, every option composes, every mistake of a config is named at once."""

from __future__ import annotations

import copy
import csv
import functools
import importlib
import pkgutil
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import fexgan_lit
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.runs.config import MetricsSettings, TrainerSettings, train_settings
from fexgan_lit.runs.folder import run_folder_name
from fexgan_lit.systems.fexgan.config import FExGANSettings
from fexgan_lit.systems.fexgan.losses import FExGANLossSettings
from fexgan_lit.systems.fexgan.system import DualOptimizerSettings
from fexgan_lit.systems.ganimation.config import GANimationLossSettings, GANimationOptimizerSettings, GANimationSettings
from fexgan_lit.systems.stargan.system import StarGANLossSettings, StarGANSettings
from fexgan_lit.systems.wgan import WassersteinOptimizerSettings
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import conf_folder
from fexgan_lit.utils.options import Options, typed


@functools.cache
def _composed(command: str, *groups: str):
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose(command, list(groups))


def composed(*overrides: str, command: str = "train"):
    """Hydra's `compose`, done once for each choice of files; values are set afterwards by its own code.

    That code is not public: where Hydra lacks it, everything is composed anew.
    """
    set_values = getattr(ConfigLoaderImpl, "_apply_overrides_to_config", None)
    if set_values is None:
        return _composed(command, *overrides)
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [one for one in parsed if not (is_group(one.key_or_group) or one.key_or_group.startswith("hydra"))]
    cfg = copy.deepcopy(_composed(command, *(one.input_line for one in parsed if one not in values)))
    set_values(values, cfg)
    return cfg


def is_group(name: str) -> bool:
    return (conf_folder() / name).is_dir()


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def written(path: str) -> dict[str, Any]:
    """What a file says; `model/fexgan:optimizer` is one section of it."""
    name, _, section = path.partition(":")
    tree: Any = OmegaConf.to_container(OmegaConf.load(conf_folder() / f"{name}.yaml"), resolve=False)
    return tree[section] if section else tree


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("loss/fexgan", FExGANLossSettings),
        ("trainer/default", TrainerSettings),
        ("metrics/default", MetricsSettings),
        ("base/dataset", DatasetConfig),
        ("model/fexgan:model", FExGANSettings),
        ("model/fexgan:optimizer", DualOptimizerSettings),
        ("model/landmark_label:optimizer", DualOptimizerSettings),
        ("model/ganimation:model", GANimationSettings),
        ("model/ganimation:optimizer", GANimationOptimizerSettings),
        ("loss/ganimation", GANimationLossSettings),
        ("model/stargan:model", StarGANSettings),
        ("model/stargan:optimizer", WassersteinOptimizerSettings),
        ("loss/stargan", StarGANLossSettings),
    ],
)
def test_every_field_is_in_the_yaml_and_the_other_way_round(path, schema):
    assert set(written(path)) - {"_target_"} == {f.name for f in fields(schema)}


@pytest.mark.parametrize(
    ("path", "defaults"),
    [
        ("metrics/default", MetricsSettings()),
        ("loss/fexgan", FExGANLossSettings()),
        ("model/fexgan:optimizer", DualOptimizerSettings()),
        ("model/landmark_label:optimizer", DualOptimizerSettings()),
        ("trainer/default", TrainerSettings()),
        ("loss/ganimation", GANimationLossSettings()),
        ("model/ganimation:optimizer", GANimationOptimizerSettings()),
        ("loss/stargan", StarGANLossSettings()),
        ("model/stargan:optimizer", WassersteinOptimizerSettings()),
    ],
)
def test_yaml_and_dataclass_have_the_same_defaults(path, defaults):
    assert written(path) == {f.name: getattr(defaults, f.name) for f in fields(defaults)}


@pytest.mark.parametrize("group", ["dataset", "trainer", "logger", "callbacks"])
def test_every_shipped_option_makes_usable_settings(group):
    assert options(group)
    for option in options(group):
        settings = train_settings(composed(f"{group}={option}"))
        assert settings.system.__name__ == "FExGAN"


#: The values that several files give: on every data set for FExGAN, for the others where a tuning exists and on three.
TABLE = {
    (row["model"], row["dataset"]): row
    for row in csv.DictReader((Path(__file__).parent / "defaults.csv").read_text().splitlines())
}


@pytest.mark.parametrize("model", options("model"))
def test_every_model_makes_the_settings_of_the_table(model):
    rows = [dataset for name, dataset in TABLE if name == model]
    assert len(rows) >= 3
    for dataset in rows:
        groups = [] if model == "fexgan" else [f"model={model}"]  # the default, which is composed above already
        cfg = composed(*groups, f"dataset={dataset}")
        assert train_settings(cfg).model.name == model
        found = {"model": model, "dataset": dataset}
        for name in list(TABLE[model, dataset])[2:-1]:
            value = OmegaConf.select(cfg, name)
            found[name] = "" if value is None else str(value)
        found["loss"] = " ".join(f"{name}={value}" for name, value in sorted(cfg.loss.items()))
        assert found == TABLE[model, dataset]


def test_what_the_command_line_gives_counts_wherever_a_value_stands():
    given = ("optimizer.lr=1e-4", "callbacks.linear_decay.start=0.25", "trainer.max_steps=7", "dataset.batch_size=6")
    for groups in (("model=ganimation", "dataset=rafd"), ("model=stargan", "trainer=gpu"), ("loss=fexgan_meta",)):
        cfg = composed(*groups, *given)
        assert (cfg.optimizer.lr, cfg.callbacks.linear_decay.start) == (1e-4, 0.25)
        assert (cfg.trainer.max_steps, cfg.dataset.batch_size) == (7, 6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("dataset=studio_cartoon",), ("cast", 8, 5, 12, "take")),
        (("dataset=studio_human",), ("cast", 10, 4, 12, "take")),
        (("dataset=studio_human", "dataset.identities=30"), ("cast", 30, 4, 12, "take")),
        (("dataset.population=random", "dataset.identities=300"), ("random", 300, 1, 6, "identity")),
        (
            ("dataset=studio_human", "dataset.population=random", "dataset.identities=9", "dataset.takes=2"),
            ("random", 9, 2, 6, "identity"),
        ),
        (
            ("dataset.population=random", "dataset.identities=9", "dataset.split=take", "dataset.frames=null"),
            ("random", 9, 1, None, "take"),
        ),
    ],
)
def test_a_population_changes_the_defaults_that_are_not_given(given, expected):
    data = train_settings(composed(*given)).dataset
    assert (data.population, data.identities, data.takes, data.frames, data.split) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("dataset.population=random",), "dataset.population=random: dataset.identities is not given; expected"),
        (("dataset.identities=null",), "dataset.population=cast: dataset.identities is not given"),
        (("dataset.population=any",), "dataset.population=any: expected one of cast, random"),
        (("dataset.framing=loose",), "dataset.framing=loose: expected one of fixed, random, face"),
        (("dataset=ferg", "dataset.population=random"), "frames of dataset=ferg are not drawn here; expected one of"),
        (("dataset=ferg", "dataset.framing=random"), "frames of dataset=ferg are not drawn here; expected one of"),
    ],
)
def test_populations_and_framings_that_cannot_be_drawn(given, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train_settings(composed(*given))


def test_the_groups_are_those_of_the_help():
    groups = ["dataset", "model", "loss", "trainer", "callbacks", "logger", "metrics", "sweep", "tuning", "experiment"]
    assert {path.name for path in conf_folder().iterdir() if path.is_dir()} == {*groups, "base", "hydra"}
    for name in ("dataset", "model"):
        for option in options(name):
            text = (conf_folder() / name / f"{option}.yaml").read_text()
            assert text.startswith("# @package _global_\n"), f"{name}/{option} gives values of several sections"


def test_losses_and_tunings_belong_to_models():
    assert set(options("loss")) == set(options("model"))
    for model in (conf_folder() / "tuning").iterdir():
        assert model.name in options("model")
        assert {path.stem for path in model.glob("*.yaml")} <= set(options("dataset"))


def test_every_experiment_makes_usable_settings():
    for option in options("experiment"):
        train_settings(composed(f"experiment={option}"))
    for model in options("model"):
        cfg = composed("experiment=systems", f"model={model}")
        assert train_settings(cfg).trainer.max_steps == cfg.systems_length[model]


@pytest.mark.parametrize(("experiment", "model"), [("systems", "landmark_label"), ("systems_paired", "ganimation")])
def test_the_systems_of_the_record_are_the_same_on_another_studio(experiment, model):
    command = (f"experiment={experiment}", f"model={model}")
    here, there = (train_settings(composed(*command, f"dataset={name}")) for name in ("studio_cartoon", "studio_human"))
    assert there.model.width == 0.25
    assert (there.model, there.loss, there.optimizer) == (here.model, here.loss, here.optimizer)


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


def option_classes() -> list[type]:
    """Every dataclass of options with a default for every field."""
    found: list[Any] = []
    for module in pkgutil.walk_packages(fexgan_lit.__path__, "fexgan_lit."):
        if "plain_loops" not in module.name:
            found += vars(importlib.import_module(module.name)).values()
    classes = {one for one in found if isinstance(one, type) and issubclass(one, Options)}
    return [one for one in classes if not any(f.default is f.default_factory for f in fields(one))]


def test_every_number_has_bounds():
    numbers = 0
    for cls in option_classes():
        hints = get_type_hints(cls)
        for kind, wrong in (int, 10**12), (int, 10**5000), (int, -(10**12)), (float, 1e12), (float, float("nan")):
            names = [field.name for field in fields(cls) if kind in (hint := hints[field.name], *get_args(hint))]
            problems: list[str] = []
            values = {name: [wrong] if hints[name] == list[kind] else wrong for name in names}
            problems += typed(cls, values, "it", problems).problems()
            refused = {problem.partition("=")[0].rpartition(".")[2] for problem in problems}
            assert refused >= set(names), cls
            numbers += len(names)
    assert numbers > 250


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed=-1: expected 0 to 4294967295"),
        ("seed=true", "seed=True: expected a whole number"),
        ("trainer.threads=1000000", "trainer.threads=1000000: expected 1 to 1024"),
        ("model.width=100000", "model.width=100000.0: expected 1/64 to 16"),
        ("callbacks.adversarial_cut.epoch=abc", "callbacks.adversarial_cut.epoch=abc: expected int or null"),
        ("callbacks.adversarial_cut.epoch=-1", "epoch=-1, to=0.1: expected an epoch from 0"),
        ("callbacks.adversarial_cut.to=nan", "callbacks.adversarial_cut.to=nan: expected a number"),
        ("callbacks.linear_decay.start=[1]", "callbacks.linear_decay.start=[1]: expected float or null"),
    ],
)
def test_values_that_no_run_can_have(override, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train_settings(composed(override))


@pytest.mark.parametrize("override", ["optimizer=adam", "+recipe=mhfed", "+schedule=stargan"])
def test_a_group_that_is_gone_is_refused_with_where_its_values_stand(override):
    with pytest.raises(UserError, match=r"this group was removed\. conf/(model|dataset)/NAME\.yaml"):
        train_settings(composed(override))


def test_the_data_set_of_the_page_composes(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    text = re.search(r"```yaml\n(# @package _global_\n# conf/dataset/mine\.yaml\n.*?)```", page, re.DOTALL)[1]
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text(text)
    settings = train_settings(composed(f"hydra.searchpath=[file://{tmp_path}]", "dataset=mine", "model=stargan"))
    assert (settings.dataset.name, settings.dataset.layout_name) == ("mine", "folder")
    assert (settings.trainer.max_steps, settings.dataset.batch_size) == (50_000, 16), (
        "the length of the file, the model's batch"
    )


@pytest.mark.parametrize("group", ["dataset", "model"])
def test_a_file_with_sections_that_lacks_its_first_line_is_told_so(group, tmp_path):
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_text(f"# mine\n# @package _global_\n{group}:\n  name: mine\n")
    with pytest.raises(UserError, match=f"conf/{group} that has sections begins with the line # @package _global_"):
        train_settings(composed(f"hydra.searchpath=[file://{tmp_path}]", f"{group}=mine", "loss=fexgan"))


def test_a_model_of_ones_own_without_an_optimizer_is_told_where_it_goes(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: mine\n")
    with pytest.raises(UserError, match=r"lacks optimizer.*a file of the model with a section optimizer"):
        train_settings(composed(f"hydra.searchpath=[file://{tmp_path}]", "model=mine", "loss=fexgan"))


def test_image_size_is_said_once():
    with pytest.raises(UserError, match=r"dataset\.image_size"):
        train_settings(composed("model.image_size=64", "dataset.image_size=128"))


def test_a_mapping_can_be_given_on_the_command_line():
    settings = train_settings(composed("dataset=folder", "dataset.aliases={happy_face: joy, blink: ignore}"))
    assert settings.dataset.aliases == {"happy_face": "joy", "blink": "ignore"}
    assert train_settings(composed("dataset=folder")).dataset.aliases == {}
    numbered = train_settings(
        composed("dataset=folder", "dataset.aliases={1: surprise, 2: 4}", "dataset.affects=[1,4]")
    )
    assert numbered.dataset.aliases == {"1": "surprise", "2": "4"}
    assert numbered.dataset.affects == ["1", "4"]


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


@pytest.mark.parametrize("removed", ["iterations_per_call=10", "strategy=auto", "strategy=ddp"])
def test_an_option_that_was_removed_is_read(removed):
    assert train_settings(composed(f"+trainer.{removed}")).trainer == train_settings(composed()).trainer
