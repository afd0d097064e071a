"""The faces that can be changed: the cast of the run, pictures that were dropped on the page, random characters."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from fexgan_lit.errors import UserError

CAST, UPLOAD, RANDOM = "cast", "upload", "random"
_SEEDS = 2**31


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
