from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from fexgan_lit.synthetic.human.model import (
    IDENTITY_MODES,
    LANDMARKS68,
    checked,
    content_hash,
    load_model,
    model_files,
    read_checkout,
)
from fexgan_lit.synthetic.human.obj import read_obj, read_vertices
from fexgan_lit.synthetic.human.studio import HumanStudio
from fexgan_lit.utils.errors import UserError

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
    with pytest.raises(UserError, match=r"identity007\.obj has 1 vertices, the neutral mesh has 6500"):
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
