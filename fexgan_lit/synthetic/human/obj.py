"""A reader for the part of Wavefront OBJ that polygon heads use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.utils.errors import UserError


@dataclass(frozen=True)
class ObjMesh:
    """A polygon mesh; indices count from 0.

    Attributes:
        vertices: (V, 3) positions.
        uv: (U, 2) texture coordinates; may be empty.
        faces: (F, 4) vertex indices, -1 in the fourth place of a triangle.
        face_uv: (F, 4) indices into `uv`; -1 where a corner has none.
        face_material: (F,) indices into `materials`.
        materials: names in order of first use.
    """

    vertices: NDArray[np.float32]
    uv: NDArray[np.float32]
    faces: NDArray[np.int32]
    face_uv: NDArray[np.int32]
    face_material: NDArray[np.int8]
    materials: tuple[str, ...]


def _lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise UserError(f"dataset.facekit: {path} cannot be read ({error.strerror}).") from error
    return [words for words in map(str.split, text.splitlines()) if words]


def _numbers(path: Path, rows: list[list[str]], width: int) -> NDArray[np.float32]:
    try:
        values = np.array([row[1 : 1 + width] for row in rows], dtype=np.float32)
    except ValueError as error:
        raise UserError(f"dataset.facekit: {path} has a line without {width} numbers; download it again.") from error
    values = values.reshape(-1, width)  # also (0, width) of an empty list
    if not np.isfinite(values).all():
        raise UserError(f"dataset.facekit: {path} has numbers that are not finite; download it again.")
    return values


def read_vertices(path: Path) -> NDArray[np.float32]:
    """Read the positions (V, 3) of an OBJ file, without its faces.

    Raises:
        UserError: the file cannot be read or has an invalid line.
    """
    return _numbers(path, [words for words in _lines(path) if words[0] == "v"], 3)


def _corner(word: str, counts: tuple[int, int]) -> tuple[int, int]:
    """Return vertex and texture index, from 0, of a corner written `v`, `v/t`, `v/t/n` or `v//n`; -1 is no texture."""
    parts = [int(part) if part else 0 for part in word.split("/")[:2]]
    v, t = parts[0], parts[1] if len(parts) > 1 else 0
    if v == 0 or abs(v) > counts[0] or abs(t) > counts[1]:
        raise ValueError(f"corner {word} has an index out of range")
    return (v - 1 if v > 0 else v + counts[0]), (t - 1 if t > 0 else t + counts[1] if t < 0 else -1)


def read_obj(path: Path) -> ObjMesh:
    """Read triangles and quads with texture coordinates and material names.

    Raises:
        UserError: the file cannot be read, a line is invalid, or a face has other than three or four corners.
    """
    rows = _lines(path)
    vertices = _numbers(path, [row for row in rows if row[0] == "v"], 3)
    uv = _numbers(path, [row for row in rows if row[0] == "vt"], 2)
    names: dict[str, int] = {}
    material, corners, used = "", [], []
    for row in rows:
        if row[0] == "usemtl":
            material = " ".join(row[1:])
        elif row[0] == "f":
            corners.append(_face(path, row, (len(vertices), len(uv))))
            used.append(names.setdefault(material, len(names)))
    table = np.array(corners, dtype=np.int32).reshape(-1, 4, 2)  # (F, corner, vertex or texture)
    return ObjMesh(vertices, uv, table[..., 0], table[..., 1], np.array(used, np.int8), tuple(names))


def _face(path: Path, row: list[str], counts: tuple[int, int]) -> list[tuple[int, int]]:
    try:
        corners = [_corner(word, counts) for word in row[1:]]
        if len(corners) not in (3, 4):
            raise ValueError(f"{len(corners)} corners, expected 3 or 4")
    except ValueError as error:
        raise UserError(f"dataset.facekit: {path} has an invalid face '{' '.join(row)}' ({error}).") from error
    return corners + [(-1, -1)] * (4 - len(corners))
