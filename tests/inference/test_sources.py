"""Which faces are changed: of the run's data, or pictures of any kind."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.expression import ACTION_UNITS, AFFECTS, Expression
from fexgan_lit.inference.faces import MOST_FACES, Sources, choose, from_files, from_frames
from fexgan_lit.inference.loaded_system import load
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.runs.result import RECONSTRUCTION_LIMIT, Clock, make_result, read_result, write_result
from fexgan_lit.utils.errors import UserError
from tests.inference.conftest import WHO
from tests.inference.opened import shown_frames

SIZE = 32


def level(image: torch.Tensor) -> np.ndarray:
    """(3,) mean grey levels of one image."""
    return ((image + 1) * 127.5).mean((1, 2)).numpy()


def test_references_are_neutral_frames_with_their_true_expression(runs):
    found = from_frames(shown_frames(runs("ganimation")), SIZE, "the data")
    assert found.names == WHO
    assert found.images.shape == (2, 3, SIZE, SIZE)
    assert found.shown.affect[:, AFFECTS.index("neutral")].tolist() == [1, 1]
    assert found.shown.aus.shape == (2, 17)


def test_any_picture_becomes_a_square_in_rgb(tmp_path):
    left_red = np.zeros((20, 60, 3), np.uint8)
    left_red[:, :20, 0], left_red[:, 20:40, 1], left_red[:, 40:, 2] = 200, 200, 200
    Image.fromarray(left_red).save(tmp_path / "wide.png")
    Image.new("CMYK", (30, 30), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    Image.new("L", (30, 40), 77).save(tmp_path / "grey.png")
    Image.new("RGBA", (30, 30), (200, 200, 200, 0)).save(tmp_path / "alpha.png")
    upright = Image.new("RGB", (20, 40), (0, 0, 0))
    upright.paste((240, 240, 240), (0, 10, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upright.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = from_files(tmp_path, SIZE, None, AFFECTS)
    by_name = dict(zip(found.names, found.images, strict=True))
    assert found.images.shape == (5, 3, SIZE, SIZE)
    np.testing.assert_allclose(level(by_name["wide"]), [0, 200, 0], atol=1)  # the central square
    np.testing.assert_allclose(level(by_name["cmyk"]), [255, 0, 0], atol=3)
    np.testing.assert_allclose(level(by_name["grey"]), [77] * 3, atol=1)
    np.testing.assert_allclose(level(by_name["alpha"]), [0] * 3, atol=1)  # onto black
    halves = by_name["turned"].mean((0, 2))
    assert halves[: SIZE // 2].mean() < halves[SIZE // 2 :].mean()  # turned by EXIF: the light half is below
    assert found.shown.known == {}


def test_text_called_png_is_refused_and_others_are_named(tmp_path):
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt" in from_files(tmp_path, SIZE, None, AFFECTS).notes[0]
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(UserError, match=r"1 of 2 cannot be read: b\.png"):
        from_files(tmp_path, SIZE, None, AFFECTS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image in this folder"):
        from_files(tmp_path / "empty", SIZE, None, AFFECTS)


def test_files_of_one_name_are_told_apart(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        Image.new("RGB", (30, 30)).save(tmp_path / name)
    assert from_files(tmp_path, SIZE, None, AFFECTS).names == ("a.jpg", "a.png", "b")


def annotate(tmp_path, header: str, *rows: str):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (200, 100)).save(tmp_path / name)
    path = tmp_path / "known.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_annotations_give_units_landmarks_and_affects(tmp_path):
    units = ",".join(f"AU{unit:02d}" for unit in ACTION_UNITS)
    points = ",".join(f"x{i:02d},y{i:02d}" for i in range(68))
    values = ",".join(["2.5"] * 17), ",".join(["100,0"] * 68)
    csv = annotate(
        tmp_path, f"path,affect,{units},{points}", *(f"{n},happy,{values[0]},{values[1]}" for n in ("a.png", "b.png"))
    )
    found = from_files(tmp_path, SIZE, csv, AFFECTS)
    assert found.shown.aus.unique().tolist() == [0.5]
    # the middle of the upper edge of the central square of 200 x 100 pixels
    assert found.shown.landmarks[0, 0].tolist() == [0, -1]
    assert found.shown.affect.argmax(1).tolist() == [AFFECTS.index("joy")] * 2


def test_annotations_of_some_pictures_only_are_said_to_be_so(tmp_path):
    units = ",".join(f"AU{unit:02d}" for unit in ACTION_UNITS)
    csv = annotate(tmp_path, f"path,{units}", "a.png," + ",".join(["1"] * 17))
    found = from_files(tmp_path, SIZE, csv, AFFECTS)
    assert found.shown.aus is None
    assert any("1 have no row: b.png" in note for note in found.notes)
    with pytest.raises(UserError, match=r"^annotations=.*known\.csv: the column 'path' is missing"):
        from_files(tmp_path, SIZE, annotate(tmp_path, "file,AU01", "a.png,1"), AFFECTS)


def sources(count: int) -> Sources:
    shown = Expression(aus=torch.arange(count).float()[:, None].expand(-1, 17))
    names = tuple(f"p{i}" for i in range(count))
    return Sources(names, torch.zeros(count, 3, 4, 4), shown, np.arange(count), "the data")


def test_names_choose_in_their_order_and_no_name_takes_the_first():
    chosen = choose(sources(5), ("p3", "p1", "p3"))
    assert chosen.names == ("p3", "p1")
    assert chosen.rows.tolist() == [3, 1]
    assert chosen.shown.aus[:, 0].tolist() == [3, 1]
    many = choose(sources(MOST_FACES + 4), ())
    assert len(many) == MOST_FACES
    assert f"the first {MOST_FACES} of {MOST_FACES + 4} faces" in many.notes[-1]
    with pytest.raises(UserError, match=r"who=p9: expected one of p0, p1, p2, p3, p4, the faces of the data"):
        choose(sources(5), ("p9",))


# ---------------------------------------------------------------------- faces outside the cast


def test_the_affect_that_fits_best_counts(runs, monkeypatch):
    """Redrawn with the right affect a face has no error, with any other 10 levels; nobody says which it shows."""
    system = load(runs("fexgan")).system
    joy = AFFECTS.index("joy")
    off = 10 / 127.5

    def redraw(source, shown, wanted):
        assert torch.equal(shown.affect, wanted.affect)
        return source + off * (1 - wanted.affect[:, joy])[:, None, None, None]

    monkeypatch.setattr(system, "forward", redraw)
    assert system.reconstruction_error(torch.zeros(3, 3, SIZE, SIZE)).tolist() == pytest.approx([0, 0, 0])
    monkeypatch.setattr(system, "forward", lambda source, shown, wanted: source + off)
    frames = shown_frames(runs("fexgan"))
    assert system.reconstruction_limit(frames) == pytest.approx(10, abs=1e-3)


def finished(run, folder, **metrics):
    """A copy of a run that has ended with these metrics."""
    shutil.copytree(run, folder)
    clock = Clock()
    write_result(folder, make_result("finished", iteration=1, seconds=1, started=clock.began, metrics=metrics))
    return folder


def test_strangers_are_named_and_faces_of_the_cast_are_not(generate, runs, tmp_path):
    run = finished(runs("fexgan"), tmp_path / "run", **{RECONSTRUCTION_LIMIT: 0.0})
    Image.new("RGB", (40, 40), (250, 30, 30)).save(tmp_path / "me.png")
    done = generate(f"run={run}", f"images={tmp_path / 'me.png'}", "affects=joy", out="stranger")
    assert done.code == 0, done.err
    assert "not a face of this fexgan's cast: me (" in done.out
    assert "held-out frames of the cast by at most 0.0" in done.out
    assert list(done.record["measured"]["not_of_the_cast"]) == ["me"]
    finished(runs("fexgan"), tmp_path / "known", **{RECONSTRUCTION_LIMIT: 255.0})
    known = generate(f"run={tmp_path / 'known'}", f"images={tmp_path / 'me.png'}", "affects=joy", out="known")
    assert "not a face" not in known.out
    assert "not a face" not in generate(f"run={run}", "affects=joy", out="own").out, "faces of the run's data"


def test_the_limit_of_an_older_run_is_measured_once(runs, tmp_path):
    run = finished(runs("fexgan"), tmp_path / "run", ssim=0.5)
    loaded = load(run)
    limit = loaded.reconstruction_limit
    assert limit == loaded.system.reconstruction_limit(loaded.prepared_data.held_out_frames) > 0
    assert read_result(run).metrics == {"ssim": 0.5, RECONSTRUCTION_LIMIT: pytest.approx(limit)}


def test_nothing_is_said_where_the_limit_cannot_be_known(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(tmp_path / "empty"))
    image = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    assert load(runs("fexgan")).strangers(image) == {}
    assert not (tmp_path / "empty").exists(), "no frames are drawn for it"
    assert load(runs("ganimation")).strangers(image) == {}, "it edits any face"


def test_the_fexgan_in_the_package_knows_its_cast():
    loaded = load("cartoon")
    cast = loaded.references.images
    assert 4 < read_result(RunFolder.shipped("cartoon").path).metrics[RECONSTRUCTION_LIMIT] < 20
    assert loaded.strangers(cast) == {}
    assert set(loaded.strangers(cast.roll(16, 3))) == set(range(len(cast))), "not in their place in the frame"
