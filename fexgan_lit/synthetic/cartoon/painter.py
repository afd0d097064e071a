"""Rendering of a character: layers from back to front on a large canvas, reduced by area averaging."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from fexgan_lit.synthetic.cartoon.canvas import Image, Points, View, fill, frame_of, mask_of, mix, shade_colour
from fexgan_lit.synthetic.cartoon.extras import (
    backdrop,
    beard_mask,
    body_layer,
    draw_earrings,
    draw_glasses,
    ear_outlines,
    freckle_map,
    shade_ears,
)
from fexgan_lit.synthetic.cartoon.eyes import draw_brows, draw_eyes
from fexgan_lit.synthetic.cartoon.folds import crease_map, draw_nose
from fexgan_lit.synthetic.cartoon.hair import Layer, hair_layers
from fexgan_lit.synthetic.cartoon.identity import Identity
from fexgan_lit.synthetic.cartoon.mouth import draw_mouth
from fexgan_lit.synthetic.cartoon.rig import Face, pose_face
from fexgan_lit.synthetic.cartoon.shading import light_face, ramp, tone
from fexgan_lit.synthetic.takes import FaceState

#: The pivot of head rotations: the root of the neck (head units).
_PIVOT = np.array([0.0, 1.1])


def canvas_size(size: int) -> int:
    """Return the canvas size for an image of `size` pixels: at least twice as large, at least 192."""
    return {32: 192, 64: 192, 128: 256}.get(size, 2 * size)


def perform(who: Identity, act: FaceState) -> Face:
    """Return the face of `who` in a state, before the roll of the head."""
    yaw, pitch, _ = np.deg2rad(act.pose)
    return pose_face(who, act.units, act.gaze, (float(np.sin(yaw)), float(np.sin(pitch))))


def _roll(act: FaceState) -> tuple[Points, Points]:
    """Return rotation (2, 2) and shift (2,) from the head frame to the image, in head units."""
    yaw, pitch, roll = np.deg2rad(act.pose)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    sway = np.array([0.25 * np.sin(yaw), 0.15 * np.sin(pitch)])
    return turn, _PIVOT - turn @ _PIVOT + sway


def landmarks(who: Identity, act: FaceState, size: int) -> Points:
    """Return (68, 2) landmarks in pixels of an image of `size`: 0 at the left or top edge, `size` opposite."""
    turn, shift = _roll(act)
    points = perform(who, act).landmarks() @ turn.T + shift
    scale, origin = frame_of(act.framing)
    return (points * scale + origin) * size


@dataclass(frozen=True)
class Painter:
    """Renders one character at one size in one framing; static layers are rendered once and cached.

    Attributes:
        who: the character.
        size: width and height of the image in pixels.
        framing: see `FaceState.framing`.
    """

    who: Identity
    size: int
    framing: tuple[float, float, float] = (1.0, 0.0, 0.0)

    @cached_property
    def view(self) -> View:
        """The supersampled canvas."""
        return View(canvas_size(self.size), self.framing)

    @cached_property
    def _hair(self) -> tuple[Layer | None, Layer | None]:
        return hair_layers(self.view, self.who)

    @cached_property
    def _backdrop(self) -> Image:
        return backdrop(self.view, self.who)

    @cached_property
    def _body(self) -> Layer:
        return body_layer(self.view, self.who)

    @cached_property
    def _freckles(self) -> NDArray[np.float32] | None:
        return freckle_map(self.view, self.who)

    @cached_property
    def _hair_shadow(self) -> NDArray[np.float32] | None:
        """Factor (n, n) for the shadow of the front hair on the skin, shifted down and to the right."""
        front = self._hair[1]
        if front is None:
            return None
        u = self.view.unit
        move = np.array([[1, 0, 0.03 * u], [0, 1, 0.1 * u]])
        shadow = cv2.GaussianBlur(cv2.warpAffine(front.alpha, move, (self.view.n, self.view.n)), (0, 0), 0.055 * u)
        return 1 - shadow.astype(np.float32) * np.float32(0.5 / 255)

    @cached_property
    def _ramps(self) -> dict[str, Image]:
        who = self.who
        flush = tuple(0.86 * c + 0.14 * t for c, t in zip(who.skin, (255, 40, 40), strict=True))
        red = np.asarray(flush) * (1.0, 0.88, 0.88)
        return {
            "skin": ramp(who.skin),
            "blush": ramp(red),
            "lips": ramp(who.lips, 0.4, 0.25),
            "hair": ramp(who.hair_colour, 0.2, 0.3),
        }

    def paint(self, act: FaceState) -> Image:
        """Render one frame: (size, size, 3) uint8 RGB."""
        face = perform(self.who, act)
        picture = self._lay(self._backdrop, self._hair[0], act, depth=-0.35)
        picture = mix(picture, self._body.colour, self._body.alpha)
        picture = self._lay(picture, self._face_layer(face, act), act)
        picture = self._lay(picture, self._hair[1], act, depth=0.4)
        return self._develop(picture, act)

    def _lay(self, below: Image, layer: Layer | None, act: FaceState, depth: float = 0.0) -> Image:
        """Composite a layer of the head frame, rolled and shifted by its parallax when the head turns."""
        if layer is None:
            return below
        turn, shift = _roll(act)
        yaw, pitch, _ = np.deg2rad(act.pose)
        move = shift + turn @ (depth * np.array([np.sin(yaw), np.sin(pitch)]))
        centre = self.view.centre
        offset = centre - turn @ centre + move * self.view.unit
        matrix = np.concatenate([turn, offset[:, None]], axis=1)
        n = (self.view.n, self.view.n)
        colour, alpha = (
            np.asarray(cv2.warpAffine(part, matrix, n, borderMode=cv2.BORDER_REPLICATE), np.uint8)
            for part in (layer.colour, layer.alpha)
        )
        return mix(below, colour, alpha)

    def _face_layer(self, face: Face, act: FaceState) -> Layer:
        view, who = self.view, self.who
        skin_mask = mask_of(view, face.outline)
        ears = ear_outlines(who)
        shade = self._shade(face, act, skin_mask, ears)
        image = self._skin(face, shade)
        alpha = skin_mask.copy()
        for ear in ears:
            fill(alpha, view.px(ear), 255)
        self._beard(image, alpha, face, shade)
        draw_nose(image, view, who, face, shade_colour(who.skin, 0.24))
        draw_mouth(image, view, who, face, tone(shade, self._ramps["lips"]))
        draw_eyes(image, view, who, face)
        draw_glasses(image, view, who, face)
        draw_brows(image, view, who, face)  # over the glasses, as in animation: brows carry the expression
        draw_earrings(image, alpha, view, who)
        return Layer(image, alpha)

    def _shade(self, face: Face, act: FaceState, skin_mask: Image, ears: tuple[Points, Points]) -> Image:
        """Return the light on the skin, ears included, (n, n) uint8."""
        light = light_face(self.view, self.who, face, act.light[1] + self.who.light[1])
        light *= 1 - crease_map(self.view, self.who, face).astype(np.float32) * np.float32(0.62 / 255)
        if self._hair_shadow is not None:
            light *= self._hair_shadow
        if self._freckles is not None:
            light *= 1 - self._freckles
        shade = np.clip(light * 235, 0, 255).astype(np.uint8)
        under = shade.copy()
        shade_ears(under, self.view, self.who, ears)
        return mix(under, shade, skin_mask)

    def _skin(self, face: Face, shade: Image) -> Image:
        """Colour the skin, with the blush of cheeks and nose."""
        xs, ys = self.view.axes()
        apple = 0.5 * (face.unit(12) + face.unit(6))
        tip = face.nostrils[2]
        heat = np.zeros((self.view.n, self.view.n), np.float32)
        spots = [(-0.56, 0.36 - 0.07 * apple, 0.2), (0.56, 0.36 - 0.07 * apple, 0.2), (tip[0], tip[1] - 0.08, 0.13)]
        for x, y, r in spots:
            gx, gy = np.exp(-0.5 * ((xs - x) / r) ** 2), np.exp(-0.5 * ((ys - y) / r) ** 2)
            heat += np.outer(gy, gx).astype(np.float32)
        heat = np.minimum(heat * np.float32(min(1.0, self.who.blush * (1.2 + 0.6 * apple))), 1)
        return mix(tone(shade, self._ramps["skin"]), tone(shade, self._ramps["blush"]), heat)

    def _beard(self, image: Image, alpha: Image, face: Face, shade: Image) -> None:
        mask = beard_mask(self.view, self.who, face)
        if mask is None:
            return
        lit = np.asarray(cv2.convertScaleAbs(shade, alpha=0.6, beta=62), np.uint8)  # the skin folds lie under the beard
        image[:] = mix(image, tone(lit, self._ramps["hair"]), mask)
        if self.who.beard in ("full", "goatee"):
            np.maximum(alpha, mask, out=alpha)

    def _develop(self, picture: Image, act: FaceState) -> Image:
        """Apply exposure and warmth of the take and the character, and reduce to the requested size."""
        gain, warmth = act.light[0] * self.who.light[0], act.light[2] + self.who.light[2]
        levels = np.arange(256)[:, None] * gain * np.array([1 + 0.015 * warmth, 1.0, 1 - 0.02 * warmth])
        table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)[None]
        small = cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.LUT(small, table), np.uint8)
