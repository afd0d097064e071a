"""Augmentation of pairs: the same geometry and colours for source and target, reproducible per row and batch."""

from __future__ import annotations

import inspect
import os
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

import cv2
import numpy as np

from fexgan_lit.utils.errors import UserError

_JAW_BROWS_NOSE = (*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1))
_EYES = (45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40)
_LIPS = (*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1))
#: Left-right permutation of the 68 Multi-PIE points: point k of the mirrored face is point MIRROR[k] of the face.
MIRROR = np.array((*_JAW_BROWS_NOSE, *_EYES, *_LIPS))


@dataclass(frozen=True)
class Draws:
    """Augmentation parameters of B pairs, shared by source and target.

    Attributes:
        size: side of the crop, pixels.
        corner: (B, 2) int64, row and column of the crop's top left pixel.
        flip: (B,) bool, whether the crop is mirrored.
        contrast: (B,) float64 factors on the levels 0..255, or None without colour changes.
        brightness: (B,) float64 offsets added to the levels, or None.
    """

    size: int
    corner: np.ndarray
    flip: np.ndarray
    contrast: np.ndarray | None = None
    brightness: np.ndarray | None = None

    def tables(self) -> np.ndarray | None:
        """Return the lookup tables (B, 256) uint8 of the levels, as albumentations computes them, or None."""
        if self.contrast is None or self.brightness is None:
            return None
        factor, added = (values.astype(np.float32)[:, None] for values in (self.contrast, self.brightness))  # (B, 1)
        return np.clip(np.arange(256, dtype=np.float32) * factor + added, 0, 255).astype(np.uint8)


class PairAugmentation:
    """The augmentation presets: random crop, horizontal flip, brightness and contrast, drawn for a whole batch at once.

    `albumentations.Compose` of crop and flip takes 17 times as long for 32 pairs (143 to 128 px: 6.3 against 0.37 ms,
    with landmarks 8.9 against 0.88 ms, one thread of an AMD EPYC), and frames on a GPU need the parameters without the
    pixels. Action units do not distinguish the sides of a face, so they stay unchanged.

    Args:
        size: side of the crop, pixels; the frames are larger (`DatasetConfig.load_size`). None disables cropping.
        flip: probability of a flip.
        jitter: maximum relative change of brightness and contrast; 0 disables both.
    """

    def __init__(self, size: int | None = None, flip: float = 0.5, jitter: float = 0.0) -> None:
        self.size = size
        self.flip = flip
        self.jitter = jitter

    def side(self, length: int) -> int:
        """Return the side in pixels of the output for frames of `length` px."""
        return self.size or length

    def draw(self, key: tuple[int, ...], pairs: int, length: int, first: int = 0) -> Draws:
        """Draw the parameters of `pairs` pairs; the same `key` gives the same parameters.

        Args:
            key: seed of the batch.
            pairs: B.
            length: side of the frames, pixels.
            first: index of the first pair within the batch that several processes share. The parameters of pair
                `first + i` do not depend on `first`.
        """
        numbers = np.random.default_rng(key).random((first + pairs, 5 if self.size else 1))[first:].T
        if self.size is None:
            return Draws(length, np.zeros((pairs, 2), np.int64), numbers[0] < self.flip)
        if length < self.size:
            raise ValueError(f"frames of {length} px are smaller than the crop of {self.size}")
        down, right, side, factor, added = numbers
        corner = (np.stack([down, right], 1) * (length - self.size + 1)).astype(np.int64)  # (B, 2)
        if self.jitter == 0:
            return Draws(self.size, corner, side < self.flip)
        factor, added = (self.jitter * (2 * share - 1) for share in (factor, added))
        return Draws(self.size, corner, side < self.flip, 1 + factor, 255 * added)

    def __call__(
        self, pixels: np.ndarray, key: tuple[int, ...], first: int = 0, points: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Augment a batch.

        Args:
            pixels: (2B, L, L, 3) uint8, sources then targets; not changed in place.
            key: see `draw`.
            first: see `draw`.
            points: (2B, 68, 2) landmarks, -1..1 from edge to edge, or None.

        Returns:
            (2B, size, size, 3) uint8 frames, and the landmarks of the crops; points outside a crop lie outside -1..1.
        """
        draws = self.draw(key, len(pixels) // 2, pixels.shape[1], first)
        cropped = crop(pixels, draws)
        if (tables := draws.tables()) is not None:
            for row, table in enumerate(tables):
                for frame in (row, len(tables) + row):
                    cv2.LUT(cropped[frame], table, dst=cropped[frame])
        return cropped, move(points, draws, pixels.shape[1])


class PairPipeline:
    """A list of albumentations transforms; one call of `Compose` transforms both frames of a pair and their landmarks.

    The random numbers of a pair depend only on the key of its batch and its place in the batch. If a transform mirrors
    a face, left and right landmarks are swapped; action units stay unchanged.

    Args:
        transforms: mappings with `_target_` and arguments (`dataset.augmentation`); a target is `albumentations.NAME`
            or a class of a trusted package.
        size: side of the input and output frames, pixels.

    Raises:
        UserError: a transform does not exist, cannot be built, needs other input than images and landmarks, or the
            output is not (size, size, 3) uint8.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], size: int) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import checks for updates over the network
        import albumentations as A

        if not transforms:
            raise UserError("dataset.augmentation=[]: expected at least one transform, or dataset.augmentation=none.")
        self.size = size
        built = [_build(transform, f"dataset.augmentation[{i}]") for i, transform in enumerate(transforms)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the warning that no transform moves landmarks
            self.compose = A.Compose(
                built,
                additional_targets={"target": "image"},
                keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
            )
        self(
            np.full((8, size, size, 3), 127, np.uint8), (0,), points=np.zeros((8, 68, 2), np.float32)
        )  # find errors now

    def __call__(
        self, pixels: np.ndarray, key: tuple[int, ...], first: int = 0, points: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Augment a batch; arguments and return values are those of `PairAugmentation.__call__`."""
        pairs, length = len(pixels) // 2, pixels.shape[1]
        made = np.empty((2 * pairs, self.size, self.size, 3), np.uint8)
        moved = None if points is None else np.empty_like(points)
        for row in range(pairs):
            rng = np.random.default_rng((*key, first + row))
            self.compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
            both = [row, pairs + row]
            given = {"image": pixels[row], "target": pixels[pairs + row]}
            if points is not None:
                places = (points[both].reshape(-1, 2) + 1) * (length / 2) - 0.5  # (136, 2), pixels
                given["keypoints"] = np.concatenate([places, _CORNERS * length])
            try:
                done = self.compose(**given)
            except Exception as error:  # user-defined transforms may raise anything
                found = f"cannot be applied to images of {length} px: {error}"
                raise UserError(f"dataset.augmentation {found}") from error
            for frame, image in zip(both, (done["image"], done["target"]), strict=True):
                made[frame] = self._checked(image)
            if moved is not None:
                if len(done["keypoints"]) != len(given["keypoints"]):
                    sent, back = len(given["keypoints"]), len(done["keypoints"])
                    raise UserError(
                        f"dataset.augmentation: {back} of {sent} points were returned; expected transforms that "
                        "return every landmark (keypoint_remapping_method: direct)."
                    )
                places = (done["keypoints"][:-3] + 0.5) * (2 / self.size) - 1
                moved[both] = places.reshape(2, 68, 2)
                a, b = np.diff(done["keypoints"][-3:], axis=0)  # corners: right, then down
                if a[0] * b[1] < a[1] * b[0]:
                    moved[both] = moved[both].take(MIRROR, 1)
        return made, moved

    def _checked(self, image: np.ndarray) -> np.ndarray:
        if image.shape == (self.size, self.size, 3) and image.dtype == np.uint8:
            return image
        raise UserError(
            f"dataset.augmentation: the output has shape {image.shape} and type {image.dtype}; expected "
            f"{(self.size, self.size, 3)} and uint8 (dataset.image_size). End the list with "
            f"{{_target_: albumentations.Resize, height: {self.size}, width: {self.size}}} to set the size, and leave "
            "out transforms to floats or tensors: they are applied later."
        )


Augmentation: TypeAlias = PairAugmentation | PairPipeline
#: Three corners of a frame of side 1; a transform that reverses their orientation mirrors the face.
_CORNERS = np.array([(0.25, 0.25), (0.75, 0.25), (0.75, 0.75)], np.float32)


def _build(transform: Any, name: str) -> Any:
    """Build the transform of one entry of `dataset.augmentation`; `name` is the entry's name in messages."""
    import albumentations as A

    if not isinstance(transform, Mapping) or "_target_" not in transform:
        raise UserError(f"{name}={transform}: expected a mapping with _target_: albumentations.NAME and its arguments.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", r"Argument\(s\)")  # unknown arguments
            built = _instantiate(transform, name)
    except UserError:
        raise
    except Exception as error:  # user-defined transforms may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: {transform['_target_']} cannot be built: {reason}") from error
    for part in _parts(built):
        missing = sorted({"image"} - part.available_keys) + sorted({*part.targets_as_params} - {"image", "keypoints"})
        if missing:
            needs = f"{type(part).__name__} needs {', '.join(missing)}"
            raise UserError(f"{name}: {needs}; expected a transform of images and landmarks.")
        if isinstance(part, A.DualTransform) and "keypoints" not in part.available_keys:
            raise UserError(
                f"{name}: {type(part).__name__} does not move landmarks with the image; expected one that does."
            )
    return built


def _instantiate(value: Any, name: str) -> Any:
    """Return `value` with every mapping that has a `_target_` replaced by the transform it describes.

    `hydra.utils.instantiate` is not used: it resolves interpolations, so a value in a run folder could change into
    another `_target_` after the check.
    """
    import albumentations as A

    from fexgan_lit.utils.trust import load_target

    if isinstance(value, (list, tuple)):
        return [_instantiate(item, name) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {key: _instantiate(item, name) for key, item in value.items() if key != "_target_"}
    if "_target_" not in value:
        return arguments
    target = str(value["_target_"])
    package, _, attribute = target.partition(".")
    found = getattr(A, attribute, None) if package == "albumentations" else load_target(target)
    if not (isinstance(found, type) and issubclass(found, (A.BasicTransform, A.BaseCompose))):
        near = "".join(f" Did you mean albumentations.{word}?" for word in get_close_matches(attribute, dir(A), 1))
        raise UserError(
            f"{name}: {target} is not a transform; expected one such as albumentations.HorizontalFlip.{near}"
        )
    if not all(isinstance(part, A.BasicTransform | A.BaseCompose) for part in arguments.get("transforms") or ()):
        raise UserError(f"{name}: transforms of {target}: expected mappings with _target_ and arguments.")
    if "keypoint_remapping_method" in inspect.signature(found).parameters:
        arguments.setdefault("keypoint_remapping_method", "direct")  # albumentations' default loses landmarks
    return found(**arguments)


def _parts(transform: Any) -> Iterator[Any]:
    """Yield the single transforms of a transform or a composition."""
    import albumentations as A

    if isinstance(transform, A.BaseCompose):  # ColorJitter, too, has `transforms`: plain functions
        for part in transform.transforms:
            yield from _parts(part)
    else:
        yield transform


def crop(pixels: np.ndarray, draws: Draws) -> np.ndarray:
    """Return the frames (2B, L, L, 3) cropped and mirrored, (2B, size, size, 3) uint8."""
    pairs, size = len(draws.flip), draws.size
    cropped = np.empty((2 * pairs, size, size, 3), np.uint8)
    for row, ((top, left), flip) in enumerate(zip(draws.corner.tolist(), draws.flip.tolist(), strict=True)):
        for frame in (row, pairs + row):
            part = pixels[frame, top : top + size, left : left + size]
            if flip:
                cv2.flip(part, 1, dst=cropped[frame])  # numpy takes ten times as long for a mirrored copy
            else:
                cropped[frame] = part
    return cropped


def move(points: np.ndarray | None, draws: Draws, length: int) -> np.ndarray | None:
    """Convert landmarks (2B, 68, 2) of frames of `length` px to coordinates of the crop, -1..1 from edge to edge."""
    if points is None:
        return None
    flip, ratio = np.tile(draws.flip, 2), length / draws.size
    # the crop's edges lie at -1 and 1: a frame coordinate x becomes ratio * x + shift; mirroring negates it
    shift = (
        ratio - 1 - np.tile(draws.corner[:, ::-1], (2, 1)) * (2 / draws.size)
    )  # (B, 2) rows first -> (2B, 2) x first
    sign = np.stack([np.where(flip, -1.0, 1.0), np.ones(len(flip))], 1)  # (2B, 2)
    scale, shift = ((sign * values)[:, None].astype(points.dtype) for values in (ratio, shift))  # (2B, 1, 2)
    moved = points * scale + shift
    moved[flip] = moved[flip].take(MIRROR, 1)
    return moved
