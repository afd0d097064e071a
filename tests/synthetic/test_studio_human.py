from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("numba")

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.synthetic.cartoon.studio import CartoonStudio
from fexgan_lit.synthetic.human import camera, rig
from fexgan_lit.synthetic.human.cast import CAST, make_cast
from fexgan_lit.synthetic.human.hair import above_hairline
from fexgan_lit.synthetic.human.model import IDENTITY_MODES, content_hash, load_model
from fexgan_lit.synthetic.human.skin import FOLDS, fold_strengths
from fexgan_lit.synthetic.human.studio import HumanStudio
from fexgan_lit.synthetic.human.styles import STYLES
from fexgan_lit.synthetic.mixed import MixedStudio
from fexgan_lit.synthetic.prototypes import AU_COLUMN, prototype
from fexgan_lit.synthetic.takes import FaceState

FACEKIT = os.environ.get("FEXGAN_LIT_FACEKIT")
with_model = pytest.mark.skipif(not FACEKIT, reason="set FEXGAN_LIT_FACEKIT to ICT-FaceKit to test whole faces")

NAMES = tuple(
    sorted(
        {
            name
            for shapes in rig.SHAPES_OF_UNIT.values()
            for stem in shapes
            for name in ((stem + "L", stem + "R") if stem.endswith("_") else (stem,))
        }
        | {f"eyeLook{way}_{side}" for way in ("In", "Out", "Up", "Down") for side in "LR"}
    )
)


def _act(unit: int, left: float = 0.0, right: float = 0.0, **more) -> FaceState:
    units = np.zeros((2, len(ACTION_UNITS)))
    units[:, AU_COLUMN[unit]] = left, right
    return FaceState(units, **more)


# ---------------------------------------------------------------------------------------------------------------- rig


def test_left_half_of_the_image_is_the_subjects_right():
    weights = dict(zip(NAMES, rig.shape_weights(NAMES, _act(12, left=1.0)), strict=True))
    assert weights["mouthSmile_R"] > 0.5
    assert weights["mouthSmile_L"] == 0


def test_every_unit_moves_something_and_grows_with_its_strength():
    for unit in ACTION_UNITS:
        half, full = (rig.shape_weights(NAMES, _act(unit, v, v)) for v in (0.5, 1.0))
        assert full.sum() > half.sum() > 0, unit


def test_unsided_shapes_take_the_mean_of_both_sides():
    one = rig.shape_weights(NAMES, _act(26, left=1.0))
    both = rig.shape_weights(NAMES, _act(26, left=1.0, right=1.0))
    jaw = NAMES.index("jawOpen")
    assert one[jaw] == pytest.approx(both[jaw] / 2)


def test_a_blink_shuts_lids_no_further_than_shut_and_gives_up_other_lid_moves():
    units = np.zeros((2, len(ACTION_UNITS)))
    units[:, [AU_COLUMN[45], AU_COLUMN[7], AU_COLUMN[5]]] = 1.0
    for lids in (-0.3, 0.2):
        weights = dict(zip(NAMES, rig.shape_weights(NAMES, FaceState(units), lids), strict=True))
        assert 1.0 <= weights["eyeBlink_L"] <= 1.06
        assert weights["eyeWide_L"] == 0


def test_lids_follow_the_gaze_to_the_right_side_of_the_image():
    act = FaceState(np.zeros((2, len(ACTION_UNITS))), gaze=(1.0, 0.0))
    weights = dict(zip(NAMES, rig.shape_weights(NAMES, act), strict=True))
    assert weights["eyeLookOut_L"] > 0  # the subject's left eye is on the right and turns outward
    assert weights["eyeLookIn_R"] > 0
    assert weights["eyeLookOut_R"] == weights["eyeLookIn_L"] == 0


@pytest.mark.parametrize(("pose", "axis", "sign"), [((10, 0, 0), 0, 1), ((0, 10, 0), 1, 1), ((0, 0, 10), 0, 1)])
def test_pose_signs_in_the_picture(pose, axis, sign):
    # the tip of the nose moves right with yaw and down with pitch; the crown moves right with roll
    point = np.array([[0, 14, 0]] if pose[2] else [[0, 0, 13]], np.float32)
    still, moved = (camera.project(rig.posed(point, np.ones(1, np.float32), p), 100) for p in ((0, 0, 0), pose))
    assert sign * (moved[0, axis] - still[0, axis]) > 1


def test_shoulders_stay_when_the_head_turns():
    low = np.array([[5, -18, 0]], np.float32)
    assert rig.neck_weight(low)[0] == 0
    assert rig.neck_weight(np.array([[0, 5, 5]], np.float32))[0] == 1


def test_lids_are_pushed_out_of_the_eyeball():
    points = np.array([[0.0, 0.5, 0.5], [0, 0, 5]], np.float32)
    rig.keep_outside(points, np.array([0, 1]), np.zeros(3, np.float32), 1.6, 0.2)
    assert np.linalg.norm(points[0]) >= 1.6
    assert points[1].tolist() == [0, 0, 5]


def test_folds_belong_to_their_side():
    units = np.zeros((2, len(ACTION_UNITS)))
    units[0, AU_COLUMN[12]] = 1
    strengths = dict(zip((name for name, _ in FOLDS), fold_strengths(units), strict=True))
    assert strengths["nasolabial"][0] > 0.5
    assert strengths["nasolabial"][1] == 0


# --------------------------------------------------------------------------------------------------------------- cast


def test_cast_has_ten_different_people_then_seeded_ones():
    people = make_cast(40, seed=3)
    assert [who.name for who in people[:10]] == [who.name for who in CAST]
    assert len({who.name for who in people}) == 40
    assert len({who.shape for who in people}) == 40
    assert people == make_cast(40, seed=3)
    assert people[10:] != make_cast(40, seed=4)[10:]
    assert make_cast(12, seed=3) == people[:12]
    assert all(who.hair in STYLES for who in people)
    assert all(len(who.shape) == IDENTITY_MODES for who in people)


def test_a_population_is_random_and_grows_without_changing():
    people = make_cast(60, 3, "random")
    assert people[:7] == make_cast(7, 3, "random")
    assert people != make_cast(60, 4, "random")
    assert len({who.name for who in people}) == 60
    shapes = np.array([who.shape for who in people])
    assert shapes.shape == (60, IDENTITY_MODES)
    assert (shapes.std(axis=0) > 0.4).all()
    for k in range(60):
        assert np.linalg.norm(shapes - shapes[k], axis=1)[np.arange(60) != k].min() > 3
    for name in ("skin", "hair_colour", "cloth", "wall", "light", "hair_cut"):
        assert len({getattr(who, name) for who in people}) > 55, name
    assert {who.glasses for who in people} == {"none", "round", "square"}
    assert {who.hair for who in people} == set(STYLES)
    assert any(who.beard for who in people)


def test_hair_grows_on_the_crown_and_not_on_face_or_ears():
    places = np.array([(0, 14, 0), (0, 5, 10), (8.5, 1, -1), (0, 8, -8)], np.float32)
    above = above_hairline(places, STYLES["long"])
    assert above[0] > 1
    assert above[3] > 1
    assert above[1] < 0
    assert above[2] < 0
    assert above_hairline(places, STYLES["ring"])[0] < 0


# ---------------------------------------------------------------------------------------- whole faces, with the model


@pytest.fixture(scope="module")
def studio():
    return HumanStudio(identities=2, takes=1, frames=2, size=64, facekit=FACEKIT or "")


@with_model
def test_recipe_knows_the_model_by_content_and_travels(studio):
    recipe = studio.recipe
    assert "facekit" not in recipe
    assert recipe["model"] == content_hash(FACEKIT)
    json.dumps(recipe)
    copy = pickle.loads(pickle.dumps(studio))  # noqa: S301
    assert copy == studio
    assert len(pickle.dumps(studio)) < 200_000


@with_model
def test_same_bytes_in_another_process(studio):
    act = FaceState(np.tile(prototype("joy"), (2, 1)), gaze=(0.3, 0.1), pose=(4.0, 2.0, 1.0))
    here = studio.paint(0, act, 64)
    script = (
        "import sys, hashlib, numpy as np\n"
        "from fexgan_lit.synthetic.human.studio import HumanStudio\n"
        "from fexgan_lit.synthetic.takes import FaceState\n"
        "from fexgan_lit.synthetic.prototypes import prototype\n"
        "s = HumanStudio(identities=2, takes=1, frames=2, size=64, facekit=sys.argv[1])\n"
        "act = FaceState(np.tile(prototype('joy'), (2, 1)), gaze=(0.3, 0.1), pose=(4.0, 2.0, 1.0))\n"
        "sys.stdout.buffer.write(s.paint(0, act, 64).tobytes())\n"
    )
    there = subprocess.run([sys.executable, "-c", script, FACEKIT], capture_output=True, check=True).stdout
    assert there == here.tobytes()


@with_model
@pytest.mark.parametrize("size", [32, 64, 128])
def test_faces_fill_the_picture_and_differ_by_affect(studio, size):
    frames = {
        affect: studio.paint(0, FaceState(np.tile(prototype(affect), (2, 1))), size) for affect in ("joy", "anger")
    }
    for frame in frames.values():
        assert frame.shape == (size, size, 3)
        assert frame.dtype == np.uint8
        wall = frame[: size // 12, : size // 12].astype(float)
        assert wall.std(axis=2).max() < 6  # the wall is grey
    assert np.abs(frames["joy"].astype(int) - frames["anger"]).max() > 40


@with_model
@pytest.mark.parametrize("framing", [(1.0, 0.0, 0.0), (0.85, 0.1, -0.1), (1.15, -0.03, 0.02)])
def test_dark_pupils_lie_between_the_landmarks_of_the_lids(studio, framing):
    size, act = 256, FaceState(np.zeros((2, len(ACTION_UNITS))), framing=framing)
    frame = studio.paint(0, act, size).astype(float).sum(axis=2)
    points = studio.landmarks(0, act, size)
    for eye in (slice(36, 42), slice(42, 48)):
        (left, top), (right, bottom) = points[eye].min(axis=0), points[eye].max(axis=0)
        inside = frame[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
        outside = frame[int(bottom) + 6 : int(bottom) + 14, int(left) : int(right) + 1]
        assert inside.min() < 0.4 * outside.mean()


@with_model
def test_landmarks_follow_expression_and_pose(studio):
    rest = studio.landmarks(0, FaceState(np.zeros((2, len(ACTION_UNITS)))), 128)
    smile = studio.landmarks(0, _act(12, 1.0, 1.0), 128)
    assert smile[54, 0] - smile[48, 0] > rest[54, 0] - rest[48, 0] + 1
    assert smile[48, 1] < rest[48, 1]
    open_ = studio.landmarks(0, _act(26, 1.0, 1.0), 128)
    assert open_[8, 1] > rest[8, 1] + 2
    one_sided = studio.landmarks(0, _act(12, left=1.0), 128)
    assert np.hypot(*(one_sided[48] - rest[48])) > 5 * np.hypot(*(one_sided[54] - rest[54]))
    turned = studio.landmarks(0, FaceState(np.zeros((2, len(ACTION_UNITS))), pose=(10.0, 0.0, 0.0)), 128)
    assert turned[30, 0] > rest[30, 0] + 3


@with_model
def test_landmarks_are_those_of_the_drawn_vertices(studio):
    from fexgan_lit.synthetic.human.painter import Painter

    act = FaceState(np.tile(prototype("fear"), (2, 1)), pose=(5.0, -3.0, 2.0), gaze=(0.2, -0.3))
    model = load_model(FACEKIT, content_hash(FACEKIT))
    painter = Painter(model, studio.cast[1], 1)
    drawn = camera.project(painter.move(act)[model.landmarks68], 128)[:, :2]
    np.testing.assert_allclose(studio.landmarks(1, act, 128), drawn, atol=1e-3)


@with_model
def test_table_and_counterfactuals_work_as_in_any_studio(studio):
    table = studio.table()
    assert len(table) == 2 * 7 * 2
    landmarks = table[[f"{axis}{k:02d}" for k in range(68) for axis in "xy"]].to_numpy()
    assert landmarks.min() > 0
    assert landmarks.max() < 64
    row = int(np.flatnonzero(table["affect"] == "joy")[0])
    same = studio.render_as(row, prototype("sadness"))
    assert same.shape == (64, 64, 3)
    assert (same != studio.render_as(row, prototype("joy"))).any()


@with_model
def test_framing_is_the_same_for_skin_hair_and_wall(studio):
    """A framed picture is the usual one, magnified and shifted; beyond its edges wall and clothes go on."""
    size, framing = 128, (0.85, 0.05, -0.1)
    usual, framed = (
        studio.paint(0, FaceState(np.zeros((2, len(ACTION_UNITS))), framing=crop), size).astype(np.float32)
        for crop in ((1.0, 0.0, 0.0), framing)
    )
    scale, right, down = framing
    matrix = np.array([[scale, 0, size * (0.5 * (1 - scale) + right)], [0, scale, size * (0.5 * (1 - scale) + down)]])
    moved = cv2.warpAffine(usual, matrix, (size, size))
    inside = cv2.erode(cv2.warpAffine(np.ones((size, size), np.uint8), matrix, (size, size)), np.ones((5, 5)))
    assert np.abs(moved - framed)[inside > 0].mean() < 6
    assert np.abs(usual - framed)[inside > 0].mean() > 12
    assert framed.min(axis=(0, 1)).min() >= 0
    assert (framed[0].min(axis=1) > 100).all()  # the wall, also above the usual picture
    assert framed[-1, 40:90].max() < 200  # clothes, also below it


@with_model
def test_people_of_a_population_differ_and_do_not_depend_on_their_number():
    one, more = (
        HumanStudio(identities=count, takes=1, frames=1, size=32, facekit=FACEKIT, population="random")
        for count in (1, 2)
    )
    assert (one.render(3) == more.render(3)).all()
    assert np.abs(more.render(3).astype(int) - more.render(10)).mean() > 10
    assert more.recipe["population"] == "random"
    assert "population" not in HumanStudio(identities=1, facekit=FACEKIT).recipe


@with_model
def test_a_mixed_studio_draws_the_characters_of_both_in_turn():
    options = {"takes": 1, "frames": 2, "size": 32}
    mixed = MixedStudio(identities=3, facekit=FACEKIT, **options)
    human, cartoon = (
        HumanStudio(identities=2, facekit=FACEKIT, **options),
        CartoonStudio(identities=1, **options),
    )
    assert mixed.people == (human.people[0], f"cartoon_{cartoon.people[0]}", human.people[1])
    smile = prototype("joy")
    assert (mixed.render_face(2, smile) == human.render_face(1, smile)).all()
    assert (mixed.render_face(1, smile) == cartoon.render_face(0, smile)).all()
    act = FaceState(np.tile(smile, (2, 1)))
    assert (mixed.landmarks(1, act, 32) == cartoon.landmarks(0, act, 32)).all()
    assert (mixed.render(3) == human.render(3)).all()  # takes of the first person are the same
    assert len(mixed.table()) == 3 * 7 * 2
    assert [part["studio"] for part in mixed.recipe["parts"]] == ["human", "cartoon"]
    assert "facekit" not in json.dumps(mixed.recipe)
