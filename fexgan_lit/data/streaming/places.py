"""Where a pack of chunks lies: a folder, or a prefix of an S3-compatible store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from fexgan_lit.data.streaming.layout import FACTS, INDEX, WRITING
from fexgan_lit.data.streaming.s3 import S3Place
from fexgan_lit.errors import UserError
from fexgan_lit.files import write_atomic

T = TypeVar("T")


class Place(Protocol):
    """A flat store of files; every method raises a UserError where the place cannot be used."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    def read(self, file: str) -> bytes | None:
        """The content of a small file; None if it is not there."""

    def write(self, file: str, content: str | bytes) -> None:
        """Write a small file, whole or not at all."""

    def send(self, path: Path, file: str, check: int) -> None:
        """Keep a copy of the file at `path`, whose CRC-32 is `check`; `path` itself may be gone afterwards."""

    def remove(self, file: str) -> None:
        """Remove a file, if it is there."""

    def first(self) -> str | None:
        """The name of something that lies there; None where nothing does."""


class FolderPlace:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder: Path = folder
        self.name = str(folder)

    def read(self, file: str) -> bytes | None:
        """As `Place`."""
        path = self.folder / file
        return self._try(lambda: path.read_bytes() if path.is_file() else None)

    def write(self, file: str, content: str | bytes) -> None:
        """As `Place`."""
        self._try(lambda: write_atomic(self.folder / file, content))

    def send(self, path: Path, file: str, check: int) -> None:
        """As `Place`; replaces what is there, which costs no more than looking at it."""
        partial = self.folder / f"{file}.partial"

        def take_over() -> None:
            shutil.move(path, partial)  # a rename where both lie on one disk
            partial.replace(self.folder / file)

        self._try(take_over)

    def remove(self, file: str) -> None:
        """As `Place`."""
        self._try(lambda: (self.folder / file).unlink(missing_ok=True))

    def first(self) -> str | None:
        """As `Place`."""
        return self._try(lambda: min(self._names(), default=None))

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.exists() else []

    def _try(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise UserError(
                f"the folder {self.folder} cannot be used ({error.strerror or error}); make it readable and writable, "
                "make room, or name another place."
            ) from error


def place_of(name: str) -> FolderPlace | S3Place:
    """The place that a user calls `name`; nothing is looked at yet.

    Raises:
        UserError: a URL of another kind than s3://bucket/prefix, or boto3 is missing.
    """
    return S3Place(name) if is_url(name) else FolderPlace(Path(name).expanduser().absolute())


def is_url(name: str) -> bool:
    """Whether a root or place is no folder of this machine."""
    return "://" in name


def holds_chunks(root: str | None) -> bool:
    """Whether a root is a URL, or a folder with a pack of chunks, whole or half written."""
    if root is None or is_url(root):
        return root is not None
    folder = Path(root).expanduser()
    return (folder / WRITING).is_file() or ((folder / FACTS).is_file() and (folder / INDEX).is_file())


def absolute_root(root: str) -> str:
    """`root` as it can be used from any folder: a URL as it is, a path in full."""
    return root if is_url(root) else str(Path(root).expanduser().resolve())
