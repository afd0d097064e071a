"""The studio draws the same bytes everywhere, shows what its labels say, and its landmarks follow the muscles."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from itertools import combinations, pairwise

import cv2
import numpy as np
import pytest

from fexgan_lit.data.faces.geometry import face_squares
from fexgan_lit.expression import ACTION_UNITS, AFFECTS, LANDMARK_COLUMNS
from fexgan_lit.synthetic import CartoonStudio
from fexgan_lit.synthetic.cartoon.cast import CAST, make_cast
from fexgan_lit.synthetic.cartoon.painter import landmarks, perform
from fexgan_lit.synthetic.prototypes import AU_COLUMN, prototype
from fexgan_lit.synthetic.regions import BOX_COLUMNS
from fexgan_lit.synthetic.takes import FaceState
from fexgan_lit.utils.errors import UserError

AUS = [f"au{unit:02d}" for unit in ACTION_UNITS]


@pytest.fixture(scope="module")
def studio() -> CartoonStudio:
    return CartoonStudio(identities=9, takes=2, frames=5, size=64, seed=3)


@pytest.fixture(scope="module")
def frame(studio):
    return studio.table()


def units(**strength: float) -> np.ndarray:
    out = np.zeros(17)
    for name, value in strength.items():
        out[AU_COLUMN[int(name[2:])]] = value
    return out


def points(studio: CartoonStudio, who: int = 0, **strength: float) -> np.ndarray:
    return landmarks(studio.cast[who], FaceState(np.stack([units(**strength)] * 2)), studio.size)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_same_bytes_in_another_order_instance_and_process(studio):
    rows = [0, 37, 211, len(studio) - 1]
    forward = [studio.render(row).tobytes() for row in rows]
    again = CartoonStudio(**{k: v for k, v in studio.recipe.items() if k not in ("studio", "version")})
    assert [again.render(row).tobytes() for row in rows[::-1]][::-1] == forward
    code = (
        "import hashlib; from fexgan_lit.synthetic import CartoonStudio;"
        "s = CartoonStudio(identities=9, takes=2, frames=5, size=64, seed=3);"
        f"print(hashlib.sha256(b''.join(s.render(r).tobytes() for r in {rows})).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(b"".join(forward)).hexdigest()


def test_pictures_depend_on_seed_take_and_moment_only():
    short, long = CartoonStudio(1, 1, 3, 32), CartoonStudio(1, 1, 5, 32)
    assert (short.render(1) == long.render(2)).all()  # both are the middle of the take
    assert (short.render(1) != CartoonStudio(1, 1, 3, 32, seed=1).render(1)).any()
    assert (CartoonStudio(1, 2, 3, 32).render(1) != CartoonStudio(1, 2, 3, 32).render(4)).any()


def test_table_covers_every_affect_of_every_identity(studio, frame):
    assert len(frame) == len(studio) == 9 * 7 * 2 * 5
    assert (frame.groupby(["identity", "affect"]).size() == 10).all()
    assert set(frame.affect) == set(AFFECTS)
    assert frame.path.is_unique
    assert set(frame.identity) == set(studio.people)


def test_truth_of_the_takes(frame):
    assert frame[AUS].to_numpy().min() >= 0
    assert frame[AUS].to_numpy().max() <= 1
    assert (frame[frame.frame == 0].intensity < 0.05).all()
    acted = frame[frame.affect != "neutral"]
    assert (acted.intensity >= 0.6).mean() >= 0.5
    assert (acted.groupby(["identity", "affect", "take"]).intensity.max() > 0.95).all()
    neutral = frame[frame.affect == "neutral"]
    assert (neutral.intensity == 0).all()
    assert (neutral[AUS[:-1]] == 0).all(axis=None)  # all but the blink
    assert frame[["yaw", "pitch", "roll"]].abs().to_numpy().max() <= 1.0
    assert (frame.groupby(["identity", "affect", "take"]).time_s.diff().dropna() > 0).all()


def test_head_motion_widens_and_stills_the_sway():
    def reach(degrees: float) -> float:
        table = CartoonStudio(2, 1, 5, 32, head_motion=degrees).table()
        return float(table[["yaw", "pitch", "roll"]].abs().to_numpy().max())

    assert reach(0.0) == 0.0
    assert 2.0 < reach(8.0) <= 8.0


def test_landmarks_lie_inside_the_picture(frame):
    xy = frame[[f"{axis}{k:02d}" for k in range(68) for axis in "xy"]].to_numpy()
    assert xy.min() >= 0
    assert xy.max() <= 64
    assert (frame.x36 < frame.x39).all()
    assert (frame.x39 < frame.x42).all()
    assert (frame.y08 > frame.y57).all()


def test_landmarks_follow_the_muscles(studio):
    rest = points(studio)
    smile = points(studio, au12=1)
    assert smile[48, 0] < rest[48, 0] - 1  # corners out
    assert smile[54, 0] > rest[54, 0] + 1
    assert (smile[[48, 54], 1] < rest[[48, 54], 1] - 1).all()  # and up
    drop = points(studio, au25=1, au26=1)
    assert drop[8, 1] > rest[8, 1] + 2
    assert drop[57, 1] > rest[57, 1] + 2
    raised = points(studio, au01=1, au02=1)
    assert (raised[17:27, 1] < rest[17:27, 1] - 1).all()
    frown = points(studio, au04=1)
    assert (frown[[21, 22], 1] > rest[[21, 22], 1] + 1).all()
    assert frown[22, 0] - frown[21, 0] < rest[22, 0] - rest[21, 0]
    shut = points(studio, au45=1)
    assert np.abs(shut[37:39, 1] - shut[[41, 40], 1]).max() < 0.3
    assert (points(studio, au15=1)[[48, 54], 1] > rest[[48, 54], 1] + 1).all()


def test_lips_never_cross(studio):
    """Whatever the affect or mixture, the four contours of the lips keep their order from top to bottom."""
    for first, second in combinations(AFFECTS, 2):
        mixed = np.clip(prototype(first) + prototype(second), 0, 1)
        for who in studio.cast:
            mouth = perform(who, FaceState(np.stack([mixed, mixed]))).mouth
            contours = (mouth.upper_outer, mouth.upper_inner, mouth.lower_inner, mouth.lower_outer)
            for above, below in pairwise(contour[:, 1] for contour in contours):
                assert (above <= below + 1e-6).all(), (first, second, who.name)


def test_identities_and_affects_look_different(studio):
    for one, other in combinations(range(8), 2):
        assert distance(studio.render_face(one, units()), studio.render_face(other, units())) > 8
    for who in range(9):
        faces = [studio.render_face(who, prototype(affect)) for affect in AFFECTS]
        for a, b in combinations(range(7), 2):
            changed = np.abs(faces[a].astype(int) - faces[b].astype(int)).max(axis=2) > 40
            assert changed.mean() > 0.02, (studio.cast[who].name, AFFECTS[a], AFFECTS[b])


def test_the_truth_marks_what_moves_in_the_picture():
    """An open jaw darkens the place between the inner lips; a shut eye hides the white."""
    studio = CartoonStudio(size=128)
    shape = studio.render_face("nora", units())
    opened = studio.render_face("nora", units(au25=1, au26=1))
    x, y = (points(studio, au25=1, au26=1)[62] + points(studio, au25=1, au26=1)[66]).astype(int) // 2
    assert int(opened[y, x].sum()) < int(shape[y, x].sum()) - 150
    shut = studio.render_face("nora", units(au45=1))
    eye = points(studio)[36:42]
    x0, x1, y0, y1 = *np.int64([eye[0, 0], eye[3, 0]]), *np.int64([eye[1, 1], eye[4, 1]])
    assert (shape[y0:y1, x0:x1].min(axis=2) > 215).sum() > (shut[y0:y1, x0:x1].min(axis=2) > 215).sum() + 10


def test_edges_are_smooth_and_sizes_agree(studio):
    large = studio.render_face("jun", prototype("surprise"), size=256)
    for size in (32, 64, 128):
        reduced = cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA)
        small = studio.render_face("jun", prototype("surprise"), size=size)
        assert small.shape == (size, size, 3)
        assert distance(small, reduced) < 2.5
    shirt = large[240:, :, 0].astype(int)
    assert len(np.unique(shirt)) > 40


def test_counterfactual_follows_name_pose_and_gaze(studio):
    face = studio.render_face("zuri", prototype("joy"))
    assert (face == studio.render_face(3, np.stack([prototype("joy")] * 2))).all()
    assert (face != studio.render_face(3, prototype("joy"), pose=(5, 0, 0))).any()
    assert (face != studio.render_face(3, prototype("joy"), gaze=(0.6, 0))).any()


def test_cast_grows_without_changing_and_names_are_unique():
    cast = make_cast(40, seed=1)
    assert cast[:12] == make_cast(12, seed=1)
    assert len({who.name for who in cast}) == 40
    assert cast[8:] != make_cast(40, seed=2)[8:]


def test_a_population_has_nobody_of_the_cast_and_grows_without_changing():
    people = make_cast(60, 3, "random")
    assert people[:12] == make_cast(12, 3, "random")
    assert people != make_cast(60, 4, "random")
    assert len({who.name for who in people}) == 60
    assert not {who.face for who in people} & {who.face for who in CAST}
    few, many = (CartoonStudio(count, 2, 2, 32, seed=3, population="random", framing="random") for count in (3, 5))
    rows = range(2 * 28, 3 * 28, 5)  # of the third character
    assert all((few.render(row) == many.render(row)).all() for row in rows)
    columns = [name for name in few.table().columns if name != "path"]
    assert few.table()[columns].equals(many.table()[columns].iloc[: len(few)])


def test_no_two_of_a_population_are_alike():
    studio = CartoonStudio(40, 1, 1, 32, population="random")
    shapes = np.array([(*who.face, who.chin, *who.eye, *who.nose, *who.mouth, *who.brow) for who in studio.cast])
    shapes /= shapes.std(axis=0)
    faces = np.array([studio.render_face(k, units()) for k in range(40)], np.float64)
    for k in range(40):
        assert np.linalg.norm(shapes - shapes[k], axis=1)[np.arange(40) != k].min() > 2
        assert np.abs(faces - faces[k]).mean(axis=(1, 2, 3))[np.arange(40) != k].min() > 6
    assert np.ptp([sum(who.skin) for who in studio.cast]) > 300
    table = CartoonStudio(40, 1, 1, 32, population="random").table()
    assert table.groupby("identity")[["yaw", "pitch"]].first().std().min() > 2


@pytest.mark.parametrize("framing", [(0.85, 0.1, -0.1), (0.85, -0.1, 0.05), (1.15, 0.03, -0.04), (1.0, 0.07, 0.0)])
def test_framing_moves_pixels_and_landmarks_alike(framing):
    size, studio = 128, CartoonStudio(2, 1, 1, 128)
    rest = np.zeros((2, len(ACTION_UNITS)))
    usual, framed = FaceState(rest), FaceState(rest, framing=framing)
    scale, *shift = framing
    expected = 0.5 + scale * (studio.landmarks(0, usual, size) / size - 0.5) + shift
    assert np.allclose(studio.landmarks(0, framed, size) / size, expected)
    eyes = []
    for act in (usual, framed):
        white = np.clip(studio.paint(0, act, size).min(axis=2).astype(float) - 150, 0, None)  # nora: only her eyes
        centre = [(white.sum(axis=axis) @ (np.arange(size) + 0.5)) / white.sum() for axis in (0, 1)]
        eyes.append((centre - studio.landmarks(0, act, size)[36:48].mean(axis=0)) / act.framing[0])
    assert np.abs(eyes[1] - eyes[0]).max() < 0.7  # pixels
    picture = studio.paint(0, framed, size)
    edges = np.concatenate([picture[0], picture[:, 0], picture[:, -1], picture[-1]])
    assert edges.max(axis=1).min() > 12  # not black: wall and clothes go on to the edge
    other = np.abs(picture[-1].astype(int) - studio.paint(0, usual, size)[-1, 0]).max(axis=1) > 15
    assert other.mean() > 0.4  # clothes, not wall, below


def test_random_framing_is_one_of_a_take_and_keeps_the_face_in_the_picture():
    studio = CartoonStudio(12, 3, 2, 64, framing="random")
    frame = studio.table()
    framings = {
        (k, take): {studio.performance(row).framing for row in frame.index[frame["take"].eq(take)] if row // 42 == k}
        for k in range(12)
        for take in range(3)
    }
    assert all(len(found) == 1 for found in framings.values())
    drawn = np.array([found.pop() for found in framings.values()])
    assert len(np.unique(drawn, axis=0)) == 36
    assert np.ptp(drawn[:, 0]) > 0.2
    assert (np.ptp(drawn[:, 1:], axis=0) > 0.08).all()
    assert (drawn[:, 0] >= 0.85).all()
    assert (drawn[:, 0] <= 1.15).all()
    xy = frame[[f"{axis}{k:02d}" for k in range(68) for axis in "xy"]].to_numpy()
    assert ((xy >= 0) & (xy <= 64)).all()
    fixed = CartoonStudio(12, 3, 2, 64).table()
    assert frame[[*AUS, "yaw", "pitch", "intensity"]].equals(fixed[[*AUS, "yaw", "pitch", "intensity"]])


def test_framing_by_the_face_is_the_square_of_the_crop():
    studio = CartoonStudio(8, 2, 2, 64, population="random", framing="face")
    squares = []
    for row in range(0, len(studio), 2):
        person, take = int(studio.script.person[row]), int(studio.script.take[row])
        act = studio.take(person, take).perform(0.0, np.zeros(17))
        squares.append(face_squares(studio.landmarks(person, act, 64)[None], 0.25)[0])
    left, top, side = np.array(squares).T
    middle = np.stack([left, top]) + side / 2
    assert np.allclose(side, 64, rtol=0.13)  # the head is 0.9 to 1.1 times as large
    assert np.allclose(middle, 32, atol=6.5)  # and a tenth of the image off at most
    assert np.ptp(side) > 6
    assert (np.ptp(middle, axis=1) > 4).all()


def test_recipes_of_the_casts_stay_as_they_were():
    assert not {"population", "framing"} & set(CartoonStudio(3).recipe)
    recipe = CartoonStudio(3, population="random", framing="random").recipe
    assert (recipe["population"], recipe["framing"]) == ("random", "random")


def test_recipe_is_json_and_complete(studio):
    recipe = json.loads(json.dumps(studio.recipe))
    assert recipe["version"] >= 1
    assert {"identities", "takes", "frames", "size", "seed", "head_motion"} <= set(recipe)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"size": 100}, "size"),
        ({"size": 16}, "size"),
        ({"population": "crowd"}, "population"),
        ({"framing": True}, "framing"),
        ({"size": 1024}, "size"),
        ({"identities": 0}, "identities"),
        ({"takes": 0}, "takes"),
        ({"frames": -1}, "frames"),
        ({"seed": -1}, "seed"),
        ({"head_motion": 90.0}, "head_motion"),
        ({"head_motion": float("nan")}, "head_motion"),
    ],
)
def test_bad_arguments_name_themselves(arguments, word):
    with pytest.raises(UserError, match=word):
        CartoonStudio(**arguments)


def test_bad_requests_of_a_face(studio):
    with pytest.raises(UserError, match="17"):
        studio.render_face(0, np.zeros(16))
    with pytest.raises(UserError, match="finite"):
        studio.render_face(0, np.full(17, np.nan))
    with pytest.raises(UserError, match="nobody"):
        studio.render_face("nobody", np.zeros(17))
    with pytest.raises(UserError, match="size"):
        studio.render_face(0, np.zeros(17), size=65)
    with pytest.raises(IndexError):
        studio.render(len(studio))


def test_varied_expressions_differ_between_takes_and_change_neither_neutral_faces_nor_the_rest():
    usual, varied = (CartoonStudio(6, 4, 3, 32, population="random", expressions=e) for e in ("prototypes", "varied"))
    first, second = usual.table(), varied.table()
    assert first.drop(columns=[*AUS, *LANDMARK_COLUMNS, *BOX_COLUMNS]).equals(
        second.drop(columns=[*AUS, *LANDMARK_COLUMNS, *BOX_COLUMNS])
    )
    neutral = second["affect"] == "neutral"
    assert first[neutral].equals(second[neutral])
    apex = second[~neutral & (second["frame"] == second["frame"].unique()[1])]
    joy = apex[apex["affect"] == "joy"]
    assert np.ptp(joy["au12"]) > 0.3  # strengths differ,
    others = [name for name in AUS[:-1] if name not in ("au06", "au12", "au25")]
    assert 0.03 < (joy[others] > 0.1).to_numpy().mean() < 0.25  # others join in, seldom
    assert varied.recipe["expressions"] == "varied"
    assert "expressions" not in usual.recipe
