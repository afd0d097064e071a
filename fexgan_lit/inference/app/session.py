"""The state of the page: the systems, the source faces, and the lock around generation."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.faces.worker import FaceWorker, FoundFace
from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import COMPLEX_PAIRS, Expression
from fexgan_lit.inference.app import session as faces
from fexgan_lit.inference.app.model import rows_in
from fexgan_lit.inference.app.requests import STRONGEST, FaceRequest
from fexgan_lit.inference.config import LIBRARY
from fexgan_lit.inference.library import read_library
from fexgan_lit.inference.paste import Square, look
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.faces.geometry import Framing
    from fexgan_lit.inference.app.model import AppModel


CAST, UPLOAD, RANDOM = "cast", "upload", "random"


_SEEDS = 2**31
#: Largest batch of expressions from several requests; larger batches need memory and save no time.
_TOGETHER = 6


class GoneError(Exception):
    """The client has disconnected."""


#: The event of the current request, which the server sets when the client disconnects.
GONE: ContextVar[threading.Event | None] = ContextVar("gone", default=None)


def check_wanted() -> None:
    """Raise `GoneError` if the client of this request has disconnected."""
    gone = GONE.get()
    if gone is not None and gone.is_set():
        raise GoneError


@dataclass(frozen=True)
class FaceName:
    """The identifier of a face: `cast:NAME`, `upload:KEY` or `random:SEED`.

    Attributes:
        kind: one of `CAST`, `UPLOAD` and `RANDOM`.
        key: the name, key or seed.
    """

    kind: str
    key: str

    @classmethod
    def read(cls, text: str) -> FaceName:
        """Parse `text`.

        Raises:
            UserError: the text has another form.
        """
        kind, _, key = text.partition(":")
        fine = kind in (CAST, UPLOAD) or (kind == RANDOM and key.isdecimal() and int(key) < _SEEDS)
        if not fine or not key:
            raise UserError("face: expected cast:NAME, upload:KEY or random:NUMBER")
        return cls(kind, key)

    @property
    def seed(self) -> int:
        """The seed of a random character."""
        return int(self.key)


Value = TypeVar("Value")


class Kept(Generic[Value]):
    """A thread-safe cache in memory; the least recently used value is evicted.

    Args:
        most: largest number of values.
        gone: the error message for a value that is no longer kept.
    """

    def __init__(self, most: int, gone: str) -> None:
        self.most = most
        self.gone = gone
        self._kept: OrderedDict[str, Value] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, value: Value) -> str:
        """Keep a value and return an unguessable key."""
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._kept[key] = value
            if len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return key

    def get(self, key: str) -> Value:
        """Return the value of a key.

        Raises:
            UserError: the value is no longer kept.
        """
        with self._lock:
            if key not in self._kept:
                raise UserError(self.gone)
            self._kept.move_to_end(key)
            return self._kept[key]


@dataclass(frozen=True, eq=False)
class Upload:
    """A face in a photograph.

    Attributes:
        photo: key of the photograph in `Session.photos`.
        squares: where the face lies in the photograph, framed as the frames of each system.
        crops: the face for each system, (S, S, 3) uint8 RGB.
    """

    photo: str
    squares: tuple[Square, ...]
    crops: tuple[np.ndarray, ...]


@dataclass(eq=False)
class Photo:
    """An uploaded photograph: the bytes of its file, its width and height, and the faces that were found in it."""

    data: bytes
    size: tuple[int, int]
    faces: list[Upload] = field(default_factory=list)


_GONE = "The picture is gone: pictures are kept only while the page runs. Drop it again."


def uploads() -> Kept[Upload]:
    """Create the cache of uploaded faces."""
    return Kept(64, _GONE)


def photos() -> Kept[Photo]:
    """Create the cache of uploaded photographs, which may have many megabytes each."""
    return Kept(8, _GONE)


def painted() -> Kept[np.ndarray]:
    """Create the cache of generated images, which `read` requests refer to."""
    return Kept(16, "The picture was replaced by newer ones; generate it again.")


NEUTRAL = FaceRequest({"neutral": 1.0})


@dataclass(frozen=True)
class SourceFace:
    """A source face for one system.

    Attributes:
        app_model: the system.
        face: (1, 3, S, S), or None for a random character that the system generates.
        seed: the seed of a random character.
        shows: the affect of the face.
        rested: whether the face was brought to rest.
    """

    app_model: AppModel
    face: Tensor | None
    seed: int = 0
    shows: str = "neutral"
    rested: bool = False

    def wanted(self, asked: FaceRequest) -> Expression:
        """Convert a request to a target expression (1, ...); see `AppModel.wanted`."""
        return self.app_model.wanted(self.face, asked)

    def paint(self, wanted: Expression) -> Tensor:
        """Generate this face with the expressions (N, ...): (N, 3, S, S) in [-1, 1]."""
        if self.face is None:
            return self.app_model.draw(self.seed, wanted)
        return self.app_model.paint(self.face, wanted, self.shows, self.rested)


@dataclass(eq=False)
class _Still:
    """A request for images of one face; `faces` (N, 3, S, S) is set when they are generated."""

    source_face: SourceFace
    wanted: Expression
    faces: Tensor | None = None

    def goes_with(self, other: _Still) -> bool:
        """Return whether both requests can be generated in one batch."""
        a, b = self.source_face, other.source_face
        known = (
            a.app_model is b.app_model
            and a.rested == b.rested
            and self.wanted.known.keys() == other.wanted.known.keys()
        )
        return known and a.face is not None and b.face is not None


@dataclass
class Session:
    """The state of the page.

    Attributes:
        app_models: one system, or two to compare.
        folder: folder of temporary files; the caller removes it.
        uploads: the uploaded faces.
        photos: the uploaded photographs.
        library: the file of named expressions, which need not exist.
        may_save: whether the page may write to it.
        painted: the most recent generated images.
    """

    app_models: Sequence[AppModel]
    folder: Path
    library: Path = Path(LIBRARY)
    may_save: bool = True
    uploads: Kept[Upload] = field(default_factory=faces.uploads)
    photos: Kept[Photo] = field(default_factory=faces.photos)
    painted: Kept[np.ndarray] = field(default_factory=faces.painted)
    _detector: FaceWorker | None = None
    _detecting: threading.Lock = field(default_factory=threading.Lock)
    _painting: threading.Lock = field(default_factory=threading.Lock)
    _cast: threading.Lock = field(default_factory=threading.Lock)
    _waiting: list[_Still] = field(default_factory=list)
    #: a single thread, because torch keeps threads and memory for every thread that calls it
    _painter: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))

    @contextlib.contextmanager
    def painting(self) -> Iterator[Callable[..., Any]]:
        """Lock the networks for a small batch, so that an animation does not block other requests.

        Yields:
            A function that runs another function with its arguments in the thread of the networks.

        Raises:
            GoneError: the client has disconnected.
        """
        check_wanted()
        with self._painting:
            check_wanted()
            yield lambda work, *given: self._painter.submit(work, *given).result()

    def paint(self, source_face: SourceFace, wanted: Expression) -> Tensor:
        """Generate a face with the expressions (N, ...): (N, 3, S, S) in [-1, 1].

        The request that acquires the lock also generates the images of waiting requests, in the same batch.
        """
        asked = _Still(source_face, wanted)
        self._waiting.append(asked)
        try:
            with self.painting() as run:
                if asked.faces is None:
                    run(self._paint_with_others, asked)
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(asked)
        return asked.faces  # type: ignore[return-value]

    def _paint_with_others(self, asked: _Still) -> None:
        together, rows = [asked], rows_in(asked.wanted)
        for other in list(self._waiting):
            count = rows_in(other.wanted)
            if other is not asked and other.faces is None and asked.goes_with(other) and rows + count <= _TOGETHER:
                together.append(other)
                rows += count
        if len(together) == 1:
            asked.faces = asked.source_face.paint(asked.wanted)
            return
        counts = [rows_in(one.wanted) for one in together]
        faces = [one.source_face.face.expand(n, -1, -1, -1) for one, n in zip(together, counts, strict=True)]  # type: ignore[union-attr]
        shows = [one.source_face.shows for one, n in zip(together, counts, strict=True) for _ in range(n)]
        wanted = Expression.stack([one.wanted for one in together])
        painted = asked.source_face.app_model.paint(torch.cat(faces), wanted, shows, asked.source_face.rested).split(
            counts
        )
        for one, made in zip(together, painted, strict=True):
            one.faces = made

    @property
    def affects(self) -> tuple[str, ...]:
        """The affects of all systems, those of the first system first."""
        return tuple(dict.fromkeys(name for app_model in self.app_models for name in app_model.affects))

    def about(self) -> dict[str, Any]:
        """Return the description of the systems that the page requests when it opens."""
        units = dict.fromkeys(unit for app_model in self.app_models for unit in app_model.facts()["units"])
        pairs = [pair for pair in COMPLEX_PAIRS if set(pair) <= set(self.affects)]
        return {"systems": [app_model.facts() for app_model in self.app_models], "affects": list(self.affects),
                "units": list(units), "complex": pairs,
                "judges": [app_model.judge is not None for app_model in self.app_models],
                "random": any(app_model.has_prior for app_model in self.app_models),
                "expressions": self.expressions(), "may_save": self.may_save,
                "rests": any("aus" in app_model.loaded.reads for app_model in self.app_models),
                "told_source": any(app_model.is_told_source for app_model in self.app_models)}  # fmt: skip

    def detect(self, pixels: np.ndarray) -> list[FoundFace] | None:
        """Find the faces in a photograph (H, W, 3) uint8, from left to right; None if no detector is installed."""
        with self._detecting:
            if self._detector is None:
                try:
                    self._detector = FaceWorker()
                except UserError:
                    return None
            return look(self._detector, pixels)

    def close(self) -> None:
        """End the process of the face detector."""
        with self._detecting:
            if self._detector is not None:
                self._detector.__exit__()

    def add_face(self, key: str, pixels: np.ndarray, square_for: Callable[[Framing], Square]) -> str:
        """Keep a face of the photograph `key` and return its key.

        Args:
            key: key of the photograph.
            pixels: the photograph, (H, W, 3) uint8.
            square_for: maps the framing of a system to the square of the face.
        """
        squares = tuple(square_for(m.loaded.framing or m.loaded.usual_framing) for m in self.app_models)
        crops = tuple(s.cut(pixels, m.size) for s, m in zip(squares, self.app_models, strict=True))
        upload = Upload(key, squares, crops)
        self.photos.get(key).faces.append(upload)
        return self.uploads.add(upload)

    def expressions(self) -> list[dict[str, Any]]:
        """Return the named expressions of the library, ``[{"name", "weights", "units"}]``; weights stay on the sliders.

        Raises:
            UserError: the library is invalid.
        """
        found = read_library(self.library, self.affects) if self.library.is_file() else {}
        return [
            {"name": name, "weights": {affect: min(STRONGEST, weight) for affect, weight in spec.affects.items()},
             "units": {str(unit): value for unit, value in spec.units.items()}}
            for name, spec in found.items()
        ]  # fmt: skip

    def cast(self) -> dict[str, np.ndarray]:
        """Return the faces of the first system by name, (S, S, 3) uint8 RGB; the first call may be slow.

        Raises:
            UserError: the run contains no faces, and its data are missing.
        """
        with self._cast:
            return {name: to_uint8(face)[0] for name, face in self.app_models[0].cast.items()}

    def source_face(
        self, number: int, name: FaceName, shows: str = "neutral", neutral_first: bool = False
    ) -> SourceFace:
        """Return the face `name` as a source of system `number`, brought to rest if the system can do so and shall.

        The second system uses its own image of a character if it has one of that name, else that of the first system.
        A random character is generated by the first system that can, and the other system uses that image.

        Raises:
            UserError: the face does not exist.
        """
        found = self._source_face(number, name, shows)
        return self.rested(found) if neutral_first else found

    def rested(self, found: SourceFace) -> SourceFace:
        """Return a face brought to rest, if its system reads action units."""
        if found.face is None or "aus" not in found.app_model.loaded.reads:
            return found
        with self.painting() as run:
            return replace(found, face=run(found.app_model.at_rest, found.face), rested=True)

    def _source_face(self, number: int, name: FaceName, shows: str) -> SourceFace:
        app_model = self.app_models[number]
        if name.kind == RANDOM:
            return self._random(app_model, name.seed)
        if name.kind != CAST:
            return SourceFace(app_model, app_model.fitted(self.uploads.get(name.key).crops[number]), shows=shows)
        pictures = self.cast()
        if name.key not in pictures:
            raise UserError(f"There is no character '{name.key}' here; expected one of {', '.join(pictures)}.")
        own = self._own(app_model, name.key)
        return SourceFace(app_model, app_model.fitted(pictures[name.key]) if own is None else own, shows=shows)

    def _own(self, app_model: AppModel, name: str) -> Tensor | None:
        """Return the system's own image of a character, or None."""
        with self._cast:
            try:
                return app_model.cast.get(name)
            except UserError:
                return None

    def _random(self, app_model: AppModel, seed: int) -> SourceFace:
        author = next((one for one in self.app_models if one.has_prior), None)
        if author is None:
            raise UserError("No system here can draw random characters; choose a character or drop a picture.")
        if author is app_model:
            return SourceFace(app_model, None, seed)
        with self.painting() as run:
            drawn = run(author.draw, seed, author.wanted(None, NEUTRAL))
        return SourceFace(app_model, app_model.fitted(to_uint8(drawn)[0]))
