"""Rendering of one frame of a person: pose, light, rasterise, shade, and reduce to the requested size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fexgan_lit.synthetic.human import camera, rig
from fexgan_lit.synthetic.human.fuzz import STEPS, place_fuzz
from fexgan_lit.synthetic.human.identity import Identity
from fexgan_lit.synthetic.human.lighting import Lamps, gather, lamps, spread
from fexgan_lit.synthetic.human.model import FaceModel
from fexgan_lit.synthetic.human.noise import Floats, linear
from fexgan_lit.synthetic.human.person import (
    CORNEA,
    EYE_RADIUS,
    LID,
    build_person,
    eye_centres,
    near_eyes,
    rest_lids,
    shaped,
)
from fexgan_lit.synthetic.human.raster import Buffers, close_holes, draw_lines, draw_triangles, vertex_normals
from fexgan_lit.synthetic.human.shading import Gloss, Moved, Paint, Seen, Surface, shade
from fexgan_lit.synthetic.human.skin import fold_strengths
from fexgan_lit.synthetic.human.strands import Studio, Threads, shade_strands
from fexgan_lit.synthetic.takes import FaceState

#: Samples per side of a pixel at each size.
_SAMPLES = {32: 8, 64: 4, 128: 3, 256: 3, 512: 2}
_BLUR_ROUNDS = np.array([6, 3, 2])
_EXPOSURE = 0.66
#: sRGB code of linear light 0..1.
_CURVE = np.rint(255.0 * np.linspace(0.0, 1.0, 16385) ** (1 / 2.2)).astype(np.uint8)
#: Linear RGB of the cast's wall.
_GREY = (0.99, 1.0, 1.01)
#: Ambient light on hair.
_AMBIENT = np.array([0.62, 0.63, 0.66], np.float32)


class Painter:
    """Renders one person.

    Args:
        model: the morphable head.
        who: the person.
        seed: seed of the hair.
    """

    def __init__(self, model: FaceModel, who: Identity, seed: int) -> None:
        self._person, self._offsets = build_person(model, who, seed), offsets_of(model)
        self._names = tuple(str(name) for name in model.expression_names)
        body = self._person.body
        self._lids = rest_lids(model, who, body.points)
        self._surface = Surface(body.triangles, body.part, body.uv, body.rest, body.tint)
        walls = [linear(colour) / np.float32(0.8 * _EXPOSURE) for colour in who.wall] if who.wall else 2 * [_GREY]
        self._wall = np.array(walls, np.float64)
        self._noise = np.random.default_rng(77).random((256, 256), np.float32)

    def paint(self, act: FaceState, size: int) -> NDArray[np.uint8]:
        """Render a frame: (size, size, 3) RGB."""
        samples = size * _SAMPLES[size]
        own = self._person.who.light
        light = lamps(act.light[0] * own[0], act.light[1] + own[1], act.light[2] + own[2])
        points = self.move(act)
        normals = vertex_normals(points, self._person.body.triangles)
        got, seen = self._gather(points, normals, light)
        buffers = Buffers(samples)
        body = self._person.body
        screen = camera.project(points, samples, act.framing)
        draw_triangles(screen, body.triangles, body.cull, body.bias, buffers.depth, buffers.triangle, buffers.weights)
        image = backdrop(samples, act.light[0], act.light[1], self._wall, self._person.who.slope)
        moved = Moved(points, normals, got, seen)
        visible = Seen(buffers.triangle, buffers.depth, buffers.weights)
        gloss = Gloss(light.gloss, light.gloss_colour)
        shade(visible, self._surface, moved, self._paint(act, samples), gloss, image)
        self._fuzz(points, got, act, buffers, image)
        self._hair(act, light, buffers, image)
        return develop(image, _SAMPLES[size], _CURVE)

    def move(self, act: FaceState) -> Floats:
        """Return all posed points of the body in cm, (V, 3)."""
        body, model_points = self._person.body, self._offsets.shape[1]
        weights = rig.shape_weights(self._names, act, self._lids)
        points = body.points.copy()
        head = rig.blend(body.points[:model_points], self._offsets, np.flatnonzero(weights), weights)
        turn = rig.eye_rotation(act.gaze)
        for ball, centre, lid in zip(self._person.form.eyes, body.eyes, body.lids, strict=True):
            rig.keep_outside(head, lid, centre, EYE_RADIUS + LID, CORNEA)
            head[ball] = (body.points[ball] - centre) @ turn.T + centre
        points[:model_points] = head
        return rig.posed(points, body.bend, act.pose)

    def _gather(self, points: Floats, normals: Floats, light: Lamps) -> tuple[Floats, Floats]:
        body = self._person.body
        got, seen = gather(
            points, normals, body.casters, body.wrap, body.veil, light.towards, light.colour, light.texels
        )
        spread(got, *self._person.ring, _BLUR_ROUNDS)
        return got, seen

    def _paint(self, act: FaceState, samples: int) -> Paint:
        skin = self._person.skin
        level = {384: 1, 256: 2}.get(samples, 0)  # 1 to 1.3 texels per sample
        return Paint(
            face=skin.face[level],
            head=skin.head[level],
            relief=carve(skin.relief[level], skin.folds[level], skin.side[level], fold_strengths(act.units)),
            iris=linear(self._person.who.iris),
            eye_turn=rig.rotation(*act.pose) @ rig.eye_rotation(act.gaze),
            noise=self._noise,
        )

    def _fuzz(self, points: Floats, got: Floats, act: FaceState, buffers: Buffers, image: Floats) -> None:
        fuzz, samples = self._person.fuzz, len(image)
        count = len(fuzz.corners) * STEPS
        placed, colour = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
        place_fuzz(points, got, fuzz.corners, fuzz.weights, fuzz.bend, fuzz.paint, placed, colour)
        taper = np.array([1.0, 0.95, 0.75, 0.35], np.float32)
        scale = np.float32(samples * act.framing[0] / camera.FIELD)
        widths = np.outer(fuzz.width, taper).ravel() * scale  # (N, STEPS) -> (N * STEPS,)
        starts = np.arange(0, count + 1, STEPS, dtype=np.int32)
        draw_lines(camera.project(placed, samples, act.framing), starts, colour, widths, -0.06, buffers.depth, image)

    def _hair(self, act: FaceState, light: Lamps, buffers: Buffers, image: Floats) -> None:
        mane, samples = self._person.mane, len(image)
        if mane is None:
            return
        share = 2.0 ** -max(0, round(np.log2(1024 / samples)))  # fewer and thicker strands in small images
        lines = int(len(mane.strands.lot) * share)
        starts = mane.strands.starts[: lines + 1]
        last = starts[-1]
        screen, colour = np.empty((last, 3), np.float32), np.empty((last, 3), np.float32)
        threads = Threads(mane.strands.points, mane.bend, mane.paint, mane.through, mane.width)
        studio = Studio(light.gloss, light.gloss_colour, _AMBIENT, self._person.who.hair_shine)
        shade_strands(threads, starts, rig.rotation(*act.pose), rig.PIVOT, studio, samples, act.framing, screen, colour)
        widths = mane.width[:last] * np.float32(samples * act.framing[0] / camera.FIELD / share**0.5)
        widths = np.where(
            widths > 0, np.maximum(widths, np.float32(1)), np.float32(0)
        )  # otherwise the wall would show through
        draw_lines(screen, starts, colour, widths, 0.0, buffers.depth, image)
        close_holes(buffers.depth, image, max(2, samples // 200), 0.85)


@njit(cache=True)
def backdrop(samples: int, gain: float, side: float, wall: NDArray[np.float64], slope: tuple[float, float]) -> Floats:
    """Return a wall (S, S, 3) in linear light, brightest behind the head; see `FaceState.light` and `Identity.wall`."""
    out = np.empty((samples, samples, 3), np.float32)
    level = 0.80 * (0.85 + 0.15 * gain)
    for i in range(samples):
        y = (i + 0.5) / samples - 0.42
        for j in range(samples):
            x = (j + 0.5) / samples - 0.5
            grey = level * (1.0 - 0.55 * (x * x + y * y) - 0.10 * x * (1.0 + 0.3 * side))
            second = min(1.0, max(0.0, 0.5 + slope[0] * x + slope[1] * y))
            for c in range(3):
                out[i, j, c] = ((1.0 - second) * wall[0, c] + second * wall[1, c]) * grey
    return out


@njit(cache=True)
def carve(rest: Floats, folds: Floats, side: Floats, strengths: Floats) -> Floats:
    """Return the skin height (R, R) in mm: relief at rest plus the folds (R, R, K) by their strengths on each side."""
    out = rest.copy()
    size, kinds = rest.shape[0], folds.shape[2]
    for i in range(size):
        for j in range(size):
            right = side[i, j]
            for k in range(kinds):
                depth = folds[i, j, k]
                if depth != 0.0:
                    out[i, j] += depth * (strengths[k, 0] * (1.0 - right) + strengths[k, 1] * right)
    return out


@njit(cache=True)
def develop(image: Floats, samples: int, curve: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average (S, S, 3) linear samples to pixels, compress highlights and encode with a `curve` over 0..1."""
    size = image.shape[0] // samples
    out = np.empty((size, size, 3), np.uint8)
    scale = (len(curve) - 1) / (samples * samples)
    for i in range(size):
        for j in range(size):
            for c in range(3):
                total = 0.0
                for di in range(samples):
                    for dj in range(samples):
                        x = _EXPOSURE * image[i * samples + di, j * samples + dj, c]
                        total += max(0.0, x) if x < 0.6 else 0.6 + 0.4 * (1.0 - 1.0 / (1.0 + (x - 0.6) / 0.4))
                out[i, j, c] = curve[int(total * scale + 0.5)]
    return out


@lru_cache(maxsize=2)
def offsets_of(model: FaceModel) -> Floats:
    """Return the blend shapes (E, V, 3) of a model in float32, cached between people."""
    return model.expressions.astype(np.float32)


class Marker:
    """Computes the landmarks of one person without rendering.

    Args:
        model: the morphable head.
        who: the person.
    """

    def __init__(self, model: FaceModel, who: Identity) -> None:
        points, chosen = shaped(model, who), model.landmarks68
        self._lids_hang, self._points = rest_lids(model, who, points), points[chosen]
        self._offsets = np.ascontiguousarray(model.expressions[:, chosen].astype(np.float32))  # (E, 68, 3)
        self._names = tuple(str(name) for name in model.expression_names)
        self._bend = rig.neck_weight(model.vertices[chosen])
        self._eyes = eye_centres(model, points)
        self._lids = [np.flatnonzero(np.isin(chosen, near)) for near in near_eyes(model)]

    def landmarks(self, act: FaceState, size: int) -> NDArray[np.float64]:
        """Return (68, 2) Multi-PIE points in pixels of an image of `size`."""
        weights = rig.shape_weights(self._names, act, self._lids_hang)
        points = rig.blend(self._points, self._offsets, np.flatnonzero(weights), weights)
        for centre, lid in zip(self._eyes, self._lids, strict=True):
            rig.keep_outside(points, lid, centre, EYE_RADIUS + LID, CORNEA)
        moved = rig.posed(points, self._bend, act.pose)
        return camera.project(moved, size, act.framing)[:, :2].astype(np.float64)
