"""Faces in photographs: find them, crop them as the run's frames, and paste them back in full resolution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch

from fexgan_lit.data.faces.geometry import Framing, face_squares
from fexgan_lit.data.faces.worker import FaceWorker, FoundFace, NoFaceError, check_detector
from fexgan_lit.data.frames import to_float
from fexgan_lit.data.images import FrameError, read_frame
from fexgan_lit.data.packing.sources import fit_square
from fexgan_lit.expression import Expression
from fexgan_lit.inference.faces import Sources, annotated, picture_names, picture_paths
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


#: Half the width of a face whose landmarks are not known, in sides of its square.
_HALF_WIDTH = 0.45


#: Maximum change of a face's colour, in levels of 255, to match the image.
_MOST_SHIFT = 30.0


@dataclass(frozen=True, eq=False)
class Square:
    """An upright or rotated square of an image.

    Attributes:
        to_square: (2, 3) affine map from pixels of the image to the unit square.
        side: side in pixels of the image.
        points: (68, 2) landmarks in the unit square, or None if they are not known.
        face: left, top and side of the square around the face without margin, in the unit square.
    """

    to_square: np.ndarray
    side: float
    points: np.ndarray | None
    face: tuple[float, float, float]

    @classmethod
    def around(cls, points: np.ndarray, framing: Framing) -> Square:
        """Return the square around a face with landmarks (68, 2) in pixels, rotated so that the eyes are horizontal."""
        left, right = points[_EYE_CORNERS]
        angle = float(np.arctan2(*(right - left)[::-1]))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        level = points @ turn.T
        return cls._framed(face_squares(level[None], 0.0)[0], framing, turn, level)

    @classmethod
    def in_box(cls, box: Sequence[float], framing: Framing) -> Square:
        """Return the square around a face in a box (left, top, right, bottom) in pixels.

        The box reaches from the middle of the forehead to the chin, and from ear to ear.
        """
        left, top, right, bottom = box
        side = max(right - left, bottom - top)
        corner = np.array([(left + right - side) / 2, (top + bottom - side) / 2, side])
        return cls._framed(corner, framing, np.eye(2), None)

    @classmethod
    def central(cls, width: int, height: int, framing: Framing) -> Square:
        """Return the central square of an image, which is taken for a frame of the run."""
        side = min(width, height)
        middle = np.array([width // 2, height // 2]) - side * np.array([framing.right, framing.down]) / framing.side
        face = side / framing.side
        return cls._framed(np.array([*(middle - face / 2), face]), framing, np.eye(2), None)

    @classmethod
    def _framed(cls, face: np.ndarray, framing: Framing, turn: np.ndarray, points: np.ndarray | None) -> Square:
        """Return the square that frames `face` (left, top, side) in pixels of an image turned by `turn` (2, 2)."""
        x, y, side = face
        centre = np.array([x + side / 2 + framing.right * side, y + side / 2 + framing.down * side])
        length = framing.side * side
        corner = centre - length / 2
        inside = (float(x - corner[0]) / length, float(y - corner[1]) / length, float(side / length))
        known = None if points is None else (points - corner) / length
        return cls(np.column_stack([turn / length, -corner / length]), length, known, inside)

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
        """Blend the square `face` (S, S, 3) uint8 into `picture` (H, W, 3) in place, with a soft edge.

        A face in a grey picture becomes grey.
        """
        left, top, right, bottom = self._box(picture.shape[1], picture.shape[0])
        if right <= left or bottom <= top:
            return
        size = self._pixels
        if (picture == picture[..., :1]).all():
            face = cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
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
        left, top, side = self.face
        if self.points is None:
            turn = np.linspace(0, 2 * np.pi, 64)
            middle = np.array([left + side / 2, top + (1 + _CHIN) * side / 2])
            known = middle + side * np.column_stack([_HALF_WIDTH * np.cos(turn), (1 + _CHIN) / 2 * np.sin(turn)])
        else:
            forehead = self.points[_BROWS] - [0, _FOREHEAD * side]
            known = np.concatenate([self.points, forehead, self.points[_JAW] + [0, _CHIN * side]])
        outline = cv2.convexHull(known.astype(np.float32) * size)
        filled = np.zeros((size, size), np.float32)
        cv2.fillConvexPoly(filled, np.rint(outline).astype(np.int32), 1.0)
        soft = _SOFT * side * size
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


#: Magnification from which a pasted face looks blurred, and reduction from which it shows less than the run could.
_SOFT_ENLARGEMENT, _TINY = 2.0, 0.5


#: Angle in degrees from which a face counts as turned to the side; the studios turn heads by less.
_PROFILE = 40.0


#: How to give the place of a face by hand.
BOX_HINT = (
    "or give the box around the face, from the middle of the forehead to the chin and from ear to ear, in pixels: "
    "box=[left,top,right,bottom]"
)


@dataclass(frozen=True, eq=False)
class Placed:
    """Faces found in images.

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


def find_faces(session: GenerationSession, place: Path) -> Placed:
    """Find the faces in the images at `place`, and crop them upright with the framing of the run's data.

    The options `box`, `which` and `annotations` of the session say where the faces are, which of several are meant, and
    what they show.

    Raises:
        UserError: there is no detector, or an image cannot be read, has no face, or has several without `which`.
    """
    paths, notes = picture_paths(place)
    found, without, moving = _look_at_all(session, paths)
    if without:
        lost = f"no face found in {len(without)} of {len(paths)} images: {', '.join(without[:5])}"
        if not found:
            raise UserError(
                f"images={place}: {lost}. The detector finds human faces of at least 20 pixels that look roughly at "
                f"the camera; paste=false uses the central square of each image as the face, {BOX_HINT}"
            )
        notes.append(f"{lost}; these are left out")
    if moving:
        notes.append(f"only the first image of an animation is used: {', '.join(moving[:5])}")
    return _placed(session, found, paths, place, notes)


class _Found(NamedTuple):
    """A chosen face: its image, number in the image from the left, square, crop, and the image's height and width."""

    path: Path
    number: int
    square: Square
    crop: np.ndarray
    shape: tuple[int, int]
    yaw: float


def _placed(
    session: GenerationSession, found: Sequence[_Found], paths: Sequence[Path], place: Path, notes: list[str]
) -> Placed:
    titles = dict(zip(paths, picture_names(paths), strict=True))
    several = {face.path for face in found if face.number > 1}
    names = tuple(f"{titles[f.path]}_{f.number}" if f.path in several else titles[f.path] for f in found)
    squares = tuple(face.square for face in found)
    notes += face_notes(names, squares, [face.yaw for face in found], session.system.image_size)
    points = [2 * square.points - 1 for square in squares if square.points is not None]
    known = len(points) == len(squares)
    shown = Expression(landmarks=torch.from_numpy(np.stack(points)).float()) if known else Expression()
    if (csv := session.settings.annotations) is not None:
        crowded = [path.name for path, count in Counter(face.path for face in found).items() if count > 1]
        if crowded:
            raise UserError(
                f"annotations={csv}: it describes each image, but {crowded[0]} has several faces; which=1 chooses one"
            )
        root = place if place.is_dir() else place.parent
        told, lines = annotated(
            [face.path for face in found], [face.shape for face in found], root, Path(csv).expanduser(),
            session.system.affects,
        )  # fmt: skip
        shown, notes = Expression(told.affect, told.aus, shown.landmarks), [*notes, *lines]
    crops = to_float(np.stack([face.crop for face in found]))
    sources = Sources(names, crops, shown, None, str(place), tuple(notes))
    return Placed(sources, tuple(f.path for f in found), squares, tuple(titles[f.path] for f in found))


def face_notes(names: Sequence[str], squares: Sequence[Square], yaws: Sequence[float], size: int) -> list[str]:
    """Return sentences on faces that are large or tiny beside the run's images (`size` pixels), or turned away."""
    notes, largest = [], max(square.side for square in squares)
    if largest > _SOFT_ENLARGEMENT * size:
        notes.append(
            f"the run generates {size} x {size} pixels; enlarged to {largest:.0f} pixels, its faces look blurred"
        )
    tiny = [f"{n} ({s.side:.0f} px)" for n, s in zip(names, squares, strict=True) if s.side < _TINY * size]
    if tiny:
        notes.append(f"smaller than half the {size} pixels of the run, so that little is seen: {', '.join(tiny)}")
    turned = [f"{n} ({abs(yaw):.0f} degrees)" for n, yaw in zip(names, yaws, strict=True) if abs(yaw) > _PROFILE]
    if turned:
        notes.append(
            f"turned to the side, as hardly a frame of training is; the result may be wrong: {', '.join(turned)}"
        )
    return notes


def _look_at_all(session: GenerationSession, paths: Sequence[Path]) -> tuple[list[_Found], list[str], list[str]]:
    """Return the chosen faces; names of images without a face; names of animations."""
    from fexgan_lit.utils.console import stage_bar

    s, found, without, moving = session.settings, list[_Found](), list[str](), list[str]()
    with ExitStack() as stack:
        worker = None if s.boxes else stack.enter_context(face_worker())
        framing = session.framing  # may draw the run's frames, so the detector is looked for first
        bar = stack.enter_context(stage_bar(session.console))
        task = bar.add_task("finding faces", total=len(paths))
        for path in paths:
            try:
                picture = read_picture(path)
            except FrameError as error:
                raise UserError(f"images: {path.name} cannot be read: {error}") from error
            moving += [path.name] * picture.animated
            faces = squares_in(picture.pixels, framing, worker, s.boxes, path.name)
            if not faces:
                without.append(path.name)
            for number in chosen_faces(path.name, len(faces), "all" if s.boxes else s.which):
                square, yaw = faces[number - 1]
                crop, shape = square.cut(picture.pixels, session.system.image_size), picture.pixels.shape[:2]
                found.append(_Found(path, number, square, crop, (shape[0], shape[1]), yaw))
            bar.update(task, advance=1)
    return found, without, moving


def face_worker() -> FaceWorker:
    """Return the face detector; raise a UserError that names the other way if it is not installed."""
    try:
        check_detector(_DETECTOR)
    except UserError as error:
        raise UserError(
            f"finding faces in a picture needs the face detector. {error}\n{BOX_HINT.capitalize()}"
        ) from error
    return FaceWorker()


def squares_in(
    pixels: np.ndarray, framing: Framing, worker: FaceWorker | None, boxes: Sequence[Sequence[float]] = (),
    name: str = "the picture",
) -> list[tuple[Square, float]]:  # fmt: skip
    """Return the square and the yaw in degrees of each face in an image (H, W, 3) uint8.

    Args:
        pixels: the image.
        framing: where the run's frames lie relative to a face.
        worker: the detector, which finds the faces from left to right; None if there are `boxes`.
        boxes: faces by hand; see `Square.in_box`.
        name: name of the image, for messages.

    Raises:
        UserError: a box is empty or lies outside the image.
    """
    height, width = pixels.shape[:2]
    for box in boxes:
        left, top, right, bottom = box
        inside = left < right and top < bottom and left < width and top < height and right > 0 and bottom > 0
        if not inside or not np.isfinite(box).all():
            raise UserError(
                f"box={list(box)}: it is empty or lies outside {name}, which has {width} x {height} pixels; expected "
                "left, top, right and bottom of a face"
            )
    if worker is None:
        return [(Square.in_box(box, framing), 0.0) for box in boxes]
    return [(Square.around(face.points, framing), face.yaw) for face in look(worker, pixels)]


def look(worker: FaceWorker, pixels: np.ndarray) -> list[FoundFace]:
    """Find the faces in an image (H, W, 3) uint8, from left to right; a large image is reduced for the detector."""
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
    factor = (width / small.shape[1], height / small.shape[0])
    return [FoundFace(face.points * factor, face.yaw) for face in faces]


def chosen_faces(name: str, count: int, which: Any) -> list[int]:
    """Return the numbers, from 1, of the faces that `which` selects from `count` in the image `name`.

    Raises:
        UserError: there are several faces and `which` is not set, or the number is too large.
    """
    if which == "all" or count == 0:
        return list(range(1, count + 1))
    if which is None and count > 1:
        raise UserError(
            f"{name}: {count} faces found; which=1..{count} selects one, counted from the left, which=all all"
        )
    if which is not None and which > count:
        raise UserError(f"which={which}: {name} shows {count} face{'s' if count > 1 else ''}")
    return [which or 1]
