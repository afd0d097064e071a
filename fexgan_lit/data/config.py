"""What a user may say about the data: one dataclass, also the Hydra schema of the `dataset` group."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from fexgan_lit.utils.errors import UserError

SIZES = (32, 64, 128, 256, 512)
AUGMENTATIONS = ("none", "flip", "fexgan")
SPLITS = ("frame", "take", "identity")
TARGETS = ("random", "exact")
CROPS = ("centre", "face")
KNOWLEDGE = ("intensity", "aus", "landmarks")
DETECTORS = ("mediapipe",)
STUDIOS = ("studio_cartoon", "studio_human")
_PLAIN = re.compile(r"\w[\w .+-]{0,99}")


@dataclass
class DatasetConfig:
    """The options of `dataset=`; every field can be set as `dataset.<field>=...`.

    Attributes:
        name: short name of the data set; also names the pack folder.
        layout: how files become rows: ferg, mhfed, ckplus, oulu_casia, rafd, mug, emotionet, folder, or one of the
            studios; null means the same as `name`.
        root: folder (or archive) of the data set, or a folder or s3://bucket/prefix with a pack in chunks, to stream; a
            studio needs none.
        manifest: CSV with path, identity, affect and, if known, take, frame; read in place of the folder's names.
        videos: folder of clips `<identity>_<affect>.mp4` that `prepare` splits into frames below `root`.
        pattern: path pattern of the layout `folder`, with {identity}, {affect} and, if there, {take}, {frame}.
        aliases: other words for an affect, for example {happy: joy}; the value `ignore` leaves a folder out.
        affects: the affects to use; null means those of the layout (or, for `folder`, all that are found).
        only: values to keep of what a layout reads besides the labels, for example {camera: [90]} of RaFD.
        sequence_ends: frames used from the start and from the end of a sequence (CK+: 3 and 3); null means all.
        annotations: CSV with intensity, action units, landmarks and pose, joined to the frames by path.
        require: what every frame must have of intensity, aus and landmarks; frames without it are left out.
        crop: `centre` takes the central square, `face` a square around the landmarks.
        crop_margin: what `face` leaves around the landmarks, as a share of their extent.
        detector: finds landmarks in `prepare` where a set has none: mediapipe; null means off.
        image_size: side of the square images the networks see, pixels; a power of two in 32..512.
        batch_size: source/target pairs a batch.
        val_fraction: share of every (identity, affect) cell held out; 0.2 in FExGAN, 0.3 in FExGAN-Meta.
        split: `frame` holds out random frames (the papers), `take` whole takes, `identity` whole people.
        split_seed: seed of the split, apart from the seed of the training.
        targets: `random` frames of the wanted affect (the papers), or `exact`: the source's own character, pose, gaze
            and light with the wanted affect, which only a studio can give.
        unpaired: targets are random frames of anyone; null: only where frames have no affects to pair by. For systems
            that need no two frames of one identity (ganimation, stargan).
        uniform_affects: targets uniform over affects; false: in proportion to their frames.
        min_target_intensity: frames weaker than this (0..1) are never targets, neutral apart.
        augmentation: `none`; `flip`: horizontal flips alone (StarGAN, GANimation); `fexgan`: resize to 143/128 of the
            size, random crop, flip; or a list of albumentations transforms, each a mapping with `_target_` and its
            arguments (`fexgan_lit.data.transforms.PairPipeline`).
        flip: probability of a horizontal flip under `flip` and `fexgan`.
        jitter: half-width of the random change of brightness and contrast under `fexgan` (0 is off).
        cache_dir: where packs are kept; null means $FEXGAN_LIT_CACHE, else ~/.cache/fexgan_lit.
        window_gb: billion bytes of a streamed pack among which the frames of a pair are drawn; up to three times as
            much is kept in the cache.
        val_batch: pairs a validation batch; null means `batch_size`.
        val_limit: most validation pairs used; null means one for every validation frame.
        workers: threads that decode images; null means all cores.
        facekit: ICT-FaceKit for `studio_human`: a checkout, or the compact ict_facekit.npz.
        identities: characters of the studio.
        takes: takes of each character and affect in the studio.
        frames: frames kept of a take of the studio, spread evenly over it; null keeps all, 60 a second.
        take_seconds: length of a take of the studio; 60 frames a second.
        head_motion: bound of the studio's head sway, degrees.
        studio_seed: seed of the studio's characters and takes.
    """

    name: str = "studio_cartoon"
    layout: str | None = None
    root: str | None = None
    manifest: str | None = None
    videos: str | None = None
    pattern: str = "{identity}/{affect}/{frame}.*"
    aliases: dict[str, str] = field(default_factory=dict)
    affects: list[str] | None = None
    only: dict[str, list[Any]] = field(default_factory=dict)
    sequence_ends: int | None = None
    annotations: str | None = None
    require: list[str] = field(default_factory=list)
    crop: str = "centre"
    crop_margin: float = 0.25
    detector: str | None = None
    image_size: int = 128
    batch_size: int = 32
    val_fraction: float = 0.2
    split: str = "frame"
    split_seed: int = 0
    targets: str = "random"
    unpaired: bool | None = None
    uniform_affects: bool = True
    min_target_intensity: float = 0.0
    augmentation: Any = "none"
    flip: float = 0.5
    jitter: float = 0.0
    cache_dir: str | None = None
    window_gb: float = 4.0
    val_batch: int | None = None
    val_limit: int | None = 512
    workers: int | None = None
    facekit: str | None = None
    identities: int = 8
    takes: int = 5
    frames: int | None = 12
    take_seconds: float = 1.2
    head_motion: float = 1.0
    studio_seed: int = 0

    @property
    def layout_name(self) -> str:
        """The layout in force: `layout`, else the one called like the data set."""
        return self.layout or self.name

    @property
    def load_size(self) -> int:
        """Side of the packed frames in pixels: `image_size`, or 143/128 of it where a random crop follows."""
        return int(self.image_size * 143 / 128 + 0.5) if self.augmentation == "fexgan" else self.image_size

    def problems(self) -> list[str]:
        """Every value that cannot be used, as a sentence with what was expected."""
        return [*_choice_problems(self), *_count_problems(self), *_range_problems(self)]


def check_settings(config: DatasetConfig) -> None:
    """Raise one UserError that lists everything wrong with the values in `config`."""
    problems = config.problems()
    if problems:
        raise UserError("\n".join(problems))


def name_problems(option: str, name: str) -> list[str]:
    """Why `name` cannot become part of file names; empty where it can."""
    if _PLAIN.fullmatch(name):
        return []
    return [f"{option}={name:.80}: expected a plain word of letters, digits, blanks, _, -, + and dots"]


def _choice_problems(config: DatasetConfig) -> list[str]:
    problems = name_problems("dataset.name", config.name)
    if config.image_size not in SIZES:
        expected = ", ".join(map(str, SIZES))
        near = min(SIZES, key=lambda size: abs(size - config.image_size))
        problems.append(
            f"dataset.image_size={config.image_size}: expected a power of two, one of {expected}, "
            f"because every block of the networks halves the image; the nearest is {near}."
        )
    for option, value, allowed in (
        ("split", config.split, SPLITS),
        ("targets", config.targets, TARGETS),
        ("crop", config.crop, CROPS),
    ):
        if value not in allowed:
            problems.append(f"dataset.{option}={value}: expected one of {', '.join(allowed)}.")
    if config.detector is not None and config.detector not in DETECTORS:
        problems.append(f"dataset.detector={config.detector}: expected one of {', '.join(DETECTORS)}, or null.")
    problems += _augmentation_problems(config)
    unknown = [name for name in config.require if name not in KNOWLEDGE]
    if unknown:
        problems.append(f"dataset.require={list(config.require)}: expected some of {', '.join(KNOWLEDGE)}.")
    if config.targets == "exact" and config.layout_name not in STUDIOS:
        problems.append(
            f"dataset.targets=exact: frames of dataset={config.name} have no counterpart that differs in the "
            f"expression alone; expected one of the studios ({', '.join(STUDIOS)}), or dataset.targets=random."
        )
    elif config.targets == "exact" and config.unpaired:
        problems.append(
            "dataset.unpaired=true: a random frame of anyone is no exact target; expected dataset.unpaired=null with "
            "dataset.targets=exact."
        )
    elif config.targets == "exact" and config.split == "frame" and config.val_fraction > 0:
        problems.append(
            "dataset.split=frame: it would tear exact source/target pairs apart; with dataset.targets=exact expected "
            "dataset.split=take or identity."
        )
    if config.affects is not None and len(set(config.affects)) < 2:
        problems.append(f"dataset.affects={list(config.affects)}: expected two affects or more, a pair needs both.")
    return problems


def _augmentation_problems(config: DatasetConfig) -> list[str]:
    if isinstance(config.augmentation, list | tuple) and config.image_size in SIZES:
        from fexgan_lit.data.transforms import PairPipeline

        try:
            PairPipeline(config.augmentation, config.image_size)
        except UserError as error:
            return [str(error)]
    elif config.augmentation not in AUGMENTATIONS:
        expected = f"one of {', '.join(AUGMENTATIONS)}, or a list of albumentations transforms"
        return [f"dataset.augmentation={config.augmentation}: expected {expected}."]
    return []


def _count_problems(config: DatasetConfig) -> list[str]:
    counts = (
        "batch_size", "val_batch", "val_limit", "workers", "sequence_ends", "identities", "takes", "frames",
    )  # fmt: skip
    found = {name: getattr(config, name) for name in counts}
    return [
        f"dataset.{name}={value}: expected a whole number of at least 1."
        for name, value in found.items()
        if value is not None and value < 1
    ]


def _range_problems(config: DatasetConfig) -> list[str]:
    problems = []
    if not 0 <= config.val_fraction < 1:
        problems.append(f"dataset.val_fraction={config.val_fraction}: expected 0 (no validation) or more, below 1.")
    if not config.window_gb > 0:
        problems.append(f"dataset.window_gb={config.window_gb}: expected more than 0.")
    if not 0 <= config.crop_margin <= 2:
        problems.append(f"dataset.crop_margin={config.crop_margin}: expected a number in 0..2.")
    for name in ("min_target_intensity", "flip", "jitter"):
        value = getattr(config, name)
        if not 0 <= value <= 1:
            problems.append(f"dataset.{name}={value}: expected a number in 0..1.")
    return problems
