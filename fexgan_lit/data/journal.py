"""What of a pack is written already, so that a build that was killed goes on where it stopped.

Pixels are appended to one file, and after every piece a line goes to the journal beside it: what was read, row by
row, and sums of the line and of the pixels. After a kill the longest run of pieces that agrees with both files is kept.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: (height, width) of a frame that was read, or the reason why it was not.
Read = tuple[int, int] | str

JOURNAL = "journal"
#: Between the bytes that are summed; a prime, so that all columns and colours take their turn.
_STRIDE = 61


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive rows of a data set, read.

    Attributes:
        pixels: (L, L, 3) uint8 arrays, the readable frames.
        read: what became of each row, readable or not.
    """

    pixels: list[np.ndarray]
    read: list[Read]


class PixelLog:
    """Appends pieces to `pixels` in `folder`; to be used in a `with` block.

    Args:
        folder: of the build; a journal in it is taken up if it began with the same `key` and `frame_bytes`.
        pixels: name of the pixel file.
        key: identifies the data set and the settings of the pack.
        frame_bytes: of one frame.

    Attributes:
        read: what became of the rows so far.
    """

    def __init__(self, folder: Path, pixels: str, key: str, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        head = _line({"key": key, "frame_bytes": frame_bytes})
        self.read: list[Read] = []
        text_length, pixel_length = self._agreed(folder / pixels, folder / JOURNAL, head)
        self._pixels, self._journal = (folder / pixels).open("ab"), (folder / JOURNAL).open("ab")
        self._pixels.truncate(pixel_length)
        self._journal.truncate(text_length)
        if not text_length:
            self._journal.write(head)

    def __enter__(self) -> PixelLog:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._pixels.close()  # may still have something to write, and fail
        finally:
            self._journal.close()

    def append(self, piece: Piece) -> None:
        """Write a piece; it counts from the moment its line is written."""
        # write() and not a writable memory map: on a full disk the one raises, the other kills.
        # One write for the piece: giving up the interpreter for every frame would cost more than copying does.
        self._pixels.write(b"".join(frame.data for frame in map(np.ascontiguousarray, piece.pixels)))
        self._pixels.flush()
        total = sum(map(pixel_sum, piece.pixels))
        self._journal.write(_line({"read": piece.read, "sum": total}))
        self._journal.flush()
        self.read += piece.read

    def _agreed(self, pixels: Path, journal: Path, head: bytes) -> tuple[int, int]:
        """Bytes of journal and pixels that agree with each other; what they say was read goes to `read`."""
        if not journal.is_file() or not pixels.is_file():
            return 0, 0
        lines = journal.read_bytes().splitlines(keepends=True)
        if not lines or lines[0] != head:
            return 0, 0
        text_length, pixel_length = len(head), 0
        with pixels.open("rb") as stored:
            for line in lines[1:]:
                entry = _entry(line)
                if entry is None:
                    break
                read: list[Read] = [each if isinstance(each, str) else (each[0], each[1]) for each in entry["read"]]
                frames = sum(not isinstance(each, str) for each in read)
                found = [np.frombuffer(stored.read(self._frame_bytes), np.uint8) for _ in range(frames)]
                wanted = frames * self._frame_bytes
                if sum(map(len, found)) != wanted or sum(map(pixel_sum, found)) != entry["sum"]:
                    break
                self.read += read
                text_length, pixel_length = text_length + len(line), pixel_length + wanted
        return text_length, pixel_length


def pixel_sum(pixels: np.ndarray) -> int:
    """Sum of every 61st byte of a frame: enough to notice what a crash leaves, holes of a disk block and shifts."""
    return int(pixels.reshape(-1)[::_STRIDE].sum())


def _line(entry: dict[str, Any]) -> bytes:
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says, or None where it was cut short or damaged."""
    text = line[9:].rstrip(b"\n")
    if not line.endswith(b"\n") or line[:8] != b"%08x" % zlib.crc32(text):
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry
