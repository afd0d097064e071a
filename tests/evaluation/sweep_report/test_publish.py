"""Records: the overlay composes to the run, what a person wrote stays, nothing names the machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hydra.initialize import initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from fexgan_lit.evaluation.publish.overlay import composed, difference
from fexgan_lit.evaluation.publish.record import store_of
from fexgan_lit.evaluation.publish.run import publish_run
from fexgan_lit.evaluation.publish.sweep import again, publish_sweep
from fexgan_lit.evaluation.sweep_report.read import Sweep
from fexgan_lit.evaluation.sweep_report.report import ReportSettings, write_sweep_report
from fexgan_lit.evaluation.sweep_report.summary import find_sweep
from fexgan_lit.expression import AFFECTS
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import write_result
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import without_paths
from fexgan_lit.utils.hydra import conf_folder
from tests.evaluation.sweep_report.conftest import FD, result, write_trained

_PRIVATE = ("data", "name", "run", "logger", "dataset.cache_dir", "trainer.threads")


@pytest.fixture
def run(trained) -> RunFolder:
    return RunFolder(trained / "beta-2.0_seed-1")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(name: str = "my_run", **more: Any) -> ReportSettings:
    return ReportSettings(publish=name, conf="conf", **more)


def recomposed(conf: Path, *overrides: str) -> dict[str, Any]:
    """What the train command composes with the overlay, as plain values."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        cfg = compose("train", [f"hydra.searchpath=[file://{conf.resolve()}]", *overrides])
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return plain


def learnt_part(tree: dict[str, Any]) -> dict[str, Any]:
    """Everything but places and names, with nulls that presets fill left out."""
    config = OmegaConf.create(tree)
    for key in _PRIVATE:
        if OmegaConf.select(config, key, default="none") != "none":
            OmegaConf.update(config, key, None)
    flat = {}
    for group in ("seed", "dataset", "model", "loss", "optimizer", "trainer", "metrics", "callbacks"):
        value = OmegaConf.to_container(config)[group]
        flat |= {f"{group}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {group: value}
    return {key: value for key, value in flat.items() if value is not None}


def test_the_overlay_is_small_and_composes_to_the_run(run, place, quiet):
    publish_run(run, options(), quiet)
    overlay = OmegaConf.load(place / "conf" / "experiment" / "my_run.yaml")
    assert (place / "conf" / "experiment" / "my_run.yaml").read_text().startswith("# @package _global_\n")
    assert overlay.loss == {"beta": 2.0}
    assert overlay.trainer.max_steps == 7
    assert "image_size" in overlay.dataset
    assert "image_size" not in overlay.model, "it follows dataset.image_size"
    assert "callbacks" not in overlay, "the default has them"
    assert "defaults" not in overlay, "the groups are the default's"
    again = learnt_part(recomposed(place / "conf", "experiment=my_run"))
    there = learnt_part(OmegaConf.to_container(OmegaConf.load(run.config)))
    assert {key: there[key] for key in again} == again
    assert set(there) - set(again) <= {
        "model.sigma", "model.lambda_mode", "model.encoder_activation", "model.decoder_activation",
        "model.discriminator_activation", "loss.kl_reduction", "loss.l1_reduction",
    }  # fmt: skip


def test_the_number_of_random_characters_stays_in_the_overlay():
    """It has no default with them, so the rest of the overlay alone does not compose."""
    tree = composed(["dataset.population=random", "dataset.identities=12", "dataset.image_size=32"])
    found = difference(tree, AFFECTS)
    assert (found["dataset"]["population"], found["dataset"]["identities"]) == ("random", 12)


def test_other_groups_are_chosen_in_the_overlay(trained, place, quiet):
    folder = write_trained(
        place / "meta", trained.parent / "cache", "model=fexgan_meta", "callbacks.linear_decay.start=null", "seed=3"
    )
    publish_run(RunFolder(folder), options("meta"), quiet)
    overlay = OmegaConf.load(place / "conf" / "experiment" / "meta.yaml")
    assert overlay.defaults == [{"override /model": "fexgan_meta"}]
    assert overlay.seed == 3
    assert overlay.callbacks == {"linear_decay": {"start": None}}
    again = recomposed(place / "conf", "experiment=meta")
    assert again["model"]["encoder_label"] == "source"
    assert again["loss"]["beta"] == OmegaConf.load(folder / "config.yaml").loss.beta
    assert again["callbacks"]["linear_decay"]["start"] is None


def test_the_record_has_its_sections_tables_and_pictures_and_no_path(run, place, quiet):
    publish_run(run, options(question="Is it sharp?", learnt="It is not."), quiet)
    folder = place / "experiments" / "my_run"
    text = (folder / "README.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    expected = ["Question", "Command", "Data", "Seed", "Machine", "Results", "Pictures", "What we learnt"]
    assert headings == expected
    for part in (
        "Is it sharp?", "It is not.", "experiment=my_run", "| Validation, generated | 0.500 | **1.000** |",
        "| *A paper* | *0.9* | *-* |", "84 frames, 2 identities", "a machine", "![affects](figures/affects.png)",
        "https://example.org/a/b", "RUN_DIR/judge",
    ):  # fmt: skip
        assert part in text, part
    assert (folder / "figures" / "affects.png").is_file()
    for path in (*folder.rglob("*"), *(place / "conf").rglob("*.yaml")):
        if path.suffix in (".md", ".csv", ".yaml"):
            assert str(place) not in path.read_text()
            assert str(run.path.parent) not in path.read_text()


def test_what_a_person_wrote_stays_and_what_was_generated_is_replaced(run, place, quiet):
    publish_run(run, options(question="Old question"), quiet)
    readme = place / "experiments" / "my_run" / "README.md"
    text = readme.read_text().replace("Not written yet.", "Much.\n\n## And more\n\nBy hand.")
    readme.write_text(text.replace("a machine", "another machine").replace("Old question", "My own question"))
    publish_run(run, options(), quiet)
    again = readme.read_text()
    for kept in ("My own question", "Much.", "## And more\n\nBy hand."):
        assert kept in again
    assert "another machine" not in again
    assert again.count("## Command") == 1
    publish_run(run, options(learnt="Little."), quiet)
    last = readme.read_text()
    assert "## What we learnt\n\nLittle.\n\n## And more\n\nBy hand." in last
    assert "My own question" in last


def test_the_record_of_other_runs_is_refused_unless_told(run, trained, place, quiet):
    publish_run(run, options(), quiet)
    other = RunFolder(trained / "beta-1.0_seed-1")
    before = (place / "experiments" / "my_run" / "README.md").read_text()
    with pytest.raises(UserError, match=r"makes other runs than these.*overwrite=true"):
        publish_run(other, options(), quiet)
    (place / "conf" / "experiment" / "my_run.yaml").unlink()
    with pytest.raises(UserError, match="is of other runs"):
        publish_run(other, options(), quiet)
    assert (place / "experiments" / "my_run" / "README.md").read_text() == before
    publish_run(other, options(overwrite=True), quiet)
    assert OmegaConf.load(place / "conf" / "experiment" / "my_run.yaml").loss.beta == 1.0


def test_an_overlay_by_hand_that_makes_the_run_is_left_as_it_is(run, place, quiet):
    publish_run(run, options(), quiet)
    overlay = place / "conf" / "experiment" / "my_run.yaml"
    overlay.write_text(overlay.read_text() + "# a comment by hand\n")
    shutil.rmtree(place / "experiments")
    readme = place / "experiments" / "my_run" / "README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text("# By hand\n\nWords.\n")
    publish_run(run, options(), quiet)
    assert "# a comment by hand" in overlay.read_text()
    assert readme.read_text().startswith("# By hand\n\nWords.\n\n<!-- generated: begin")


def test_a_readme_that_nothing_tells_of_is_refused_and_its_text_kept(run, place, quiet):
    readme = place / "experiments" / "my_run" / "README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text("# By hand\n")
    with pytest.raises(UserError, match="does not say which runs it is of"):
        publish_run(run, options(), quiet)
    publish_run(run, options(overwrite=True), quiet)
    assert readme.read_text().startswith("# By hand\n")


def test_only_finished_runs_are_published(run, place, quiet):
    shutil.copytree(run.path, place / "failed")
    write_result(place / "failed", result({}, status="failed", error="x"))
    with pytest.raises(UserError, match="is failed; only a finished run"):
        publish_run(RunFolder(place / "failed"), options(), quiet)
    assert not (place / "experiments").exists()


def test_large_pictures_become_jpeg_and_the_text_follows(run, place, quiet, monkeypatch):
    from fexgan_lit.evaluation.publish import record as publish

    monkeypatch.setattr(publish, "_LARGE", 10)
    publish_run(run, options(), quiet)
    folder = place / "experiments" / "my_run"
    with Image.open(folder / "figures" / "affects.jpg") as picture:
        assert picture.format == "JPEG"
    assert "![affects](figures/affects.jpg)" in (folder / "README.md").read_text()
    assert not (folder / "figures" / "affects.png").exists()


def test_a_sweep_is_published_with_what_its_runs_share_and_its_axes(trained, place, quiet, undrawn):
    shutil.copytree(trained, place / "sweep")
    write_result(place / "sweep" / "beta-1.0_seed-2", result({FD: 9.0}, status="failed", error=f"no file {place}/x/y"))
    findings = write_sweep_report(place / "sweep", quiet)
    publish_sweep(findings, options("tiny_sweep", question="Which beta?"), quiet)
    overlay = OmegaConf.load(place / "conf" / "experiment" / "tiny_sweep.yaml")
    assert "loss" not in overlay, "beta is an axis"
    assert "seed" not in overlay
    assert overlay.trainer.max_steps == 7
    folder = place / "experiments" / "tiny_sweep"
    text = (folder / "README.md").read_text()
    assert "-m experiment=tiny_sweep loss.beta=1,2 seed=1,2" in text
    assert "Which beta?" in text
    assert "1 of 2" in text
    again = recomposed(place / "conf", "experiment=tiny_sweep", "loss.beta=2", "seed=1")
    run = OmegaConf.to_container(OmegaConf.load(trained / "beta-2.0_seed-1" / "config.yaml"))
    assert {k: v for k, v in learnt_part(run).items() if k in learnt_part(again)} == learnt_part(again)
    for name in ("table.csv", "settings.csv", "report.md"):
        assert (folder / name).is_file()
        assert str(place) not in (folder / name).read_text()
    publish_sweep(findings, options("tiny_sweep"), quiet)  # again: the same sweep
    with pytest.raises(UserError, match="makes other runs"):
        publish_run(RunFolder(trained / "beta-1.0_seed-1"), options("tiny_sweep"), quiet)


def test_runs_that_share_less_than_makes_them_again_get_no_overlay(trained, place, quiet, undrawn):
    """An option that went with an axis, and is none itself: the record says what is known."""
    shutil.copytree(trained, place / "sweep")
    for name in ("beta-2.0_seed-1", "beta-2.0_seed-2"):
        path = place / "sweep" / name / "config.yaml"
        config = OmegaConf.load(path)
        config.optimizer.lr = 0.5
        OmegaConf.save(config, path)
    publish_sweep(find_sweep_with_report(place / "sweep", quiet), options("linked"), quiet)
    assert not (place / "conf").exists()
    assert "python -m fexgan_lit.train -m ..." in (place / "experiments" / "linked" / "README.md").read_text()


def test_a_search_runs_again_with_the_arguments_it_was_given(place):
    command = (
        "python -m fexgan_lit.train -m sweep=optuna sweep.trials=4 '~sweep.space.model' model.width=0.1 "
        "'loss.alpha=interval(0.1,1)' hydra/launcher=joblib dataset.root=/data/x"
    )
    axes = {"loss.alpha": "interval(0.1, 1)", "optimizer.lr": "tag(log, interval(0.0001, 0.002))"}
    sweep = Sweep(Path("s"), axes, (), command, "optuna")
    record = store_of(options("found"))
    expected = (
        "python -m fexgan_lit.train --config-dir conf -m experiment=found dataset.root=DIR sweep=optuna sweep.trials=4 "
        "'~sweep.space.model' 'loss.alpha=interval(0.1,1)' hydra/launcher=joblib"
    )
    assert again(sweep, {"dataset": {"root": "/data/x"}}, record) == expected
    grid = Sweep(Path("s"), {"loss.alpha": [0.5, 1.0, 1e-05], "model.name": ["fexgan"], "model.x": [True, None]}, ())
    assert again(grid, {}, record).endswith("loss.alpha=0.5,1,1e-05 model=fexgan model.x=true,null")


def find_sweep_with_report(folder, console):
    write_sweep_report(folder, console)
    return find_sweep(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see /home/me/runs/a/b.png.", "see RUNS/a/b.png."),
        ("`/home/me/runs`", "`RUNS`"),
        ("/home/me/runsaway/x", ".../x"),
        ("error in /opt/lib/python3/site.py, line 3", "error in .../site.py, line 3"),
        ("https://a.org/b/c and figures/x.png and 1/2 and ~/.cache/a/b", None),
        (r"C:\Users\me\x.png is gone", ".../x.png is gone"),
        ("cannot open '/x/my dir%1/z.png'", "cannot open '.../my dir%1/z.png'"),
        ("1/2 of a/b, at 3/s", None),
    ],
)
def test_places_lose_their_machine(text, expected):
    assert without_paths(text, {"/home/me/runs": "RUNS"}) == (text if expected is None else expected)
