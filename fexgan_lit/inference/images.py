"""Convert images (Pillow, files, NumPy, tensors) to the input tensors of the systems, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from fexgan_lit.data.frames import to_float, to_uint8
from fexgan_lit.data.images import KINDS, MAX_PIXELS, FrameError, load_image, read_bytes, read_frame, to_rgb
from fexgan_lit.data.packing.sources import fit_square
from fexgan_lit.utils.errors import UserError

GIF = ".gif"


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright image.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, composited onto black.
        alpha: (H, W) uint8, or None if the image is opaque.
        animated: whether this is the first image of an animation.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    animated: bool = False


def read_picture(path: Path, keep_alpha: bool = False) -> Picture:
    """Read an image file as `fexgan_lit.data.images` does, and also the first image of a GIF.

    Args:
        path: the file.
        keep_alpha: whether to read the alpha channel.

    Raises:
        FrameError: the file cannot be read, is damaged, too large, or not an image.
    """
    return decode_picture(read_bytes(path), keep_alpha, (*KINDS, "GIF"))


def decode_picture(
    data: bytes, keep_alpha: bool = False, kinds: tuple[str, ...] = KINDS, most: int = MAX_PIXELS
) -> Picture:
    """Decode the bytes of an image file; arguments as of `read_picture` and `fexgan_lit.data.images.open_image`."""
    picture = load_image(data, kinds, most)
    alpha = (
        np.asarray(picture.convert("RGBA").getchannel("A")) if keep_alpha and picture.has_transparency_data else None
    )
    seen = alpha if alpha is not None and (alpha < 255).any() else None
    return Picture(to_rgb(picture), seen, picture.format == "GIF" and getattr(picture, "is_animated", False))


#: An image or a batch: a path, a Pillow image, uint8 RGB (H, W, 3) or (N, H, W, 3), or a float tensor in [-1, 1] of
#: shape (3, S, S) or (N, 3, S, S).
ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor


#: The inverse of `as_batch`: converts faces (N, 3, S, S) in [-1, 1] to the type of the original image.
Back: TypeAlias = Callable[[Tensor], Any]


_EXPECTED = (
    "expected a file, a Pillow image, uint8 RGB of shape (H, W, 3) or (N, H, W, 3), or a float tensor in [-1, 1] of "
    "shape (3, S, S) or (N, 3, S, S)"
)


def as_batch(image: ImageLike, size: int) -> tuple[Tensor, Back]:
    """Convert `image` to an input batch of the systems.

    Files, Pillow images and NumPy arrays of any size are cropped to the central square and resized. Transparency,
    grey, CMYK and EXIF orientation are converted as in `fexgan_lit.data.images`. Tensors are used unchanged.

    Args:
        image: see `ImageLike`.
        size: S, side of the squares in pixels.

    Returns:
        (N, 3, S, S) float32 in [-1, 1], and a function that converts faces of that shape to the type of `image`; for
        a file it returns a Pillow image.

    Raises:
        UserError: the type is not supported, the image is unreadable, empty or too large, or a tensor has another size
            or range.
    """
    if isinstance(image, Tensor):
        return _from_tensor(image, size)
    if isinstance(image, np.ndarray):
        return _from_array(image, size)
    if isinstance(image, Image.Image):
        return _squares([pillow_pixels(image)], size), _to_pillow
    if isinstance(image, str | Path):
        return _squares([_file_pixels(Path(image).expanduser())], size), _to_pillow
    raise UserError(f"image of type {type(image).__name__}: {_EXPECTED}")


def pillow_pixels(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image to upright (H, W, 3) uint8 RGB on black; of an animation, the current frame is used.

    Raises:
        UserError: the image has more than 100 megapixels or is damaged.
    """
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise UserError(f"image of {width}x{height} pixels: expected 1 pixel to {MAX_PIXELS // 10**6} megapixels")
    try:
        return to_rgb(ImageOps.exif_transpose(image))
    except (FrameError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"the image cannot be read: {error}") from error


def photo_pixels(photo: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Return a copy of an image as upright (H, W, 3) uint8 RGB.

    Raises:
        UserError: the type is not supported, or the image is unreadable or too large.
    """
    if isinstance(photo, str | Path):
        return _file_pixels(Path(photo).expanduser())
    if isinstance(photo, Image.Image):
        return pillow_pixels(photo).copy()
    if isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3:
        return photo.copy()
    raise UserError(f"image of type {type(photo).__name__}: expected a file, a Pillow image or uint8 RGB (H, W, 3)")


def to_images(faces: Tensor) -> list[Image.Image]:
    """Convert faces (N, 3, S, S) in [-1, 1] to N Pillow RGB images."""
    return [Image.fromarray(pixels) for pixels in to_uint8(faces)]


def _file_pixels(path: Path) -> np.ndarray:
    try:
        return read_frame(path)
    except FrameError as error:
        raise UserError(f"{path}: {error}") from error


def _squares(pictures: list[np.ndarray], size: int) -> Tensor:
    return to_float(np.stack([fit_square(picture, size) for picture in pictures])).contiguous()


def _to_pillow(faces: Tensor) -> Image.Image:
    return to_images(faces)[0]


def _from_array(image: np.ndarray, size: int) -> tuple[Tensor, Back]:
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3 or not image.size:
        raise UserError(f"NumPy image of type {image.dtype} and shape {image.shape}: {_EXPECTED}")
    if image.ndim == 3:
        return _squares([image], size), lambda faces: to_uint8(faces)[0]
    return _squares(list(image), size), to_uint8


def _from_tensor(image: Tensor, size: int) -> tuple[Tensor, Back]:
    wanted = (3, size, size)
    if not image.is_floating_point() or image.ndim not in (3, 4) or image.shape[-3:] != wanted or not len(image):
        raise UserError(f"tensor of type {image.dtype} and shape {tuple(image.shape)}: {_EXPECTED}, here S = {size}")
    low, high = float(image.detach().min()), float(image.detach().max())
    if not (low >= -1.001 and high <= 1.001):  # NaN fails both comparisons
        raise UserError(
            f"tensor with values from {low:.3g} to {high:.3g}: expected [-1, 1]; convert 0..255 with x / 127.5 - 1"
        )
    batch = image.detach().float()

    def back(faces: Tensor) -> Tensor:
        made = faces.to(image.device)
        return made if image.ndim == 4 else made[0]

    return (batch if image.ndim == 4 else batch[None]), back


def batches(images: Tensor, size: int) -> list[slice]:
    """Return slices of at most `size` rows that cover `images` (N, ...)."""
    return [slice(start, start + size) for start in range(0, len(images), size)]
