"""The options `pack` of prepare: whether the pack is also written as chunks, where to, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass

from fexgan_lit.data.streaming.format import MOST_CHUNK_MB

FORMATS = ("memmap", "litdata")


@dataclass
class PackSettings:
    """What becomes of the pack.

    Attributes:
        format: `memmap`, one file in the cache; `litdata`: besides it chunks at `to`, to stream from.
        to: folder or s3://bucket/prefix for the chunks.
        chunk_mb: million bytes a chunk.
    """

    format: str = "memmap"
    to: str | None = None
    chunk_mb: float = 64

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        found = []
        if self.format not in FORMATS:
            found.append(f"pack.format={self.format}: expected one of {', '.join(FORMATS)}.")
        if self.format == "litdata" and not self.to:
            found.append("pack.format=litdata needs pack.to=PLACE, a new folder or s3://bucket/prefix.")
        if self.format == "memmap" and self.to:
            found.append(
                f"pack.to={self.to}: the memory-mapped pack stays in the cache (dataset.cache_dir); for chunks at a "
                "place of your own say pack.format=litdata."
            )
        if not 0 < self.chunk_mb <= MOST_CHUNK_MB:
            found.append(f"pack.chunk_mb={self.chunk_mb}: expected more than 0 and at most {MOST_CHUNK_MB}.")
        return found
