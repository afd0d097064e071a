"""`paste=true`: faces found, cut as the run's frames are, and put back; pictures of every kind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit import load
from fexgan_lit.data.faces.geometry import Framing, face_squares, framing_of
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.inference import paste
from fexgan_lit.inference.paste import Square, colour_shift, face_notes
from fexgan_lit.utils.errors import UserError
from tests.data.fake_detector import FACE
from tests.inference.opened import open_data

RED, GREY = (255, 0, 0), (120, 120, 120)


@pytest.fixture
def blue(painting):
    """A run that paints every face blue."""
    painting(lambda source, shown, wanted: torch.tensor([-1.0, -1.0, 1.0])[:, None, None].expand_as(source))


def scene(*boxes: tuple[int, int, int], size: tuple[int, int] = (300, 240)) -> np.ndarray:
    """(H, W, 3) grey with red squares at (left, top, side)."""
    picture = np.full((size[1], size[0], 3), GREY, np.uint8)
    for left, top, side in boxes:
        picture[top : top + side, left : left + side] = RED
    return picture


def save(path, *boxes, size=(300, 240), **options):
    Image.fromarray(scene(*boxes, size=size)).save(path, **options)
    return path


def pasted(done, name) -> np.ndarray:
    return np.asarray(Image.open(done.folder / "pasted" / f"{name}_joy_1.00.png"))


# ---------------------------------------------------------------------- squares


def test_framing_is_read_from_landmarks():
    """Frames cut with a margin of 0.3 are 1.6 times the face, and centred on it."""
    rng = np.random.default_rng(0)
    points = FACE * rng.uniform(40, 90, (20, 1, 1)) + rng.uniform(0, 200, (20, 1, 2))
    squares = face_squares(points, 0.3)
    in_frame = 2 * (points - squares[:, None, :2]) / squares[:, None, 2:] - 1
    assert framing_of(in_frame, 2.0) == pytest.approx((0, 0, 1.6))
    moved = framing_of(in_frame + np.array([0.25, 0]), 2.0)
    assert moved == pytest.approx((-0.2, 0, 1.6))  # an eighth of the frame is a fifth of the face


def test_a_tilted_face_is_cut_upright():
    angle = np.radians(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (FACE - 0.5) @ turn.T * 80 + (150, 120)
    picture = np.zeros((240, 300, 3), np.uint8)
    for x, y in points[[36, 45]]:
        cv2.circle(picture, (round(x), round(y)), 3, (255, 255, 255), -1)
    square = Square.around(points, Framing(0, 0, 1.5))
    cut = square.cut(picture, 128)
    count, _, _, centres = cv2.connectedComponentsWithStats((cut[..., 0] > 128).astype(np.uint8))
    assert count == 3
    assert abs(centres[1, 1] - centres[2, 1]) < 1.5
    np.testing.assert_allclose(sorted(centres[1:, 0]), sorted(128 * square.points[[36, 45], 0]), atol=1.5)
    upright = Square.around((FACE - 0.5) * 80 + (150, 120), Framing(0, 0, 1.5))
    np.testing.assert_allclose(square.points, upright.points, atol=0.1)


def test_a_face_put_back_as_it_was_changes_nothing():
    rows, columns = np.mgrid[0:240, 0:300]
    picture = np.stack([columns * 0.8, rows, 90 + 0.2 * columns], axis=-1).astype(np.uint8)
    angle = np.radians(-15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    square = Square.around((FACE - 0.5) @ turn.T * 90 + (140, 110), Framing(0.05, 0.1, 1.8))
    again = picture.copy()
    square.put_back(again, square.cut(picture, 96))
    assert np.abs(again.astype(int) - picture).max() <= 3


def test_the_mask_is_soft_and_stays_inside_the_square():
    square = Square.around(FACE * 60 + 100, Framing(0, 0, 1.5))
    mask = square.mask(200)
    assert mask.shape == (200, 200)
    assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) < 0.01
    inside = np.rint(200 * square.points[[30, 36, 45, 57]]).astype(int)
    assert mask[inside[:, 1], inside[:, 0]].min() > 0.99
    assert np.abs(np.diff(mask, axis=0)).max() < 0.15


def test_colours_meet_at_the_rim():
    mask = np.linspace(0, 1, 11, dtype=np.float32)[None, :, None]
    old, new = np.full((1, 11, 3), 100, np.float32), np.full((1, 11, 3), 110, np.float32)
    assert colour_shift(old, new, mask).tolist() == [-10, -10, -10]
    assert colour_shift(old, new + 500, mask).tolist() == [-30, -30, -30]
    assert colour_shift(old, new, np.ones_like(mask)).tolist() == [0, 0, 0]


# ---------------------------------------------------------------------- the command


def test_only_the_face_changes(generate, runs, detector, blue, tmp_path):
    path = save(tmp_path / "photo.png", (100, 60, 80))
    done = generate(f"run={runs('fexgan')}", f"images={path}", "affects=joy", "paste=true")
    assert done.code == 0, done.err
    found, before = pasted(done, "photo"), scene((100, 60, 80))
    assert found.shape == before.shape
    assert found[110, 140, 2] > found[110, 140, 0]  # blue where red was
    far = np.ones(found.shape[:2], bool)
    far[20:190, 60:220] = False
    assert np.array_equal(found[far], before[far])
    made = next(entry for entry in done.record["pictures"] if "faces" in entry)
    assert made == {"file": "pasted/photo_joy_1.00.png", "faces": ["faces/photo/joy_1.00.png"]}
    assert done.record["options"]["paste"] is True


def test_of_several_faces_one_is_chosen_or_all(generate, runs, detector, blue, tmp_path):
    path = save(tmp_path / "pair.png", (30, 60, 80), (180, 80, 70))
    command = (f"run={runs('fexgan')}", f"images={path}", "affects=joy", "paste=true")
    undecided = generate(*command, out="undecided")
    assert undecided.code == 2
    assert "pair.png: 2 faces found; which=1..2 selects one, counted from the left, which=all" in undecided.err
    right = pasted(generate(*command, "which=2", out="right"), "pair")
    both = pasted(generate(*command, "which=all", out="both"), "pair")
    blue_at = [[bool(p[y, x, 2] > p[y, x, 0]) for x, y in ((70, 110), (215, 120))] for p in (right, both)]
    assert blue_at == [[False, True], [True, True]]
    none = generate(*command, "which=3", out="none")
    assert none.code == 2
    assert "which=3: pair.png shows 2 faces" in none.err


def test_pictures_without_a_face(generate, runs, detector, blue, tmp_path):
    (tmp_path / "in").mkdir()
    empty = save(tmp_path / "in" / "empty.png")
    command = (f"run={runs('fexgan')}", "affects=joy", "paste=true")
    alone = generate(*command, f"images={empty}", out="alone")
    assert alone.code == 2
    assert "no face found in 1 of 1 images: empty.png" in alone.err
    assert "paste=false uses the central square of each image" in alone.err
    save(tmp_path / "in" / "photo.png", (100, 60, 80))
    done = generate(*command, f"images={tmp_path / 'in'}")
    assert done.code == 0, done.err
    assert "no face found in 1 of 2 images: empty.png; these are left out" in done.out
    assert [path.name for path in (done.folder / "pasted").iterdir()] == ["photo_joy_1.00.png"]


def test_large_turned_and_transparent_pictures(generate, runs, detector, blue, tmp_path, monkeypatch):
    monkeypatch.setattr(paste, "_LARGEST", 256)  # sides of a face, and of the picture a face is looked for in
    monkeypatch.setattr(paste, "_LOOK", 400)
    folder = tmp_path / "in"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    side = cv2.rotate(scene((100, 60, 80)), cv2.ROTATE_90_COUNTERCLOCKWISE)
    Image.fromarray(side).save(folder / "turned.jpg", exif=exif, quality=100, subsampling=0)
    alpha = np.dstack([scene((100, 60, 80)), np.full((240, 300), 255, np.uint8)])
    alpha[:, :50, 3] = 0
    Image.fromarray(alpha).save(folder / "clear.png")
    Image.fromarray(scene((100, 60, 80))).convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "still.gif")
    Image.fromarray(scene((100, 60, 80))).convert("CMYK").save(folder / "print.jpg", quality=100)
    save(folder / "large.png", (360, 200, 320), size=(1000, 800))
    Image.fromarray(scene((100, 60, 80))[..., 0]).save(folder / "grey.png")  # a patch of grey is no red one
    done = generate(f"run={runs('fexgan')}", f"images={folder}", "affects=joy", "paste=true")
    assert done.code == 0, done.err
    assert "no face found in 1 of 6 images: grey.png; these are left out" in done.out
    assert "its faces look blurred" in done.out
    for name in ("turned", "print", "still", "clear"):
        found = pasted(done, name)
        assert found.shape[:2] == (240, 300), name
        assert found[110, 140, 2] > found[110, 140, 0], name
    assert np.array_equal(pasted(done, "clear")[..., 3], alpha[..., 3])
    large = pasted(done, "large")
    assert large.shape == (800, 1000, 3)
    assert large[400, 520, 2] > large[400, 520, 0]


def test_the_detector_must_be_installed(generate, runs, tmp_path):
    path = save(tmp_path / "photo.png", (100, 60, 80))
    done = generate(f"run={runs('fexgan')}", f"images={path}", "paste=true")
    assert done.code == 2
    assert "finding faces in a picture needs the face detector." in done.err
    assert "python -m fexgan_lit.data.faces.install" in done.err
    assert "Or give the box around the face, from the middle of the forehead to the chin" in done.err
    assert "box=[left,top,right,bottom]" in done.err


def test_a_box_by_hand_needs_no_detector(generate, runs, blue, tmp_path):
    path = save(tmp_path / "photo.png", (100, 60, 80))
    command = (f"run={runs('fexgan')}", f"images={path}", "affects=joy", "paste=true")
    done = generate(*command, "box=[100,60,180,140]")
    assert done.code == 0, done.err
    found, before = pasted(done, "photo"), scene((100, 60, 80))
    changed = np.argwhere(found[..., 2].astype(int) > found[..., 0] + 20)
    assert (changed.min(0) > (50, 95)).all()
    assert (changed.max(0) < (160, 185)).all()
    assert len(changed) > 0.5 * 80 * 80
    assert np.array_equal(found[:30], before[:30])
    two = generate(*command, "box=[[100,60,180,140],[10,150,60,200]]", out="two")
    assert pasted(two, "photo")[180, 35, 2] > pasted(two, "photo")[180, 35, 0]
    for box, message in (
        ("[400,60,480,140]", "it is empty or lies outside photo.png, which has 300 x 240 pixels"),
        ("[180,60,100,140]", "expected [left,top,right,bottom] in pixels"),
        ("[1,2,3]", "expected [left,top,right,bottom] in pixels"),
    ):
        wrong = generate(*command, f"box={box}", out=None)
        assert wrong.code == 2
        assert message in wrong.err
    folder = generate(f"run={runs('fexgan')}", f"images={tmp_path}", "paste=true", "box=[1,2,3,4]", out=None)
    assert "one image as images=FILE" in folder.err


def test_the_crop_of_a_box_is_framed_as_the_frames_of_training():
    """The box is the face's square, wherever the frames have it."""
    framing = Framing(0.1, -0.05, 1.7)
    points = FACE * 60 + 100
    left, top, side = face_squares(points[None], 0.0)[0]
    found, given = Square.around(points, framing), Square.in_box((left, top, left + side, top + side), framing)
    np.testing.assert_allclose(given.to_square, found.to_square, atol=1e-9)
    np.testing.assert_allclose(given.face, found.face, atol=1e-9)
    wide = Square.in_box((left - 20, top, left + side + 20, top + side), framing)
    assert wide.side == pytest.approx(framing.side * (side + 40))
    central = Square.central(300, 240, framing)
    np.testing.assert_allclose(central.to_square, [[1 / 240, 0, -30 / 240], [0, 1 / 240, 0]], atol=1e-9)
    assert central.face[2] == pytest.approx(1 / 1.7)


def test_grey_pictures_stay_grey(generate, runs, blue, tmp_path):
    Image.new("L", (200, 160), 128).save(tmp_path / "grey.png")
    done = generate(
        f"run={runs('fexgan')}", f"images={tmp_path / 'grey.png'}", "affects=joy", "paste=true", "box=[60,40,140,120]"
    )
    assert done.code == 0, done.err
    found = pasted(done, "grey")
    assert (found == found[..., :1]).all()
    assert found[80, 100, 0] != 128


def test_tiny_and_turned_faces_are_named():
    squares = [Square.in_box((0, 0, side, side), Framing(0, 0, 1.5)) for side in (10, 60, 400)]
    large, tiny, turned = face_notes(("a", "b", "c"), squares, (0, -60, 30), 64)
    assert "enlarged to 600 pixels" in large
    assert tiny.endswith("so that little is seen: a (15 px)")
    assert turned.endswith("b (60 degrees)")
    assert face_notes(("b",), squares[1:2], (10,), 64) == []


def test_action_units_of_a_picture_are_told_with_its_face(generate, runs, detector, painting, tmp_path):
    shows = []

    def paint(source, shown, wanted):
        shows.append(shown.aus)
        return source

    painting(paint)
    path = save(tmp_path / "photo.png", (30, 60, 80), (180, 80, 70))
    units = [f"AU{unit:02d}" for unit in ACTION_UNITS]
    values = ["2.5" if unit == "AU12" else "0" for unit in units]
    (tmp_path / "known.csv").write_text("\n".join([",".join(["path", *units]), ",".join(["photo.png", *values])]))
    command = (
        f"run={runs('ganimation')}", f"images={path}", "affects=joy", "paste=true",
        f"annotations={tmp_path / 'known.csv'}",
    )  # fmt: skip
    done = generate(*command, "which=1")
    assert done.code == 0, done.err
    assert shows[0][0].tolist() == pytest.approx([0.5 * (unit == 12) for unit in ACTION_UNITS])
    crowd = generate(*command, "which=all", out=None)
    assert "it describes each image, but photo.png has several faces" in crowd.err


def test_a_run_keeps_where_its_frames_have_the_face(runs, detector, generate, tmp_path, monkeypatch):
    """Without its data: they are not drawn again for a photograph."""
    loaded = load(runs("fexgan"))
    frames = open_data(runs("fexgan")).train
    assert loaded.framing == pytest.approx(framing_of(frames.landmarks.astype(float), 2.0), abs=1e-3)
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(tmp_path / "empty"))
    path = save(tmp_path / "photo.png", (100, 60, 80))
    done = generate(f"run={runs('fexgan')}", f"images={path}", "affects=joy", "paste=true")
    assert done.code == 0, done.err
    assert not (tmp_path / "empty").exists()


def test_photographs_are_edited_in_python(runs, detector, monkeypatch):
    loaded = load(runs("fexgan"))
    monkeypatch.setattr(loaded.system, "synthesize", lambda x, *_: torch.tensor([-1.0, -1, 1])[:, None, None] + 0 * x)
    pair = scene((30, 60, 80), (180, 80, 70))
    with pytest.raises(UserError, match=r"which=1\.\.2 selects one"):
        loaded.edit(pair, "joy")
    blue_at = []
    for options in ({"which": 1}, {"which": "all"}, {"box": (180, 80, 250, 150)}):
        found = np.asarray(loaded.edit(pair, "joy", **options))
        assert found.shape == pair.shape
        blue_at.append([bool(found[y, x, 2] > found[y, x, 0]) for x, y in ((70, 110), (215, 115))])
    assert blue_at == [[True, False], [True, True], [False, True]]
    assert np.array_equal(pair, scene((30, 60, 80), (180, 80, 70))), "the picture itself is not changed"
    with pytest.raises(UserError, match="no face found"):
        loaded.edit(scene(), "joy")


def test_landmarks_that_were_found_are_known_to_the_run(generate, runs, detector, painting, tmp_path):
    """A run that reads landmarks is told those of the cut-out face."""
    seen = []

    def paint(source, shown, wanted):
        seen.append(shown.landmarks)
        return source

    painting(paint)
    path = save(tmp_path / "photo.png", (100, 60, 80))
    done = generate(f"run={runs('landmark_label')}", f"images={path}", "affects=joy", "paste=true")
    # what joy means to landmarks is taken from true frames of the same person, whom nobody knows
    assert done.code == 2
    assert "which come from real frames of the same person" in done.err
    assert not seen
