"""`paste=true`: faces found, cut as the run's frames are, and put back; pictures of every kind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fexgan_lit.data.faces.geometry import face_squares
from fexgan_lit.inference.paste import Framing, Square, colour_shift, framing_of
from tests.data.fake_detector import FACE

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
    assert "paste=false uses the central square" in alone.err
    save(tmp_path / "in" / "photo.png", (100, 60, 80))
    done = generate(*command, f"images={tmp_path / 'in'}")
    assert done.code == 0, done.err
    assert "no face found in 1 of 2 images: empty.png; these are left out" in done.out
    assert [path.name for path in (done.folder / "pasted").iterdir()] == ["photo_joy_1.00.png"]


def test_large_turned_and_transparent_pictures(generate, runs, detector, blue, tmp_path):
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
    save(folder / "large.png", (1800, 1000, 1600), size=(5000, 4000), compress_level=1)
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
    assert large.shape == (4000, 5000, 3)
    assert large[2000, 2600, 2] > large[2000, 2600, 0]


def test_the_detector_must_be_installed(generate, runs, tmp_path):
    path = save(tmp_path / "photo.png", (100, 60, 80))
    done = generate(f"run={runs('fexgan')}", f"images={path}", "paste=true")
    assert done.code == 2
    assert "paste=true needs the face detector." in done.err
    assert "python -m fexgan_lit.data.faces.install" in done.err


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
