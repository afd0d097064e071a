"""The data module: from the `dataset` group to table, pack, split, frame sets and loaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.labels import has_affects, keep_all, keep_pairable
from fexgan_lit.data.device_cache import placed
from fexgan_lit.data.faces.geometry import framing_of
from fexgan_lit.data.frames import FrameSet, Images, guides, keep_known
from fexgan_lit.data.open import open_dataset
from fexgan_lit.data.packing.pack import Pack, Progress
from fexgan_lit.data.pairs import (
    FixedPairLoader,
    FixedPairs,
    PairLoader,
    PairSampler,
    Share,
    fixed_pairs,
    fixed_strangers,
)
from fexgan_lit.data.splits import Split, split_rows
from fexgan_lit.data.streaming.reader import ChunkedImages
from fexgan_lit.data.streaming.sampler import WindowLoader, WindowSampler, stream_lines, window_count
from fexgan_lit.data.summary import DataSummary
from fexgan_lit.data.table import FrameTable
from fexgan_lit.data.targets import TargetCells
from fexgan_lit.data.transforms import Augmentation, PairAugmentation, PairPipeline
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import checked_options

#: Opens progress bars: its context maps a description to a callback of (done, total), or None.
Stages = Callable[[], AbstractContextManager[Callable[[str], "Progress | None"]]]


class FrameDataModule(LightningDataModule):
    """Training and validation pairs of one data set.

    The data are opened on first use: by `setup`, which a trainer calls, or by access to an attribute such as `affects`.
    The training loader starts at the trainer's iteration, so a resumed run trains on the batches of an uninterrupted
    run.

    Args:
        config: the `dataset` group: a `DatasetConfig`, or a mapping with its fields.
        seed: seed of the pairs and the augmentation; the split has its own.
        pairing: the declaration of the system (`ExpressionSystem.pairing`): `identity`, or `none` if any frame can be
            a target. With `none`, training is unpaired on frames without affects, and on others with
            `dataset.unpaired=true`. None uses the declaration of the trainer's system, or what the frames allow.
        judge: whether a judge, a small network trained on the training split, scores generated images.
        inception_weights: file of the Inception network for FID; None searches torch's cache.

    Raises:
        UserError: options of `config` are unknown or invalid; the error lists them all.

    Attributes:
        table: the frames in use; row i is `images[rows[i]]` of the pack.
        train: FrameSet of the training split.
        val: FrameSet of the validation split, or None.
        unpaired: whether training targets are random frames of any identity.
        has_truth: whether some identity has two affects, so that generated images can be compared with real frames.
        labelled: whether the frames have affects.
        affects: names in index order.
        identities: names in index order.
        summary: DataSummary for the terminal.
        stages: shows the progress of packing and of the judge's training; set it before `setup()`.
    """

    #: attributes that `setup` computes
    _FOUND = frozenset({
        "table", "train", "val", "unpaired", "has_truth", "labelled", "affects", "identities", "summary", "_packed",
        "_sampler", "_train_loader", "_val_pairs",
    })  # fmt: skip

    def __init__(
        self, config: DatasetConfig | Mapping[str, Any], seed: int = 0, pairing: str | None = None,
        judge: bool = True, inception_weights: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = checked_options(DatasetConfig, config, "dataset")
        self.save_hyperparameters({"config": asdict(self.config), "seed": seed}, logger=False)
        self.share = Share()
        self.seed = seed
        self.pairing = pairing
        self.wants_judge = judge
        self.inception_weights = inception_weights
        self.stages: Stages = lambda: nullcontext(lambda _: None)
        #: Cache for results that depend only on these data: the judge, features of real frames.
        self.computed: dict[Any, Any] = {}
        self._ready = False

    def __getattr__(self, name: str) -> Any:
        if name in self._FOUND and not vars(self).get("_ready", True):
            self.setup()
            return getattr(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def setup(self, stage: str | None = None) -> None:
        """Index, pack and split; a second call only checks that the trainer's system can be trained on the pairs.

        Raises:
            UserError: the data or their options are invalid.
        """
        system: Any = self.trainer.lightning_module if self.trainer is not None else None
        if hasattr(system, "pairing"):
            self.pairing = system.pairing
            self._check_pairing()
        if not self._ready:
            self._open()
        if self.trainer is not None:
            self.share_batches(Share(self.trainer.global_rank, self.trainer.world_size))

    def _open(self) -> None:
        config = self.config
        with self.stages() as stages:
            pack = open_dataset(config, stages("preparing frames"))
        known, rows = keep_known(pack.table, config.require)
        self.labelled = has_affects(known.affects)
        self.unpaired = self._is_unpaired()
        if self.unpaired:
            self.table = keep_all(known)
        else:
            self.table, pairable = keep_pairable(known)
            rows = rows[pairable]
        self.affects, self.identities = self.table.affects, self.table.identities
        split = split_rows(self.table, config.val_fraction, config.split, config.split_seed)
        self.train = frame_set(self.table, pack.images, rows, split.train)
        self.val = frame_set(self.table, pack.images, rows, split.val) if len(split.val) else None
        self._packed = pack.images, rows
        self._sampler = self._pair_sampler()
        self.has_truth = bool(self._sampler.cells.has_other(self.train.identity, self.train.affect).any())
        self._val_pairs = self._fixed_pairs()
        self._train_loader = self._pair_loader()
        self.summary = self._summarise(pack, split)
        self._ready = True

    @property
    def key(self) -> str:
        """Key of the frames and their split; judges and statistics are cached under it."""
        c = self.config
        return f"{self.summary.pack.name}/{c.split}/{c.val_fraction}/{c.split_seed}/{','.join(self.affects)}"

    @property
    def reference_frames(self) -> FrameSet:
        """The split of reference frames: validation, or training if an identity is missing in validation."""
        complete = self.val is not None and len(set(self.val.identity.tolist())) == len(self.identities)
        return self.val if self.val is not None and complete else self.train

    @property
    def held_out_frames(self) -> FrameSet:
        """Frames of the training's identities: validation, or training if validation has other identities."""
        known = self.val is not None and set(self.val.identity.tolist()) <= set(self.train.identity.tolist())
        return self.val if self.val is not None and known else self.train

    @property
    def shown_frames(self) -> FrameSet:
        """The split of training figures: `reference_frames`, or validation if the frames have no affects."""
        return self.val if self.val is not None and not self.labelled else self.reference_frames

    def everything(self) -> FrameSet:
        """Return all frames in use of both splits; row i is row i of `table`."""
        return frame_set(self.table, *self._packed, np.arange(len(self.table)))

    def target_rows(self, frames: FrameSet) -> np.ndarray:
        """Return the eligible targets of a split, (n,) int64: the reference distribution of generated images."""
        if not self.has_truth:
            return np.arange(len(frames))
        return TargetCells(frames, self.config.min_target_intensity).eligible

    # ------------------------------------------------------------------ loaders

    def train_dataloader(self) -> PairLoader:
        """Return the training batches, starting at the trainer's iteration."""
        return self._train_loader

    def share_batches(self, share: Share) -> None:
        """Use this process's share of every batch of `config.batch_size` pairs."""
        if share != self.share:
            self.share = share
            self._sampler = self._pair_sampler()
            self._train_loader = self._pair_loader()

    def place_on(self, device: torch.device, wanted: str) -> str | None:
        """Hold the training frames on `device` if `wanted` (auto, true, false) and the free memory allow it.

        Returns:
            A line for the terminal about where the frames are, or None.

        Raises:
            UserError: `wanted` is true and the frames cannot be held there.
        """
        self._train_loader, line = placed(self._train_loader, wanted, device)
        return line

    def val_dataloader(self) -> FixedPairLoader | list[FixedPairLoader]:
        """Return the fixed validation pairs, or an empty list if there are none, which Lightning skips."""
        if self.val is None or not len(self._val_pairs):
            return []
        batch = self.config.val_batch or self.config.batch_size
        return FixedPairLoader(self.val, self._val_pairs, batch, self.config.image_size)

    predict_dataloader = val_dataloader

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Names of the splits in the order of `test_dataloader`."""
        return ("train", "val") if self.val_dataloader() else ("train",)

    def test_dataloader(self) -> list[FixedPairLoader]:
        """Return 512 fixed pairs of the training split, then the validation pairs."""
        pairs = self.measured_pairs(self.train, 512)
        loaders = [FixedPairLoader(self.train, pairs, self.config.batch_size, self.config.image_size)]
        return [*loaders, *([val] if (val := self.val_dataloader()) else [])]  # type: ignore[list-item]

    def _is_unpaired(self) -> bool:
        """Return whether targets may show another identity than their sources."""
        self._check_pairing()
        if self.config.unpaired is not None:
            return self.config.unpaired
        return self.pairing != "identity" and not self.labelled

    def _check_pairing(self) -> None:
        """Raise a UserError if the user wants unpaired training of a system that learns from pairs."""
        if self.pairing == "identity" and (self.config.unpaired or vars(self).get("unpaired")):
            raise UserError(
                "dataset.unpaired=true: this system learns from two frames of one identity; expected a system that "
                "does not (GANimation, StarGAN, US-GAN, AttGAN, LGP-GAN with loss.pixel=0), or dataset.unpaired=null."
            )

    def _augmentation(self) -> Augmentation | None:
        config = self.config
        if config.augmentation == "none":
            return None
        if not isinstance(config.augmentation, str):
            return PairPipeline(config.augmentation, config.image_size)
        if config.augmentation == "flip":
            return PairAugmentation(None, config.flip)
        return PairAugmentation(config.image_size, config.flip, config.jitter)

    def _pair_sampler(self) -> PairSampler:
        config = self.config
        options: dict[str, Any] = {
            "batch_size": config.batch_size // self.share.world,
            "seed": self.seed,
            "uniform_affects": config.uniform_affects,
            "min_target_intensity": config.min_target_intensity,
            "exact": config.targets == "exact",
            "share": self.share,
            "unpaired": self.unpaired,
        }
        images = self.train.images
        if isinstance(images, ChunkedImages):
            return WindowSampler(self.train, window_count(images.geometry, config.window_gb), **options)
        return PairSampler(self.train, **options)

    def _pair_loader(self) -> PairLoader:
        loader = WindowLoader if isinstance(self._sampler, WindowSampler) else PairLoader
        return loader(self.train, self._sampler, self.config.image_size, self._augmentation(), self._first_iteration)

    def _first_iteration(self) -> int:
        return self.trainer.global_step if self.trainer is not None else 0

    def _fixed_pairs(self) -> FixedPairs:
        if self.val is None:
            return FixedPairs(np.empty(0, np.int64), np.empty(0, np.int64))
        return self.measured_pairs(self.val, self.config.val_limit)

    def measured_pairs(self, frames: FrameSet, limit: int | None) -> FixedPairs:
        """Return the pairs for metrics: of one identity each, or of any two frames if no identity has two affects."""
        config = self.config
        if not self.has_truth:
            return fixed_strangers(frames, config.split_seed, limit)
        exact = config.targets == "exact"
        return fixed_pairs(frames, config.split_seed, limit, config.min_target_intensity, exact)

    def _summarise(self, pack: Pack, split: Split) -> DataSummary:
        return DataSummary(
            name=self.config.name,
            root=self.table.root,
            frames=len(self.table),
            drops=self.table.drops,
            notes=self.table.notes,
            identities=self.identities,
            affects=self.affects,
            size=pack.images.shape[1],
            sizes=pack.sizes,
            cropped=pack.cropped,
            train=len(self.train),
            val=len(split.val),
            val_pairs=len(self._val_pairs),
            val_unpaired=self._val_pairs.unpaired,
            unsplit=split.whole,
            relaxed=self._sampler.cells.relaxed,
            pack=pack.folder,
            reused=pack.reused,
            faces=self.config.crop == "face",
            labelled=self.labelled,
            unpaired=self.unpaired,
            has_truth=self.has_truth,
            stream=stream_lines(self._sampler, str(self.config.root)),
        )


#: Number of frames from which the framing is estimated.
_FRAMED = 512


def data_facts(data: FrameDataModule) -> dict[str, Any]:
    """Return the facts for a run's config.yaml: class order, identities (none without affects), numbers of frames.

    Where the training frames have landmarks, `framing` is where a frame lies relative to its face (`Framing`). Where
    they have action units, `largest_units` is the largest value of each, 0..1.
    """
    train, measured = data.train, dict[str, Any]()
    if train.landmarks is not None:
        rows = np.unique(np.linspace(0, len(train) - 1, _FRAMED).astype(int))
        framing = framing_of(train.landmarks[rows].astype(np.float64), 2.0)
        measured["framing"] = [round(value, 4) for value in framing]
    if train.aus is not None:
        largest = train.aus.max(axis=0).tolist()
        measured["largest_units"] = {f"AU{u:02d}": round(v, 4) for u, v in zip(ACTION_UNITS, largest, strict=True)}
    return {
        **measured,
        "affects": list(data.affects),
        # frames without affects may all show different people: hundreds of thousands of names
        "identities": list(data.identities) if data.labelled else [],
        "train_frames": len(data.train),
        "val_frames": len(data.val) if data.val is not None else 0,
    }


def changed_facts(data: FrameDataModule, then: dict[str, Any] | None) -> str:
    """Describe the differences between `data` and the facts `then` of a run; empty if there are none.

    Converted weights store only the affects.
    """
    known = {name: fact for name, fact in (then or {}).items() if name not in ("framing", "largest_units")}
    now = data_facts(data)
    return "; ".join(
        f"{name} was {known[name]}, is {now[name]}" for name in now if known.get(name, now[name]) != now[name]
    )


def frame_set(table: FrameTable, images: Images, rows: np.ndarray, chosen: np.ndarray) -> FrameSet:
    """Return the FrameSet of the rows `chosen` (n,) of `table`; row i of `table` is `images[rows[i]]`."""
    known = {name: None if values is None else values[chosen] for name, values in guides(table).items()}
    return FrameSet(
        images=images,
        rows=rows[chosen],
        affect=table.affect_index[chosen],
        identity=table.identity_index[chosen],
        intensity=None if table.intensity is None else table.intensity[chosen],
        affects=table.affects,
        identities=table.identities,
        **known,
    )
