from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from fexgan_lit.data.studio.human import camera, rig
from fexgan_lit.data.studio.human.cast import CAST, make_cast
from fexgan_lit.data.studio.human.hair import above_hairline
from fexgan_lit.data.studio.human.lighting import gather, lamps, neighbours, spread
from fexgan_lit.data.studio.human.model import (
    IDENTITY_MODES,
    LANDMARKS68,
    checked,
    content_hash,
    load_model,
    model_files,
    read_checkout,
)
from fexgan_lit.data.studio.human.obj import read_obj, read_vertices
from fexgan_lit.data.studio.human.raster import (
    FAR,
    Buffers,
    close_holes,
    draw_lines,
    draw_triangles,
    vertex_normals,
)
from fexgan_lit.data.studio.human.skin import FOLDS, fold_strengths
from fexgan_lit.data.studio.human.studio import HumanStudio
from fexgan_lit.data.studio.human.styles import STYLES
from fexgan_lit.data.studio.prototypes import AU_COLUMN, prototype
from fexgan_lit.data.studio.takes import Performance
from fexgan_lit.errors import UserError
from fexgan_lit.expression import ACTION_UNITS

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


def _act(unit: int, left: float = 0.0, right: float = 0.0, **more) -> Performance:
    units = np.zeros((2, len(ACTION_UNITS)))
    units[:, AU_COLUMN[unit]] = left, right
    return Performance(units, **more)


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
        weights = dict(zip(NAMES, rig.shape_weights(NAMES, Performance(units), lids), strict=True))
        assert 1.0 <= weights["eyeBlink_L"] <= 1.06
        assert weights["eyeWide_L"] == 0


def test_lids_follow_the_gaze_to_the_right_side_of_the_image():
    act = Performance(np.zeros((2, len(ACTION_UNITS))), gaze=(1.0, 0.0))
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


# --------------------------------------------------------------------------------------------------------- rasteriser


def _draw(points, triangles, size=8, cull=0, bias=None):
    triangles = np.array(triangles, np.int32)
    buffers = Buffers(size)
    draw_triangles(
        np.array(points, np.float32),
        triangles,
        np.full(len(triangles), cull, np.uint8),
        np.zeros(len(triangles), np.float32) if bias is None else np.array(bias, np.float32),
        buffers.depth,
        buffers.triangle,
        buffers.weights,
    )
    return buffers


def test_two_triangles_cover_a_square_without_seam_or_overhang():
    square = [(1, 1, 5), (6, 1, 5), (6, 6, 5), (1, 6, 5)]
    seen = _draw(square, [(0, 1, 2), (0, 2, 3)]).triangle >= 0
    expected = np.zeros((8, 8), bool)
    expected[1:6, 1:6] = True
    np.testing.assert_array_equal(seen, expected)


def test_the_nearer_triangle_wins_in_either_order_and_bias_moves_it_back():
    points = [(0, 0, 5), (8, 0, 5), (0, 8, 5), (0, 0, 3), (8, 0, 3), (0, 8, 3)]
    for order in ([(0, 1, 2), (3, 4, 5)], [(3, 4, 5), (0, 1, 2)]):
        buffers = _draw(points, order)
        assert buffers.depth[1, 1] == 3
        assert buffers.triangle[1, 1] == order.index((3, 4, 5))
    assert _draw(points, [(0, 1, 2), (3, 4, 5)], bias=[0, 4]).triangle[1, 1] == 0


def test_depth_and_weights_are_interpolated():
    buffers = _draw([(0, 0, 0), (8, 0, 8), (0, 8, 0)], [(0, 1, 2)])
    assert buffers.depth[0, 3] == pytest.approx(3.5)
    w0, w1 = buffers.weights[0, 3]
    assert (w0, w1) == pytest.approx((0.5, 0.4375))


def test_back_faces_are_culled_only_where_asked():
    front = [(0, 0, 1), (0, 8, 1), (8, 0, 1)]
    assert (_draw(front, [(0, 1, 2)], cull=1).triangle >= 0).any()
    assert (_draw(front, [(0, 2, 1)], cull=1).triangle < 0).all()
    assert (_draw(front, [(0, 2, 1)], cull=0).triangle >= 0).any()


def test_triangles_outside_the_picture_leave_it_alone():
    assert (_draw([(-50, -50, 1), (-40, -50, 1), (-50, -40, 1)], [(0, 1, 2)]).depth == FAR).all()


def test_lines_respect_depth_and_thin_ones_blend():
    def line(width, depth_there):
        depth, image = np.full((8, 8), depth_there, np.float32), np.zeros((8, 8, 3), np.float32)
        points = np.array([(0, 4.5, 2), (8, 4.5, 2)], np.float32)
        white, starts = np.ones((2, 3), np.float32), np.array([0, 2], np.int32)
        draw_lines(points, starts, white, np.full(2, width, np.float32), 0.0, depth, image)
        return image[..., 0]

    whole = line(1.0, FAR)
    assert whole[4].tolist() == [1] * 8
    assert whole.sum() == 8
    assert line(1.0, 1.0).sum() == 0
    assert line(0.25, FAR)[4, 3] == pytest.approx(0.25)
    assert line(0.0, FAR).sum() == 0


def test_pinholes_close_and_open_ground_stays():
    depth, image = np.full((12, 12), FAR, np.float32), np.zeros((12, 12, 3), np.float32)
    depth[3:9, 3:9], image[3:9, 3:9] = 1, 1
    depth[5, 5], image[5, 5] = FAR, 9
    close_holes(depth, image, 2, 0.5)
    assert image[5, 5, 0] == 0.5
    assert image[0, 0, 0] == image[6, 10, 0] == 0


def test_normals_point_out_of_a_counter_clockwise_triangle():
    normals = vertex_normals(np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0)], np.float32), np.array([[0, 1, 2]], np.int32))
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 3)


# -------------------------------------------------------------------------------------------------------------- light


def test_a_roof_throws_shadow_on_the_floor_below_it():
    floor = [(-8, -5, -8), (-8, -5, 8), (8, -5, 8), (8, -5, -8), (0, -5, 0)]
    roof = [(-3, 2, -3), (-3, 2, 3), (3, 2, 3), (3, 2, -3)]
    points = np.array(floor + roof, np.float32)
    casters = np.array([(5, 6, 7), (5, 7, 8)], np.int32)
    up = np.tile(np.array([0, 1, 0], np.float32), (9, 1))
    lamp = np.array([[0.0, 0.999, 0.045]], np.float32)
    plain = np.zeros((9, 3), np.float32)
    one, texels = np.ones((1, 3), np.float32), np.array([128], np.int32)
    light, seen = gather(points, up, casters, plain, np.ones((9, 1), np.float32), lamp, one, texels)
    assert light[0, 0] == pytest.approx(1.0, abs=0.01)
    assert light[4, 0] < 0.05
    assert seen[4, 1] < 0.05
    veiled, _ = gather(points, up, casters, plain, np.full((9, 1), 0.5, np.float32), lamp, one, texels)
    assert veiled[0, 0] == pytest.approx(0.5, abs=0.01)


def test_light_wanders_to_neighbours_only():
    starts, others = neighbours(np.array([(0, 1, 2)], np.int32), 4)
    values = np.array([[1, 1], [0, 0], [0, 0], [5, 5]], np.float32)
    spread(values, starts, others, np.array([1, 0]))
    assert values[:, 0].tolist() == pytest.approx([0.4, 0.3, 0.3, 5])
    assert values[:, 1].tolist() == [1, 0, 0, 5]


def test_key_light_obeys_gain_and_side():
    plain, strong, right = (lamps(*light) for light in ((1.0, 0.0, 0.0), (1.5, 0.0, 0.0), (1.0, 1.0, 0.0)))
    assert strong.colour[0, 1] == pytest.approx(1.5 * plain.colour[0, 1])
    assert right.towards[0, 0] > plain.towards[0, 0]


# ---------------------------------------------------------------------------------------------------------- OBJ, model


CUBE_SIDE = """
# a quad and a triangle
mtllib x.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vn 0 0 1
usemtl M_Face
f 1/1/1 2/2/1 3/3/1 4/1/1
usemtl M_Teeth
f 1//1 -3//1 3
"""


def test_obj_reader_knows_quads_triangles_uv_materials_and_negative_numbers(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text(CUBE_SIDE)
    mesh = read_obj(path)
    assert mesh.vertices.shape == (4, 3)
    assert mesh.uv[2].tolist() == [1, 1]
    assert mesh.faces.tolist() == [[0, 1, 2, 3], [0, 1, 2, -1]]
    assert mesh.face_uv.tolist() == [[0, 1, 2, 0], [-1, -1, -1, -1]]
    assert mesh.materials == ("M_Face", "M_Teeth")
    assert mesh.face_material.tolist() == [0, 1]
    np.testing.assert_array_equal(read_vertices(path), mesh.vertices)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("f 1 2 9", "9"),
        ("f 1 2", "2 corners"),
        ("f 1 2 3 4 1", "5 corners"),
        ("v 1 2", "3 numbers"),
        ("v 1 nan 0", "finite"),
    ],
)
def test_broken_obj_lines_are_named(tmp_path, line, word):
    path = tmp_path / "broken.obj"
    path.write_text(CUBE_SIDE + line + "\n")
    with pytest.raises(UserError, match=r"dataset\.facekit") as error:
        read_obj(path)
    assert word in str(error.value)


def _checkout(folder: Path, corners: int = 6500) -> Path:
    """A checkout with the right files and enough vertices for the landmarks, but no face in it."""
    faces = folder / "FaceXModel"
    faces.mkdir(parents=True)
    grid = np.arange(3 * corners, dtype=np.float64).reshape(corners, 3) % 97
    body = "\nvt 0 0\nusemtl M_Face\nf 1/1 2/1 3/1 4/1\n"

    def write(name, lift):
        rows = "\n".join(f"v {x:g} {y + lift:g} {z:g}" for x, y, z in grid)
        (faces / f"{name}.obj").write_text(rows + body)

    write("generic_neutral_mesh", 0)
    for k in range(IDENTITY_MODES):
        (faces / f"identity{k:03d}.obj").write_text("")
    write("identity000", 1)
    first = (faces / "identity000.obj").read_text()
    for k in range(1, IDENTITY_MODES):
        (faces / f"identity{k:03d}.obj").write_text(first)
    write("jawOpen", -2)
    return folder


def test_checkout_becomes_a_model_once_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("FEXGAN_LIT_CACHE", str(tmp_path / "cache"))
    folder = _checkout(tmp_path / "kit")
    key = content_hash(str(folder))
    model = load_model(str(folder), key)
    assert model.expression_names.tolist() == ["jawOpen"]
    assert float(model.expressions[0, :, 1].mean()) == pytest.approx(-2, abs=1e-2)
    assert float(model.identities[3, :, 1].mean()) == pytest.approx(1, abs=1e-2)
    assert model.landmarks68.tolist() == list(LANDMARKS68)
    kept = list((tmp_path / "cache" / "facekit").glob("*.npz"))
    assert [path.stem for path in kept] == [key]
    load_model.cache_clear()
    (folder / "FaceXModel" / "jawOpen.obj").write_text("v broken")  # must not be read again for the same key
    assert load_model(str(folder), key).expression_names.tolist() == ["jawOpen"]


def test_hash_depends_on_content_not_on_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "kit.npz", a=np.arange(4))
    one, two = (content_hash(str(tmp_path / name / "kit.npz")) for name in ("one", "two"))
    assert one == two
    np.savez(tmp_path / "two" / "kit.npz", a=np.arange(5))
    assert content_hash(str(tmp_path / "two" / "kit.npz")) != one


def test_files_of_different_releases_do_not_mix(tmp_path):
    folder = _checkout(tmp_path / "kit")
    (folder / "FaceXModel" / "identity007.obj").write_text("v 0 0 0\n")
    with pytest.raises(UserError, match=r"identity007\.obj has 1 vertices, the neutral mesh 6500"):
        read_checkout(model_files(folder))


def test_missing_files_of_a_checkout_are_named(tmp_path):
    folder = _checkout(tmp_path / "kit")
    (folder / "FaceXModel" / "identity011.obj").unlink()
    with pytest.raises(UserError, match=r"identity011\.obj"):
        model_files(folder)


@pytest.mark.parametrize("kind", ["absent", "empty folder", "not an npz", "cut off", "foreign"])
def test_wrong_paths_say_where_to_get_the_model(tmp_path, kind):
    path = tmp_path / "kit.npz"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "not an npz":
        path.write_text("hello")
    elif kind in ("cut off", "foreign"):
        np.savez(path, vertices=np.zeros((5, 3), np.float32))
        if kind == "cut off":
            path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(UserError, match=r"dataset\.facekit") as error:
        load_model(str(path), content_hash(str(path)))
    assert "github.com/USC-ICT/ICT-FaceKit" in str(error.value)


def test_all_wrong_arrays_are_named_at_once():
    arrays = {
        "vertices": np.zeros((10, 3), np.float32),
        "faces": np.zeros((4, 4), np.int32),
        "face_uv": np.zeros((5, 4), np.int32),
        "uv": np.zeros((3, 2), np.float32),
        "face_material": np.zeros(4, np.int8),
        "materials": np.array(["M_Face"]),
        "expression_names": np.array(["jawOpen"]),
        "expressions": np.zeros((1, 11, 3), np.float16),
        "landmarks68": np.zeros(68, np.int32),
    }
    with pytest.raises(UserError) as error:
        checked(arrays, Path("kit.npz"))
    message = str(error.value)
    assert "identities is missing" in message
    assert "face_uv has shape (5, 4), expected (4, 4)" in message
    assert "expressions has shape (1, 11, 3), expected (1, 10, 3)" in message


def test_numbers_that_point_outside_are_found():
    arrays = {
        "vertices": np.zeros((10, 3), np.float32),
        "faces": np.full((4, 4), 10, np.int32),
        "face_uv": np.zeros((4, 4), np.int32),
        "uv": np.zeros((3, 2), np.float32),
        "face_material": np.zeros(4, np.int8),
        "materials": np.array(["M_Face"]),
        "expression_names": np.array(["jawOpen"]),
        "expressions": np.zeros((1, 10, 3), np.float16),
        "identities": np.zeros((IDENTITY_MODES, 10, 3), np.float16),
        "landmarks68": np.zeros(68, np.int32),
    }
    with pytest.raises(UserError, match=r"faces holds 0\.\.10, expected numbers below 10"):
        checked(arrays, Path("kit.npz"))


def test_studio_without_a_model_asks_for_one():
    with pytest.raises(UserError, match=r"dataset\.facekit: found nothing"):
        HumanStudio()


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
    act = Performance(np.tile(prototype("joy"), (2, 1)), gaze=(0.3, 0.1), pose=(4.0, 2.0, 1.0))
    here = studio.paint(0, act, 64)
    script = (
        "import sys, hashlib, numpy as np\n"
        "from fexgan_lit.data.studio.human.studio import HumanStudio\n"
        "from fexgan_lit.data.studio.takes import Performance\n"
        "from fexgan_lit.data.studio.prototypes import prototype\n"
        "s = HumanStudio(identities=2, takes=1, frames=2, size=64, facekit=sys.argv[1])\n"
        "act = Performance(np.tile(prototype('joy'), (2, 1)), gaze=(0.3, 0.1), pose=(4.0, 2.0, 1.0))\n"
        "sys.stdout.buffer.write(s.paint(0, act, 64).tobytes())\n"
    )
    there = subprocess.run([sys.executable, "-c", script, FACEKIT], capture_output=True, check=True).stdout
    assert there == here.tobytes()


@with_model
@pytest.mark.parametrize("size", [32, 64, 128])
def test_faces_fill_the_picture_and_differ_by_affect(studio, size):
    frames = {
        affect: studio.paint(0, Performance(np.tile(prototype(affect), (2, 1))), size) for affect in ("joy", "anger")
    }
    for frame in frames.values():
        assert frame.shape == (size, size, 3)
        assert frame.dtype == np.uint8
        wall = frame[: size // 12, : size // 12].astype(float)
        assert wall.std(axis=2).max() < 6  # the wall is grey
    assert np.abs(frames["joy"].astype(int) - frames["anger"]).max() > 40


@with_model
def test_dark_pupils_lie_between_the_landmarks_of_the_lids(studio):
    size, act = 256, Performance(np.zeros((2, len(ACTION_UNITS))))
    frame = studio.paint(0, act, size).astype(float).sum(axis=2)
    points = studio.landmarks(0, act, size)
    for eye in (slice(36, 42), slice(42, 48)):
        (left, top), (right, bottom) = points[eye].min(axis=0), points[eye].max(axis=0)
        inside = frame[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
        outside = frame[int(bottom) + 6 : int(bottom) + 14, int(left) : int(right) + 1]
        assert inside.min() < 0.4 * outside.mean()


@with_model
def test_landmarks_follow_expression_and_pose(studio):
    rest = studio.landmarks(0, Performance(np.zeros((2, len(ACTION_UNITS)))), 128)
    smile = studio.landmarks(0, _act(12, 1.0, 1.0), 128)
    assert smile[54, 0] - smile[48, 0] > rest[54, 0] - rest[48, 0] + 1
    assert smile[48, 1] < rest[48, 1]
    open_ = studio.landmarks(0, _act(26, 1.0, 1.0), 128)
    assert open_[8, 1] > rest[8, 1] + 2
    one_sided = studio.landmarks(0, _act(12, left=1.0), 128)
    assert np.hypot(*(one_sided[48] - rest[48])) > 5 * np.hypot(*(one_sided[54] - rest[54]))
    turned = studio.landmarks(0, Performance(np.zeros((2, len(ACTION_UNITS))), pose=(10.0, 0.0, 0.0)), 128)
    assert turned[30, 0] > rest[30, 0] + 3


@with_model
def test_landmarks_are_those_of_the_drawn_vertices(studio):
    from fexgan_lit.data.studio.human.painter import Painter

    act = Performance(np.tile(prototype("fear"), (2, 1)), pose=(5.0, -3.0, 2.0), gaze=(0.2, -0.3))
    model = load_model(FACEKIT, content_hash(FACEKIT))
    painter = Painter(model, studio.cast[1], 1)
    drawn = camera.project(painter.move(act)[model.landmarks68], 128)[:, :2]
    np.testing.assert_allclose(studio.landmarks(1, act, 128), drawn, atol=1e-3)


@with_model
def test_table_and_counterfactuals_work_as_in_any_studio(studio):
    table = studio.table().frame
    assert len(table) == 2 * 7 * 2
    landmarks = table[[f"{axis}{k:02d}" for k in range(68) for axis in "xy"]].to_numpy()
    assert landmarks.min() > 0
    assert landmarks.max() < 64
    row = int(np.flatnonzero(table["affect"] == "joy")[0])
    same = studio.render_as(row, prototype("sadness"))
    assert same.shape == (64, 64, 3)
    assert (same != studio.render_as(row, prototype("joy"))).any()
