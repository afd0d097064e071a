"""`paste=true`: detect faces in photographs, crop them as the run's data, and paste them back in full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch

from fexgan_lit.data.faces.geometry import face_squares
from fexgan_lit.data.faces.worker import FaceWorker, NoFaceError, check_detector
from fexgan_lit.data.frames import to_float
from fexgan_lit.data.images import FrameError, read_frame
from fexgan_lit.data.packing.sources import fit_square
from fexgan_lit.expression import Expression
from fexgan_lit.inference.faces import Sources, picture_names, picture_paths
from fexgan_lit.inference.images import Picture, read_picture
from fexgan_lit.inference.output import OutputFolder, file_name
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.inference.session import GenerationSession


#: Landmarks at the outer eye corners; the line between them is horizontal in an upright face.
_EYE_CORNERS = [36, 45]


#: Side in pixels above which a face is reduced before cropping: no run generates images of that size.
_LARGEST = 2048


#: Extent of the mask above the brows and below the jaw, which an open mouth lowers, and its blur, in sides of the
#: square around the face without margin.
_FOREHEAD, _CHIN, _SOFT = 0.22, 0.14, 0.05


#: Rows of `points` of the brows, and of the jaw without its upper ends.
_BROWS, _JAW = slice(17, 27), slice(3, 14)


#: Maximum change of a face's colour, in levels of 255, to match the image.
_MOST_SHIFT = 30.0


class Framing(NamedTuple):
    """Position of a frame relative to the face's square, in sides of the square: centre offset and side."""

    right: float
    down: float
    side: float


def framing_of(points: np.ndarray, side: float) -> Framing:
    """Return the median framing of N faces in images of one size.

    Args:
        points: (N, 68, 2) landmarks; the image extends from -side / 2 to side / 2.
        side: side of the images, in the unit of the points.
    """
    squares = face_squares(points, 0.0)  # (N, 3): left, top, side
    centres = squares[:, :2] + squares[:, 2:] / 2
    relative = np.column_stack([-centres, np.full(len(points), side)]) / squares[:, 2:]
    return Framing(*np.nanmedian(relative, axis=0).tolist())


@dataclass(frozen=True, eq=False)
class Square:
    """An upright or rotated square of an image.

    Attributes:
        to_square: (2, 3) affine map from pixels of the image to the unit square.
        side: side in pixels of the image.
        points: (68, 2) landmarks in the unit square.
        face: side of the square around the face without margin, in the unit square.
    """

    to_square: np.ndarray
    side: float
    points: np.ndarray
    face: float

    @classmethod
    def around(cls, points: np.ndarray, framing: Framing) -> Square:
        """Return the square around a face with landmarks (68, 2) in pixels, rotated so that the eyes are horizontal."""
        left, right = points[_EYE_CORNERS]
        angle = float(np.arctan2(*(right - left)[::-1]))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        level = points @ turn.T
        x, y, side = face_squares(level[None], 0.0)[0]
        centre = np.array([x + side / 2 + framing.right * side, y + side / 2 + framing.down * side])
        length = framing.side * side
        corner = centre - length / 2
        return cls(np.column_stack([turn / length, -corner / length]), length, (level - corner) / length, side / length)

    @property
    def _pixels(self) -> int:
        return max(1, min(_LARGEST, round(self.side)))

    def cut(self, picture: np.ndarray, size: int) -> np.ndarray:
        """Crop the square from an image (H, W, 3) uint8 to (size, size, 3); the image's edge pixels are repeated."""
        shape, border = (self._pixels, self._pixels), cv2.BORDER_REPLICATE
        cut = cv2.warpAffine(picture, self._matrix(), shape, flags=cv2.INTER_CUBIC, borderMode=border)
        return fit_square(cut, size)

    def _matrix(self) -> np.ndarray:
        """Return the affine map (2, 3) from image to square pixels, both measured from the first pixel's centre."""
        matrix = self.to_square * self._pixels
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        return matrix

    def put_back(self, picture: np.ndarray, face: np.ndarray) -> None:
        """Blend the square `face` (S, S, 3) uint8 into `picture` (H, W, 3) in place, with a soft edge."""
        left, top, right, bottom = self._box(picture.shape[1], picture.shape[0])
        if right <= left or bottom <= top:
            return
        size = self._pixels
        how = cv2.INTER_CUBIC if size > len(face) else cv2.INTER_AREA
        new, mask = cv2.resize(face, (size, size), interpolation=how), self.mask(size)
        # from pixels of the square to pixels of the box
        matrix = cv2.invertAffineTransform(self._matrix()) - np.array([[0, 0, left], [0, 0, top]])
        shape = (right - left, bottom - top)
        new = cv2.warpAffine(new, matrix, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(mask, matrix, shape, flags=cv2.INTER_LINEAR)[..., None]
        old = picture[top:bottom, left:right].astype(np.float32)
        mixed = old + mask * (new + colour_shift(old, new, mask) - old)
        picture[top:bottom, left:right] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the square's bounding box, clipped to the image."""
        corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]], float)
        there = corners @ cv2.invertAffineTransform(self.to_square).T
        low, high = np.floor(there.min(0)).astype(int), np.ceil(there.max(0)).astype(int)
        return max(0, low[0]), max(0, low[1]), min(width, high[0]), min(height, high[1])

    def mask(self, size: int) -> np.ndarray:
        """Return the mask (size, size) float32 in 0..1: 1 on the face from forehead to chin, 0 at the edge."""
        forehead = self.points[_BROWS] - [0, _FOREHEAD * self.face]
        chin = self.points[_JAW] + [0, _CHIN * self.face]
        outline = cv2.convexHull(np.concatenate([self.points, forehead, chin]).astype(np.float32) * size)
        filled = np.zeros((size, size), np.float32)
        cv2.fillConvexPoly(filled, np.rint(outline).astype(np.int32), 1.0)
        soft = _SOFT * self.face * size
        edge = max(1, round(2 * soft))
        filled[:edge], filled[-edge:], filled[:, :edge], filled[:, -edge:] = 0, 0, 0, 0
        return cv2.GaussianBlur(filled, (0, 0), max(soft, 0.5))


def colour_shift(old: np.ndarray, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return levels (3,) to add to `new` (H, W, 3) so that it matches `old` along the edge of `mask` (H, W, 1)."""
    rim = mask * (1 - mask)
    total = float(rim.sum())
    if total == 0:
        return np.zeros(3, np.float32)
    return np.clip(((old - new) * rim).sum((0, 1)) / total, -_MOST_SHIFT, _MOST_SHIFT).astype(np.float32)


_DETECTOR = "mediapipe"


#: Maximum number of faces per image.
_MOST_FACES = 20


#: Side in pixels to which images are reduced for the detector, which itself works at a smaller size.
_LOOK = 1600


#: Number of the run's frames from which the framing is estimated.
_FRAMES = 512


#: Magnification from which a pasted face looks blurred.
_SOFT_ENLARGEMENT = 2.0


@dataclass(frozen=True, eq=False)
class Placed:
    """Faces detected in images.

    Attributes:
        sources: N faces, cropped as the run's frames.
        paths: N paths of their images.
        squares: N squares in the images.
        titles: N titles of the images, for file names.
    """

    sources: Sources
    paths: tuple[Path, ...]
    squares: tuple[Square, ...]
    titles: tuple[str, ...]

    def put_back(self, output: OutputFolder, names: Sequence[str], places: Sequence[str], console: Console) -> None:
        """Write every image once per place, with its faces `names` replaced by `faces/NAME/<place>.png`."""
        from fexgan_lit.utils.console import stage_bar

        chosen = [i for i, name in enumerate(self.sources.names) if name in names]
        by_picture = {path: [i for i in chosen if self.paths[i] == path] for path in dict.fromkeys(self.paths)}
        by_picture = {path: faces for path, faces in by_picture.items() if faces}
        with stage_bar(console) as bar:
            task = bar.add_task("pasting faces", total=len(by_picture) * len(places))
            for path, faces in by_picture.items():
                picture = read_picture(path, keep_alpha=True)
                for place in places:
                    self._write(output, picture, faces, place)
                    bar.update(task, advance=1)

    def _write(self, output: OutputFolder, picture: Picture, faces: list[int], place: str) -> None:
        pixels, files = picture.pixels.copy(), []
        for i in faces:
            files.append(f"faces/{file_name(self.sources.names[i])}/{place}.png")
            self.squares[i].put_back(pixels, read_frame(output.folder / files[-1]))
        if picture.alpha is not None:
            pixels = np.dstack([pixels, picture.alpha])
        output.pasted(f"pasted/{file_name(self.titles[faces[0]])}_{place}", pixels, files)


def find_faces(session: GenerationSession, place: Path, which: Any) -> Placed:
    """Detect the faces in the images at `place`, and crop them upright with the framing of the run's data.

    Args:
        session: the session of the run.
        place: an image file or a folder.
        which: None if one face per image is expected, `all`, or a number counted from the left.

    Raises:
        UserError: there is no detector, or an image cannot be read, has no face, or has several without `which`.
    """
    try:
        check_detector(_DETECTOR)
    except UserError as error:
        raise UserError(f"paste=true needs the face detector. {error}") from error
    framing = run_framing(session)
    paths, notes = picture_paths(place)
    found, without, moving = _look_at_all(session, paths, which, framing)
    if without:
        lost = f"no face found in {len(without)} of {len(paths)} images: {', '.join(without[:5])}"
        if not found:
            raise UserError(
                f"images={place}: {lost}. The detector finds human faces of at least 20 pixels; paste=false uses the "
                "central square of each image as the face"
            )
        notes.append(f"{lost}; these are left out")
    if moving:
        notes.append(f"only the first image of an animation is used: {', '.join(moving[:5])}")
    size = session.system.image_size
    largest = max(square.side for _, _, square, _ in found)
    if largest > _SOFT_ENLARGEMENT * size:
        notes.append(
            f"the run generates {size} x {size} pixels; enlarged to {largest:.0f} pixels, its faces look blurred"
        )
    return _placed(found, paths, str(place), notes)


Found = tuple[Path, int, Square, np.ndarray]


def _placed(found: Sequence[Found], paths: Sequence[Path], origin: str, notes: Sequence[str]) -> Placed:
    titles = dict(zip(paths, picture_names(paths), strict=True))
    several = {path for path, number, _, _ in found if number > 1}
    names = tuple(f"{titles[path]}_{number}" if path in several else titles[path] for path, number, _, _ in found)
    points = np.stack([square.points for _, _, square, _ in found])
    shown = Expression(landmarks=torch.from_numpy(2 * points - 1).float())
    sources = Sources(names, to_float(np.stack([cut for *_, cut in found])), shown, None, origin, tuple(notes))
    return Placed(
        sources, tuple(path for path, *_ in found), tuple(square for _, _, square, _ in found),
        tuple(titles[path] for path, *_ in found),
    )  # fmt: skip


def _look_at_all(
    session: GenerationSession, paths: Sequence[Path], which: Any, framing: Framing
) -> tuple[list[Found], list[str], list[str]]:
    """Return path, number, square and crop of each chosen face; names without a face; names of animations."""
    from fexgan_lit.utils.console import stage_bar

    found: list[Found] = []
    without, moving = [], []
    with FaceWorker() as worker, stage_bar(session.console) as bar:
        task = bar.add_task("finding faces", total=len(paths))
        for path in paths:
            try:
                picture = read_picture(path)
            except FrameError as error:
                raise UserError(f"images: {path.name} cannot be read: {error}") from error
            moving += [path.name] * picture.animated
            faces = _look(worker, picture.pixels)
            if not faces:
                without.append(path.name)
            for number in _chosen(path, len(faces), which):
                square = Square.around(faces[number - 1], framing)
                found.append((path, number, square, square.cut(picture.pixels, session.system.image_size)))
            bar.update(task, advance=1)
    return found, without, moving


def _look(worker: FaceWorker, pixels: np.ndarray) -> list[np.ndarray]:
    """Return the landmarks (68, 2) in pixels of every face, from left to right."""
    height, width = pixels.shape[:2]
    scale = min(1.0, _LOOK / max(height, width))
    small = pixels
    if scale < 1:
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    try:
        faces = worker.find_all(small, _MOST_FACES)
    except NoFaceError:
        return []
    return [points * (width / small.shape[1], height / small.shape[0]) for points in faces]


def _chosen(path: Path, count: int, which: Any) -> list[int]:
    """Return the numbers, from 1, of the faces that `which` selects from `count`.

    Raises:
        UserError: there are several faces and `which` is not set, or the number is too large.
    """
    if which == "all" or count == 0:
        return list(range(1, count + 1))
    if which is None and count > 1:
        raise UserError(
            f"{path.name}: {count} faces found; which=1..{count} selects one, counted from the left, which=all all"
        )
    if which is not None and which > count:
        raise UserError(f"which={which}: {path.name} shows {count} face{'s' if count > 1 else ''}")
    return [which or 1]


def run_framing(session: GenerationSession) -> Framing:
    """Return the framing of the run's frames: from its crop, else from its landmarks.

    If neither is known, the framing of `dataset.crop=face` is used, with a note.
    """
    config = session.run.dataset
    around_faces = Framing(0.0, 0.0, 1 + 2 * config.crop_margin)
    if config.crop == "face":
        return around_faces
    frames = session.data.train
    if frames.landmarks is not None:
        rows = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int))
        return framing_of(frames.landmarks[rows].astype(np.float64), 2.0)
    session.say(
        f"the frames of {config.name} have no landmarks, so their framing is unknown: faces are cropped as with "
        f"dataset.crop=face and dataset.crop_margin={config.crop_margin:g}"
    )
    return around_faces
