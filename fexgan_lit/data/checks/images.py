"""Sizes of the original pictures, and what one look at every packed frame tells of its pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from fexgan_lit.data.checks.finding import Finding, counted, first_few, some_paths
from fexgan_lit.data.table import FrameTable

#: Side of the thumbnails that stand for the frames: a changed mouth moves a cell by tens of grey levels, a JPEG by few.
THUMB = 16
#: Grey levels by which the lightest and the darkest part of a frame with content differ at least.
_CONTENT = 3
_DARK, _BRIGHT = 6, 249
#: Largest difference of two channels of a frame without colour, in grey levels.
_GREY = 2
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class PixelScan:
    """What is kept of one pass over N packed frames.

    Attributes:
        thumbs: (N, 16, 16, 3) uint8 RGB area averages; 768 bytes a frame.
    """

    thumbs: np.ndarray

    def contrast(self) -> np.ndarray:
        """(N,) grey levels between the lightest and the darkest part."""
        flat = self.thumbs.reshape(len(self.thumbs), -1)  # (N, 16, 16, 3) -> (N, 768)
        return flat.max(axis=1).astype(np.int16) - flat.min(axis=1)

    def brightness(self) -> np.ndarray:
        """(N,) mean in 0..255."""
        return self.thumbs.reshape(len(self.thumbs), -1).mean(axis=1)  # (N, 16, 16, 3) -> (N, 768)

    def colour(self) -> np.ndarray:
        """(N,) largest difference between two channels anywhere, grey levels."""
        spread = self.thumbs.max(axis=3) - self.thumbs.min(axis=3)  # (N, 16, 16)
        return spread.reshape(len(spread), -1).max(axis=1)  # (N, 16, 16) -> (N, 256)


def scan_pixels(images: np.ndarray, progress: Callable[[int, int], None] | None = None) -> PixelScan:
    """Read every frame of `images` (N, L, L, 3) uint8 once; `progress` is called with (frames done, N)."""
    plain = images.view(np.ndarray)
    thumbs = np.empty((len(plain), THUMB, THUMB, 3), np.uint8)
    for row, image in enumerate(plain):
        cv2.resize(image, (THUMB, THUMB), dst=thumbs[row], interpolation=cv2.INTER_AREA)
        if progress is not None and (row % _BLOCK == 0 or row + 1 == len(plain)):
            progress(row + 1, len(plain))
    return PixelScan(thumbs)


def pixel_findings(scan: PixelScan, table: FrameTable) -> list[Finding]:
    """Blank, black and white frames, and frames without colour."""
    blank = scan.contrast() < _CONTENT
    mean = scan.brightness()
    kinds = (
        ("of one colour all over", blank),
        ("almost black", ~blank & (mean < _DARK)),
        ("almost white", ~blank & (mean > _BRIGHT)),
    )
    findings = [
        Finding(
            "warning", "pixels", f"{counted(int(flags.sum()), 'frame')} {word}", "a face", "Look, and remove them.",
            some_paths(table, np.flatnonzero(flags)),
        )
        for word, flags in kinds
        if flags.any()
    ]  # fmt: skip
    return [*findings, *_grey(scan, table, blank)]


def _grey(scan: PixelScan, table: FrameTable, blank: np.ndarray) -> list[Finding]:
    grey = (scan.colour() <= _GREY) & ~blank
    if not grey.any():
        return []
    if grey.sum() == (~blank).sum():
        return [Finding("info", "pixels", "all frames are grey; the networks see three equal channels")]
    found = f"{int(grey.sum())} of {len(grey)} frames are grey, the others in colour"
    names = some_paths(table, np.flatnonzero(grey))
    return [Finding("warning", "pixels", found, "all in colour or all grey", "", names)]


def size_findings(table: FrameTable, sizes: dict[str, int], cropped: int, image_size: int) -> list[Finding]:
    """Mixed sizes, pictures that lost their sides, and pictures that had to be enlarged.

    Args:
        table: with `height` and `width` of the original pictures, as the pack gives it.
        sizes: frames of each original size, as {"256x256": 12}.
        cropped: frames that were not square.
        image_size: side of the frames the networks see, pixels.
    """
    findings = []
    if len(sizes) > 1:
        common = sorted(sizes.items(), key=lambda item: -item[1])
        names = first_few([f"{count} of {size}" for size, count in common])
        findings.append(Finding("info", "pictures", f"pictures of {len(sizes)} sizes", "", "", names))
    if cropped:
        text = f"{cropped} of {len(table)} pictures are not square; only a square of each is used"
        advice = "The central one, unless dataset.crop=face cuts around the landmarks; see contact_sheet.png."
        findings.append(Finding("info", "pictures", text, "", advice))
    return [*findings, *_enlarged(table, image_size)]


def _enlarged(table: FrameTable, image_size: int) -> list[Finding]:
    if "height" not in table.frame or "width" not in table.frame:
        return []
    side = table.frame[["height", "width"]].to_numpy().min(axis=1)  # (N,)
    small = side < image_size
    if not small.any():
        return []
    found = f"{int(small.sum())} of {len(side)} pictures are smaller than {image_size} px, down to {side.min()} px"
    advice = f"They were enlarged and stay soft; dataset.image_size={_power_below(int(np.median(side)))} avoids it."
    return [Finding("warning", "pictures", found, f"{image_size} px or more", advice)]


def _power_below(side: int) -> int:
    return max(32, 1 << (max(side, 1).bit_length() - 1))
