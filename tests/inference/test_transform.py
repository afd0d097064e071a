"""`mode=transform` and `mode=grid`: pictures of any kind and number in, marked PNGs out; broken and shipped runs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from fexgan_lit.expression import AFFECTS
from fexgan_lit.runs.folder import RunFolder
from tests.inference.conftest import WHO

JOY = AFFECTS.index("joy")


def show_joy(source, shown, wanted):
    """The brightness of a face is the weight of joy."""
    return source * 0 + 2 * wanted.affect[:, JOY, None, None, None].clamp(max=1) - 1


def level(path) -> float:
    return float(np.asarray(Image.open(path).convert("RGB")).mean())


def test_a_folder_of_any_size_becomes_a_png_a_face_and_affect(generate, runs, painting, tmp_path):
    painting(show_joy)
    for i in range(19):
        Image.new("RGB", (40, 30 + i)).save(tmp_path / f"p{i:02d}.png")
    overrides = (f"images={tmp_path}", "affects=[joy,fear]", "strength=0.6", "batch_size=4")
    done = generate(f"run={runs('fexgan')}", *overrides)
    assert done.code == 0, done.err
    made = [entry for entry in done.record["pictures"] if entry["asked"]]
    assert len(made) == 19 * 2
    for entry in made:
        assert entry["asked"]["affect"] in ({"joy": 0.6}, {"fear": 0.6})
        expected = round(255 * entry["asked"]["affect"].get("joy", 0))
        assert level(done.folder / entry["file"]) == pytest.approx(expected, abs=1)
        assert "beyond_training" not in entry
    assert "the sheet shows the first 16 of 19 faces" in done.out


def test_unusual_files_are_read(generate, runs, painting, tmp_path):
    painting(lambda source, shown, wanted: source)
    frames = [Image.new("RGB", (30, 30), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("LA", (30, 30), (90, 255)).save(tmp_path / "grey.png")
    Image.new("CMYK", (30, 30), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    done = generate(f"run={runs('fexgan')}", f"images={tmp_path}", "affects=joy")
    assert done.code == 0, done.err
    assert "only the first image of an animation is used: moving.gif" in done.out
    shown = {name: np.asarray(Image.open(done.folder / f"faces/{name}/joy_1.00.png"))[16, 16] for name in
             ("moving", "grey", "print")}  # fmt: skip
    np.testing.assert_allclose(shown["moving"], [200, 0, 0], atol=4)
    np.testing.assert_allclose(shown["grey"], [90, 90, 90], atol=1)
    np.testing.assert_allclose(shown["print"], [255, 0, 0], atol=4)


@pytest.mark.parametrize("name", ["note.png", "note.gif"])
def test_text_called_a_picture_is_named(generate, runs, tmp_path, name):
    (tmp_path / name).write_bytes(b"GIF89a no gif" if name.endswith("gif") else b"hello")
    done = generate(f"run={runs('fexgan')}", f"images={tmp_path / name}")
    assert done.code == 2
    assert f"1 of 1 cannot be read: {name}" in done.err


def test_strengths_beyond_training_are_marked(generate, runs):
    done = generate(f"run={runs('fexgan')}", "affects=[joy]", "strength=1.5", f"who={WHO[0]}")
    (made,) = [entry for entry in done.record["pictures"] if entry["asked"]]
    assert made["beyond_training"] is True
    assert "weights of affects reach 1.5; training used up to 1," in done.out
    assert done.record["notes"][-1].endswith("(marked as beyond training)")


MISTAKES = {
    "unknown affect": (["affects=[joi]"], "Did you mean 'joy'?"),
    "a number": (["affects=[3]"], "affects=[3]: expected `all`, or some of"),
    "a negative strength": (["strength=-1"], "strength=-1.0: expected 0..10"),
    "which without paste": (["which=2"], "it chooses among the faces that paste=true finds"),
    "paste without images": (["paste=true"], "expected images=FILE|DIR and mode=transform or mode=blend"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake, generate, runs):
    overrides, message = MISTAKES[mistake]
    done = generate(f"run={runs('fexgan')}", *overrides)
    assert done.code == 2
    assert message in done.err


def test_a_source_label_that_nobody_knows_is_neutral(generate, runs, tmp_path):
    """FExGAN-Meta's encoder is told what the source shows."""
    Image.new("RGB", (40, 40), (120, 90, 60)).save(tmp_path / "me.png")
    done = generate(f"run={runs('fexgan_meta')}", f"images={tmp_path / 'me.png'}", "affects=joy")
    assert done.code == 0, done.err
    assert "are not known: neutral is assumed; annotations=CSV" in done.out
    (tmp_path / "known.csv").write_text("path,affect\nme.png,sad\n")
    told = generate(
        f"run={runs('fexgan_meta')}", f"images={tmp_path / 'me.png'}", f"annotations={tmp_path / 'known.csv'}",
        "affects=joy", out="told",
    )  # fmt: skip
    assert told.code == 0, told.err
    assert told.record["sources"][0]["shows"]["affect"] == {"sadness": 1.0}
    one, other = (folder / "faces/me/joy_1.00.png" for folder in (done.folder, told.folder))
    assert one.read_bytes() != other.read_bytes()


def test_the_grid_is_one_picture_with_a_row_a_strength(generate, runs, painting):
    painting(show_joy)
    done = generate(f"run={runs('fexgan')}", "mode=grid", "strengths=[1,0.5]", "affects=[fear,joy]")
    assert done.code == 0, done.err
    assert list(done.record["files"]) == ["grid.png"]
    for who in WHO:
        assert level(done.folder / f"faces/{who}/joy_0.50.png") == pytest.approx(128, abs=1)
        assert level(done.folder / f"faces/{who}/fear_1.00.png") == 0
    page = np.asarray(Image.open(done.folder / "grid.png"))
    assert page.shape[0] // 132 == 2 * len(WHO)
    assert page.shape[1] // 132 == 3  # source and two affects
    single = generate(f"run={runs('fexgan')}", "mode=grid", out="single")
    assert np.asarray(Image.open(single.folder / "grid.png")).shape[0] // 132 == len(WHO)


@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_tampered_weights_are_refused(harm, generate, runs, tmp_path):
    run = shutil.copytree(runs("fexgan"), tmp_path / "run")
    weights = run / "weights" / "decoder.safetensors"
    data = weights.read_bytes()
    weights.unlink()
    if harm != "gone":
        weights.write_bytes(data[: len(data) // 2] if harm == "cut" else data[:20] + b"\xff" * 8 + data[28:])
    done = generate(f"run={run}")
    assert done.code == 2
    assert "decoder.safetensors" in done.err
    assert "Traceback" not in done.err


def test_without_a_run_the_shipped_one_is_taken_with_its_faces(generate, runs, tmp_path, monkeypatch):
    package = tmp_path / "package"
    shipped = shutil.copytree(runs("fexgan"), package / "models" / "mien_128")
    (shipped / "faces").mkdir()
    Image.new("RGB", (64, 64), (10, 200, 10)).save(shipped / "faces" / "iris.png")
    monkeypatch.setattr("fexgan_lit.runs.folder.__file__", str(package / "runs" / "folder.py"))
    # its data must not be drawn for that
    monkeypatch.setattr("fexgan_lit.data.datamodule.FrameDataModule.setup", lambda self: pytest.fail("data opened"))
    assert RunFolder.shipped().path == shipped
    done = generate("affects=[joy]")
    assert done.code == 0, done.err
    assert [source["name"] for source in done.record["sources"]] == ["iris"]
    assert done.record["sources"][0]["shows"]["affect"] == {"neutral": 1.0}
    assert done.record["run"]["path"] == str(shipped)


def test_several_pictures_of_one_person_are_combined(generate, runs, tmp_path):
    """An untrained MIEN moves nothing in any of them, so each counts alike."""
    (tmp_path / "more").mkdir()
    for name, grey in (("me", 30), ("more/a", 90), ("more/b", 180)):
        Image.new("RGB", (40, 40), (grey,) * 3).save(tmp_path / f"{name}.png")
    run, others = f"run={runs('mien')}", f"others={tmp_path / 'more'}"
    done = generate(run, f"images={tmp_path / 'me.png'}", others, "affects=joy")
    assert done.code == 0, done.err
    assert "2 other pictures of me: each part of the face comes from" in done.out
    assert level(done.folder / "faces/me/joy_1.00.png") == pytest.approx(100, abs=1)
    for given, words in (
        ((run, f"images={tmp_path / 'more'}", others), "it shows the person of one face; found 2 faces"),
        ((f"run={runs('fexgan')}", "who=nora", others), "fexgan edits one picture at a time; mien combines several"),
        ((run, "mode=tune", f"images={tmp_path / 'me.png'}", others), "expected a mode that edits faces"),
    ):
        wrong = generate(*given, out=words[:6])
        assert wrong.code == 2
        assert words in wrong.err
