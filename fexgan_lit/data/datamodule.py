"""The way of a data set from `dataset=` to batches: table, pack, split, frame sets, loaders."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule

from fexgan_lit.data.augment import Augmentation, PairAugmentation, PairFlip
from fexgan_lit.data.frames import FrameSet, Images
from fexgan_lit.data.guides import guides, keep_known
from fexgan_lit.data.labels import has_affects, keep_all, keep_pairable
from fexgan_lit.data.opening import open_dataset
from fexgan_lit.data.packing import Pack, Progress
from fexgan_lit.data.pairs import FixedPairLoader, FixedPairs, PairLoader, PairSampler, fixed_pairs, fixed_strangers
from fexgan_lit.data.settings import DatasetConfig, check_settings
from fexgan_lit.data.splits import Split, split_rows
from fexgan_lit.data.streaming.images import ChunkedImages
from fexgan_lit.data.streaming.windows import WindowLoader, WindowSampler, stream_lines, window_count
from fexgan_lit.data.summary import DataSummary
from fexgan_lit.data.table import FrameTable
from fexgan_lit.distributed.place import Share
from fexgan_lit.errors import UserError


class FrameData(LightningDataModule):
    """Training and validation pairs of one data set.

    Args:
        config: the `dataset` group.
        seed: of the pair sequence and the augmentation; the split has its own.
        pairing: what the system declares (`ExpressionSystem.pairing`): `identity`, or `none` where any frame will do
            as a target. It then trains unpaired on frames without affects, and on others with `dataset.unpaired=true`.
        share: of every batch of `config.batch_size` pairs, where several processes train together.

    After `setup()`:

    Attributes:
        table: the frames in use; row i is `images[rows[i]]` of the pack.
        train: FrameSet of the training split.
        val: FrameSet of the validation split, or None.
        unpaired: whether training targets are random frames of anyone.
        has_truth: whether a true frame of the same identity is known for what is asked; else generated faces cannot be
            compared with one.
        labelled: whether the frames have affects.
        summary: DataSummary for the terminal.
        progress: set before `setup()` to be called with (frames packed, frames in all).
    """

    def __init__(
        self, config: DatasetConfig, seed: int = 0, pairing: str = "identity", share: Share | None = None
    ) -> None:
        super().__init__()
        self.share = share or Share()
        check_settings(config)
        self.config = config
        self.seed = seed
        self.pairing = pairing
        self.progress: Progress | None = None
        self._ready = False

    def setup(self, stage: str | None = None) -> None:
        """Index, pack, split; the second call does nothing.

        Raises:
            UserError: anything about the data or its options that the user can mend.
        """
        if self._ready:
            return
        config = self.config
        pack = open_dataset(config, self.progress)
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
        """What identifies the frames and their split; judges and statistics are kept under it."""
        c = self.config
        return f"{self.summary.pack.name}/{c.split}/{c.val_fraction}/{c.split_seed}/{','.join(self.affects)}"

    def everything(self) -> FrameSet:
        """All frames in use, whatever the split; row i is that of `table`."""
        return frame_set(self.table, *self._packed, np.arange(len(self.table)))

    def train_dataloader(self) -> PairLoader:
        """The one training loader; it keeps its place in the pair sequence."""
        return self._train_loader

    def val_dataloader(self) -> FixedPairLoader | list[FixedPairLoader]:
        """The same validation pairs every time; an empty list where there are none, which Lightning skips."""
        if self.val is None or not len(self._val_pairs):
            return []
        batch = self.config.val_batch or self.config.batch_size
        return FixedPairLoader(self.val, self._val_pairs, batch, self.config.image_size)

    def _is_unpaired(self) -> bool:
        """Whether training goes without pairs of one identity.

        Raises:
            UserError: the user wants that of a system that learns from pairs.
        """
        asked = self.config.unpaired
        if asked and self.pairing != "none":
            raise UserError(
                "dataset.unpaired=true: this system learns from two frames of one identity; expected a system that "
                "does not (model=ganimation, model=stargan), or dataset.unpaired=null."
            )
        return self.pairing == "none" and not self.labelled if asked is None else asked

    def _augmentation(self) -> Augmentation | None:
        config = self.config
        if config.augmentation == "flip":
            return PairFlip(config.flip)
        return (
            PairAugmentation(config.image_size, config.flip, config.jitter) if config.augmentation != "none" else None
        )

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
        return loader(self.train, self._sampler, self.config.image_size, self._augmentation())

    def _fixed_pairs(self) -> FixedPairs:
        if self.val is None:
            return FixedPairs(np.empty(0, np.int64), np.empty(0, np.int64))
        return self.measured_pairs(self.val, self.config.val_limit)

    def measured_pairs(self, frames: FrameSet, limit: int | None) -> FixedPairs:
        """The pairs of a split to measure on: of one identity, or of any two frames where there is no truth."""
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


def data_facts(data: FrameData) -> dict[str, Any]:
    """What a run was trained on, for its config.yaml: class order, identities (none without affects), frames."""
    return {
        "affects": list(data.affects),
        # of frames without affects every one may be another person: hundreds of thousands of names
        "identities": list(data.identities) if data.labelled else [],
        "train_frames": len(data.train),
        "val_frames": len(data.val) if data.val is not None else 0,
    }


def changed_facts(data: FrameData, then: dict[str, Any] | None) -> str:
    """What differs between `data` now and the facts `then` that a run kept of them, in words; empty where nothing.

    Converted weights keep the affects alone.
    """
    known, now = then or {}, data_facts(data)
    return "; ".join(
        f"{name} was {known[name]}, is {now[name]}" for name in now if known.get(name, now[name]) != now[name]
    )


def frame_set(table: FrameTable, images: Images, rows: np.ndarray, chosen: np.ndarray) -> FrameSet:
    """The FrameSet of the rows `chosen` (n,) of `table`; its row i lies at `images[rows[i]]`."""
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
