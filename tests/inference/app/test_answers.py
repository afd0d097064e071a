"""What the page is answered, by real systems of a few channels."""

from __future__ import annotations

import base64
import io
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.data.frames import resize_batch, to_uint8
from fexgan_lit.expression import AFFECTS
from fexgan_lit.inference.app import handlers as answers
from fexgan_lit.inference.app.requests import FaceRequest
from fexgan_lit.inference.app.session import FaceName
from fexgan_lit.inference.conditions import TargetSpec
from fexgan_lit.inference.library import read_library
from fexgan_lit.utils.errors import UserError
from tests.inference.app.pictures import encoded, halves

NORA = {"face": "cast:nora"}


def decoded(address: str) -> np.ndarray:
    kind, _, data = address.partition(",")
    assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_dropped_face_outside_the_cast_is_named(session, app_model, monkeypatch):
    loaded = app_model("fexgan").loaded
    monkeypatch.setattr(loaded, "reconstruction_limit", 0.0, raising=False)
    pair = session("ganimation", "fexgan")
    note = answers.receive(pair, encoded(halves()))["faces"][0]["note"]
    assert note.startswith("run_fexgan: not a face of this fexgan's cast: your picture (")
    monkeypatch.setattr(loaded, "reconstruction_limit", 255.0, raising=False)
    assert answers.receive(pair, encoded(halves(64, 64)))["faces"][0]["note"] == ""


# ---------------------------------------------------------------------- photographs


def photograph(*boxes: tuple[int, int, int]) -> Image.Image:
    """A wall with red squares at (left, top, side), which the detector of the tests takes for faces."""
    pixels = np.full((240, 300, 3), (120, 118, 112), np.uint8)
    for left, top, side in boxes:
        pixels[top : top + side, left : left + side] = (255, 0, 0)
    return Image.fromarray(pixels)


@pytest.fixture
def blue(app_model, monkeypatch):
    """Systems that paint every face blue."""
    for model in ("fexgan", "ganimation"):
        monkeypatch.setattr(
            app_model(model).loaded.system, "synthesize",
            lambda x, *_: torch.tensor([-1.0, -1, 1])[:, None, None].expand_as(x),
        )  # fmt: skip


def is_blue(told: tuple[bytes, str, str], *places: tuple[int, int]) -> list[bool]:
    assert told[1:] == ("image/png", "photograph.png")
    pixels = np.asarray(Image.open(io.BytesIO(told[0])).convert("RGB"))
    assert pixels.shape == (240, 300, 3)
    assert pixels[5, 5].tolist() == [120, 118, 112]
    return [bool(pixels[y, x, 2] > pixels[y, x, 0]) for x, y in places]


def test_faces_of_a_photograph_are_found_and_pasted_back(session, detector, blue):
    pair, joy = session("fexgan", "ganimation"), {"weights": {"joy": 1}}
    told = answers.receive(pair, encoded(photograph((30, 60, 80), (180, 80, 70))))
    assert told["note"] == ""
    assert [face["name"] for face in told["faces"]] == ["face 1", "face 2"]
    assert decoded(told["preview"]).shape == (240, 300, 3)
    second, middles = {"face": told["faces"][1]["id"], **joy}, ((70, 110), (215, 115))
    assert is_blue(answers.photo(pair, second), *middles) == [False, True]
    assert is_blue(answers.photo(pair, {**second, "all": True, "system": 1}), *middles) == [True, True]
    pair.close()


def test_a_box_is_drawn_where_no_face_is_found(session, detector, blue):
    one = session("fexgan")
    told = answers.receive(one, encoded(photograph()))
    assert told["note"].startswith("No face was found, so the central square")
    face = answers.crop(one, {"photo": told["photo"], "box": [0.1, 0.25, 0.4, 0.6]})
    asked = {"face": face["id"], "weights": {"joy": 1}, "all": True}
    assert is_blue(answers.photo(one, asked), (75, 110), (215, 115)) == [True, False]
    for tree, message in (
        ({"photo": told["photo"], "box": [0.1, 0.2, 0.1, 0.6]}, "smaller than 8 pixels"),
        ({"photo": told["photo"], "box": [0, 0, 2, 1]}, "expected 0 to 1"),
        ({"photo": told["photo"]}, "expected \\[left, top, right, bottom\\]"),
        ({"photo": "x", "box": [0, 0, 1, 1]}, "The picture is gone"),
    ):
        with pytest.raises(UserError, match=message):
            answers.crop(one, tree)
    one.close()


def test_without_a_detector_the_page_says_so(session, blue):
    one = session("fexgan")
    clear = photograph().convert("RGBA")
    clear.putalpha(200)
    told = answers.receive(one, encoded(clear))
    assert told["note"].startswith("No face detector is installed (python -m fexgan_lit.data.faces.install), so the")
    file, *_ = answers.photo(one, {"face": told["faces"][0]["id"], "weights": {"joy": 1}})
    pixels = np.asarray(Image.open(io.BytesIO(file)))
    assert (pixels[..., 3] == 200).all()
    assert pixels[120, 150, 2] > pixels[120, 150, 0], "the middle of the picture"
    with pytest.raises(UserError, match="Only a face of a picture of yours"):
        answers.photo(one, NORA)


@pytest.mark.parametrize("model", ["fexgan", "ganimation", "stargan", "landmark_label"])
def test_a_painted_face_is_what_the_system_gives(session, app_model, model):
    told = answers.paint(session(model), {**NORA, "weights": {"joy": 0.7, "neutral": 0.3}})["pictures"][0]
    loaded = app_model(model).loaded
    wanted = loaded.synthesize(loaded.faces["nora"], {"joy": 0.7, "neutral": 0.3})
    assert np.array_equal(decoded(told["file"]), np.asarray(wanted))
    assert decoded(told["file"]).std() > 5  # else the comparison would say nothing
    assert decoded(told["picture"]).shape == (256, 256, 3)  # enlarged to be looked at


def test_a_face_is_brought_to_rest_first(session, app_model):
    """Only for the system that reads action units; films and photographs alike."""
    pair, asked = session("ganimation", "fexgan"), {**NORA, "weights": {"joy": 1}, "neutral_first": True}
    told = [decoded(one["file"]) for one in answers.paint(pair, asked)["pictures"]]
    loaded = app_model("ganimation").loaded
    wanted = loaded.synthesize(loaded.faces["nora"], "joy", neutral_first=True)
    assert np.array_equal(told[0], np.asarray(wanted))
    plain = [decoded(one["file"]) for one in answers.paint(pair, {**asked, "neutral_first": False})["pictures"]]
    assert not np.array_equal(told[0], plain[0])
    assert np.array_equal(told[1], plain[1])
    assert pair.about()["rests"]
    assert not session("fexgan").about()["rests"]


def test_expressions_are_saved_and_chosen(session, tmp_path):
    one = session("fexgan", "ganimation")
    one.library = tmp_path / "expressions.yaml"
    assert one.about()["expressions"] == []
    asked = {"weights": {"joy": 0.7, "fear": 0}, "units": {"45": 0.5}, "name": " wink "}
    saved = {"name": "wink", "weights": {"joy": 0.7}, "units": {"45": 0.5}}
    assert answers.save(one, asked) == {"expressions": [saved]}
    assert one.about()["expressions"] == [saved]
    assert read_library(one.library, AFFECTS) == {"wink": TargetSpec({"joy": 0.7}, {45: 0.5})}
    for tree, message in (({**asked, "name": ""}, "expected a name"), ({"name": "x"}, "nothing is asked for")):
        with pytest.raises(UserError, match=message):
            answers.save(one, tree)
    one.may_save = False
    with pytest.raises(UserError, match="Others can reach this page"):
        answers.save(one, asked)


def test_what_the_networks_read(session, app_model):
    one = session("fexgan")
    told = answers.paint(one, {**NORA, "weights": {"joy": 1}})["pictures"][0]
    reading = answers.read(one, {"keys": [told["key"]]})["readings"][0]
    known = app_model("fexgan").loaded.classify(Image.fromarray(decoded(told["file"])))
    assert reading["realness"] == pytest.approx(known.realness, abs=1e-4)
    assert reading["affects"] == pytest.approx(known.affects, abs=1e-4)
    assert reading["judge"] is None
    for keys, message in ((["x"], "replaced by newer"), ([], "one for every system"), (None, "one for every system")):
        with pytest.raises(UserError, match=message):
            answers.read(one, {"keys": keys})


def test_a_critic_reads_units_and_the_judge_affects(session, app_model, monkeypatch):
    pair = session("fexgan", "ganimation")
    logits = torch.zeros(1, 7).index_fill(1, torch.tensor([3]), 20.0)
    monkeypatch.setattr(
        app_model("ganimation"), "judge", SimpleNamespace(read=lambda face: SimpleNamespace(affect_logits=logits))
    )
    told = answers.paint(pair, {**NORA, "weights": {"joy": 1}})["pictures"]
    first, second = answers.read(pair, {"keys": [None, told[1]["key"]]})["readings"]
    assert first is None
    assert (second["realness"], second["affects"]) == (None, None)
    assert len(second["units"]) == 17
    assert second["judge"]["joy"] == 1


def test_units_follow_the_affects_unless_they_are_set(session, app_model):
    pair = session("ganimation")
    follow = answers.paint(pair, {**NORA, "weights": {"joy": 1}})["pictures"][0]["units"]
    known = app_model("ganimation").loaded.system.expression([3]).aus[0]
    assert list(follow.values()) == pytest.approx(known.tolist(), abs=1e-6)
    held = answers.paint(pair, {**NORA, "weights": {"joy": 1}, "units": {"45": 1}})["pictures"][0]
    assert held["units"] == {**follow, "45": 1.0}


def test_nothing_asked_for_is_weight_0(session):
    for model in ("fexgan", "ganimation"):
        assert "file" in answers.paint(session(model), NORA)["pictures"][0]


def test_a_random_character_keeps_its_face(session):
    one = session("fexgan")
    source_face = one.source_face(0, FaceName.read("random:5"))
    joy, anger = source_face.wanted(FaceRequest({"joy": 1.0})), source_face.wanted(FaceRequest({"anger": 1.0}))
    both = type(joy)(affect=torch.cat([joy.affect, anger.affect]))
    system = one.app_models[0].loaded.system
    drawn = system.sample(1, anger, "normal", torch.Generator().manual_seed(5))
    assert torch.allclose(source_face.paint(both)[1:], drawn, atol=1e-5)
    assert not torch.allclose(
        source_face.paint(joy), one.source_face(0, FaceName.read("random:6")).paint(joy), atol=1e-3
    )


def test_the_second_system_gets_its_own_picture_or_the_firsts(session, app_model):
    pair = session("fexgan", "ganimation")
    own = pair.source_face(1, FaceName.read("cast:nora")).face
    assert torch.equal(own, app_model("ganimation").cast["nora"])
    drawn = pair.source_face(1, FaceName.read("random:5")).face
    rest = pair.source_face(0, FaceName.read("random:5"))
    assert np.array_equal(to_uint8(drawn), to_uint8(rest.paint(rest.wanted(FaceRequest({"neutral": 1.0})))))


def test_a_system_that_cannot_says_so_beside_one_that_can(session):
    pair = session("fexgan", "landmark_label")
    key = answers.receive(pair, encoded(halves()))["faces"][0]["id"]
    told = answers.paint(pair, {"face": key, "weights": {"joy": 1}})["pictures"]
    assert "file" in told[0]
    assert "landmarks" in told[1]["error"]
    alone = session("landmark_label")
    with pytest.raises(UserError, match="landmarks"):
        answers.paint(
            alone, {"face": answers.receive(alone, encoded(halves()))["faces"][0]["id"], "weights": {"joy": 1}}
        )


def test_the_map_holds_the_faces_it_stands_for(session):
    one = session("fexgan")
    told = answers.expression_map(one, {**NORA, "x": "joy", "y": "anger"})
    tiles = decoded(told["picture"]).astype(int)
    assert (told["steps"], tiles.shape) == (5, (360, 360, 3))
    corners = {(0, 288): {"neutral": 1}, (288, 288): {"joy": 1}, (0, 0): {"anger": 1}, (288, 0): {"joy": 1, "anger": 1}}
    files = [answers.paint(one, {**NORA, "weights": weights})["pictures"][0]["file"] for weights in corners.values()]
    faces = resize_batch(np.stack([decoded(file) for file in files]), 72).astype(int)
    for number, (left, top) in enumerate(corners):
        tile = tiles[top : top + 72, left : left + 72]
        assert np.abs(faces - tile).mean((1, 2, 3)).argmin() == number
    with pytest.raises(UserError, match="'glee' is not an affect"):
        answers.expression_map(one, {**NORA, "x": "glee", "y": "anger"})


def test_the_cast_and_new_characters(session):
    one = session("fexgan")
    cast = answers.gallery(one)
    assert [face["id"] for face in cast["faces"]] == ["cast:nora", "cast:tariq"]
    assert decoded(cast["faces"][0]["picture"]).shape == (96, 96, 3)
    made = answers.characters(one, {"count": 2})["faces"]
    assert len({face["id"] for face in made}) == 2
    with pytest.raises(UserError, match="can draw random characters"):
        answers.characters(session("ganimation"), {"count": 1})


def test_a_cast_that_is_gone_is_said_without_the_machines_paths(session, monkeypatch):
    one = session("fexgan")
    monkeypatch.setattr(type(one), "cast", lambda self: (_ for _ in ()).throw(UserError("/home/me/data is gone")))
    assert answers.gallery(one) == {"faces": [], "note": ".../data is gone"}


def test_the_face_as_it_was_given(session):
    one = session("fexgan")
    key = answers.receive(one, encoded(halves()))["faces"][0]["id"]
    shown = decoded(answers.source(one, {"face": key})["picture"])
    assert shown[128, 40, 0] > 200
    assert shown[128, 220, 2] > 200
    with pytest.raises(UserError, match="There is no character 'zoe' here; expected one of nora, tariq"):
        answers.source(one, {"face": "cast:zoe"})


def test_films_of_two_systems(session):
    pair = session("fexgan", "ganimation")
    keyframes = [{"time": 0, "weights": {"neutral": 1}}, {"time": 0.5, "weights": {"joy": 1}}]
    told = answers.preview(pair, {**NORA, "keyframes": keyframes, "fps": 4})
    assert [len(film) for film in told["films"]] == [3, 3]
    data, kind, name = answers.export(pair, {**NORA, "keyframes": keyframes, "fps": 4, "format": "mp4"})
    assert (kind, name) == ("video/mp4", "expression.mp4")
    assert data[4:8] == b"ftyp"
    with pytest.raises(UserError, match="format is 'exe'"):
        answers.export(pair, {**NORA, "keyframes": keyframes, "format": "exe"})


def test_facts_of_the_page(session):
    about = session("fexgan", "ganimation").about()
    assert [system["model"] for system in about["systems"]] == ["fexgan", "ganimation"]
    assert about["complex"] == [("anger", "sadness"), ("joy", "disgust"), ("fear", "surprise")]
    assert len(about["units"]) == 17
    assert session("fexgan").about()["units"] == []


def test_pictures_that_wait_together_are_painted_together(session, monkeypatch):
    one = session("fexgan_meta")  # which is also told what the faces show
    app_model = one.app_models[0]
    asked = [("nora", "joy", "neutral"), ("tariq", "fear", "joy"), ("nora", "anger", "fear")]
    faces = [one.source_face(0, FaceName.read(f"cast:{name}"), shows) for name, _, shows in asked]
    wishes = [face.wanted(FaceRequest({affect: 1.0})) for face, (_, affect, _) in zip(faces, asked, strict=True)]
    alone = [face.paint(wish) for face, wish in zip(faces, wishes, strict=True)]
    calls, paint, got = [], app_model.paint, {}
    monkeypatch.setattr(app_model, "paint", lambda *given: calls.append(len(given[0])) or paint(*given))

    def ask(number):
        got[number] = one.paint(faces[number], wishes[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    with one.painting():
        for thread in threads:
            thread.start()
        while len(one._waiting) < 3:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert calls == [3]
    assert one._waiting == []
    for number, face in enumerate(alone):
        assert torch.allclose(got[number], face, atol=1e-4)
    assert not torch.allclose(got[0], got[2], atol=1e-2)
