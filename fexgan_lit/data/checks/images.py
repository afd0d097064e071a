"""Checks of the original sizes and of the packed pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from fexgan_lit.data.checks.finding import Finding, counted
from fexgan_lit.data.table import FrameTable, first_few

#: Side of the thumbnails of frames: a changed mouth moves a cell by tens of grey levels, JPEG compression by a few.
THUMB = 16
#: Minimum difference in grey levels between the lightest and darkest cell of a frame with content.
_CONTENT = 3
_DARK, _BRIGHT = 6, 249
#: Maximum difference of two channels of a grey frame, in grey levels.
_GREY = 2
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class PixelScan:
    """Result of one pass over N packed frames.

    Attributes:
        thumbs: (N, 16, 16, 3) uint8 RGB area averages; 768 bytes per frame.
    """

    thumbs: np.ndarray

    def contrast(self) -> np.ndarray:
        """Return the grey levels (N,) between the lightest and the darkest value of each thumbnail."""
        flat = self.thumbs.reshape(len(self.thumbs), -1)  # (N, 16, 16, 3) -> (N, 768)
        return flat.max(axis=1).astype(np.int16) - flat.min(axis=1)

    def brightness(self) -> np.ndarray:
        """Return the mean (N,) of each thumbnail, 0..255."""
        return self.thumbs.reshape(len(self.thumbs), -1).mean(axis=1)  # (N, 16, 16, 3) -> (N, 768)

    def colour(self) -> np.ndarray:
        """Return the largest difference (N,) between two channels at any cell, grey levels."""
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
    """Return the findings on blank, black, white and grey frames."""
    blank = scan.contrast() < _CONTENT
    mean = scan.brightness()
    kinds = (
        ("of a single colour", blank),
        ("almost black", ~blank & (mean < _DARK)),
        ("almost white", ~blank & (mean > _BRIGHT)),
    )
    findings = [
        Finding(
            "warning", "pixels", f"{counted(int(flags.sum()), 'frame')} {word}", "a face", "Check and remove them.",
            first_few(table.frame["path"][flags]),
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
        return [Finding("info", "pixels", "all frames are grey; the networks get three equal channels")]
    found = f"{int(grey.sum())} of {len(grey)} frames are grey, the others in colour"
    names = first_few(table.frame["path"][grey])
    return [Finding("warning", "pixels", found, "all in colour or all grey", "", names)]


def size_findings(table: FrameTable, sizes: dict[str, int], cropped: int, image_size: int) -> list[Finding]:
    """Return the findings on mixed sizes, cropped images and enlarged images.

    Args:
        table: the pack's table, with `height` and `width` of the original images.
        sizes: number of frames of each original size, as {"256x256": 12}.
        cropped: number of frames that were not square.
        image_size: side of the networks' input, pixels.
    """
    findings = []
    if len(sizes) > 1:
        common = sorted(sizes.items(), key=lambda item: -item[1])
        names = first_few([f"{count} of {size}" for size, count in common])
        findings.append(Finding("info", "pictures", f"images of {len(sizes)} sizes", "", "", names))
    if cropped:
        text = f"{cropped} of {len(table)} images are not square; only a square of each is used"
        advice = "It is the central square, or the face with dataset.crop=face; see contact_sheet.png."
        findings.append(Finding("info", "pictures", text, "", advice))
    return [*findings, *_enlarged(table, image_size)]


def _enlarged(table: FrameTable, image_size: int) -> list[Finding]:
    if "height" not in table.frame or "width" not in table.frame:
        return []
    side = table.frame[["height", "width"]].to_numpy().min(axis=1)  # (N,)
    small = side < image_size
    if not small.any():
        return []
    found = f"{int(small.sum())} of {len(side)} images are smaller than {image_size} px, down to {side.min()} px"
    advice = f"They were enlarged and are blurred; dataset.image_size={_power_below(int(np.median(side)))} avoids this."
    return [Finding("warning", "pictures", found, f"{image_size} px or more", advice)]


def _power_below(side: int) -> int:
    return max(32, 1 << (max(side, 1).bit_length() - 1))
