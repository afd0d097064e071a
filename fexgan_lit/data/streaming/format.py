"""The format of a chunked pack: file names, the facts in pack.json, and the bytes of a chunk."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

#: Raise this number when older versions could not read new packs.
FORMAT = 1
#: Value of `kind` in the pack.json of a chunked pack.
KIND = "fexgan_lit chunks"
FACTS, TABLE, INDEX = "pack.json", "table.parquet", "index.json"
#: File that exists while a pack is being written, and names the pack.
WRITING = "writing.json"
#: Table column with the stored position of each row's frame.
STORED = "stored"
#: LitData stores the size of its one field before every item.
_ITEM_HEADER = 4
#: LitData stores byte offsets within a chunk in 32 bits.
MOST_CHUNK_MB = 4000


@dataclass(frozen=True)
class ChunkedFacts:
    """The content of pack.json; it is written last, so a place without it holds no complete pack.

    Attributes:
        name: name of the pack in the cache that it was written from; equal frames and settings give equal names.
        dataset: `dataset.name` of the settings.
        frames: number of frames.
        size: side of the frames, pixels.
        chunk_frames: frames per chunk; the last chunk may have fewer.
        checks: CRC-32 of every chunk file, in order.
        digest: SHA-256 of the table; `checks` and `digest` together cover all data.
        sizes: number of images of each original size, as {"128x128": 4200}.
        cropped: number of frames that were not square.
        made_with: the `dataset` options that decided the frames and annotations in the pack.
        format: version of this format.
        kind: `KIND`.
    """

    name: str
    dataset: str
    frames: int
    size: int
    chunk_frames: int
    checks: list[int]
    digest: str
    sizes: dict[str, int]
    cropped: int
    made_with: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    kind: str = KIND

    @property
    def geometry(self) -> Geometry:
        """Layout of the frames in the chunks."""
        return Geometry(self.frames, self.size, self.chunk_frames)

    def text(self) -> str:
        """Return the text of pack.json; `parse_facts` reads it."""
        return json.dumps(asdict(self), indent=1) + "\n"


def parse_facts(text: bytes) -> ChunkedFacts:
    """Parse the text of a pack.json.

    Raises:
        ValueError: it belongs to something else, has another version, or is incomplete; the message says which.
    """
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("kind") != KIND:
            raise ValueError("its pack.json does not describe a chunked pack")
        if found["format"] != FORMAT:
            raise ValueError(f"it has format {found['format']}, this version of fexgan_lit reads {FORMAT}")
        facts = ChunkedFacts(**found)
        if len(facts.checks) != facts.geometry.chunks:
            raise ValueError(f"{len(facts.checks)} checks for {facts.geometry.chunks} chunks")
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"its pack.json cannot be read ({error})") from error
    return facts


def claim(name: str, chunk_frames: int) -> str:
    """Return the text of writing.json while the pack `name` is being written."""
    return json.dumps({"kind": KIND, "name": name, "chunk_frames": chunk_frames}) + "\n"


def claimed(text: bytes) -> tuple[str, int]:
    """Parse the name and the frames per chunk from a writing.json, or from a pack.json of any version.

    Raises:
        ValueError: the file does not belong to a chunked pack.
    """
    try:
        found = json.loads(text)
        if found["kind"] == KIND:
            return str(found["name"]), int(found["chunk_frames"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("a file of the same name that does not describe a pack") from error
    raise ValueError(f"a {found['kind']}")


@dataclass(frozen=True)
class Geometry:
    """Layout of a pack's frames: (size, size, 3) uint8 each, `chunk_frames` per chunk.

    Chunks have LitData's format: n and n + 1 offsets as uint32, then n items, each with its size as uint32 and its
    bytes. Since all items have equal length, a chunk can be memory-mapped as one array with constant stride.
    """

    frames: int
    size: int
    chunk_frames: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return self.size * self.size * 3

    @property
    def stride(self) -> int:
        """Bytes from one frame of a chunk to the next."""
        return _ITEM_HEADER + self.frame_bytes

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.frames // self.chunk_frames)

    def count(self, chunk: int) -> int:
        """Return the number of frames of a chunk."""
        return min(self.chunk_frames, self.frames - chunk * self.chunk_frames)

    def offset(self, chunk: int) -> int:
        """Return the bytes before the first frame of a chunk."""
        return 4 + 4 * (self.count(chunk) + 1) + _ITEM_HEADER

    def chunk_bytes(self, chunk: int) -> int:
        """Return the bytes of a chunk's file."""
        return self.offset(chunk) - _ITEM_HEADER + self.count(chunk) * self.stride

    @property
    def total_bytes(self) -> int:
        """Bytes of all chunks."""
        return sum(map(self.chunk_bytes, range(self.chunks)))

    def view(self, content: Any, chunk: int) -> np.ndarray:
        """View the bytes `content` of a chunk's file as frames (n, size, size, 3) uint8, without a copy."""
        shape = (self.count(chunk), self.size, self.size, 3)
        strides = (self.stride, self.size * 3, 3, 1)
        return np.ndarray(shape, np.uint8, content, self.offset(chunk), strides)


def chunk_name(chunk: int) -> str:
    """Return the file name of a chunk, as LitData's writer names it."""
    return f"chunk-0-{chunk}.bin"


def frames_a_chunk(chunk_mb: float, size: int, frames: int) -> int:
    """Return the number of frames of `size` pixels in about `chunk_mb` million bytes; at least one, at most all."""
    return max(1, min(frames, math.floor(chunk_mb * 1e6 / (size * size * 3 + _ITEM_HEADER))))
