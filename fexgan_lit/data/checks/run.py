"""All examinations of one data set, in one pass over its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fexgan_lit.data.checks.annotations import value_findings
from fexgan_lit.data.checks.finding import Finding, by_severity
from fexgan_lit.data.checks.images import PixelScan, pixel_findings, scan_pixels, size_findings
from fexgan_lit.data.checks.labels import Ability, abilities, cell_findings, count_cells, split_findings
from fexgan_lit.data.checks.leaks import Repeats, find_repeats, leak_findings, repeat_findings
from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.packing.pack import Pack
from fexgan_lit.data.splits import Split, split_rows
from fexgan_lit.data.table import Drop
from fexgan_lit.utils.errors import UserError

#: How many drops a reason names in its finding.
_REASONS = 5
#: How the index marks a note that is a suspicion.
SUSPICIOUS = "suspicious: "


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What the doctor found.

    Attributes:
        pack: the data set as it was examined.
        config: its settings.
        findings: worst first.
        counts: (I, K) frames of every identity and affect.
        train: (I, K) of them in training.
        val: (I, K) of them held out.
        drops: everything found and not used.
        faceless: frames in use in which the detector found no face, and why.
        notes: sentences of the index.
        repeats: look-alikes.
        abilities: what is known of the frames.
        refusal: why training would refuse the data set; empty if it would not.
    """

    pack: Pack
    config: DatasetConfig
    findings: tuple[Finding, ...]
    counts: np.ndarray
    train: np.ndarray
    val: np.ndarray
    drops: tuple[Drop, ...]
    faceless: tuple[Drop, ...]
    notes: tuple[str, ...]
    repeats: Repeats
    abilities: tuple[Ability, ...]
    refusal: str = ""

    @property
    def trainable(self) -> bool:
        """Whether training would start with these settings."""
        return not self.refusal

    def number(self, severity: str) -> int:
        """How many findings are that bad."""
        return sum(finding.severity == severity for finding in self.findings)


def examine(
    pack: Pack,
    config: DatasetConfig,
    refusal: str = "",
    faceless: tuple[Drop, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Look at everything once.

    Args:
        pack: the decoded data set.
        config: the settings it would be trained with.
        refusal: why training would not start, where the caller found out.
        faceless: frames in use in which the detector found no face.
        progress: called with (frames looked at, frames in all).
    """
    table = pack.table
    split, trouble = _split(pack, config)
    refusal = refusal or trouble
    scan = scan_pixels(pack.mapped, progress)
    repeats = find_repeats(table, pack.mapped, scan, split)
    plain, suspicions = _sort_notes(table.notes)
    findings = [
        *_refused(refusal),
        *_contents(pack, config, scan),
        *_values(pack, suspicions, faceless),
        *repeat_findings(repeats, table, config.min_target_intensity),
    ]
    if split is not None and not refusal:
        leaks = leak_findings(repeats, table, split, config.split)
        findings += [*split_findings(table, split, config, takes=not leaks), *leaks]
    nobody = np.zeros((len(table.identities), len(table.affects)), np.int64)
    return Diagnosis(
        pack=pack,
        config=config,
        findings=by_severity(findings),
        counts=count_cells(table),
        train=nobody if split is None else count_cells(table, split.train),
        val=nobody if split is None else count_cells(table, split.val),
        drops=table.drops,
        faceless=faceless,
        notes=plain,
        repeats=repeats,
        abilities=abilities(table),
        refusal=refusal,
    )


def _refused(refusal: str) -> list[Finding]:
    if not refusal:
        return []
    return [Finding("problem", "training", f"training would not start: {refusal.rstrip('.')}")]


def _contents(pack: Pack, config: DatasetConfig, scan: PixelScan) -> list[Finding]:
    table = pack.table
    return [
        *cell_findings(table),
        *drop_findings(table.drops, len(table)),
        *size_findings(table, pack.sizes, pack.cropped, config.image_size),
        *pixel_findings(scan, table),
    ]


def _sort_notes(notes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Plain notes of the index, and those that voice a suspicion."""
    suspicions = tuple(note for note in notes if SUSPICIOUS in note)
    return tuple(note for note in notes if note not in suspicions), suspicions


def _values(pack: Pack, suspicions: tuple[str, ...], faceless: tuple[Drop, ...]) -> list[Finding]:
    """What the values look like; the suspicions of the index are told where the doctor has none of his own."""
    findings = value_findings(pack.table)
    if not any(finding.severity != "info" for finding in findings):
        findings += [Finding("warning", "values", note.replace(SUSPICIOUS, "").rstrip(".")) for note in suspicions]
    if faceless:
        found = f"no face was found in {len(faceless)} of {len(pack.table)} frames; they stay without landmarks"
        findings.append(Finding("warning", "values", found, "", "", _named([d.path for d in faceless], "no_face")))
    return findings


def drops_by_reason(drops: tuple[Drop, ...]) -> dict[str, list[str]]:
    """Paths under each reason, the most frequent reason first."""
    groups: dict[str, list[str]] = {}
    for drop in drops:
        groups.setdefault(drop.reason, []).append(drop.path)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def drop_findings(drops: tuple[Drop, ...], kept: int) -> list[Finding]:
    """One finding a reason, the first few reasons; a warning where more than a frame in a hundred is lost."""
    groups = list(drops_by_reason(drops).items())
    findings = [
        Finding("warning" if len(paths) > 0.01 * kept else "info", "drops", f"{len(paths)} left out: {reason}", "", "",
                _named(paths))
        for reason, paths in groups[:_REASONS]
    ]  # fmt: skip
    rest = sum(len(paths) for _, paths in groups[_REASONS:])
    if rest:
        found = f"{rest} left out for {len(groups) - _REASONS} other reasons"
        findings.append(Finding("info", "drops", found, "", "drops.csv names them all."))
    return findings


def _named(paths: list[str], file: str = "drops") -> tuple[str, ...]:
    more = (f"+{len(paths) - 3} in {file}.csv",) if len(paths) > 3 else ()
    return (*paths[:3], *more)


def _split(pack: Pack, config: DatasetConfig) -> tuple[Split | None, str]:
    """The split, or why there is none."""
    try:
        return split_rows(pack.table, config.val_fraction, config.split, config.split_seed), ""
    except UserError as error:
        return None, str(error)
