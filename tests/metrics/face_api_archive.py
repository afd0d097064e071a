"""A small stand-in for face-api's npm archive: the true names and shapes of all tensors, and values from a formula."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

EXPRESSION, IDENTITY = "package/model/face_expression_model", "package/model/face_recognition_model"


def formula(count: int, seed: int) -> np.ndarray:
    """(count,) bytes that look random and are the same everywhere."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed * 40503 + 1)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x2C1B3C6D)
    return (x >> np.uint32(24)).astype(np.uint8)


def pictures(size: int, count: int = 2) -> np.ndarray:
    """(count, size, size, 3) bytes: noise on slopes, steeper from top to bottom than from left to right or reversed."""
    noise = formula(count * size * size * 3, 5).reshape(count, size, size, 3) // 4
    slope = np.arange(size) * 128 // size
    down, right = slope[:, None, None], slope[None, :, None] // 2
    slopes = (down + right, 190 - down - right // 2)
    return np.stack([noise[i] + slopes[i % 2] for i in range(count)]).astype(np.uint8)


def expression_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    channels = 3
    for block, width in enumerate((32, 64, 128, 256)):
        for conv in range(4):
            place = f"dense{block}/conv{conv}"
            if block == conv == 0:
                yield f"{place}/filters", (3, 3, 3, 32)
            else:
                yield f"{place}/depthwise_filter", (3, 3, channels, 1)
                yield f"{place}/pointwise_filter", (1, 1, channels, width)
            yield f"{place}/bias", (width,)
            channels = width
    yield "fc/weights", (256, 7)
    yield "fc/bias", (7,)


def identity_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    def convolution(place: str, side: int, channels_in: int, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{place}/conv/filters", (side, side, channels_in, channels)
        for name in ("conv/bias", "scale/weights", "scale/biases"):
            yield f"{place}/{name}", (channels,)

    yield from convolution("conv32_down", 7, 3, 32)
    stages = ((32, "1 2 3"), (64, "down 1 2 3"), (128, "down 1 2"), (256, "down 1 2 down_out"))
    channels = 32
    for width, blocks in stages:
        for block in blocks.split():
            for conv in (1, 2):
                yield from convolution(f"conv{width}_{block}/conv{conv}", 3, channels, width)
                channels = width
    yield "fc", (256, 128)


def network_files(stem: str, shapes: Iterator[tuple[str, tuple[int, ...]]]) -> dict[str, bytes]:
    """The manifest and the weights of a network; as in the package, some tensors are float32, the others bytes."""
    entries, data = [], b""
    for number, (name, shape) in enumerate(shapes):
        raw = formula(math.prod(shape), number)
        low, high = (0.8, 1.2) if name.endswith("scale/weights") else (-0.1, 0.1)
        if len(shape) > 1:  # the size of activations stays from layer to layer
            high = math.sqrt(6 / math.prod(shape[:2] if name.endswith("depthwise_filter") else shape[:-1]))
            low = -high
        scale = (high - low) / 255
        entry = {"name": name, "shape": list(shape), "dtype": "float32"}
        if (stem == EXPRESSION and name.endswith("bias")) or (name.startswith("conv64") and name.endswith("filters")):
            data += (raw * np.float32(scale) + np.float32(low)).astype("<f4").tobytes()
        else:
            entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": low}
            data += raw.tobytes()
        entries.append(entry)
    manifest = [{"weights": entries, "paths": [f"{Path(stem).name}.bin"]}]
    return {f"{stem}.bin": data, f"{stem}-weights_manifest.json": json.dumps(manifest).encode()}


def package_files() -> dict[str, bytes]:
    """All files of the stand-in by name."""
    return {
        "package/package.json": json.dumps({"name": "@vladmandic/face-api", "version": "1.7.15"}).encode(),
        "package/LICENSE": b"MIT License\n",
        "package/README.md": b"not needed",
        **network_files(EXPRESSION, expression_shapes()),
        **network_files(IDENTITY, identity_shapes()),
    }


def write_archive(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a .tgz of `files`."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
