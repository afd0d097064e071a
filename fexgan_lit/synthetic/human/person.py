"""A person ready for rendering: shape, textures, hair and clothes, built once and cached."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.human import rig
from fexgan_lit.synthetic.human.clothes import Mesh, dress, wear_glasses
from fexgan_lit.synthetic.human.culling import ever_seen
from fexgan_lit.synthetic.human.fuzz import Fuzz, grow_fuzz
from fexgan_lit.synthetic.human.hair import Scalp, Strands, grow_lock, scalp_cover
from fexgan_lit.synthetic.human.identity import Identity
from fexgan_lit.synthetic.human.lighting import lamps, neighbours
from fexgan_lit.synthetic.human.model import FaceModel
from fexgan_lit.synthetic.human.noise import Floats, linear, smoothstep
from fexgan_lit.synthetic.human.raster import vertex_normals
from fexgan_lit.synthetic.human.skin import Skin, Tile, levels_of, paint_tile, rest_relief
from fexgan_lit.synthetic.human.space import density_of, let_through, space_around
from fexgan_lit.synthetic.human.styles import STYLES, Style, style_of
from fexgan_lit.synthetic.human.topology import (
    EYE,
    FACE,
    GUMS,
    HEAD,
    MOUTH,
    SKIN_VERTICES,
    TEETH,
    Topology,
    texel_positions,
    topology,
)

#: Widths of the textures of the two skin tiles.
FACE_TEXELS, HEAD_TEXELS, TEXTURE_LEVELS = 1024, 512, 3
#: Radius of the eyeball and height of the cornea, cm; the eyeball's centre is this far behind that of its box.
EYE_RADIUS, CORNEA, EYE_SET_BACK = 1.60, 0.20, 0.113
#: Minimal thickness of a lid, cm.
LID = 0.02
_ABSORB = 0.55
#: Linear RGB and gloss of parts without texture.
_FLESH = {MOUTH: (0.30, 0.07, 0.065, 0.06), GUMS: (0.46, 0.15, 0.14, 0.16), TEETH: (0.74, 0.69, 0.60, 0.20)}


@dataclass(frozen=True)
class Body:
    """All surfaces of a person in one mesh: first the model's head, then clothes and glasses.

    Attributes:
        points: (V, 3) at rest, with the person's shape.
        triangles, uv, part: as in `Topology`, for the whole mesh.
        casters: (T, 3) triangles that cast shadows.
        bend: (V,) fraction of the head's rotation.
        rest: (V, 3) mean head; for eyes the direction from the eye's centre in radii.
        tint: (V, 4) linear RGB and gloss of parts without texture.
        wrap: (V, 3) reach of light into the shade.
        cull: (T,) and bias (T,), see `draw_triangles`.
        veil: (V, L) fraction of every lamp's light that passes through the hair.
        eyes: centres (3,) of the left and right eye in the image; lids: indices of the vertices near each.
    """

    points: Floats
    triangles: NDArray[np.int32]
    uv: Floats
    part: NDArray[np.uint8]
    casters: NDArray[np.int32]
    bend: Floats
    rest: Floats
    tint: Floats
    wrap: Floats
    cull: NDArray[np.uint8]
    bias: Floats
    veil: Floats
    eyes: tuple[Floats, Floats]
    lids: tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Mane:
    """The hair of the head at rest, with everything that its lighting needs.

    Attributes:
        strands: the polylines in random order, so that the first ones are a fair sample.
        bend: (P,) fraction of the head's rotation.
        paint: (P, 3) linear RGB.
        through: (P, G + 1) fraction of each highlight lamp's light and of ambient light.
        width: (P,) cm; 0 where the segment that starts there is never visible.
    """

    strands: Strands
    bend: Floats
    paint: Floats
    through: Floats
    width: Floats


@dataclass(frozen=True)
class Person:
    """One person; see the classes of the parts."""

    who: Identity
    form: Topology
    body: Body
    skin: Skin
    mane: Mane | None
    fuzz: Fuzz
    ring: tuple[NDArray[np.int32], NDArray[np.int32]]


def shaped(model: FaceModel, who: Identity) -> Floats:
    """Return the mean head with a person's identity modes, (V, 3)."""
    out = model.vertices.astype(np.float32).copy()
    # the shoulders stay those of the mean head, so that clothes fit
    free = smoothstep(out[:, 1:2] + 0.3 * out[:, 2:3], -12.5, -6.5).astype(np.float32)
    for k, deviation in enumerate(who.shape[: len(model.identities)]):
        if deviation:
            out += np.float32(deviation) * free * model.identities[k].astype(np.float32)
    return out


def eye_centres(model: FaceModel, points: Floats) -> tuple[Floats, Floats]:
    """Return the centres (3,) of the left and right eyeball in the image."""
    out = []
    for ball in topology(model).eyes:
        centre = 0.5 * (points[ball].min(axis=0) + points[ball].max(axis=0))
        centre[2] -= EYE_SET_BACK
        out.append(centre.astype(np.float32))
    return out[0], out[1]


def rest_lids(model: FaceModel, who: Identity, points: Floats) -> float:
    """Return the weight of the lid shape at rest, which moves the opening of unusual eyes halfway to the mean."""
    upper, lower = model.landmarks68[[37, 38, 43, 44]], model.landmarks68[[41, 40, 47, 46]]
    usual, own = (float((p[upper, 1] - p[lower, 1]).mean()) for p in (model.vertices, points))
    wanted = 0.5 * (usual + own) * (1.0 - who.lids)
    return float(np.clip(1.0 - wanted / max(own, 0.2), -0.4, 0.4))


def near_eyes(model: FaceModel) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the skin vertices that a closing eye could touch, left and right."""
    skin = model.vertices[:SKIN_VERTICES]
    left, right = (
        np.flatnonzero(np.linalg.norm(skin - centre, axis=1) < 2.6) for centre in eye_centres(model, model.vertices)
    )
    return left, right


def _head_vertices(model: FaceModel, points: Floats, eyes: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats]:
    """Return rest (V, 3), tint (V, 4) and wrap (V, 3) of the model's vertices, see `Body`."""
    form = topology(model)
    rest = model.vertices.astype(np.float32).copy()
    for ball, centre in zip(form.eyes, eyes, strict=True):
        rest[ball] = (points[ball] - centre) / EYE_RADIUS
    tint = np.zeros((len(points), 4), np.float32)
    for part, colour in _FLESH.items():
        tint[np.unique(form.triangles[form.part == part])] = colour
    wrap = np.full((len(points), 3), 0.12, np.float32)
    wrap[:SKIN_VERTICES] = (0.40, 0.24, 0.18)
    return rest, tint, wrap


def _body(model: FaceModel, who: Identity, points: Floats, extras: tuple[Mesh, ...]) -> Body:
    form, eyes = topology(model), eye_centres(model, points)
    rest, tint, wrap = _head_vertices(model, points, eyes)
    base = np.cumsum([len(points)] + [len(mesh.points) for mesh in extras])
    corner = np.concatenate([form.triangles] + [mesh.triangles + b for mesh, b in zip(extras, base, strict=False)])
    kind = np.concatenate([form.part] + [np.full(len(mesh.triangles), mesh.part, np.uint8) for mesh in extras])
    added = np.zeros((len(corner) - len(form.triangles), 3, 2), np.float32)
    stiff = [np.full(len(mesh.points), float(mesh.rigid), np.float32) for mesh in extras]
    lent = base[-1] - base[0]
    inside = np.isin(kind, (MOUTH, GUMS, TEETH))
    return Body(
        points=np.concatenate([points] + [mesh.points for mesh in extras]),
        triangles=np.ascontiguousarray(corner, np.int32),
        uv=np.concatenate([form.uv, added]),
        part=kind,
        casters=np.ascontiguousarray(corner[np.isin(kind, (FACE, HEAD)) | (kind > EYE)], np.int32),
        bend=np.concatenate([rig.neck_weight(model.vertices), *stiff]),
        rest=np.concatenate([rest] + [mesh.points for mesh in extras]).astype(np.float32),
        tint=np.concatenate([tint] + [mesh.tint for mesh in extras]),
        wrap=np.concatenate([wrap, np.full((lent, 3), 0.22, np.float32)]),
        cull=np.isin(kind, (FACE, HEAD, EYE)).astype(np.uint8),
        bias=np.select([inside, kind == EYE], [0.3, 0.06], 0.0).astype(np.float32),
        veil=np.ones((base[-1], len(lamps(1.0, 0.0, 0.0).towards)), np.float32),
        eyes=eyes,
        lids=near_eyes(model),
    )


@dataclass(frozen=True)
class _Ground:
    """What all people's skins share: the tiles, and the folds at decreasing resolution."""

    face: Tile
    head: Tile
    folds: tuple[Floats, ...]
    side: tuple[Floats, ...]
    ring: tuple[NDArray[np.int32], NDArray[np.int32]]


@lru_cache(maxsize=2)
def _ground(model: FaceModel) -> _Ground:
    face = Tile(texel_positions(model, FACE, FACE_TEXELS))
    side = (0.5 + 0.5 * np.clip(face.p[..., 0] / 0.8, -1, 1)).astype(np.float32)
    return _Ground(
        face=face,
        head=Tile(texel_positions(model, HEAD, HEAD_TEXELS)),
        folds=levels_of(face.folds, TEXTURE_LEVELS),
        side=levels_of(side, TEXTURE_LEVELS),
        ring=neighbours(topology(model).skin, SKIN_VERTICES),
    )


@lru_cache(maxsize=16)
def _scalp_covers(model: FaceModel, hair: str) -> tuple[Floats, Floats]:
    ground = _ground(model)
    return scalp_cover(ground.face.p, STYLES[hair]), scalp_cover(ground.head.p, STYLES[hair])


def _skin(model: FaceModel, who: Identity) -> Skin:
    ground, (on_face, on_head) = _ground(model), _scalp_covers(model, who.hair)
    return Skin(
        face=levels_of(paint_tile(who, ground.face, on_face, True), TEXTURE_LEVELS),
        head=levels_of(paint_tile(who, ground.head, on_head, False), TEXTURE_LEVELS),
        relief=levels_of(rest_relief(who, ground.face), TEXTURE_LEVELS),
        folds=ground.folds,
        side=ground.side,
    )


def _chosen(strands: Strands, order: NDArray[np.int64]) -> Strands:
    """Return the strands with the indices `order`, in that order."""
    first, size = strands.starts[:-1][order], np.diff(strands.starts)[order]
    starts = np.concatenate([[0], np.cumsum(size)]).astype(np.int32)
    index = np.repeat(first - starts[:-1], size) + np.arange(starts[-1])
    return Strands(np.ascontiguousarray(strands.points[index]), starts, strands.along[index], strands.lot[order])


def _joined(parts: list[Strands]) -> Strands:
    base = np.cumsum([0] + [len(part.points) for part in parts])
    starts = [part.starts[:-1] + b for part, b in zip(parts, base, strict=False)]
    return Strands(
        np.concatenate([part.points for part in parts]),
        np.concatenate([*starts, base[-1:]]).astype(np.int32),
        np.concatenate([part.along for part in parts]),
        np.concatenate([part.lot for part in parts]),
    )


def strand_of(strands: Strands) -> NDArray[np.int64]:
    """Return the index of the strand of every point, (P,)."""
    return np.repeat(np.arange(len(strands.lot)), np.diff(strands.starts))


#: The first half of the strands is a fair sample of all, and so is the first half of that, and so on.
_HALVINGS = 4
_HAIR_WIDTH = 0.045


def _ordered(strands: Strands, seen: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Return the order of the `seen` strands: fair samples first, and neighbours together for speed."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(seen))
    middle = strands.points[(strands.starts[:-1] + strands.starts[1:]) // 2]
    cell = np.floor(middle[:, 1] / 1.5) * 1000 + np.floor(middle[:, 0] / 1.5)
    cuts = [0] + [len(order) >> k for k in range(_HALVINGS - 1, -1, -1)]
    pieces = [order[low:high] for low, high in pairwise(cuts)]
    return np.concatenate([piece[np.argsort(cell[piece], kind="stable")] for piece in pieces])


def _mane(who: Identity, scalp: Scalp, style: Style, body: Body, seed: int) -> tuple[Mane, Floats] | None:
    if not style.locks:
        return None
    strands = _joined([grow_lock(scalp, style, lock, seed + k) for k, lock in enumerate(style.locks)])
    reach = float(np.linalg.norm(np.diff(strands.points, axis=0), axis=1).mean())
    density = density_of(strands.points, 0.08 * reach, scalp.space)
    bend = rig.neck_weight(strands.points)
    shown = ever_seen(strands.points, strands.starts, bend, body.points, body.bend, body.casters)
    order = _ordered(strands, np.bincount(strand_of(strands), shown) > 0, seed)
    width = np.where(shown, _HAIR_WIDTH * (1.0 - 0.6 * strands.along**2), 0.0).astype(np.float32)
    width = _chosen(Strands(strands.points, strands.starts, width, strands.lot), order).along
    strands = _chosen(strands, order)
    paint, through = _hair_paint(who, strands, seed), _hair_light(who, strands, density)
    return Mane(strands, rig.neck_weight(strands.points), paint, through, width), density


def _hair_paint(who: Identity, strands: Strands, seed: int) -> Floats:
    """Return linear RGB (P, 3): every strand a little different, lighter towards its tip."""
    count = len(strands.lot)
    strand = strand_of(strands)
    grey = np.random.default_rng(seed + 1).random(count) < 0.85 * max(0.0, who.age - 0.5)
    paint = np.where(grey[strand][:, None], linear((172, 168, 164)), linear(who.hair_colour))
    level = 0.62 + 0.5 * strands.lot[strand] + 0.22 * strands.along
    return (paint * level[:, None] + 0.002).astype(np.float32)


def _hair_light(who: Identity, strands: Strands, density: Floats) -> Floats:
    """Return the fraction (P, G + 1) of every highlight lamp's light and of ambient light at the points."""
    light = lamps(*who.light)
    room = np.array([[0.0, 1.0, 0.0], [-0.7, 0.2, 0.7], [0.7, 0.2, 0.7], [0.0, 0.3, 1.0]], np.float32)
    room /= np.linalg.norm(room, axis=1, keepdims=True)
    through = let_through(strands.points, np.concatenate([light.gloss, room]), density, 0.5, _ABSORB)
    direct, around = through[:, : len(light.gloss)], through[:, len(light.gloss) :].mean(axis=1, keepdims=True)
    return np.ascontiguousarray(np.concatenate([direct, 0.06 + 0.94 * around], axis=1), np.float32)


def build_person(model: FaceModel, who: Identity, seed: int) -> Person:
    """Build shape, textures, hair and clothes of a person, which takes a few seconds."""
    form, style = topology(model), style_of(who)
    points = shaped(model, who)
    eyes = eye_centres(model, points)
    nose = points[model.landmarks68[27]]
    ear = float(np.abs(points[:SKIN_VERTICES][model.vertices[:SKIN_VERTICES, 1] > 5.0, 0]).max()) + 0.2
    extras = dress(who) + wear_glasses(who, eyes, nose, ear)
    body = _body(model, who, points, extras)
    normals = vertex_normals(body.points, body.triangles)
    solid = np.unique(body.casters)
    solid = solid[(solid < SKIN_VERTICES) | (body.bend[solid] == 0)]
    space = space_around(body.points[solid], normals[solid])
    scalp = Scalp(model.vertices, points, normals[: len(points)], form.skin, space)
    grown = _mane(who, scalp, style, body, seed)
    if grown is not None:
        hidden = grown[1].copy()
        hidden[hidden >= 50.0] = 0.0  # the body's own shadow is computed for every frame
        towards = lamps(*who.light).towards
        body.veil[:] = 0.25 + 0.75 * let_through(body.points + 0.3 * normals, towards, hidden, 0.3, _ABSORB)
    return Person(
        who=who,
        form=form,
        body=body,
        skin=_skin(model, who),
        mane=grown[0] if grown else None,
        fuzz=grow_fuzz(who, model, seed),
        ring=_ground(model).ring,
    )
