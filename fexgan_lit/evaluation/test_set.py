"""The common test set of a comparison, and checks that all methods were trained on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from fexgan_lit.evaluation.config import EvaluationSettings, TestDataSettings
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
    "split_seed", "targets", "min_target_intensity", "population", "framing", "expressions", "identities", "takes",
    "frames", "take_seconds", "head_motion", "studio_seed",
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
        other: options in which the data differ from those of the first run.
    """

    data: FrameDataModule
    frames: FrameSet
    pairs: FixedPairs
    split: str
    batch_size: int
    other: Mapping[str, Any] = field(default_factory=dict)

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
            f"{d.image_size} px{''.join(f', {name}={value}' for name, value in self.other.items())}"
        )


def common_ground(methods: Sequence[Trained], settings: EvaluationSettings, progress: Progress | None) -> TestSet:
    """Check that all methods were trained on the same data, and prepare it; or prepare other data of the settings.

    Raises:
        UserError: the methods were trained on different data, the data changed since, or there are no pairs.
    """
    from fexgan_lit.data.datamodule import FrameDataModule

    other = settings.dataset.other
    check_comparable(methods, same_frames=not other)
    config = moved(methods[0].loaded.run.dataset, settings.dataset)
    first = methods[0].loaded.run
    data = FrameDataModule(config, first.seed, first.system.pairing)
    data.stages = lambda: nullcontext(lambda _: progress)
    data.setup()
    if not other:
        check_unchanged(methods[0], data)
    elif tuple(data.affects) != methods[0].system.affects:
        raise UserError(
            f"dataset.name={config.name}: its affects are {', '.join(data.affects)}; {methods[0].loaded.folder} knows "
            f"{', '.join(methods[0].system.affects)}"
        )
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
    return TestSet(data, frames, pairs, settings.split, settings.batch_size, other)


def moved(config: Any, place: TestDataSettings) -> Any:
    """Return the data set's options with those that `place` overrides.

    Raises:
        UserError: they cannot be used together.
    """
    given = {name: value for name, value in vars(place).items() if value is not None}
    config = replace(config, **given)
    if place.other and (problems := config.problems()):
        raise UserError("the data to measure on cannot be made:\n" + "\n".join(f"  - {line}" for line in problems))
    return config


def check_comparable(methods: Sequence[Trained], same_frames: bool = True) -> None:
    """Check that all runs were trained on the same frames, or else on the same affects at the same size.

    Raises:
        UserError: they were not; the message lists the differences of each run.
    """
    first = methods[0]
    problems = []
    for other in methods[1:]:
        ours, theirs = _trained_on(first, same_frames), _trained_on(other, same_frames)
        both = [(key, *(shorten(str(of[key]), 80, placeholder=" ...") for of in (theirs, ours))) for key in ours]
        differing = [f"{key} {their} instead of {our}" for key, their, our in both if ours[key] != theirs[key]]
        if differing:
            problems.append(f"{other.loaded.folder}: {'; '.join(differing)}")
    if problems:
        raise UserError(
            f"runs on different data cannot be compared in one table. Differences from {first.loaded.folder}:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
            + "\nEvaluate them one by one, train them on the same frames and split, or measure them on frames that none"
            " has seen, such as dataset.studio_seed=1."
        )


def _trained_on(method: Trained, same_frames: bool) -> dict[str, Any]:
    run = method.loaded.run
    found = {f"dataset.{name}": getattr(run.dataset, name) for name in (_FRAMES if same_frames else ("image_size",))}
    return found | {
        f"data.{name}": value for name, value in (run.data or {}).items() if same_frames or name == "affects"
    }


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
