"""The dashboard and the sweep that W&B steers, as far as they go without a server."""

from __future__ import annotations

import os

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fexgan_lit.dashboard import swept
from fexgan_lit.metrics.registry import direction
from fexgan_lit.runs.config import train_settings
from fexgan_lit.training.loggers.dashboard import build_workspace, sections
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hydra import conf_folder
from tests.commands import run_command


def test_a_sweep_gives_the_axes_and_the_group(tmp_path):
    OmegaConf.save({"axes": {"loss.beta": [1, 2], "seed": [1, 2], "model.width": [1]}}, tmp_path / "sweep.yaml")
    axes, group = swept(str(tmp_path))
    assert (axes, group) == (("loss.beta", "model.width"), tmp_path.name)
    assert sections(axes)[0].panels[0].options == axes


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected the folder of a sweep"):
        swept(str(tmp_path))


def test_the_workspace_groups_seeds_filters_the_sweep_and_shows_every_panel():
    pytest.importorskip("wandb_workspaces")
    shown = sections(("loss.alpha", "model.width"))
    workspace = build_workspace(shown, name="n", entity="me", project="p", group="alphas")
    spec = workspace._to_model().model_dump(by_alias=True, exclude_none=True)["spec"]
    (runs,) = spec["section"]["runSets"]
    assert runs["grouping"] == [{"section": "config", "name": "setting.value"}]
    assert [(f["key"]["name"], f["value"]) for f in runs["filters"]["filters"]] == [("group", "alphas")]
    built = spec["section"]["panelBankConfig"]["sections"]
    assert [len(section["panels"]) for section in built] == [len(section.panels) for section in shown]
    columns = built[0]["panels"][0]["config"]["columns"]
    assert [(c["accessor"], c.get("log"), c.get("inverted")) for c in columns[:3]] == [
        ("config:loss.value.alpha", True, None),
        ("config:model.value.width", None, None),
        ("summary:final/val/fd_judge", None, True),
    ]


def test_without_a_key_or_package_the_door_says_what_to_do(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run_command(tmp_path, "dashboard")
    assert done.returncode == 2
    assert "wandb login" in done.stderr or "fexgan_lit[dashboard]" in done.stderr
    assert not (tmp_path / "outputs").exists()
    assert tmp_path.is_dir(), "the empty folder that the user stands in is not the command's to remove"


def test_the_sweep_of_wandb_starts_our_door():
    sweep = OmegaConf.to_container(OmegaConf.load(conf_folder() / "wandb_sweep.yaml"), resolve=False)
    values = {
        name: options["values"][-1] if "values" in options else (options["min"] * options["max"]) ** 0.5
        for name, options in sweep["parameters"].items()
    }
    # as `wandb agent` fills it in
    macros = {"${env}": ["/usr/bin/env"], "${interpreter}": ["python"], "${program}": [sweep["program"]],
              "${args_no_hyphens}": [f"{name}={value}" for name, value in values.items()]}  # fmt: skip
    words = [word for part in sweep["command"] for word in macros.get(part, [part])]
    assert words[:4] == ["/usr/bin/env", "python", "-m", "fexgan_lit.train"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        settings = train_settings(compose("train", words[4:]))
    assert (settings.logger.name, settings.logger.mode) == ("wandb", "online")
    assert settings.seed == values["seed"]
    assert [getattr(settings.loss, name) for name in ("alpha", "beta", "gamma")] == pytest.approx(
        [values[f"loss.{name}"] for name in ("alpha", "beta", "gamma")]
    )
    assert direction(sweep["metric"]["name"]) == sweep["metric"]["goal"]


def test_the_command_takes_the_folder_of_a_sweep(tmp_path):
    (tmp_path / "mine").mkdir()
    done = run_command(tmp_path, "dashboard", "sweep=mine")
    assert done.returncode == 2
    assert "sweep=mine: expected the folder of a sweep" in done.stderr
