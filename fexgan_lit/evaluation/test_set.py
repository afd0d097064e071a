"""The common test set of a comparison, and checks that all methods were trained on the same data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fexgan_lit.evaluation.config import EvaluationSettings, PlaceSettings
from fexgan_lit.evaluation.methods import Trained
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.data.packing.pack import Progress
    from fexgan_lit.data.pairs import FixedPairLoader, FixedPairs

#: Options of a data set that determine its frames and their split.
_FRAMES = (
    "name", "layout", "affects", "only", "sequence_ends", "crop", "crop_margin", "image_size", "val_fraction", "split",
    "split_seed", "targets", "min_target_intensity", "population", "framing", "identities", "takes", "frames",
    "take_seconds", "head_motion", "studio_seed",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TestSet:
    """The pairs on which every method is measured.

    Attributes:
        data: the prepared data module with both splits.
        frames: frames of the measured split.
        pairs: source and target rows in `frames`.
        split: name of the measured split.
        batch_size: pairs per batch.
    """

    data: FrameDataModule
    frames: FrameSet
    pairs: FixedPairs
    split: str
    batch_size: int

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.data.config.image_size

    def loader(self) -> FixedPairLoader:
        """Return a new loader over all pairs."""
        from fexgan_lit.data.pairs import FixedPairLoader

        return FixedPairLoader(self.frames, self.pairs, self.batch_size, self.image_size)

    @property
    def where(self) -> str:
        """Description of the pairs for the recipes."""
        return self.describe(f"{len(self.pairs)} pairs")

    def describe(self, counted: str) -> str:
        """Say of which split `counted`, such as ``64 pairs``, are."""
        d = self.data.config
        return (
            f"{counted} of {d.name}'s {self.split} split (split={d.split}, split_seed={d.split_seed}) at "
            f"{d.image_size} px"
        )


def common_ground(methods: Sequence[Trained], settings: EvaluationSettings, progress: Progress | None) -> TestSet:
    """Check that all methods were trained on the same data, and prepare it.

    Raises:
        UserError: the methods were trained on different data, the data changed since, or there are no pairs.
    """
    from fexgan_lit.data.datamodule import FrameDataModule

    check_comparable(methods)
    config = moved(methods[0].loaded.run.dataset, settings.dataset)
    first = methods[0].loaded.run
    data = FrameDataModule(config, first.seed, first.system.pairing)
    data.stages = lambda: nullcontext(lambda _: progress)
    data.setup()
    check_unchanged(methods[0], data)
    if not data.has_truth:
        raise UserError(
            f"{methods[0].loaded.folder}: {config.name} has only one affect per person, so there is no true frame to "
            "compare generated ones with. The report.md of the run has the metrics that need none (there and back, "
            "action units, and FID if its weights are there)."
        )
    frames = data.train if settings.split == "train" else data.val
    if frames is None:
        raise UserError(
            "split=val: this run has no validation split (dataset.val_fraction=0), so it has seen all frames. "
            "Evaluate on the training frames with split=train, and say so when you quote the figures."
        )
    pairs = data.measured_pairs(frames, settings.pairs)
    if len(pairs) < 2:
        raise UserError(
            f"split={settings.split}: found {len(pairs)} pairs of one identity with two affects in {len(frames)} "
            "frames; expected at least two. Hold out more frames with a larger dataset.val_fraction."
        )
    return TestSet(data, frames, pairs, settings.split, settings.batch_size)


def moved(config: Any, place: PlaceSettings) -> Any:
    """Return the data set's options with the paths that `place` overrides."""
    given = {name: value for name, value in vars(place).items() if value is not None}
    return replace(config, **given)


def check_comparable(methods: Sequence[Trained]) -> None:
    """Check that all runs were trained on the same frames.

    Raises:
        UserError: they were not; the message lists the differences of each run.
    """
    first = methods[0]
    problems = []
    for other in methods[1:]:
        ours, theirs = _trained_on(first), _trained_on(other)
        differing = [f"{key} {theirs[key]} instead of {ours[key]}" for key in ours if ours[key] != theirs[key]]
        if differing:
            problems.append(f"{other.loaded.folder}: {'; '.join(differing)}")
    if problems:
        raise UserError(
            f"runs on different data cannot be compared in one table. Differences from {first.loaded.folder}:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
            + "\nEvaluate them one by one, or train them on the same frames and split."
        )


def _trained_on(method: Trained) -> dict[str, Any]:
    frames = {f"dataset.{name}": getattr(method.loaded.run.dataset, name) for name in _FRAMES}
    return frames | {f"data.{name}": value for name, value in (method.loaded.run.data or {}).items()}


def check_unchanged(method: Trained, data: FrameDataModule) -> None:
    """Check that the data are those the run was trained on.

    Raises:
        UserError: they are not; the message lists the differences.
    """
    from fexgan_lit.data.datamodule import changed_facts

    if differing := changed_facts(data, method.loaded.run.data):
        raise UserError(
            f"{method.loaded.folder} was trained on other data than those now at {data.table.root or 'the studio'}: "
            f"{differing}. Give the folder of its training data with dataset.root=DIR."
        )
