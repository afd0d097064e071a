"""`protocol=photographs`: which tables can be read, what is measured, by hand, and from runs to files."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from fexgan_lit import evaluate
from fexgan_lit.data.faces.geometry import Framing
from fexgan_lit.evaluation.config import EvaluationSettings, MetricSettings, PhotographSettings, TestDataSettings
from fexgan_lit.evaluation.methods import CEILING, FLOOR
from fexgan_lit.evaluation.protocols import photographs
from fexgan_lit.evaluation.protocols.photographs import edited, read_photographs
from fexgan_lit.evaluation.report import write_findings
from fexgan_lit.inference import paste
from fexgan_lit.inference.loaded_system import load
from fexgan_lit.metrics.judges.external import (
    ExternalJudge,
    ExternalJudgeSettings,
    OwnAffectJudge,
    OwnIdentityJudge,
)
from fexgan_lit.metrics.judges.panel import JudgePanel
from fexgan_lit.utils.errors import UserError
from tests.conftest import AFFECTS
from tests.inference.conftest import make_run

BOX = "10,10,30,30"
#: The level of red of each affect, and of green of each person, in the pictures of these tests.
RED = {name: 30 * k + 20 for k, name in enumerate(AFFECTS)}
GREEN = {"ada": 60, "bo": 180}


def picture(person: str, affect: str) -> np.ndarray:
    return np.full((40, 40, 3), [RED[affect], GREEN[person], 100], np.uint8)


def write_table(folder: Path, *rows: str, header: str = "image,person,affect,left,top,right,bottom") -> Path:
    """Write a table and those of its pictures whose names are PERSON_AFFECT_NUMBER.png."""
    for row in rows:
        name = row.split(",")[0]
        if name.count("_") == 2:
            Image.fromarray(picture(*name.split("_")[:2])).save(folder / name)
    path = folder / "faces.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def colour_judges() -> JudgePanel:
    """Judges that read red as affect, and green as identity."""

    def affect(images: torch.Tensor) -> torch.Tensor:
        levels = torch.tensor([float(level) for level in RED.values()])
        return -(images[:, 0].mean((1, 2))[:, None] - levels).abs()

    def identity(images: torch.Tensor) -> torch.Tensor:
        angle = images[:, 1].mean((1, 2)) / 255
        return torch.stack([angle.cos(), angle.sin()], 1)

    settings = {"input_size": 16, "range": [0.0, 255.0]}
    red = ExternalJudge(affect, ExternalJudgeSettings(classes=list(AFFECTS), **settings), "red")
    return JudgePanel(
        OwnAffectJudge.of(red, AFFECTS),
        identity=OwnIdentityJudge.of(ExternalJudge(identity, ExternalJudgeSettings(**settings), "green")),
    )


def test_pictures_are_found_beside_their_table(tmp_path):
    table = write_table(tmp_path, f"ada_neutral_0.png,ada,Neutral,{BOX}", f"ada_joy_0.png,ada,happy,{BOX}")
    first, second = read_photographs(table, AFFECTS)
    assert (first.affect, second.affect) == ("neutral", "joy")
    assert first.person == "ada"
    np.testing.assert_array_equal(second.pixels, picture("ada", "joy"))
    square = first.square(Framing(0.0, 0.0, 1.0))
    assert square.side == 20.0
    np.testing.assert_allclose(square.to_square @ [10, 10, 1], [0, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("ada_neutral_0.png,ada,bored,10,10,30,30", "'bored' is not an affect"),
        ("ada_neutral_0.png,ada,neutral,10,10,30,", r"box 10, 10, 30, \?: expected all four sides"),
        ("ada_neutral_0.png,ada,neutral,50,10,90,30", "lies outside"),
        ("ada_neutral_0.png,ada,neutral,10,10,wide,30", "box 10, 10, wide, 30: expected four numbers"),
        ("ada_neutral_0.png,ada,neutral,-inf,-inf,inf,inf", "lies outside"),
        (",ada,neutral,10,10,30,30", "expected the path of a picture"),
        ("ada_neutral_0.png,,neutral,10,10,30,30", "no person"),
        ("none.png,ada,neutral,10,10,30,30", "none.png"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, words):
    with pytest.raises(UserError, match=rf"photographs.table=.*faces.csv, row 1 \(.*{words}"):
        read_photographs(write_table(tmp_path, row), AFFECTS)


def test_tables_without_sources_or_columns_are_refused(tmp_path):
    with pytest.raises(UserError, match="1 pictures, none neutral"):
        read_photographs(write_table(tmp_path, f"ada_joy_0.png,ada,joy,{BOX}"), AFFECTS)
    with pytest.raises(UserError, match=r"no column person; expected image, person, affect, and left"):
        read_photographs(write_table(tmp_path, "a,joy", header="image,affect"), AFFECTS)


def test_faces_without_a_box_are_detected_one_in_a_picture(tmp_path, monkeypatch):
    points = np.random.default_rng(0).uniform(5, 35, (68, 2))
    faces = [paste.FoundFace(points, 0.0)]
    monkeypatch.setattr(paste, "face_worker", lambda: nullcontext("worker"))
    monkeypatch.setattr(paste, "look", lambda worker, pixels: faces)
    table = write_table(tmp_path, "ada_neutral_0.png,ada,neutral", header="image,person,affect")
    (photo,) = read_photographs(table, AFFECTS)
    assert photo.square(Framing(0.0, 0.0, 1.0)).points is not None
    for faces, count in (([], 0), (faces * 2, 2)):  # noqa: B020
        monkeypatch.setattr(paste, "look", lambda worker, pixels, faces=faces: faces)
        with pytest.raises(UserError, match=rf"row 1 .*{count} faces found; expected one, or its left"):
            read_photographs(table, AFFECTS)


def test_without_a_detector_the_rows_without_a_box_are_counted(tmp_path, monkeypatch):
    def missing() -> None:
        raise UserError("the detector is not installed")

    monkeypatch.setattr(paste, "face_worker", missing)
    table = write_table(tmp_path, f"ada_neutral_0.png,ada,neutral,{BOX}", "ada_joy_0.png,ada,joy,,,,")
    with pytest.raises(UserError, match="1 of 2 pictures have no left, top, right, bottom, and the detector is"):
        read_photographs(table, AFFECTS)


def test_only_the_face_of_a_picture_changes(tmp_path, runs):
    table = write_table(tmp_path, f"ada_neutral_0.png,ada,neutral,{BOX}")
    photos = read_photographs(table, AFFECTS)
    (changed,) = edited(load(runs[0]), photos[0], ["joy"])
    assert changed.shape == (40, 40, 3)
    assert (changed[15:25, 15:25] != photos[0].pixels[15:25, 15:25]).any()
    np.testing.assert_array_equal(changed[:3], photos[0].pixels[:3])
    np.testing.assert_array_equal(photos[0].pixels, picture("ada", "neutral"), err_msg="the true picture stays")


def find(table: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch, **options):
    monkeypatch.setattr(photographs, "photograph_judges", lambda *_: colour_judges())
    settings = EvaluationSettings(
        runs=[str(run) for run in runs], protocol="photographs", photographs=PhotographSettings(str(table)),
        metrics=MetricSettings(external="face_api"), bootstrap=100, shown=3, **options,
    )  # fmt: skip
    assert settings.problems() == []
    return evaluate.find(settings, "python -m fexgan_lit.evaluate", Console(quiet=True))


def test_results_stand_between_true_pictures_and_sources(tmp_path, runs, monkeypatch):
    table = write_table(
        tmp_path, f"ada_neutral_0.png,ada,neutral,{BOX}", f"ada_neutral_1.png,ada,neutral,{BOX}",
        f"bo_neutral_0.png,bo,neutral,{BOX}", f"ada_joy_0.png,ada,joy,{BOX}", f"bo_fear_0.png,bo,anger,{BOX}",
        f"bo_anger_1.png,bo,anger,{BOX}",
    )  # fmt: skip
    # a system that shows joy on everybody, whatever it is asked for, and takes bo for ada
    monkeypatch.setattr(photographs, "edited", lambda loaded, photo, affects: [picture("ada", "joy") for _ in affects])
    found = find(table, [runs[0]], monkeypatch)
    rows = {row.name: row for row in found.rows}
    assert list(rows) == [CEILING, FLOOR, "fexgan"]
    ceiling = rows[CEILING].columns["judge_affect_accuracy"].reshape(6, 3)  # affects, sources
    asked = [name for name in AFFECTS if name != "neutral"]
    wanted = np.full((6, 3), np.nan)
    wanted[asked.index("joy"), :2] = 1.0
    wanted[asked.index("anger"), 2] = 0.5  # one of two pictures shows what its label says
    np.testing.assert_array_equal(ceiling, wanted)
    assert rows[FLOOR].figures["judge_affect_accuracy"].mean == 0.0
    assert rows[FLOOR].figures["identity_cosine"].mean == pytest.approx(1.0)
    made = rows["fexgan"].columns
    np.testing.assert_array_equal(made["judge_affect_accuracy"].reshape(6, 3).mean(1), [n == "joy" for n in asked])
    np.testing.assert_array_equal(made["rank1"].reshape(6, 3), np.tile([1.0, 1.0, 0.0], (6, 1)))
    assert found.where.startswith("18 results: 3 neutral pictures of 2 people")
    assert found.notes["true frames"].startswith("other pictures of the person, for 3 of 18 results")
    assert any("on 6 held-out frames: affect 83.3%" in line for line in found.judges)
    assert not any("geometry" in line for line in found.judges)
    write_findings(found, tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "photographs_fexgan.png").stat().st_size > 1000


def test_one_person_without_true_pictures_is_measured_as_far_as_possible(tmp_path, runs, monkeypatch):
    found = find(write_table(tmp_path, f"ada_neutral_0.png,ada,neutral,{BOX}"), runs, monkeypatch)
    assert [row.name for row in found.rows][:2] == [FLOOR, "fexgan"]
    assert all("rank1" not in row.columns for row in found.rows), "there is nobody to be taken for"
    assert len(found.rows) == 3, "two seeds in one row, and the other system"
    assert "one person" in found.notes["identity"]
    assert not any("identity judge" in warning for warning in found.warnings)
    assert "smaller than half the 32 pixels" not in found.notes.get("fexgan", "")


def test_a_face_of_a_few_pixels_is_remarked_on_and_a_slash_in_a_name_does_no_harm(tmp_path, runs, monkeypatch):
    table = write_table(tmp_path, "ada_neutral_0.png,ada,neutral,10,10,14,14")
    found = find(table, [runs[2]], monkeypatch, names=["a/b"])
    assert "smaller than half the 32 pixels of the run" in found.notes["a/b"]
    write_findings(found, tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "photographs_a_b.png").is_file()


def test_a_system_that_reads_landmarks_is_refused(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", "landmark_label")
    table = write_table(tmp_path, f"ada_neutral_0.png,ada,neutral,{BOX}")
    with pytest.raises(UserError, match="landmark_label reads landmarks, which pictures do not have"):
        find(table, [run], monkeypatch)


def test_what_is_missing_is_asked_for(tmp_path, runs):
    problems = EvaluationSettings(
        run="x", protocol="photographs", dataset=TestDataSettings(identities=3, studio_seed=1)
    ).problems()
    assert any("photographs.table: not given; expected a CSV" in problem for problem in problems)
    assert any("dataset.identities, dataset.studio_seed: protocol=photographs measures" in p for p in problems)
    table = write_table(tmp_path, f"ada_neutral_0.png,ada,neutral,{BOX}")
    settings = EvaluationSettings(run=str(runs[0]), protocol="photographs", photographs=PhotographSettings(str(table)))
    with pytest.raises(UserError, match=r"no frames to train a judge on; expected metrics.external=face_api"):
        evaluate.find(settings, "evaluate", Console(quiet=True))
