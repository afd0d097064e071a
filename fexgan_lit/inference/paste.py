"""`paste=true`: faces found in photographs, cropped as the data of the run were, and put back in full resolution."""

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


#: Points at the outer corners of the eyes; the line between them is level in an upright face.
_EYE_CORNERS = [36, 45]


#: Side in pixels beyond which a face is reduced before it is cut: no run paints as large.
_LARGEST = 2048


#: Of the mask, in sides of the square around the face without margin: how far it reaches over the brows and under the
#: jaw, which an open mouth lowers, and how soft it is.
_FOREHEAD, _CHIN, _SOFT = 0.22, 0.14, 0.05


#: Rows of `points` that are brows, and the ends of the jaw left out below.
_BROWS, _JAW = slice(17, 27), slice(3, 14)


#: Levels of 255 by which the colour of a face may be moved to meet that of the picture.
_MOST_SHIFT = 30.0


class Framing(NamedTuple):
    """How frames lie around faces: their centre from that of the face's square, and their side, in its sides."""

    right: float
    down: float
    side: float


def framing_of(points: np.ndarray, side: float) -> Framing:
    """How pictures of `side` lie around the faces in them; the median over faces.

    Args:
        points: (N, 68, 2) landmarks, the picture reaching from -side / 2 to side / 2.
        side: of the pictures, in the unit of the points.
    """
    squares = face_squares(points, 0.0)  # (N, 3): left, top, side
    centres = squares[:, :2] + squares[:, 2:] / 2
    relative = np.column_stack([-centres, np.full(len(points), side)]) / squares[:, 2:]
    return Framing(*np.nanmedian(relative, axis=0).tolist())


@dataclass(frozen=True, eq=False)
class Square:
    """An upright or turned square of a picture.

    Attributes:
        to_square: (2, 3), pixels of the picture to the unit square.
        side: in pixels of the picture.
        points: (68, 2) landmarks in the unit square.
        face: side of the square around the face alone, in the unit square.
    """

    to_square: np.ndarray
    side: float
    points: np.ndarray
    face: float

    @classmethod
    def around(cls, points: np.ndarray, framing: Framing) -> Square:
        """The square around a face with landmarks (68, 2) in pixels, turned so that its eyes are level."""
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
        """(H, W, 3) uint8 to (size, size, 3); beyond the picture its edge is repeated."""
        shape, border = (self._pixels, self._pixels), cv2.BORDER_REPLICATE
        cut = cv2.warpAffine(picture, self._matrix(), shape, flags=cv2.INTER_CUBIC, borderMode=border)
        return fit_square(cut, size)

    def _matrix(self) -> np.ndarray:
        """(2, 3) from pixels of the picture to pixels of the square, both counted from the centre of the first."""
        matrix = self.to_square * self._pixels
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        return matrix

    def put_back(self, picture: np.ndarray, face: np.ndarray) -> None:
        """Lay the square `face` (S, S, 3) uint8 over the face in `picture` (H, W, 3), in place, with a soft edge."""
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
        """Left, top, right and bottom of the upright box around the square, inside the picture."""
        corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]], float)
        there = corners @ cv2.invertAffineTransform(self.to_square).T
        low, high = np.floor(there.min(0)).astype(int), np.ceil(there.max(0)).astype(int)
        return max(0, low[0]), max(0, low[1]), min(width, high[0]), min(height, high[1])

    def mask(self, size: int) -> np.ndarray:
        """(size, size) float32 in 0..1: 1 on the face from forehead to chin, falling softly to 0 at the edge."""
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
    """(3,) levels to add to `new` (H, W, 3) so that it meets `old` where the soft `mask` (H, W, 1) changes over."""
    rim = mask * (1 - mask)
    total = float(rim.sum())
    if total == 0:
        return np.zeros(3, np.float32)
    return np.clip(((old - new) * rim).sum((0, 1)) / total, -_MOST_SHIFT, _MOST_SHIFT).astype(np.float32)


_DETECTOR = "mediapipe"


#: Faces looked for in one picture.
_MOST_FACES = 20


#: Side to which large pictures are reduced for the detector, pixels: it looks at less itself.
_LOOK = 1600


#: Frames of the run from which the place of the face in them is learnt.
_FRAMES = 512


#: Magnification from which a face looks soft in its picture.
_SOFT_ENLARGEMENT = 2.0


@dataclass(frozen=True, eq=False)
class Placed:
    """Faces found in pictures.

    Attributes:
        sources: N of them, cut as the run's frames are.
        paths: (N) pictures they lie in.
        squares: (N) where.
        titles: of each picture in `paths`, for names of files.
    """

    sources: Sources
    paths: tuple[Path, ...]
    squares: tuple[Square, ...]
    titles: tuple[str, ...]

    def put_back(self, output: OutputFolder, names: Sequence[str], places: Sequence[str], console: Console) -> None:
        """Write every picture once a place, with all its faces among `names` as `faces/NAME/<place>.png` has them."""
        from fexgan_lit.utils.console import stage_bar

        chosen = [i for i, name in enumerate(self.sources.names) if name in names]
        by_picture = {path: [i for i in chosen if self.paths[i] == path] for path in dict.fromkeys(self.paths)}
        by_picture = {path: faces for path, faces in by_picture.items() if faces}
        with stage_bar(console) as bar:
            task = bar.add_task("putting faces back", total=len(by_picture) * len(places))
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
    """The faces in the pictures at `place`, upright and framed as those the run was trained on.

    Args:
        session: of the run.
        place: a picture or a folder.
        which: None where one face a picture is expected, `all`, or a number from the left.

    Raises:
        UserError: no detector, a picture that cannot be read, without a face, or with several and no `which`.
    """
    try:
        check_detector(_DETECTOR)
    except UserError as error:
        raise UserError(f"paste=true finds the faces first. {error}") from error
    framing = run_framing(session)
    paths, notes = picture_paths(place)
    found, without, moving = _look_at_all(session, paths, which, framing)
    if without:
        lost = f"no face found in {len(without)} of {len(paths)} pictures: {', '.join(without[:5])}"
        if not found:
            raise UserError(
                f"images={place}: {lost}. The detector looks for human faces of 20 pixels or more; paste=false takes "
                "the central square of each picture as the face"
            )
        notes.append(f"{lost}; these are left out")
    if moving:
        notes.append(f"of an animation the first picture is taken: {', '.join(moving[:5])}")
    size = session.system.image_size
    largest = max(square.side for _, _, square, _ in found)
    if largest > _SOFT_ENLARGEMENT * size:
        notes.append(
            f"the run paints {size} x {size} pixels; on squares of up to {largest:.0f} pixels its faces look soft"
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
    """Path, number from the left, square and cut of every chosen face; names without a face; names of animations."""
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
    """(68, 2) landmarks in pixels of every face, from left to right."""
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
    """The numbers, from 1, of the faces that `which` means among `count`.

    Raises:
        UserError: several and none chosen, or a number that is not there.
    """
    if which == "all" or count == 0:
        return list(range(1, count + 1))
    if which is None and count > 1:
        raise UserError(
            f"{path.name}: {count} faces found; which=1..{count} takes one, counted from the left, which=all takes all"
        )
    if which is not None and which > count:
        raise UserError(f"which={which}: {path.name} shows {count} face{'s' if count > 1 else ''}")
    return [which or 1]


def run_framing(session: GenerationSession) -> Framing:
    """How the frames of the run lie around their faces: by its crop, else as its landmarks tell.

    Where neither is known, the square of `dataset.crop=face` is used, with a note.
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
        f"the frames of {config.name} have no landmarks, so it is not known how its faces lie in them: squares are cut "
        f"as dataset.crop=face with dataset.crop_margin={config.crop_margin:g} cuts them"
    )
    return around_faces
