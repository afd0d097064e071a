"""The documentation: the site builds strictly and fetches nothing, its code runs, its statements hold."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.datasets import index_dataset
from fexgan_lit.evaluation.tables import LI_TABLE4, LI_TABLE5, LI_TABLE6_LIGHT, LI_TABLE6_VGG, LI_TABLE7
from fexgan_lit.expression import AFFECTS
from fexgan_lit.metrics.groups import PixelMetrics
from fexgan_lit.metrics.suite import MetricSuite
from fexgan_lit.metrics.tables import PAPERS_TABLE1
from fexgan_lit.utils.trust import trust

REPO = Path(__file__).parents[1]
DOCS = REPO / "docs"


def module(name: str) -> ModuleType:
    """A script of docs/."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def code(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


# ---------------------------------------------------------------------- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_every_page(site):
    for page in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]:
        place = page.relative_to(DOCS).with_suffix("")
        built = site / "index.html" if place.name == "index" else site / place / "index.html"
        assert built.is_file(), page
    assert (site / "search" / "search_index.json").is_file()
    assert not list(site.rglob("*.py"))


def test_the_site_holds_what_its_pages_promise(site):
    reference = (site / "api" / "loaded_system" / "index.html").read_text()
    for promised in ("LoadedSystem", "synthesize", "classify", "a Pillow image for a file"):
        assert promised in reference
    notebook = (site / "notebooks" / "edit_faces" / "index.html").read_text()
    assert "data:image/jpeg;base64," in notebook, "what the cells show is on the page"


def test_the_site_fetches_nothing_from_elsewhere(site, tmp_path):
    pytest.importorskip("mkdocs")
    sys.path.insert(0, str(DOCS))
    try:
        hooks = module("hooks")
    finally:
        sys.path.remove(str(DOCS))
    assert hooks.foreign_fetches(site) == []
    (tmp_path / "page.html").write_text(
        '<a href="https://a.org">fine</a><img src="a.png"><script src="//cdn.org/a.js"></script>'
        '<link rel="stylesheet" href="https://fonts.org/a.css"><img src="HTTP://a.org/b.png">'
    )
    (tmp_path / "sheet.css").write_text("body { background: url(https://a.org/c.png) }")
    found = hooks.foreign_fetches(tmp_path)
    assert [line.split(":")[0] for line in found] == ["page.html", "page.html", "page.html", "sheet.css"]


# ---------------------------------------------------------------------- the design


PAGE = (DOCS / "design.md").read_text()
COMMANDS = re.findall(r"`(\w+)`", re.search(r"^1\. the commands: (.*)$", PAGE, re.MULTILINE)[1])
ORDER = ["commands", *re.findall(r"^\d+\. `(\w+)(?:\.py)?`: ", PAGE, re.MULTILINE)]


def test_the_list_of_packages_is_the_contract_that_lint_checks():
    layers = re.search(r"^layers = \[\n(.*?)^\]", (REPO / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)[1]
    first, *others = re.findall(r'"(.*)"', layers)
    assert first.split(" | ") == COMMANDS
    assert others == ORDER[1:]


def test_the_picture_shows_the_packages_of_the_list():
    packages = module("packages")
    assert (DOCS / "images" / "packages.svg").read_text() == packages.drawing()
    shown = [name.removesuffix(".py") for row in packages.ROWS for name, _ in row]
    assert shown == ORDER


def test_the_files_of_one_iteration_are_there():
    named = re.findall(r"^\d+\. \*\*`(.*?)`\*\*", PAGE, re.MULTILINE)
    assert len(named) == 11
    for name in named:
        assert (REPO / name).is_file(), name


# ---------------------------------------------------------------------- the papers' tables


def table_rows(page: str) -> dict[str, list[str]]:
    """Cells of every table of a page, by the first cell of the row."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    return {cells[0]: cells[1:] for line in lines if (cells := [cell.strip() for cell in line.strip("|").split("|")])}


def test_the_papers_figures_are_those_of_the_reports():
    rows = table_rows("fexgan.md")
    for name, values in PAPERS_TABLE1.items():
        assert rows[name] == [f"{value:.3f}" for value in values]
    rows = table_rows("landmark_label.md")
    text = (DOCS / "landmark_label.md").read_text()
    for name in ("GAFP-GAN", "GC-GAN", "CDAAE"):
        assert tuple(map(float, rows[name])) == LI_TABLE5[name]
    for name in LI_TABLE6_VGG:
        assert tuple(map(float, rows[name])) == LI_TABLE6_VGG[name] + LI_TABLE6_LIGHT[name]
    for table in (LI_TABLE4, LI_TABLE7):
        assert "| " + " | ".join(str(value) for value in table.values()) + " |" in text
    assert "| Li et al. | " + " | ".join(f"{v:g}" for v in LI_TABLE5["Li et al."]) + " |" in text


# ---------------------------------------------------------------------- adding a data set, a metric


def test_the_layout_of_the_page_reads_frames(tmp_path, monkeypatch):
    (source,) = code("adding_a_data_set.md")
    (tmp_path / "jaffe.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    trust(["jaffe"])
    root = tmp_path / "data"
    root.mkdir()
    codes = ("AN", "DI", "FE", "HA", "NE", "SA", "SU")
    for person in ("KA", "YM"):
        for k, short in enumerate(codes):
            Image.new("RGB", (40, 40), (k * 30, 80, 80)).save(root / f"{person}.{short}2.{k + 10}.tiff")
    Image.new("RGB", (40, 40)).save(root / "KA.XX1.9.tiff")
    table = index_dataset(DatasetConfig(name="jaffe", layout="jaffe.LAYOUT", root=str(root)))
    assert table.affects == AFFECTS
    assert table.identities == ("KA", "YM")
    assert len(table) == 14
    assert [drop.path for drop in table.drops] == ["KA.XX1.9.tiff"]
    joy = table.frame[table.frame["path"].str.contains("HA")]
    assert set(joy["affect"]) == {"joy"}
    assert set(joy["take"]) == {2}
    assert set(joy["frame"]) == {13}


def test_the_metric_of_the_page_measures():
    names: dict = {}
    exec(code("adding_a_metric.md")[0], names)  # noqa: S102 (our own page)
    options = {"name": "studio_cartoon", "image_size": 32, "identities": 2, "takes": 2, "frames": 3, "split": "take"}
    data = FrameDataModule({**options, "val_fraction": 0.5}, judge=False)
    (batch, *_) = data.val_dataloader()
    suite = MetricSuite([PixelMetrics(), names["AbsoluteDifference"]()])
    suite.update(batch, batch.target)
    assert suite.compute()["grey_levels"] == 0
    suite.reset()
    suite.update(batch, (batch.target + torch.where(batch.target > 0, -0.5, 0.5)))
    assert suite.compute()["grey_levels"] == pytest.approx(63.75, abs=1e-3)
    assert len(suite.per_pair()["grey_levels"]) == len(batch)
    assert "grey_levels" in suite.recipes()


@pytest.mark.parametrize("page", ["adding_a_data_set.md", "adding_a_metric.md", "design.md", "adding_a_system.md"])
def test_files_that_a_page_names_are_there(page):
    for name in re.findall(r"`((?:fexgan_lit|conf|tests|docs|experiments)/[\w/.*]+)`", (DOCS / page).read_text()):
        if "jaffe" not in name and "painter" not in name:
            assert list(REPO.glob(name.rstrip("/"))), name


# ---------------------------------------------------------------------- the notebooks


def run_notebook(name: str, folder: Path, monkeypatch) -> tuple[dict, list]:
    monkeypatch.chdir(folder)
    notebook, names, threads = module("notebook"), {"__name__": "__main__"}, torch.get_num_threads()
    torch.set_num_threads(1)  # small networks; two threads that share a core with other tests wait for one another
    try:
        return names, notebook.run(notebook.read(DOCS / "notebooks" / f"{name}.ipynb"), names)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_notebook_that_trains_two_systems(tmp_path, monkeypatch):
    names, shown = run_notebook("train_and_compare", tmp_path, monkeypatch)
    data, table, scores = names["data"], names["table"], names["scores"]
    assert shown[1] == (len(data.train), len(data.val), AFFECTS)
    assert shown[2] == (names["ITERATIONS"], names["ITERATIONS"])
    assert shown[3] is table
    assert list(table.index) == ["FExGAN", "LandmarkLabel", "untouched source"]
    for name, row in scores.items():
        assert table.loc[name, "val/ssim"] == pytest.approx(row["val/ssim"], abs=1e-3)
    # the floor, 100 dB at most: where source and target are one frame
    batches = list(data.val_dataloader())
    error = torch.cat([((b.source - b.target) / 2).square().mean((1, 2, 3)) for b in batches]).clamp(min=1e-10)
    assert scores["untouched source"]["val/psnr"] == pytest.approx(float((-10 * error.log10()).mean()), abs=0.01)
    order = table["val/ssim"]
    assert order["FExGAN"] < order["LandmarkLabel"] < order["untouched source"], "as the text says"
    # both learn: a system before its training does not come near
    untrained = names["measure"](type(names["landmark_label"])(
        names["landmark_label"].settings, {"perceptual": 0.0}, names["optimizer"], data.affects
    ))  # fmt: skip
    assert scores["LandmarkLabel"]["val/psnr"] > untrained["val/psnr"] + 1
    assert scores["FExGAN"]["val/psnr"] > untrained["val/psnr"] + 0.5
    # the picture: four rows of six faces, the sources and the true frames as they are
    assert shown[4] is names["picture"]
    made = names["answers"]
    assert [tuple(faces.shape) for faces in made] == [(6, 3, 32, 32)] * 2
    assert (made[0] - made[1]).abs().mean() > 0.01
    assert list(tmp_path.iterdir()) == [], "nothing is left in the folder"


def test_the_notebook_that_edits_faces(tmp_path, monkeypatch):
    names, shown = run_notebook("edit_faces", tmp_path, monkeypatch)
    side = names["system"].image_size
    strips = [picture for picture in shown if isinstance(picture, Image.Image)]
    assert [picture.size for picture in strips] == [(n * side, side) for n in (8, 7, 6, 3, 6, 6)]
    # every face of the FExGAN is read as asked, and the table says so
    readings = names["readings"]
    assert list(readings.idxmax(axis=1)) == list(readings.index) == list(names["fexgan"].affects)
    # more strength, further from the face at strength 0
    faces = [np.asarray(face, float) for face in names["strengths"].values()]
    distances = [np.abs(face - faces[0]).mean() for face in faces]
    assert distances == sorted(distances)
    assert distances[-1] > distances[1] > 0
    # a mixture is neither of its parts
    for pair, face in names["mixtures"].items():
        for affect in pair:
            assert np.abs(np.asarray(face, float) - np.asarray(names["affects"][affect], float)).mean() > 1
    for face in names["units"].values():
        assert np.abs(np.asarray(face, float) - np.asarray(names["face"], float)).mean() > 0.3
    assert [face.size for face in names["nobody"]] == [(side, side)] * 6
    assert np.abs(np.asarray(names["nobody"][0], float) - np.asarray(names["nobody"][1], float)).mean() > 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["train_and_compare", "edit_faces"])
def test_notebooks_are_small_and_hold_what_their_cells_show(name):
    path, notebook = DOCS / "notebooks" / f"{name}.ipynb", module("notebook")
    assert path.stat().st_size < 200_000
    cells = notebook.code_cells(notebook.read(path))
    shows = [isinstance(ast.parse(notebook.text_of(cell["source"])).body[-1], ast.Expr) for cell in cells]
    assert [bool(cell["outputs"]) for cell in cells] == shows, "python docs/notebook.py stores them"
    page = notebook.to_markdown(notebook.read(path), path.name)
    assert page.startswith("# ")
    assert page.count("```python") == len(cells)
