"""The `pack` options of prepare: whether the pack is also written as chunks, where, and how large the chunks are."""

from __future__ import annotations

from dataclasses import dataclass

from fexgan_lit.data.streaming.format import MOST_CHUNK_MB
from fexgan_lit.utils.options import Options, option

FORMATS = ("memmap", "litdata")


@dataclass
class PackSettings(Options):
    """Format and place of the pack.

    Attributes:
        format: `memmap`, one file in the cache; `litdata`, additionally chunks at `to` for streaming.
        to: folder or s3://bucket/prefix for the chunks.
        chunk_mb: size of a chunk in million bytes.
    """

    section = "pack"

    format: str = option("memmap", choices=FORMATS)
    to: str | None = None
    chunk_mb: float = option(64, f"more than 0 and at most {MOST_CHUNK_MB}", above=0, at_most=MOST_CHUNK_MB)

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        if self.format == "litdata" and not self.to:
            return ["pack.format=litdata needs pack.to=PLACE, a new folder or s3://bucket/prefix"]
        if self.format == "memmap" and self.to:
            return [
                f"pack.to={self.to}: the memory-mapped pack stays in the cache (dataset.cache_dir); for chunks at a "
                "place of your own say pack.format=litdata"
            ]
        return []
