"""The summary of a prepared data set, in a few lines for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fexgan_lit.data.table import Drop, some


@dataclass(frozen=True)
class DataSummary:
    """Facts about a prepared data set.

    Attributes:
        name: name of the data set.
        root: folder of the data set; None for a studio.
        frames: number of frames in use.
        drops: files and frames that were found but are not used.
        notes: sentences of the index, for example on joined annotations.
        identities: names.
        affects: class order.
        size: side of the packed frames, pixels.
        sizes: number of frames of each original size "WxH".
        cropped: number of frames that were not square.
        faces: whether frames show squares around the faces instead of central squares.
        labelled: whether the frames have affects.
        unpaired: whether training targets are random frames of any identity.
        has_truth: whether fixed pairs show one identity, so that generated images can be compared with real frames.
        train: training frames.
        val: validation frames; 0 if there is no validation set.
        val_pairs: fixed validation pairs.
        val_unpaired: validation frames without a partner of another affect.
        unsplit: cells too small to split, which are entirely in training.
        relaxed: cells without a frame of at least `dataset.min_target_intensity`.
        pack: folder of the pack.
        reused: whether the pack existed already.
        stream: location and windows of a streamed pack; else empty.
    """

    name: str
    root: Path | None
    frames: int
    drops: tuple[Drop, ...]
    notes: tuple[str, ...]
    identities: tuple[str, ...]
    affects: tuple[str, ...]
    size: int
    sizes: dict[str, int]
    cropped: int
    train: int
    val: int
    val_pairs: int
    val_unpaired: int
    unsplit: tuple[str, ...]
    relaxed: tuple[str, ...]
    pack: Path
    reused: bool
    stream: tuple[str, ...] = ()
    faces: bool = False
    labelled: bool = True
    unpaired: bool = False
    has_truth: bool = True

    def lines(self) -> list[str]:
        """Return one line for each fact; facts without surprise (nothing dropped, one size) are left out."""
        return [
            f"data       {self.name}{f' in {self.root}' if self.root else ''}: {self.frames} frames, "
            f"{len(self.identities)} identities, {self._affects()}",
            f"identities {some(self.identities, 12)}",
            *[f"note       {note}" for note in self.notes],
            *self._drop_lines(),
            *self._size_lines(),
            *self._split_lines(),
            *self._target_lines(),
            *self._pack_lines(),
        ]

    def _pack_lines(self) -> list[str]:
        if self.stream:
            return [f"stream     {line}" for line in self.stream]
        return [f"pack       {self.pack} ({'reused' if self.reused else 'new'}, {self.size} px)"]

    def dropped_by_reason(self) -> dict[str, list[str]]:
        """Return the paths by reason, the most frequent reason first."""
        groups: dict[str, list[str]] = {}
        for drop in self.drops:
            groups.setdefault(drop.reason, []).append(drop.path)
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))

    def _drop_lines(self) -> list[str]:
        groups = self.dropped_by_reason()
        lines = [f"dropped    {len(paths)} {reason}: {some(paths)}" for reason, paths in list(groups.items())[:10]]
        rest = list(groups.values())[10:]
        return [*lines, f"dropped    {sum(map(len, rest))} for {len(rest)} other reasons"] if rest else lines

    def _size_lines(self) -> list[str]:
        lines = []
        if len(self.sizes) > 1:
            counts = sorted(self.sizes.items(), key=lambda item: -item[1])
            lines.append(f"sizes      mixed: {some([f'{count} of {size}' for size, count in counts])}")
        if self.cropped and not self.faces:
            lines.append(f"sizes      {self.cropped} frames are not square; their central square is used")
        return lines

    def _affects(self) -> str:
        return f"{len(self.affects)} affects ({', '.join(self.affects)})" if self.labelled else "no affects"

    def _target_lines(self) -> list[str]:
        lines = ["targets    random frames of any identity (unpaired)"] if self.unpaired else []
        if not self.has_truth:
            lines.append("targets    no identity has two affects: generated images cannot be compared with real frames")
        return lines

    def _split_lines(self) -> list[str]:
        pairs = "fixed pairs" if self.has_truth else "fixed pairs of any two"
        lines = [f"split      {self.train} frames train, {self.val} validate ({self.val_pairs} {pairs})"]
        if not self.val:
            lines.append("split      there is no validation set: no metric of this run is on held-out frames")
        elif not self.val_pairs:
            lines.append("split      no two validation frames make a pair: there are no validation metrics")
        if self.val_unpaired:
            lines.append(f"split      {self.val_unpaired} validation frames have no partner of another affect")
        if self.unsplit:
            lines.append(
                f"split      {len(self.unsplit)} cells too small to split, in training only: {some(self.unsplit)}"
            )
        if self.relaxed:
            lines.append(f"targets    {len(self.relaxed)} cells use their strongest frames: {some(self.relaxed)}")
        return lines
