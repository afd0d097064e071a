"""ICT-FaceKit in memory: loading from the compact file or a checkout, validation, content hash."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
import zlib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.obj import read_obj, read_vertices
from fexgan_lit.utils.cache import builder_lock, cache_root
from fexgan_lit.utils.errors import UserError

_LOG = logging.getLogger(__name__)

#: Number of identity modes in use; later modes move the face by less than a hair's breadth.
IDENTITY_MODES = 40

#: Vertex indices of the Multi-PIE points, as listed in ICT-FaceKit's README.
LANDMARKS68 = (
    *(1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443),
    *(268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360),
    *(1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732),
    *(5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841),
    *(5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966),
)

_WHERE = (
    "Get ICT-FaceKit at https://github.com/USC-ICT/ICT-FaceKit (MIT licence) and set dataset.facekit to its folder."
)


@dataclass(frozen=True, eq=False)  # compared by identity: arrays have no single answer to ==
class FaceModel:
    """The morphable head; lengths in cm, x to the subject's left, y up, z out of the face.

    Attributes:
        vertices: (V, 3) mean head.
        faces: (F, 4) quads; -1 in the fourth place of a triangle.
        face_uv: (F, 4) indices into `uv`.
        uv: (U, 2) texture coordinates; the integer part is the index of the tile.
        face_material: (F,) indices into `materials`.
        materials: names of the materials.
        expression_names: names of the blend shapes.
        expressions: (E, V, 3) offsets from the mean head.
        identities: (40, V, 3) offsets, one standard deviation each.
        landmarks68: (68,) vertex indices.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    face_uv: NDArray[np.int32]
    uv: NDArray[np.float32]
    face_material: NDArray[np.int8]
    materials: NDArray[np.str_]
    expression_names: NDArray[np.str_]
    expressions: NDArray[np.float16]
    identities: NDArray[np.float16]
    landmarks68: NDArray[np.int32]


#: Shape of each array: V, F, U and E must agree between arrays, numbers are exact.
_SHAPES: dict[str, tuple[str | int, ...]] = {
    "vertices": ("V", 3),
    "faces": ("F", 4),
    "face_uv": ("F", 4),
    "uv": ("U", 2),
    "face_material": ("F",),
    "materials": ("M",),
    "expression_names": ("E",),
    "expressions": ("E", "V", 3),
    "identities": (IDENTITY_MODES, "V", 3),
    "landmarks68": (68,),
}


def checked(arrays: dict[str, NDArray[Any]], origin: Path) -> FaceModel:
    """Return a model of `arrays`, after checking all of them.

    Raises:
        UserError: an array is missing, has an unexpected shape, or has indices out of the range of another array.
    """
    wrong = [f"{name} is missing" for name in _SHAPES if name not in arrays]
    sizes: dict[str, int] = {}
    for name, shape in _SHAPES.items():
        if name in arrays:
            expected = tuple(sizes.get(n, n) if isinstance(n, str) else n for n in shape)
            found = arrays[name].shape
            fits = len(found) == len(expected) and all(
                n == f or isinstance(n, str) for n, f in zip(expected, found, strict=True)
            )
            if not fits:
                wrong.append(f"{name} has shape {found}, expected ({', '.join(map(str, expected))})")
            else:
                sizes.update({n: f for n, f in zip(shape, found, strict=True) if isinstance(n, str)})
    if not wrong:
        wrong = _out_of_range(arrays)
    if wrong:
        raise UserError(f"dataset.facekit: {origin} is not a complete ICT-FaceKit model: {'; '.join(wrong)}. {_WHERE}")
    return FaceModel(**{field.name: arrays[field.name] for field in fields(FaceModel)})


def _out_of_range(arrays: dict[str, NDArray[Any]]) -> list[str]:
    limits = {"faces": "vertices", "face_uv": "uv", "face_material": "materials", "landmarks68": "vertices"}
    wrong = []
    for name, into in limits.items():
        low, high = arrays[name].min(initial=0), arrays[name].max(initial=0)
        if low < -1 or high >= len(arrays[into]):
            wrong.append(f"{name} holds {low}..{high}, expected numbers below {len(arrays[into])}")
    numbers = ("vertices", "uv", "expressions", "identities")
    wrong += [f"{name} holds numbers that are not finite" for name in numbers if not np.isfinite(arrays[name]).all()]
    return wrong


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in _SHAPES}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"dataset.facekit: {path} cannot be read as an .npz file ({error}). {_WHERE}") from error


def model_files(path: Path) -> tuple[Path, ...]:
    """Return the files of a model: the .npz itself, or the OBJ files of a checkout that are in use.

    Raises:
        UserError: `path` is neither, or a file of the checkout is missing.
    """
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise UserError(f"dataset.facekit: {path} does not exist. {_WHERE}")
    folder = next((f for f in (path / "FaceXModel", path) if (f / "generic_neutral_mesh.obj").is_file()), None)
    if folder is None:
        raise UserError(f"dataset.facekit: {path} does not contain FaceXModel/generic_neutral_mesh.obj. {_WHERE}")
    identities = [folder / f"identity{k:03d}.obj" for k in range(IDENTITY_MODES)]
    missing = [file.name for file in identities if not file.is_file()]
    if missing:
        raise UserError(f"dataset.facekit: {folder} lacks {', '.join(missing[:5])} ({len(missing)} files). {_WHERE}")
    neutral = folder / "generic_neutral_mesh.obj"
    known = {neutral, *folder.glob("identity*.obj")}
    return (neutral, *identities, *sorted(file for file in folder.glob("*.obj") if file not in known))


def read_checkout(files: tuple[Path, ...]) -> dict[str, NDArray[Any]]:
    """Read the arrays of a model from the OBJ files of a checkout, in the order of `model_files`."""
    mesh = read_obj(files[0])
    identities, expressions = files[1 : 1 + IDENTITY_MODES], files[1 + IDENTITY_MODES :]
    return {
        "vertices": mesh.vertices,
        "faces": mesh.faces,
        "face_uv": mesh.face_uv,
        "uv": mesh.uv,
        "face_material": mesh.face_material,
        "materials": np.array(mesh.materials),
        "expression_names": np.array([file.stem for file in expressions]),
        "expressions": _offsets(mesh.vertices, expressions),
        "identities": _offsets(mesh.vertices, identities),
        "landmarks68": np.array(LANDMARKS68, np.int32),
    }


def _offsets(mean: NDArray[np.float32], files: tuple[Path, ...]) -> NDArray[np.float16]:
    out = np.zeros((len(files), *mean.shape), np.float16)
    for k, file in enumerate(files):
        vertices = read_vertices(file)
        if vertices.shape != mean.shape:
            raise UserError(
                f"dataset.facekit: {file} has {len(vertices)} vertices, the neutral mesh has {len(mean)}; all files "
                f"must come from one release. {_WHERE}"
            )
        out[k] = vertices - mean
    return out


@lru_cache(maxsize=4)
def _hash_of(stamps: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in stamps:
        digest.update(f"{Path(name).name}:{size}\n".encode())
        with Path(name).open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def content_hash(facekit: str) -> str:
    """Return sixteen hexadecimal digits that depend only on the bytes of the model, not on its path.

    Raises:
        UserError: there is no model at `facekit`.
    """
    files = model_files(Path(facekit).expanduser())
    stats = [(str(file.resolve()), file.stat()) for file in files]
    return _hash_of(tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@lru_cache(maxsize=2)
def load_model(facekit: str, key: str) -> FaceModel:
    """Load the model at `facekit`; a checkout is converted once to a single file in the cache folder.

    Args:
        facekit: path of an .npz file or a folder.
        key: its `content_hash`, so that a changed model is loaded again.

    Raises:
        UserError: the model is incomplete.
    """
    path = Path(facekit).expanduser()
    files = model_files(path)
    if len(files) == 1 and path.is_file():
        return checked(_read_npz(path), path)
    kept = cache_root(None) / "facekit" / f"{key}.npz"
    with builder_lock(kept):
        if not kept.is_file():
            _LOG.info("reading %d OBJ files of %s once", len(files), path)
            model = checked(read_checkout(files), path)
            _write_npz(kept, {field.name: getattr(model, field.name) for field in fields(model)})
    return checked(_read_npz(kept), kept)


def _write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial-{os.getpid()}.npz")
    try:
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
