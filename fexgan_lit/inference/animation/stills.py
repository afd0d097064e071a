"""Drivers of one frame: an image of a face, or the strongest frame of a person, without the shape of that face."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fexgan_lit.inference.animation.drivers import Driver, affect_weights, driver_name, estimated_units
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.inference.session import GenerationSession

#: Landmarks may lie this far outside the image, as a share of its side: the end of a jaw is often cut off.
_BEYOND = 0.1


class Still(NamedTuple):
    """One frame of a face.

    Attributes:
        pixels: central square (S, S, 3) uint8 RGB.
        landmarks: (68, 2), -1..1 from edge to edge of the square; None if the system does not need them.
        aus: (17,) in 0..1, or None if they are unknown.
    """

    pixels: np.ndarray
    landmarks: np.ndarray | None
    aus: np.ndarray | None


def frame_driver(session: GenerationSession, text: str) -> Driver:
    """Return the strongest frame of `text`, IDENTITY/AFFECT of the run's data, as the second of two moments.

    The first moment is the neutral frame of the same identity, or the mean shape (`_mean_shape`) if there is none.

    Raises:
        UserError: there is no such frame.
    """
    from fexgan_lit.data.frames import resize_batch
    from fexgan_lit.data.reference import strongest_row

    table, frames = session.data.table, session.data.everything()
    identity, affect, take = driver_name(text, table.identities, table.affects)
    if take is not None:
        raise UserError(f"driver={text}: still= takes the strongest frame of all takes; use {identity}/{affect}")
    who, neutral = frames.identities.index(identity), "neutral" in frames.affects
    row = strongest_row(frames, who, frames.affects.index(affect))
    if row is None:
        raise UserError(f"driver={text}: {identity} has no frame of {affect}")
    rest = strongest_row(frames, who, frames.affects.index("neutral")) if neutral else None
    notes, marks, calm = [f"the driver is one frame: {table.frame['path'].iloc[row]}"], None, None
    if "landmarks" in session.system.reads and frames.landmarks is not None:
        marks, own = frames.landmarks[row], None if rest is None else frames.landmarks[rest]
        calm, said = _at_rest(session, own, marks, f"the neutral frame of {identity}", identity)
        notes.append(said)
    elif "aus" in session.system.reads:
        notes.append("the driver's action units are those of that frame: they have no face shape")
    rows = np.array([row if rest is None else rest, row])
    return Driver(
        name=f"{identity} {affect}",
        times=np.array([0.0, 1.0]),
        aus=None if frames.aus is None else frames.aus[rows],
        landmarks=None if marks is None or calm is None else np.stack([calm, marks]),
        rest=calm,
        affect=affect_weights(frames.affect[rows], frames.intensity, rows, table.affects),
        pictures=resize_batch(frames.pixels(rows), session.system.image_size),
        notes=tuple(notes),
    )


def image_driver(session: GenerationSession, path: Path, rest: Path | None) -> Driver:
    """Return the face in an image file as the second of two moments, the first of which is the face at rest.

    Landmarks and action units are those of `annotations=CSV` if it has a row for the image; else the detector finds
    landmarks, and action units are estimated from them.

    Args:
        session: the call.
        path: the image.
        rest: an image of the same person at rest; None for the mean shape (`_mean_shape`).

    Raises:
        UserError: an image cannot be read or shows no face, or its landmarks lie outside the image.
    """
    shown = _read_still(session, path)
    calm = None if rest is None else _read_still(session, rest)
    notes, aus, marks, at_rest = list[str](), None, shown.landmarks, None
    if marks is not None and not ("aus" in session.system.reads and shown.aus is not None):
        own = None if calm is None else calm.landmarks
        at_rest, said = _at_rest(session, own, marks, rest.name if rest else "", path.name)
        notes.append(said)
    if "aus" in session.system.reads:
        if shown.aus is not None:
            start = calm.aus if calm is not None and calm.aus is not None else np.zeros_like(shown.aus)
            aus = np.stack([start, shown.aus])
        elif marks is not None and at_rest is not None:
            aus, note = estimated_units(np.stack([at_rest, marks]), session)
            notes.append(note)
    pictures = np.stack([shown.pixels if calm is None else calm.pixels, shown.pixels])
    points = None if marks is None or at_rest is None else np.stack([at_rest, marks]).astype(np.float32)
    return Driver(path.stem, np.array([0.0, 1.0]), aus, points, at_rest, pictures=pictures, notes=tuple(notes))


def _read_still(session: GenerationSession, path: Path) -> Still:
    """Read an image with its landmarks and action units, from `annotations` or by the detector."""
    from fexgan_lit.data.datasets.openface import read_annotations
    from fexgan_lit.data.faces.worker import FaceWorker, NoFaceError, check_detector
    from fexgan_lit.data.frames import to_uint8
    from fexgan_lit.data.images import FrameError
    from fexgan_lit.inference.faces import from_files
    from fexgan_lit.inference.images import read_picture

    size, csv = session.system.image_size, session.settings.annotations
    given = None
    if csv is not None:
        rows = read_annotations(Path(csv).expanduser(), "annotations")[0]
        listed = [Path(str(name)).name for name in rows["path"]] if "path" in rows else []
        given = Path(csv).expanduser() if path.name in listed else None
    sources = from_files(path, size, given, session.system.affects)
    known = {name: values[0].numpy() for name, values in sources.shown.known.items()}
    pixels, marks, aus = to_uint8(sources.images)[0], known.get("landmarks"), known.get("aus")
    needed = "landmarks" in session.system.reads or ("aus" in session.system.reads and aus is None)
    if marks is None and needed:
        try:
            check_detector("mediapipe")
            picture = read_picture(path).pixels
            with FaceWorker() as worker:
                points, _ = worker.find(picture)
        except UserError as error:
            raise UserError(
                f"driver: {path.name} is an image, in which a face must be detected. {error} Or give its landmarks "
                "with annotations=CSV, columns path and x00,y00..x67,y67 (pixels)"
            ) from error
        except (NoFaceError, FrameError) as error:
            raise UserError(
                f"driver: {path.name}: {error}; expected an image of one face, or annotations=CSV with its landmarks"
            ) from error
        high, wide = picture.shape[:2]
        marks = ((points - np.array([wide, high]) / 2) / (min(wide, high) / 2)).astype(np.float32)
    if marks is not None and needed:
        out = (np.abs(marks) > 1 + 2 * _BEYOND).any(1)
        if out.any() or not np.isfinite(marks).all():
            raise UserError(
                f"driver: {int(out.sum())} of 68 landmarks lie outside the central square of {path.name}, at "
                f"{np.nanmin(marks):.2f} to {np.nanmax(marks):.2f} (the square is -1..1); give an image with the whole "
                "face, and landmarks in its pixels"
            )
    return Still(pixels, marks, aus)


def _at_rest(
    session: GenerationSession, own: np.ndarray | None, marks: np.ndarray, whose: str, driver: str
) -> tuple[np.ndarray, str]:
    """Return the driver's landmarks at rest (68, 2), and a sentence on how its face shape is taken out."""
    if own is None:
        mean, count = _mean_shape(session, driver)
        own = aligned(mean, marks)
        said = (
            f"{driver} has no face at rest: its expression is the deviation from the mean shape of {count} frames of "
            "the run's data, so what sets the driver's face apart from the mean stays in; rest=IMAGE of the same "
            "person takes it out of an image"
        )
    else:
        said = f"the driver's face shape is taken out: its expression is the deviation from {whose}"
    if session.system.fuses_landmarks:
        said = f"{session.system.settings.name} fits the driver's landmarks to each face itself"
    return own, said


def _mean_shape(session: GenerationSession, driver: str) -> tuple[np.ndarray, int]:
    """Return the mean landmarks of the run's neutral frames, of all frames if none is neutral, and their number.

    Raises:
        UserError: the run's data have no landmarks.
    """
    frames = session.frames
    if frames.landmarks is None:
        raise UserError(
            f"driver: {driver} has no face at rest, and the run's data have no landmarks for a mean one; give "
            "rest=IMAGE of the same person at rest"
        )
    neutral = frames.affect == (frames.affects.index("neutral") if "neutral" in frames.affects else -1)
    chosen = frames.landmarks[neutral] if neutral.any() else frames.landmarks
    return chosen.mean(0), len(chosen)


def aligned(shape: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Return `shape` (68, 2) moved, turned and scaled onto the points of `marks` that expressions hardly move."""
    from fexgan_lit.data.faces.action_units import onto

    return onto(shape[None].astype(np.float64), marks.astype(np.float64))[0].astype(np.float32)
