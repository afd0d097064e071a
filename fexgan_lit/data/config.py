"""The options of the data, a dataclass that is also the Hydra schema of the `dataset` group."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

IMAGE_SIZES = (32, 64, 128, 256, 512)
AUGMENTATIONS = ("none", "flip", "fexgan")
SPLITS = ("frame", "take", "identity")
TARGETS = ("random", "exact")
CROPS = ("centre", "face")
KNOWLEDGE = ("intensity", "aus", "landmarks")
DETECTORS = ("mediapipe",)
STUDIOS = ("studio_cartoon", "studio_human", "studio_mixed")
POPULATIONS = ("cast", "random")
FRAMINGS = ("fixed", "random", "face")
EXPRESSIONS = ("prototypes", "varied")
_PLAIN = re.compile(r"\w[\w .+-]{0,99}")


@dataclass
class DatasetConfig(Options):
    """The options of `dataset=`; every field can be set as `dataset.<field>=...`.

    Attributes:
        name: short name of the data set; also the beginning of the name of the pack folder.
        layout: how files become rows: ferg, mhfed, ckplus, oulu_casia, rafd, mug, emotionet, folder, or one of the
            studios; null means the same as `name`.
        root: folder or archive of the data set, or a folder or s3://bucket/prefix with a pack in chunks to stream;
            studios need no root.
        manifest: CSV with path, identity, affect and, if known, take, frame; replaces labels from names of folders.
        videos: folder of clips `<identity>_<affect>.mp4` that `prepare` splits into frames below `root`.
        pattern: path pattern of the layout `folder`, with {identity}, {affect} and, if present, {take}, {frame}.
        aliases: other words for an affect, for example {happy: joy}; the value `ignore` excludes a word.
        affects: the affects to use; null means those of the layout (or, for `folder`, all that are found).
        only: values to keep of columns that a layout reads besides the labels, for example {camera: [90]} of RaFD.
        sequence_ends: frames used from the start and from the end of a sequence (CK+: 3 and 3); null means all.
        annotations: CSV with intensity, action units, landmarks and pose, joined to the frames by path.
        require: annotations that every frame must have, of intensity, aus and landmarks; other frames are left out.
        crop: `centre` takes the central square, `face` a square around the landmarks.
        crop_margin: margin of `face` around the landmarks, as a fraction of their extent.
        detector: finds landmarks in `prepare` if the data set has none: mediapipe; null means off.
        image_size: side of the square input images of the networks in pixels; a power of two in 32..512.
        batch_size: source/target pairs per batch.
        val_fraction: fraction of every (identity, affect) cell held out; 0.2 in FExGAN, 0.3 in FExGAN-Meta.
        split: `frame` holds out random frames (the papers), `take` whole takes, `identity` whole people.
        split_seed: seed of the split, independent of the seed of the training.
        targets: `random` frames of the target affect (the papers), or `exact`: the same character, pose, gaze and
            light as the source with the target affect, which only a studio can render.
        unpaired: targets are random frames of any identity, for systems that need no two frames of an identity
            (ganimation, stargan); null means true only for data sets without affects.
        uniform_affects: sample targets uniformly over affects; false means in proportion to their frames.
        min_target_intensity: frames of lower intensity (0..1) are never targets, except neutral frames.
        augmentation: `none`; `flip`: horizontal flips only (StarGAN, GANimation); `fexgan`: resize to 143/128 of the
            size, random crop, flip; or a list of albumentations transforms, each a mapping with `_target_` and its
            arguments (`fexgan_lit.data.transforms.PairPipeline`).
        flip: probability of a horizontal flip in `flip` and `fexgan`.
        jitter: half-width of the random change of brightness and contrast in `fexgan`; 0 means off.
        cache_dir: folder of the packs; null means $FEXGAN_LIT_CACHE, else ~/.cache/fexgan_lit.
        window_gb: size in GB (10^9 bytes) of the part of a streamed pack from which pairs are sampled; the cache holds
            up to three times as much.
        val_batch: pairs per validation batch; null means `batch_size`.
        val_limit: largest number of validation pairs; null means one for every validation frame.
        workers: threads that decode images; null means all cores.
        facekit: ICT-FaceKit for `studio_human` and `studio_mixed`: a checkout, or the compact ict_facekit.npz.
        population: `cast`: the studio's hand-made characters, then random ones; `random`: every character is random,
            with own light, wall and camera angle, and `identities` says how many. On the command line `random` changes
            the defaults to one take of six frames and a split by identity.
        framing: `fixed`; `random`: size and place of the head differ between the takes of a studio; or `face`: the face
            fills the frame as with `crop=face` and a margin of 0.25, and differs less.
        expressions: `prototypes`, or `varied`: the action units of an affect differ between the takes of a studio.
        identities: number of characters of the studio.
        takes: number of takes of each character and affect in the studio.
        frames: number of frames kept of each take of the studio, evenly spaced; null keeps all (60 per second).
        take_seconds: length of a take of the studio in seconds, at 60 frames per second.
        head_motion: largest amplitude of the studio's head sway in degrees.
        studio_seed: seed of the studio's characters and takes.
    """

    section = "dataset"

    name: str = "studio_cartoon"
    layout: str | None = None
    root: str | None = None
    manifest: str | None = None
    videos: str | None = None
    pattern: str = "{identity}/{affect}/{frame}.*"
    aliases: dict[str, str] = field(default_factory=dict)
    affects: list[str] | None = None
    only: dict[str, list[Any]] = field(default_factory=dict)
    sequence_ends: int | None = option(None, at_least=1)
    annotations: str | None = None
    require: list[str] = option([], f"some of {', '.join(KNOWLEDGE)}", choices=KNOWLEDGE)
    crop: str = option("centre", choices=CROPS)
    crop_margin: float = option(0.25, at_least=0, at_most=2)
    detector: str | None = option(None, f"{', '.join(DETECTORS)}, or null", choices=DETECTORS)
    image_size: int = option(
        128, f"one of {', '.join(map(str, IMAGE_SIZES))}, since every block of the networks halves the image",
        choices=IMAGE_SIZES,
    )  # fmt: skip
    batch_size: int = option(32, at_least=1, at_most=65536)
    val_fraction: float = option(0.2, "0 (no validation) or more, below 1", at_least=0, below=1)
    split: str = option("frame", choices=SPLITS)
    split_seed: int = 0
    targets: str = option("random", choices=TARGETS)
    unpaired: bool | None = None
    uniform_affects: bool = True
    min_target_intensity: float = option(0.0, at_least=0, at_most=1)
    augmentation: Any = "none"
    flip: float = option(0.5, at_least=0, at_most=1)
    jitter: float = option(0.0, at_least=0, at_most=1)
    cache_dir: str | None = None
    window_gb: float = option(4.0, above=0)
    val_batch: int | None = option(None, at_least=1, at_most=65536)
    val_limit: int | None = option(512, at_least=1)
    workers: int | None = option(None, at_least=1, at_most=1024)
    facekit: str | None = None
    population: str = option("cast", choices=POPULATIONS)
    framing: str = option("fixed", choices=FRAMINGS)
    expressions: str = option("prototypes", choices=EXPRESSIONS)
    identities: int | None = option(8, at_least=1, at_most=10_000)
    takes: int = option(5, at_least=1, at_most=1000)
    frames: int | None = option(12, at_least=1, at_most=10_000)
    take_seconds: float = 1.2
    head_motion: float = 1.0
    studio_seed: int = 0

    @property
    def layout_name(self) -> str:
        """The name of the layout: `layout`, or `name` if it is null."""
        return self.layout or self.name

    @property
    def load_size(self) -> int:
        """Side of the packed frames in pixels: `image_size`, or 143/128 of it if a random crop follows."""
        return int(self.image_size * 143 / 128 + 0.5) if self.augmentation == "fexgan" else self.image_size

    def conflicts(self) -> list[str]:
        """Return a sentence for each combination of valid values that is not allowed."""
        found = name_problems("dataset.name", self.name) + self._augmentation_problems()
        for name in ("manifest", "annotations"):
            place = Path(getattr(self, name) or "").expanduser()
            if place.exists() and not (place.is_file() or place.is_dir()):
                found.append(f"dataset.{name}={place}: expected a regular file or a folder")
        for name, default in (("population", "cast"), ("framing", "fixed"), ("expressions", "prototypes")):
            if getattr(self, name) != default and self.layout_name not in STUDIOS:
                found.append(
                    f"dataset.{name}={getattr(self, name)}: the frames of dataset={self.name} are not drawn here; "
                    f"expected one of the studios ({', '.join(STUDIOS)}), or dataset.{name}={default}"
                )
        if self.identities is None and self.layout_name in STUDIOS:
            found.append(
                f"dataset.population={self.population}: dataset.identities is not given; expected the number of "
                "characters to draw, such as dataset.identities=300"
            )
        if self.targets == "exact" and self.layout_name not in STUDIOS:
            found.append(
                f"dataset.targets=exact: frames of dataset={self.name} have no counterpart that differs only in the "
                f"expression; expected one of the studios ({', '.join(STUDIOS)}), or dataset.targets=random"
            )
        elif self.targets == "exact" and self.unpaired:
            found.append(
                "dataset.unpaired=true: a random frame of any identity is not an exact target; expected "
                "dataset.unpaired=null with dataset.targets=exact"
            )
        elif self.targets == "exact" and self.split == "frame" and self.val_fraction > 0:
            found.append(
                "dataset.split=frame: it would separate exact source/target pairs; expected dataset.split=take or "
                "identity with dataset.targets=exact"
            )
        if self.affects is not None and len(set(self.affects)) < 2:
            found.append(f"dataset.affects={list(self.affects)}: expected two or more affects, since a pair needs two")
        return found

    def _augmentation_problems(self) -> list[str]:
        if isinstance(self.augmentation, list | tuple) and self.image_size in IMAGE_SIZES:
            from fexgan_lit.data.transforms import PairPipeline

            try:
                PairPipeline(self.augmentation, self.image_size)
            except UserError as error:
                return [str(error)]
        elif self.augmentation not in AUGMENTATIONS:
            expected = f"one of {', '.join(AUGMENTATIONS)}, or a list of albumentations transforms"
            return [f"dataset.augmentation={self.augmentation}: expected {expected}"]
        return []


def name_problems(option: str, name: str) -> list[str]:
    """Return a sentence if `name` cannot become part of file names."""
    if _PLAIN.fullmatch(name):
        return []
    return [f"{option}={name:.80}: expected a plain word of letters, digits, blanks, _, -, + and dots"]
