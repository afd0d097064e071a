"""`paste=true`: faces found in pictures of any kind, cut as the run's data were, and put back in full resolution."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from fexgan_lit.data.faces.worker import FaceWorker, NoFaceError, check_detector
from fexgan_lit.data.frames import to_float
from fexgan_lit.data.images import FrameError
from fexgan_lit.errors import UserError
from fexgan_lit.expression import Expression
from fexgan_lit.generation.album import Album, file_name
from fexgan_lit.generation.pictures import Picture, read_picture
from fexgan_lit.generation.sources import Sources, picture_names, picture_paths
from fexgan_lit.generation.squares import Framing, Square, framing_of

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.generation.workbench import Workbench

_DETECTOR = "mediapipe"
#: Faces looked for in one picture.
_MOST_FACES = 20
#: Side to which large pictures are reduced for the detector, pixels: it looks at less itself.
_LOOK = 1600
#: Frames of the run from which the place of the face in them is learnt.
_FRAMES = 512
#: Magnification from which a face looks soft in its picture.
_SOFT = 2.0


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

    def put_back(self, album: Album, names: Sequence[str], places: Sequence[str], console: Console) -> None:
        """Write every picture once a place, with all its faces among `names` as `faces/NAME/<place>.png` has them."""
        from fexgan_lit.stages import stage_bar

        chosen = [i for i, name in enumerate(self.sources.names) if name in names]
        by_picture = {path: [i for i in chosen if self.paths[i] == path] for path in dict.fromkeys(self.paths)}
        by_picture = {path: faces for path, faces in by_picture.items() if faces}
        with stage_bar(console) as bar:
            task = bar.add_task("putting faces back", total=len(by_picture) * len(places))
            for path, faces in by_picture.items():
                picture = read_picture(path, keep_alpha=True)
                for place in places:
                    self._write(album, picture, faces, place)
                    bar.update(task, advance=1)

    def _write(self, album: Album, picture: Picture, faces: list[int], place: str) -> None:
        pixels, files = picture.pixels.copy(), []
        for i in faces:
            files.append(f"faces/{file_name(self.sources.names[i])}/{place}.png")
            bgr = cv2.imread(str(album.folder / files[-1]))
            self.squares[i].put_back(pixels, cv2.cvtColor(np.asarray(bgr), cv2.COLOR_BGR2RGB))
        if picture.alpha is not None:
            pixels = np.dstack([pixels, picture.alpha])
        album.pasted(f"pasted/{file_name(self.titles[faces[0]])}_{place}", pixels, files)


def find_faces(bench: Workbench, place: Path, which: Any) -> Placed:
    """The faces in the pictures at `place`, upright and framed as those the run was trained on.

    Args:
        bench: of the run.
        place: a picture or a folder.
        which: None where one face a picture is expected, `all`, or a number from the left.

    Raises:
        UserError: no detector, a picture that cannot be read, without a face, or with several and no `which`.
    """
    try:
        check_detector(_DETECTOR)
    except UserError as error:
        raise UserError(f"paste=true finds the faces first. {error}") from error
    framing = run_framing(bench)
    paths, notes = picture_paths(place)
    found, without, moving = _look_at_all(bench, paths, which, framing)
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
    size = bench.system.image_size
    largest = max(square.side for _, _, square, _ in found)
    if largest > _SOFT * size:
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
    bench: Workbench, paths: Sequence[Path], which: Any, framing: Framing
) -> tuple[list[Found], list[str], list[str]]:
    """Path, number from the left, square and cut of every chosen face; names without a face; names of animations."""
    from fexgan_lit.stages import stage_bar

    found: list[Found] = []
    without, moving = [], []
    with FaceWorker() as worker, stage_bar(bench.console) as bar:
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
                found.append((path, number, square, square.cut(picture.pixels, bench.system.image_size)))
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
    with tempfile.TemporaryDirectory() as folder:
        # as read here, upright and in RGB, whatever the file was
        still = Path(folder) / "picture.png"
        still.write_bytes(cv2.imencode(".png", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes())
        try:
            faces = worker.find_all(still, _MOST_FACES)
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


def run_framing(bench: Workbench) -> Framing:
    """How the frames of the run lie around their faces: by its crop, else as its landmarks tell.

    Where neither is known, the square is taken that `dataset.crop=face` takes, which is said.
    """
    config = bench.run.dataset
    around_faces = Framing(0.0, 0.0, 1 + 2 * config.crop_margin)
    if config.crop == "face":
        return around_faces
    frames = bench.data.train
    if frames.landmarks is not None:
        rows = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int))
        return framing_of(frames.landmarks[rows].astype(np.float64), 2.0)
    bench.say(
        f"the frames of {config.name} have no landmarks, so it is not known how its faces lie in them: squares are cut "
        f"as dataset.crop=face with dataset.crop_margin={config.crop_margin:g} cuts them"
    )
    return around_faces
