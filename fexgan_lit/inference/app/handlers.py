"""What the page is answered: JSON in, JSON or the bytes of a file out; no server is needed to call these."""

from __future__ import annotations

import base64
import io
import secrets
import time
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fexgan_lit.data.frames import resize_batch, to_uint8
from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.inference.animation.video import enlarged
from fexgan_lit.inference.app.animation import FORMATS, exported, frames_of, read_film
from fexgan_lit.inference.app.requests import FaceRequest, number, read_asked, read_upload, words
from fexgan_lit.inference.app.session import NEUTRAL, RANDOM, UPLOAD, FaceName, Session, SourceFace
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import without_paths

#: Edge of the pictures in the gallery and on the map, pixels.
THUMBNAIL, TILE = 96, 72
#: Faces along each axis of the map, from 0 to 1.
MAP_STEPS = 5


def gallery(session: Session) -> dict[str, Any]:
    """The cast: ``{"faces": [{"id", "name", "picture"}], "note"}``; without faces the note says why."""
    try:
        cast = session.cast()
    except UserError as error:
        return {"faces": [], "note": without_paths(str(error))}
    faces = [{"id": f"cast:{name}", "name": name, "picture": jpeg(resize_batch(pixels[None], THUMBNAIL)[0])}
             for name, pixels in cast.items()]  # fmt: skip
    return {"faces": faces, "note": ""}


def receive(session: Session, data: bytes) -> dict[str, Any]:
    """Take a picture's bytes: ``{"id", "name", "picture"}``.

    Raises:
        UserError: it cannot be used.
    """
    pixels = read_upload(data)
    key = session.uploads.add(pixels)
    return {"id": f"{UPLOAD}:{key}", "name": "your picture", "picture": jpeg(resize_batch(pixels[None], THUMBNAIL)[0])}


def paint(session: Session, tree: Any) -> dict[str, Any]:
    """The face and expression asked for, by every system.

    Returns:
        ``{"pictures": [{"picture", "file", "units", "key"} or {"error"}], "ms"}``: a picture to look at, the same as
        the system painted it, the action units that were asked for, and what `read` knows it by.

    Raises:
        UserError: the wish cannot be read.
    """
    asked, started = read_asked(tree, session.affects), time.perf_counter()
    pictures = [_painted(session, system, tree, asked) for system in range(len(session.app_models))]
    return {"pictures": pictures, "ms": round(1000 * (time.perf_counter() - started), 1)}


def _painted(session: Session, system: int, tree: Any, asked: FaceRequest) -> dict[str, Any]:
    try:
        source_face = _sitter(session, system, tree)
        wanted = source_face.wanted(asked)
    except UserError as error:
        if len(session.app_models) == 1:
            raise
        return {"error": without_paths(str(error))}
    pixels = to_uint8(session.paint(source_face, wanted))
    units = dict(zip(map(str, ACTION_UNITS), wanted.aus[0].tolist(), strict=True)) if wanted.aus is not None else None
    return {"picture": jpeg(enlarged(pixels)[0]), "file": png(pixels[0]), "units": units,
            "key": session.painted.add(pixels[0])}  # fmt: skip


def read(session: Session, tree: Any) -> dict[str, Any]:
    """What the networks read in painted pictures: ``{"readings": [...]}``, one of `AppModel.read` for every system.

    A question of its own, so that a picture need not wait for it. ``keys`` are those of `paint`, null for a system that
    painted nothing.

    Raises:
        UserError: a picture is gone.
    """
    keys = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(keys, list) or len(keys) != len(session.app_models):
        raise UserError("keys: expected one for every system")
    found: list[dict[str, Any] | None] = []
    for key, app_model in zip(keys, session.app_models, strict=True):
        if key is None:
            found.append(None)
            continue
        face = app_model.fitted(session.painted.get(str(key)))
        with session.painting() as run:
            found.append(run(app_model.read, face))
    return {"readings": found}


def source(session: Session, tree: Any) -> dict[str, Any]:
    """The face as it was given, before any system: ``{"picture"}``; a random character as it is at rest.

    Raises:
        UserError: there is no such face.
    """
    source_face = _sitter(session, 0, tree)
    if source_face.face is not None:
        return {"picture": jpeg(enlarged(to_uint8(source_face.face))[0])}
    return {"picture": jpeg(enlarged(to_uint8(session.paint(source_face, source_face.wanted(NEUTRAL))))[0])}


def characters(session: Session, tree: Any) -> dict[str, Any]:
    """New random characters, each as it is at rest: ``{"faces": [{"id", "name", "picture"}]}``.

    Raises:
        UserError: no system can draw any.
    """
    count = round(number(tree.get("count", 4) if isinstance(tree, dict) else None, "count", 8, 1))
    made = []
    for seed in (secrets.randbelow(1_000_000) for _ in range(count)):
        picture = source(session, {"face": f"{RANDOM}:{seed}"})["picture"]
        made.append({"id": f"{RANDOM}:{seed}", "name": f"no. {seed}", "picture": picture})
    return {"faces": made}


def expression_map(session: Session, tree: Any) -> dict[str, Any]:
    """A face for every pair of strengths of two affects, in one picture: ``{"picture", "steps"}``.

    Columns are strengths 0..1 of the affect ``x`` from left to right, rows those of ``y`` from bottom to top; neutral
    takes what the two leave of 1.

    Raises:
        UserError: an unknown affect or face.
    """
    x, y = words(tree, "x"), words(tree, "y")
    levels = torch.linspace(0, 1, MAP_STEPS).tolist()
    read_asked({"weights": {x: 1.0, y: 1.0}}, session.affects)
    cells = [_blend(x, a, y, b, session.affects) for b in reversed(levels) for a in levels]
    system = round(number(tree.get("system", 0), "system", len(session.app_models) - 1))
    faces = _at_once(session, _sitter(session, system, tree), cells)
    tiles = resize_batch(to_uint8(faces), TILE)  # (steps * steps, TILE, TILE, 3)
    rows = [np.concatenate(list(row), axis=1) for row in tiles.reshape(MAP_STEPS, MAP_STEPS, TILE, TILE, 3)]
    return {"picture": jpeg(np.concatenate(rows)), "steps": MAP_STEPS}


def _blend(x: str, a: float, y: str, b: float, affects: tuple[str, ...]) -> FaceRequest:
    rest = {"neutral": max(0.0, 1.0 - a - b)} if "neutral" in affects else {}
    return FaceRequest({**rest, x: a, y: b} if x != y else {**rest, x: max(a, b)})


def _at_once(session: Session, source_face: SourceFace, cells: list[FaceRequest]) -> Tensor:
    """Several wishes of one face, a few at a time so that a slider need not wait for all."""
    made = []
    for start in range(0, len(cells), MAP_STEPS):
        wanted = Expression.stack([source_face.wanted(one) for one in cells[start : start + MAP_STEPS]])
        made.append(session.paint(source_face, wanted))
    return torch.cat(made)


def preview(session: Session, tree: Any) -> dict[str, Any]:
    """A film as pictures, a list a system: ``{"films": [[picture, ...]], "fps"}``.

    Raises:
        UserError: the film cannot be read.
    """
    film, films = _shot(session, tree)
    return {"films": [[jpeg(frame) for frame in enlarged(frames)] for frames in films], "fps": film.fps}


def export(session: Session, tree: Any) -> tuple[bytes, str, str]:
    """A film as a file: its bytes, their media type and a name for it.

    Raises:
        UserError: the film cannot be read, or no such kind of file.
    """
    kind = words(tree, "format")
    if kind not in FORMATS:
        raise UserError(f"format is '{kind}'; expected {', '.join(FORMATS)}")
    film, films = _shot(session, tree)
    data = exported(film, films, kind, session.folder)
    return data, FORMATS[kind], f"expression.{'zip' if kind == 'png' else kind}"


def _shot(session: Session, tree: Any) -> tuple[Any, list[np.ndarray]]:
    film = read_film(tree, session.affects)
    source_faces = [_sitter(session, system, tree) for system in range(len(session.app_models))]
    return film, [frames_of(film, source_face, session) for source_face in source_faces]


def _sitter(session: Session, system: int, tree: Any) -> SourceFace:
    return session.source_face(system, FaceName.read(words(tree, "face")), words(tree, "shows", "neutral"))


def png(pixels: np.ndarray) -> str:
    """(S, S, 3) uint8 RGB as a data address, without loss."""
    page = io.BytesIO()
    Image.fromarray(pixels).save(page, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(page.getvalue()).decode()}"


def jpeg(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 RGB as a data address, small."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
