"""Handlers of the page's requests: JSON in, JSON or the bytes of a file out. They do not need a server."""

from __future__ import annotations

import base64
import io
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fexgan_lit.data.faces.install import COMMAND
from fexgan_lit.data.frames import resize_batch, to_uint8
from fexgan_lit.expression import ACTION_UNITS, Expression
from fexgan_lit.inference.animation.video import enlarged
from fexgan_lit.inference.app.animation import FORMATS, exported, frames_of, read_film
from fexgan_lit.inference.app.requests import FaceRequest, number, read_asked, read_box, read_upload, words
from fexgan_lit.inference.app.session import NEUTRAL, RANDOM, UPLOAD, FaceName, Photo, Session, SourceFace
from fexgan_lit.inference.conditions import TargetSpec
from fexgan_lit.inference.library import save_expression
from fexgan_lit.inference.paste import Square, face_notes
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import without_paths

if TYPE_CHECKING:
    from fexgan_lit.data.faces.geometry import Framing

#: Longest side in pixels of a photograph on which a box is drawn.
PREVIEW = 1024
#: Side in pixels of the images in the gallery and on the map.
THUMBNAIL, TILE = 96, 72
#: Number of faces along each axis of the map, for strengths from 0 to 1.
MAP_STEPS = 5


def gallery(session: Session) -> dict[str, Any]:
    """Return the cast: ``{"faces": [{"id", "name", "picture"}], "note"}``; the note explains why there are no faces."""
    try:
        cast = session.cast()
    except UserError as error:
        return {"faces": [], "note": without_paths(str(error))}
    faces = [{"id": f"cast:{name}", "name": name, "picture": jpeg(resize_batch(pixels[None], THUMBNAIL)[0])}
             for name, pixels in cast.items()]  # fmt: skip
    return {"faces": faces, "note": ""}


def receive(session: Session, data: bytes) -> dict[str, Any]:
    """Store an uploaded photograph and find the faces in it; without a detector or a face, take its central square.

    Returns:
        ``{"faces": [{"id", "name", "picture", "note"}], "photo", "preview", "note"}``: the faces from left to right,
        the key of the photograph for `crop`, a small photograph, and what to know about all faces.

    Raises:
        UserError: the image cannot be used.
    """
    pixels = read_upload(data).pixels
    height, width = pixels.shape[:2]
    found = session.detect(pixels)
    key, note = session.photos.add(Photo(data, (width, height))), ""
    if found:
        many = len(found) > 1
        faces = [
            _received(session, key, pixels, partial(Square.around, face.points), f"face {n}" if many else "", face.yaw)
            for n, face in enumerate(found, 1)
        ]
    else:
        why = "No face was found" if found is not None else f"No face detector is installed ({COMMAND})"
        note = f"{why}, so the central square of the picture is taken for a face. If it is none, draw a box around one."
        faces = [_received(session, key, pixels, partial(Square.central, width, height))]
        session.photos.get(key).faces.clear()  # a guess is none of the faces of `all`
    scale = PREVIEW / max(width, height, PREVIEW)
    shape = (max(1, round(scale * width)), max(1, round(scale * height)))
    preview = jpeg(cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA))
    return {"faces": faces, "photo": key, "preview": preview, "note": note}


def crop(session: Session, tree: Any) -> dict[str, Any]:
    """Take a face of a photograph by hand: ``{"id", "name", "picture", "note"}``.

    ``photo`` is the key of the photograph, and ``box`` the shares left, top, right and bottom around the face.

    Raises:
        UserError: the photograph is no longer kept, or the box is invalid.
    """
    key = words(tree, "photo")
    photo = session.photos.get(key)
    box = read_box(tree, *photo.size)
    return _received(session, key, read_upload(photo.data).pixels, partial(Square.in_box, box))


def _received(
    session: Session, key: str, pixels: np.ndarray, square_for: Callable[[Framing], Square], name: str = "",
    yaw: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """Keep a face of the photograph `key`, and say what to know about it."""
    face = session.add_face(key, pixels, square_for)
    upload, notes = session.uploads.get(face), list[str]()
    for app_model, square, of_face in zip(session.app_models, upload.squares, upload.crops, strict=True):
        with session.painting() as run:
            notes.append(run(app_model.stranger_note, of_face))
        said = face_notes(["this face"], [square], [yaw], app_model.size)
        notes += [f"{app_model.label}: {line}." for line in said]
    return {"id": f"{UPLOAD}:{face}", "name": name or "your picture", "note": " ".join(filter(None, notes)),
            "picture": jpeg(resize_batch(upload.crops[0][None], THUMBNAIL)[0])}  # fmt: skip


def photo(session: Session, tree: Any) -> tuple[bytes, str, str]:
    """Return the whole photograph with the requested expression, in full size, as the bytes of a PNG.

    ``face`` is one of its faces; with ``all`` every face gets the expression. ``system`` is the number of the system.

    Raises:
        UserError: the request is invalid, or the photograph is no longer kept.
    """
    name, system = FaceName.read(words(tree, "face")), _system(session, tree)
    if name.kind != UPLOAD:
        raise UserError("Only a face of a picture of yours can be pasted back.")
    chosen = session.uploads.get(name.key)
    photo, asked = session.photos.get(chosen.photo), read_asked(tree, session.affects)
    picture = read_upload(photo.data, keep_alpha=True)
    pixels, app_model = picture.pixels, session.app_models[system]
    faces = photo.faces if tree.get("all") is True else []
    for upload in faces or [chosen]:
        face = SourceFace(app_model, app_model.fitted(upload.crops[system]), shows=words(tree, "shows", "neutral"))
        face = session.rested(face) if tree.get("neutral_first") is True else face
        upload.squares[system].put_back(pixels, to_uint8(session.paint(face, face.wanted(asked)))[0])
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    page = io.BytesIO()
    Image.fromarray(pixels).save(page, "PNG", compress_level=1)
    return page.getvalue(), "image/png", "photograph.png"


def save(session: Session, tree: Any) -> dict[str, Any]:
    """Save the requested expression to the library under a ``name``: ``{"expressions"}``, as `Session.expressions`.

    Raises:
        UserError: the request is invalid, or the page may not write the library.
    """
    if not session.may_save:
        raise UserError("Others can reach this page, so it saves nothing; open it with host=127.0.0.1 to save.")
    asked = read_asked(tree, session.affects)
    weights = {affect: weight for affect, weight in asked.weights.items() if weight}
    save_expression(session.library, words(tree, "name").strip(), TargetSpec(weights, asked.units))
    return {"expressions": session.expressions()}


def paint(session: Session, tree: Any) -> dict[str, Any]:
    """Generate the requested face and expression with every system.

    Returns:
        ``{"pictures": [{"picture", "file", "units", "key"} or {"error"}], "ms"}``: the enlarged image, the image at
        the system's size, the requested action units, and the key for `read`.

    Raises:
        UserError: the request is invalid.
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
    """Read generated images with the networks: ``{"readings": [...]}``, the result of `AppModel.read` by system.

    It is a separate request, so that the image is shown without a wait. ``keys`` are those of `paint`, with null for a
    system that generated no image.

    Raises:
        UserError: an image is no longer kept.
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
    """Return the source face: ``{"picture"}``; a random character is generated with a neutral expression.

    Raises:
        UserError: the face does not exist.
    """
    source_face = _sitter(session, 0, tree)
    if source_face.face is not None:
        return {"picture": jpeg(enlarged(to_uint8(source_face.face))[0])}
    return {"picture": jpeg(enlarged(to_uint8(session.paint(source_face, source_face.wanted(NEUTRAL))))[0])}


def characters(session: Session, tree: Any) -> dict[str, Any]:
    """Generate new random characters with neutral expressions: ``{"faces": [{"id", "name", "picture"}]}``.

    Raises:
        UserError: no system can generate characters.
    """
    count = round(number(tree.get("count", 4) if isinstance(tree, dict) else None, "count", 8, 1))
    made = []
    for seed in (secrets.randbelow(1_000_000) for _ in range(count)):
        picture = source(session, {"face": f"{RANDOM}:{seed}"})["picture"]
        made.append({"id": f"{RANDOM}:{seed}", "name": f"no. {seed}", "picture": picture})
    return {"faces": made}


def expression_map(session: Session, tree: Any) -> dict[str, Any]:
    """Generate a face for every pair of strengths of two affects, as one image: ``{"picture", "steps"}``.

    Columns are strengths 0..1 of the affect ``x`` from left to right, rows those of ``y`` from bottom to top. The
    weight of neutral is 1 minus the two strengths, at least 0.

    Raises:
        UserError: an affect or the face is unknown.
    """
    x, y = words(tree, "x"), words(tree, "y")
    levels = torch.linspace(0, 1, MAP_STEPS).tolist()
    read_asked({"weights": {x: 1.0, y: 1.0}}, session.affects)
    cells = [_blend(x, a, y, b, session.affects) for b in reversed(levels) for a in levels]
    faces = _at_once(session, _sitter(session, _system(session, tree), tree), cells)
    tiles = resize_batch(to_uint8(faces), TILE)  # (steps * steps, TILE, TILE, 3)
    rows = [np.concatenate(list(row), axis=1) for row in tiles.reshape(MAP_STEPS, MAP_STEPS, TILE, TILE, 3)]
    return {"picture": jpeg(np.concatenate(rows)), "steps": MAP_STEPS}


def _blend(x: str, a: float, y: str, b: float, affects: tuple[str, ...]) -> FaceRequest:
    rest = {"neutral": max(0.0, 1.0 - a - b)} if "neutral" in affects else {}
    return FaceRequest({**rest, x: a, y: b} if x != y else {**rest, x: max(a, b)})


def _at_once(session: Session, source_face: SourceFace, cells: list[FaceRequest]) -> Tensor:
    """Generate several expressions of a face in small batches, so that other requests can run in between."""
    made = []
    for start in range(0, len(cells), MAP_STEPS):
        wanted = Expression.stack([source_face.wanted(one) for one in cells[start : start + MAP_STEPS]])
        made.append(session.paint(source_face, wanted))
    return torch.cat(made)


def preview(session: Session, tree: Any) -> dict[str, Any]:
    """Return the frames of an animation, one list per system: ``{"films": [[picture, ...]], "fps"}``.

    Raises:
        UserError: the request is invalid.
    """
    film, films = _shot(session, tree)
    return {"films": [[jpeg(frame) for frame in enlarged(frames)] for frames in films], "fps": film.fps}


def export(session: Session, tree: Any) -> tuple[bytes, str, str]:
    """Return an animation as a file: its bytes, media type and name.

    Raises:
        UserError: the request is invalid, or the format is unknown.
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


def _system(session: Session, tree: Any) -> int:
    return round(number(tree.get("system", 0), "system", len(session.app_models) - 1))


def _sitter(session: Session, system: int, tree: Any) -> SourceFace:
    shows, first = words(tree, "shows", "neutral"), tree.get("neutral_first") is True
    return session.source_face(system, FaceName.read(words(tree, "face")), shows, first)


def png(pixels: np.ndarray) -> str:
    """Encode (S, S, 3) uint8 RGB as a data URL of a PNG."""
    page = io.BytesIO()
    Image.fromarray(pixels).save(page, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(page.getvalue()).decode()}"


def jpeg(pixels: np.ndarray) -> str:
    """Encode (H, W, 3) uint8 RGB as a data URL of a JPEG."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
