"""Parts of the model: the material of each triangle, and the position on the head of each skin texel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.human.model import FaceModel
from fexgan_lit.synthetic.human.raster import Buffers, draw_triangles

#: Material of a triangle.
FACE, HEAD, MOUTH, GUMS, TEETH, EYE, CLOTH, PLAIN = range(8)

_PARTS = {
    "M_Face": FACE,
    "M_BackHead": HEAD,
    "M_GumsTongue": GUMS,
    "M_Teeth": TEETH,
    "M_ScleraLeft": EYE,
    "M_ScleraRight": EYE,
}
#: Skin vertices come first in the model; the others are inside the mouth and behind the eyes.
SKIN_VERTICES = 11248


@dataclass(frozen=True)
class Topology:
    """Triangles of the rendered parts.

    Attributes:
        triangles: (T, 3) vertex indices.
        uv: (T, 3, 2) texture coordinates of the corners within their tile.
        part: (T,) material of each triangle.
        skin: (S, 3) the triangles of FACE and HEAD.
        eyes: vertex indices of the left and the right eyeball in the image.
    """

    triangles: NDArray[np.int32]
    uv: NDArray[np.float32]
    part: NDArray[np.uint8]
    skin: NDArray[np.int32]
    eyes: tuple[NDArray[np.int64], NDArray[np.int64]]


def _split_quads(corners: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Split (F, 4) quads or triangles into (T, 3) triangles; return also the face of each."""
    quad = np.flatnonzero(corners[:, 3] >= 0)
    triangles = np.concatenate([corners[:, :3], corners[quad][:, [0, 2, 3]]])
    origin = np.concatenate([np.arange(len(corners)), quad])
    order = np.argsort(origin, kind="stable")
    return triangles[order], origin[order]


@lru_cache(maxsize=2)
def topology(model: FaceModel) -> Topology:
    """Return the triangles of a model, cached."""
    names = [str(name) for name in model.materials]
    of_material = np.array([_PARTS.get(name, 255) for name in names], np.uint8)
    triangles, origin = _split_quads(model.faces)
    part = of_material[model.face_material[origin]]
    corner_uv = _split_quads(np.where(model.faces >= 0, model.face_uv, -1))[0]
    part[(part == HEAD) & (triangles.max(axis=1) >= SKIN_VERTICES)] = MOUTH
    keep = part != 255
    triangles, part = np.ascontiguousarray(triangles[keep]), part[keep]
    uv = model.uv[corner_uv[keep]]  # (T, 3, 2)
    uv = uv - np.floor(uv.min(axis=1, keepdims=True))
    ball = np.unique(triangles[part == EYE])
    left = model.vertices[ball, 0] < 0  # the subject's right eye is on the left of the image
    skin = np.ascontiguousarray(triangles[part <= HEAD])
    return Topology(triangles, np.ascontiguousarray(uv, np.float32), part, skin, (ball[left], ball[~left]))


def texel_positions(model: FaceModel, tile: int, size: int) -> NDArray[np.float32]:
    """Return the rest position in cm of every texel of a skin tile (FACE or HEAD), row 0 at v = 0: (size, size, 3).

    Texels outside the charts get the position of the nearest texel inside, so that filtering never crosses a seam.
    """
    from scipy.ndimage import distance_transform_edt

    form = topology(model)
    mine = form.part == tile
    corners = form.triangles[mine]
    count = len(corners)
    flat = np.zeros((3 * count, 3), np.float32)
    flat[:, :2] = form.uv[mine].reshape(-1, 2) * size  # (T, 3, 2) -> (3T, 2)
    buffers = Buffers(size)
    own = np.arange(3 * count, dtype=np.int32).reshape(count, 3)
    both_sides, none = np.zeros(count, np.uint8), np.zeros(count, np.float32)
    draw_triangles(flat, own, both_sides, none, buffers.depth, buffers.triangle, buffers.weights)
    w = np.concatenate([buffers.weights, 1 - buffers.weights.sum(axis=2, keepdims=True)], axis=2)
    where = model.vertices[corners[buffers.triangle]]  # (R, R, corner, 3)
    positions = np.einsum("ijk,ijkc->ijc", w, where)
    nearest = distance_transform_edt(buffers.triangle < 0, return_distances=False, return_indices=True)
    return np.ascontiguousarray(positions[nearest[0], nearest[1]], np.float32)
