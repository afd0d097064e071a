"""The state behind one page: the systems, the faces they show, and the lock around generation."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import COMPLEX_PAIRS, Expression
from fexgan_lit.inference.app import session as faces
from fexgan_lit.inference.app.model import rows_in
from fexgan_lit.inference.app.requests import FaceRequest
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.inference.app.model import AppModel


CAST, UPLOAD, RANDOM = "cast", "upload", "random"


_SEEDS = 2**31
#: Expressions that are painted at once for several requests; more need memory and win no time.
_TOGETHER = 8


class GoneError(Exception):
    """Nobody waits for the answer any more."""


#: Set by the server for a request, and by its client when it goes away.
GONE: ContextVar[threading.Event | None] = ContextVar("gone", default=None)


def check_wanted() -> None:
    """Raise `GoneError` where the client of this request has gone away."""
    gone = GONE.get()
    if gone is not None and gone.is_set():
        raise GoneError


@dataclass(frozen=True)
class FaceName:
    """Which face: `cast:NAME`, `upload:KEY` or `random:SEED`.

    Attributes:
        kind: one of `CAST`, `UPLOAD` and `RANDOM`.
        key: name, key or seed.
    """

    kind: str
    key: str

    @classmethod
    def read(cls, text: str) -> FaceName:
        """The name in `text`.

        Raises:
            UserError: of no such form.
        """
        kind, _, key = text.partition(":")
        fine = kind in (CAST, UPLOAD) or (kind == RANDOM and key.isdecimal() and int(key) < _SEEDS)
        if not fine or not key:
            raise UserError("face: expected cast:NAME, upload:KEY or random:NUMBER")
        return cls(kind, key)

    @property
    def seed(self) -> int:
        """Of a random character."""
        return int(self.key)


class Kept:
    """Pictures of this session, in memory alone, safe to use from several threads; the oldest gives way.

    Args:
        most: pictures that are kept at once.
        gone: what to say of one that is not kept any more.
    """

    def __init__(self, most: int, gone: str) -> None:
        self.most = most
        self.gone = gone
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, pixels: np.ndarray) -> str:
        """Keep `pixels` (S, S, 3) uint8 RGB; returns a key that cannot be guessed."""
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._kept[key] = pixels
            if len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return key

    def get(self, key: str) -> np.ndarray:
        """The picture of a key, (S, S, 3) uint8 RGB.

        Raises:
            UserError: it is gone.
        """
        with self._lock:
            if key not in self._kept:
                raise UserError(self.gone)
            self._kept.move_to_end(key)
            return self._kept[key]


def uploads() -> Kept:
    """Room for pictures that are dropped on the page."""
    return Kept(32, "The picture is gone: pictures are kept only while the page runs. Drop it again.")


def painted() -> Kept:
    """Room for the last pictures that were painted, until somebody reads them."""
    return Kept(16, "The picture has given way to newer ones; ask for it again.")


NEUTRAL = FaceRequest({"neutral": 1.0})


@dataclass(frozen=True)
class SourceFace:
    """A face in front of one system.

    Attributes:
        app_model: the system.
        face: (1, 3, S, S), or None for a character that the system draws itself.
        seed: of a drawn character.
        shows: affect of the face.
    """

    app_model: AppModel
    face: Tensor | None
    seed: int = 0
    shows: str = "neutral"

    def wanted(self, asked: FaceRequest) -> Expression:
        """A wish as the system reads it, (1, ...); see `AppModel.wanted`."""
        return self.app_model.wanted(self.face, asked)

    def paint(self, wanted: Expression) -> Tensor:
        """The expressions (N, ...) on this face, (N, 3, S, S) in [-1, 1]."""
        if self.face is None:
            return self.app_model.draw(self.seed, wanted)
        return self.app_model.paint(self.face, wanted, self.shows)


@dataclass(eq=False)
class _Still:
    """A request for a picture or a few of one face, and once it was painted the faces (N, 3, S, S)."""

    source_face: SourceFace
    wanted: Expression
    faces: Tensor | None = None

    def goes_with(self, other: _Still) -> bool:
        """Whether both can be painted in one batch."""
        a, b = self.source_face, other.source_face
        known = a.app_model is b.app_model and self.wanted.known.keys() == other.wanted.known.keys()
        return known and a.face is not None and b.face is not None


@dataclass
class Session:
    """What one page works with.

    Attributes:
        app_models: one system, or two side by side.
        folder: for files that have to be written on the way; its owner removes it.
        uploads: pictures that were dropped on the page.
        painted: the last pictures that were painted.
    """

    app_models: Sequence[AppModel]
    folder: Path
    uploads: Kept = field(default_factory=faces.uploads)
    painted: Kept = field(default_factory=faces.painted)
    _painting: threading.Lock = field(default_factory=threading.Lock)
    _cast: threading.Lock = field(default_factory=threading.Lock)
    _waiting: list[_Still] = field(default_factory=list)
    #: torch keeps threads and memory for every thread that calls it
    _painter: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))

    @contextlib.contextmanager
    def painting(self) -> Iterator[Callable[..., Any]]:
        """The right to use the networks; taken for one picture or a few, so that a film does not stop the sliders.

        Yields:
            what runs a function and its arguments in the one thread that uses the networks.

        Raises:
            GoneError: the client went away.
        """
        check_wanted()
        with self._painting:
            check_wanted()
            yield lambda work, *given: self._painter.submit(work, *given).result()

    def paint(self, source_face: SourceFace, wanted: Expression) -> Tensor:
        """The expressions (N, ...) on a face, (N, 3, S, S) in [-1, 1].

        Whoever gets the networks paints what others wait for in the same batch; they find it done.
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
        painted = asked.source_face.app_model.paint(torch.cat(faces), wanted, shows).split(counts)
        for one, made in zip(together, painted, strict=True):
            one.faces = made

    @property
    def affects(self) -> tuple[str, ...]:
        """Affects of all systems, those of the first one first."""
        return tuple(dict.fromkeys(name for app_model in self.app_models for name in app_model.affects))

    def about(self) -> dict[str, Any]:
        """What the page is told when it opens."""
        units = dict.fromkeys(unit for app_model in self.app_models for unit in app_model.facts()["units"])
        pairs = [pair for pair in COMPLEX_PAIRS if set(pair) <= set(self.affects)]
        return {"systems": [app_model.facts() for app_model in self.app_models], "affects": list(self.affects),
                "units": list(units), "complex": pairs,
                "judges": [app_model.judge is not None for app_model in self.app_models],
                "random": any(app_model.has_prior for app_model in self.app_models),
                "told_source": any(app_model.is_told_source for app_model in self.app_models)}  # fmt: skip

    def cast(self) -> dict[str, np.ndarray]:
        """The faces of the first system by name, (S, S, 3) uint8 RGB; prepared on the first call, which may take long.

        Raises:
            UserError: they are kept nowhere, and the run's data are gone.
        """
        with self._cast:
            return {name: to_uint8(face)[0] for name, face in self.app_models[0].cast.items()}

    def source_face(self, number: int, name: FaceName, shows: str = "neutral") -> SourceFace:
        """The face `name` in front of system `number`.

        The second system is given its own picture of a character where it knows one of that name, else the first
        system's; a random character is drawn by the first system that can, and handed to the other as a picture.

        Raises:
            UserError: there is no such face.
        """
        app_model = self.app_models[number]
        if name.kind == RANDOM:
            return self._random(app_model, name.seed)
        if name.kind != CAST:
            return SourceFace(app_model, app_model.fitted(self.uploads.get(name.key)), shows=shows)
        pictures = self.cast()
        if name.key not in pictures:
            raise UserError(f"There is no character '{name.key}' here; expected one of {', '.join(pictures)}.")
        own = self._own(app_model, name.key)
        return SourceFace(app_model, app_model.fitted(pictures[name.key]) if own is None else own, shows=shows)

    def _own(self, app_model: AppModel, name: str) -> Tensor | None:
        """The system's own picture of a character; None where it has none."""
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
