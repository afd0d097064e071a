"""A run shared and taken back: the same answers, a card with evaluation and recipe, and nothing of it is code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from omegaconf import OmegaConf
from PIL import Image

from fexgan_lit import LoadedSystem, load
from fexgan_lit.inference.loaded_system import is_hub_id
from fexgan_lit.inference.model_card import shared_config
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.utils.errors import UserError
from tests.inference.conftest import make_run

RESULT = {
    "status": "finished", "iteration": 900, "seconds": 120.0,
    "metrics": {"final/val/ssim": 0.8125, "final/val/psnr": 21.5},
    "version": "0.1.0", "torch": "2.13.0", "machine": "a machine", "started": "", "ended": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache) -> Path:
    """A tiny run that kept its result, an evaluation and a face."""
    folder = make_run(tmp_path_factory.mktemp("shared") / "run", "fexgan")
    (folder / "result.json").write_text(json.dumps(RESULT))
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "evaluation.md").write_text(
        "# Standings\n\n| model | SSIM |\n|---|---|\n| fexgan | 0.81 |\n"
    )
    (folder / "faces").mkdir()
    Image.new("RGB", (32, 32), (200, 10, 10)).save(folder / "faces" / "ada.png")
    config = OmegaConf.load(folder / "config.yaml")
    config.dataset.cache_dir = "/home/ada/cache"
    OmegaConf.save(config, folder / "config.yaml")
    return folder


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "pretrained"
    load(run).save_pretrained(folder)
    return folder


def test_a_saved_run_answers_as_before(run, saved):
    back = LoadedSystem.from_pretrained(str(saved))
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(back.synthesize(image, "joy"), load(run).synthesize(image, "joy"))
    assert list(back.faces) == ["ada"]
    assert np.asarray(back.faces["ada"])[0, 0].tolist() == [200, 10, 10]
    assert load(saved).affects == back.affects, "it is a run folder for every command"
    assert RunFolder.at(saved).config.is_file()


def test_the_card_carries_head_evaluation_and_recipe(saved):
    card = ModelCard.load(saved / "README.md")
    head = card.data.to_dict()
    assert head["license"] == "apache-2.0", "drawn characters are nobody's pictures"
    assert head["library_name"] == "fexgan_lit"
    assert {"fexgan", "facial-expression-synthesis"} <= set(head["tags"])
    assert head["metrics"] == ["psnr", "ssim"]
    (index,) = head["model-index"]
    found = {m["type"]: m["value"] for result in index["results"] for m in result["metrics"]}
    assert found == {"ssim": 0.8125, "psnr": 21.5}
    assert "| final/val/ssim | 0.8125 |" in card.text
    assert "### Standings" in card.text, "the report stands below the card's own heading"
    assert "| fexgan | 0.81 |" in card.text
    assert "latent_size: 8" in card.text
    assert "900 iterations, 2.0 minutes on a machine with torch 2.13.0" in card.text


def test_what_training_saw_travels_with_a_run(run, saved, tmp_path, monkeypatch):
    """An older run kept neither the place of its faces nor a limit: they are measured on its data, and shared."""
    old = tmp_path / "old"
    shutil.copytree(run, old)
    config = OmegaConf.load(old / "config.yaml")
    known = dict(config.data)
    config.data = {name: fact for name, fact in known.items() if name not in ("framing", "largest_units")}
    config.dataset.cache_dir = None
    OmegaConf.save(config, old / "config.yaml")
    load(old).save_pretrained(tmp_path / "new")
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(tmp_path / "empty"))
    new = load(tmp_path / "new")
    assert new.framing == pytest.approx(known["framing"], abs=1e-3)
    assert new.facts["largest_units"] == dict(known["largest_units"])
    assert new.reconstruction_limit > 0


def test_no_place_of_this_machine_travels(run, saved):
    texts = [path.read_text() for path in saved.rglob("*") if path.suffix in (".md", ".yaml", ".json")]
    assert len(texts) >= 4
    assert not any("/home/ada" in text or str(run) in text for text in texts)


@pytest.mark.parametrize("place", ["/data/x", "~/x", "C:\\x", "C:/x", "\\\\server\\x"])
def test_absolute_places_become_null(tmp_path, place):
    kept = {"name": "ferg", "pattern": "{identity}/{affect}/{frame}.*"}
    OmegaConf.save(
        OmegaConf.create({"dataset": {"root": place, "list": [place], **kept}, "run": "x"}), tmp_path / "config.yaml"
    )
    assert shared_config(tmp_path) == {"dataset": {"root": None, "list": [None], **kept}, "run": None}


def test_people_are_shared_under_their_own_terms(run, tmp_path):
    system = load(run)
    system.run.dataset.name = system.run.dataset.layout = "ferg"
    assert system.generate_model_card().data.license == "other"
    card = system.generate_model_card(license="mit", tags=["cartoon"], name="ada/faces")
    assert card.data.license == "mit"
    assert "cartoon" in card.data.tags
    assert 'load("ada/faces")' in card.text


def test_pushing_hands_the_whole_folder_to_the_hub(run, monkeypatch):
    from huggingface_hub import hub_mixin

    given = {}

    class Hub:
        def __init__(self, **_):
            pass

        def create_repo(self, repo_id, **_):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **_):
            given[repo_id] = sorted(
                str(p.relative_to(folder_path)) for p in Path(folder_path).rglob("*") if p.is_file()
            )
            return "https://the.hub/commit"

    monkeypatch.setattr(hub_mixin, "HfApi", Hub)
    assert load(run).push_to_hub("ada/faces") == "https://the.hub/commit"
    assert given["ada/faces"] == sorted([
        "README.md", "config.json", "config.yaml", "evaluation.md", "faces/ada.png", "result.json",
        *(f"weights/{name}.safetensors" for name in ("decoder", "discriminator", "encoder", "prior")),
    ])  # fmt: skip


def test_a_name_of_the_hub_is_fetched(saved, monkeypatch):
    import huggingface_hub

    asked = {}

    def snapshot(repo_id, **options):
        asked.update(options, repo_id=repo_id)
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load("ada/faces").folder == saved
    assert asked["repo_id"] == "ada/faces"
    assert not any(pattern.endswith((".py", "*")) for pattern in asked["allow_patterns"]), "no code is fetched"


def test_what_the_hub_does_not_give_is_said(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="ada/faces is not a folder here, and the download from the Hub failed"):
        LoadedSystem._from_pretrained(model_id="ada/faces", cache_dir=tmp_path)


def test_a_mistyped_folder_is_no_name_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    assert is_hub_id("ada/faces")
    assert not is_hub_id("outputs/no_such_run")
    assert not any(map(is_hub_id, ("run", "/a/b", "./a/b", "a/b/c", "~/b", Path("ada/faces"))))
    with pytest.raises(UserError, match="there is no such folder"):
        load("outputs/no_such_run")


# ---------------------------------------------------------------------- folders that lie


@pytest.fixture
def copied(saved, tmp_path) -> Path:
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_configuration_from_elsewhere_cannot_name_code(copied):
    config = OmegaConf.load(copied / "config.yaml")
    config.model._target_ = "os.system"
    OmegaConf.save(config, copied / "config.yaml")
    with pytest.raises(UserError, match="system is refused"):
        LoadedSystem.from_pretrained(str(copied))


def test_a_configuration_that_lacks_sections_is_said(copied):
    OmegaConf.save(OmegaConf.create({"model": {"name": "x"}}), copied / "config.yaml")
    with pytest.raises(UserError, match="the configuration lacks dataset, loss, optimizer"):
        LoadedSystem.from_pretrained(str(copied))


def test_tampered_weights_are_said(copied):
    path = copied / "weights" / "encoder.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    with pytest.raises(UserError, match="is not a complete safetensors file"):
        LoadedSystem.from_pretrained(str(copied))


def test_a_travelling_folder_holds_half_the_bytes_and_the_studio_faces(tmp_path):
    from fexgan_lit.inference.export.write import write_run

    run = make_run(tmp_path / "run", "fexgan")
    loaded = load(run)
    files = write_run(loaded, tmp_path / "box", half=True, faces=True)
    assert {file.part for file in files} == set(loaded.system.saved_modules())
    assert max(file.difference for file in files) < 0.01
    whole = sum(path.stat().st_size for path in (run / "weights").glob("*.safetensors"))
    assert sum(file.path.stat().st_size for file in files) < 0.7 * whole
    box = load(tmp_path / "box")
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.allclose(box.synthesize(image, "joy"), loaded.synthesize(image, "joy"), atol=0.05)
    assert list(box.faces) == list(loaded.faces)
    drawn = [path.name for path in (tmp_path / "box" / "faces").glob("*.png")]
    assert len(drawn) == len(loaded.faces), "the box needs no data to show its cast"


def test_faces_of_a_data_set_do_not_travel(run, tmp_path, monkeypatch):
    from fexgan_lit.inference.export.write import write_run

    loaded = load(run)
    monkeypatch.setattr(loaded.run.dataset, "name", "rafd")
    with pytest.raises(UserError, match="trained on rafd, whose images must not be passed on"):
        write_run(loaded, tmp_path / "box", half=False, faces=True)
    assert not (tmp_path / "box").exists()
