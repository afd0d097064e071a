"""The way of a data set from `dataset=` to batches: table, pack, split, frame sets, loaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from fexgan_lit.data.config import DatasetConfig, check_settings
from fexgan_lit.data.datasets.labels import has_affects, keep_all, keep_pairable
from fexgan_lit.data.device_cache import placed
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
from fexgan_lit.utils.errors import UserError

#: Opens the bars of what takes long: in its context, a description gives what is called with (done, in all), or None.
Stages = Callable[[], AbstractContextManager[Callable[[str], "Progress | None"]]]


class FrameDataModule(LightningDataModule):
    """Training and validation pairs of one data set.

    The data are opened when they are first needed: by `setup`, which a trainer calls, or by looking at an attribute
    such as `affects`. The training loader begins where the trainer stands, so a run that goes on takes the batch that
    an uninterrupted one would.

    Args:
        config: the `dataset` group: a `DatasetConfig`, or a mapping with its fields.
        seed: of the pair sequence and the augmentation; the split has its own.
        pairing: what the system declares (`ExpressionSystem.pairing`): `identity`, or `none` where any frame will do
            as a target. It then trains unpaired on frames without affects, and on others with `dataset.unpaired=true`.
            None takes that of the trainer's system, or what the frames allow.
        judge: whether generated faces are shown to a judge, a small network trained on the training split.
        inception_weights: file of the Inception network for FID; None looks into torch's cache.

    Attributes:
        table: the frames in use; row i is `images[rows[i]]` of the pack.
        train: FrameSet of the training split.
        val: FrameSet of the validation split, or None.
        unpaired: whether training targets are random frames of anyone.
        has_truth: whether a true frame of the same identity is known for what is asked; else generated faces cannot be
            compared with one.
        labelled: whether the frames have affects.
        affects: names in index order.
        identities: names in index order.
        summary: DataSummary for the terminal.
        stages: shows how far packing and the judge's training are; set it before `setup()`.
    """

    #: what `setup` finds out
    _FOUND = frozenset({
        "table", "train", "val", "unpaired", "has_truth", "labelled", "affects", "identities", "summary", "_packed",
        "_sampler", "_train_loader", "_val_pairs",
    })  # fmt: skip

    def __init__(
        self, config: DatasetConfig | Mapping[str, Any], seed: int = 0, pairing: str | None = None,
        judge: bool = True, inception_weights: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = DatasetConfig(**config) if isinstance(config, Mapping) else config
        self.save_hyperparameters({"config": asdict(self.config), "seed": seed}, logger=False)
        self.share = Share()
        check_settings(self.config)
        self.seed = seed
        self.pairing = pairing
        self.wants_judge = judge
        self.inception_weights = inception_weights
        self.stages: Stages = lambda: nullcontext(lambda _: None)
        #: What is computed once for these data and kept as long as they are: the judge, features of real frames.
        self.computed: dict[Any, Any] = {}
        self._ready = False

    def __getattr__(self, name: str) -> Any:
        if name in self._FOUND and not vars(self).get("_ready", True):
            self.setup()
            return getattr(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def setup(self, stage: str | None = None) -> None:
        """Index, pack, split; the second call only checks that the trainer's system can be trained on the pairs.

        Raises:
            UserError: anything about the data or its options that the user can mend.
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
        """What identifies the frames and their split; judges and statistics are kept under it."""
        c = self.config
        return f"{self.summary.pack.name}/{c.split}/{c.val_fraction}/{c.split_seed}/{','.join(self.affects)}"

    @property
    def reference_frames(self) -> FrameSet:
        """The split that reference faces come from: validation, unless an identity is missing there."""
        complete = self.val is not None and len(set(self.val.identity.tolist())) == len(self.identities)
        return self.val if self.val is not None and complete else self.train

    @property
    def shown_frames(self) -> FrameSet:
        """The split of the figures of a training: `reference_frames`, or validation where nothing has affects."""
        return self.val if self.val is not None and not self.labelled else self.reference_frames

    def everything(self) -> FrameSet:
        """All frames in use, whatever the split; row i is that of `table`."""
        return frame_set(self.table, *self._packed, np.arange(len(self.table)))

    def target_rows(self, frames: FrameSet) -> np.ndarray:
        """Rows of a split that may be targets, (n,) int64: what distributions of generated frames are compared with."""
        if not self.has_truth:
            return np.arange(len(frames))
        return TargetCells(frames, self.config.min_target_intensity).eligible

    # ------------------------------------------------------------------ loaders

    def train_dataloader(self) -> PairLoader:
        """The training batches, from the iteration on where the trainer stands."""
        return self._train_loader

    def share_batches(self, share: Share) -> None:
        """Take this process's share of every batch of `config.batch_size` pairs."""
        if share != self.share:
            self.share = share
            self._sampler = self._pair_sampler()
            self._train_loader = self._pair_loader()

    def place_on(self, device: torch.device, wanted: str) -> str | None:
        """Hold the training frames on `device` if `wanted` (auto, true, false) and the free memory allow it.

        Returns:
            A line on where they lie; None where it is not worth one.

        Raises:
            UserError: `true`, and they cannot be held there.
        """
        self._train_loader, line = placed(self._train_loader, wanted, device)
        return line

    def val_dataloader(self) -> FixedPairLoader | list[FixedPairLoader]:
        """The same validation pairs every time; an empty list where there are none, which Lightning skips."""
        if self.val is None or not len(self._val_pairs):
            return []
        batch = self.config.val_batch or self.config.batch_size
        return FixedPairLoader(self.val, self._val_pairs, batch, self.config.image_size)

    predict_dataloader = val_dataloader

    @property
    def test_splits(self) -> tuple[str, ...]:
        """The splits whose final metrics `test_dataloader` gives the pairs for."""
        return ("train", "val") if self.val_dataloader() else ("train",)

    def test_dataloader(self) -> list[FixedPairLoader]:
        """512 fixed pairs of the training split, then the validation pairs."""
        pairs = self.measured_pairs(self.train, 512)
        loaders = [FixedPairLoader(self.train, pairs, self.config.batch_size, self.config.image_size)]
        return [*loaders, *([val] if (val := self.val_dataloader()) else [])]  # type: ignore[list-item]

    def _is_unpaired(self) -> bool:
        """Whether training goes without pairs of one identity."""
        self._check_pairing()
        if self.config.unpaired is not None:
            return self.config.unpaired
        return self.pairing != "identity" and not self.labelled

    def _check_pairing(self) -> None:
        """Raise a UserError if the user wants unpaired training of a system that learns from pairs."""
        if self.pairing == "identity" and (self.config.unpaired or vars(self).get("unpaired")):
            raise UserError(
                "dataset.unpaired=true: this system learns from two frames of one identity; expected a system that "
                "does not (model=ganimation, model=stargan), or dataset.unpaired=null."
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


def data_facts(data: FrameDataModule) -> dict[str, Any]:
    """What a run was trained on, for its config.yaml: class order, identities (none without affects), frames."""
    return {
        "affects": list(data.affects),
        # of frames without affects every one may be another person: hundreds of thousands of names
        "identities": list(data.identities) if data.labelled else [],
        "train_frames": len(data.train),
        "val_frames": len(data.val) if data.val is not None else 0,
    }


def changed_facts(data: FrameDataModule, then: dict[str, Any] | None) -> str:
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
