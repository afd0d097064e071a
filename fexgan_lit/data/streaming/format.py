"""What lies where in a pack of chunks: names, the facts in pack.json, and the bytes of a chunk."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

#: Raise when packs are written that older versions could not read.
FORMAT = 1
#: What tells a pack of chunks from any other pack.json.
KIND = "fexgan_lit chunks"
FACTS, TABLE, INDEX = "pack.json", "table.parquet", "index.json"
#: Lies at a place while a pack is written there, and names it.
WRITING = "writing.json"
#: The column of the table that says where a row's frame is stored.
STORED = "stored"
#: LitData puts the size of its one field before every item.
_ITEM_HEADER = 4
#: LitData counts the bytes of a chunk in 32 bits.
MOST_CHUNK_MB = 4000


@dataclass(frozen=True)
class ChunkedFacts:
    """What pack.json says; it is written last, so that a place without it holds no pack.

    Attributes:
        name: of the pack in the cache it was written from; the same frames and settings have the same name.
        dataset: `dataset.name` it was made with.
        frames: how many.
        size: their side, pixels.
        chunk_frames: frames a chunk; the last one may have fewer.
        checks: CRC-32 of every chunk file, in order.
        digest: SHA-256 of the table; with `checks` it covers all there is.
        sizes: how many pictures had which size, as {"128x128": 4200}.
        cropped: frames that were not square.
        made_with: the options of `dataset` that decided which frames are in it and what is known of them.
        format: version of this layout.
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
        """Where its frames lie."""
        return Geometry(self.frames, self.size, self.chunk_frames)

    def text(self) -> str:
        """As `parse_facts` reads it."""
        return json.dumps(asdict(self), indent=1) + "\n"


def parse_facts(text: bytes) -> ChunkedFacts:
    """The facts in a pack.json.

    Raises:
        ValueError: it is none of ours, of another version, or incomplete; says which.
    """
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("kind") != KIND:
            raise ValueError("its pack.json is not that of a pack in chunks")
        if found["format"] != FORMAT:
            raise ValueError(f"it has format {found['format']}, this version of fexgan_lit reads {FORMAT}")
        facts = ChunkedFacts(**found)
        if len(facts.checks) != facts.geometry.chunks:
            raise ValueError(f"{len(facts.checks)} checks for {facts.geometry.chunks} chunks")
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"its pack.json cannot be read ({error})") from error
    return facts


def claim(name: str, chunk_frames: int) -> str:
    """What writing.json says while the pack `name` is written."""
    return json.dumps({"kind": KIND, "name": name, "chunk_frames": chunk_frames}) + "\n"


def claimed(text: bytes) -> tuple[str, int]:
    """The name and the frames a chunk in a writing.json, or in a pack.json of any version.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        found = json.loads(text)
        if found["kind"] == KIND:
            return str(found["name"]), int(found["chunk_frames"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("a file of the same name that is not a pack's") from error
    raise ValueError(f"a {found['kind']}")


@dataclass(frozen=True)
class Geometry:
    """Where the frames of a pack lie: (size, size, 3) uint8 each, `chunk_frames` to a chunk.

    A chunk of n frames is LitData's: n and n + 1 offsets as uint32, then the items, each its size as uint32 and its
    bytes. As all items are equally long, a chunk can be mapped into memory as one array with a constant stride.
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
        """How many."""
        return -(-self.frames // self.chunk_frames)

    def count(self, chunk: int) -> int:
        """Frames of a chunk."""
        return min(self.chunk_frames, self.frames - chunk * self.chunk_frames)

    def offset(self, chunk: int) -> int:
        """Bytes before the first frame of a chunk."""
        return 4 + 4 * (self.count(chunk) + 1) + _ITEM_HEADER

    def chunk_bytes(self, chunk: int) -> int:
        """Bytes of the file of a chunk."""
        return self.offset(chunk) - _ITEM_HEADER + self.count(chunk) * self.stride

    @property
    def total_bytes(self) -> int:
        """Bytes of all chunks."""
        return sum(map(self.chunk_bytes, range(self.chunks)))

    def view(self, content: Any, chunk: int) -> np.ndarray:
        """(n, size, size, 3) uint8, the frames in the bytes `content` of a chunk's file; nothing is copied."""
        shape = (self.count(chunk), self.size, self.size, 3)
        strides = (self.stride, self.size * 3, 3, 1)
        return np.ndarray(shape, np.uint8, content, self.offset(chunk), strides)


def chunk_name(chunk: int) -> str:
    """The file of a chunk, as LitData's writer names it."""
    return f"chunk-0-{chunk}.bin"


def frames_a_chunk(chunk_mb: float, size: int, frames: int) -> int:
    """How many frames of `size` pixels make about `chunk_mb` million bytes; at least one, at most all."""
    return max(1, min(frames, math.floor(chunk_mb * 1e6 / (size * size * 3 + _ITEM_HEADER))))
