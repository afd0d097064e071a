"""All checks of one data set, in one pass over its frames."""

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

#: Maximum number of reasons that get their own finding.
_REASONS = 5
#: Prefix of index notes that report a suspicion.
SUSPICIOUS = "suspicious: "


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Results of the checks.

    Attributes:
        pack: the data set that was checked.
        config: its settings.
        findings: worst first.
        counts: (I, K) frames of every identity and affect.
        train: (I, K) frames in training.
        val: (I, K) held-out frames.
        drops: files and frames that were found but are not used.
        faceless: frames in use without a detected face, and the reasons.
        notes: sentences of the index.
        repeats: near-duplicates.
        abilities: kinds of annotation that the frames have.
        refusal: the reason why training would refuse the data set; empty if it would not.
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
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def examine(
    pack: Pack,
    config: DatasetConfig,
    refusal: str = "",
    faceless: tuple[Drop, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Run all checks.

    Args:
        pack: the decoded data set.
        config: the settings for training.
        refusal: the reason why training would not start, if the caller knows one.
        faceless: frames in use without a detected face.
        progress: called with (frames done, total).
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
    no_frames = np.zeros((len(table.identities), len(table.affects)), np.int64)
    return Diagnosis(
        pack=pack,
        config=config,
        findings=by_severity(findings),
        counts=count_cells(table),
        train=no_frames if split is None else count_cells(table, split.train),
        val=no_frames if split is None else count_cells(table, split.val),
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
    """Separate plain notes of the index from suspicions."""
    suspicions = tuple(note for note in notes if SUSPICIOUS in note)
    return tuple(note for note in notes if note not in suspicions), suspicions


def _values(pack: Pack, suspicions: tuple[str, ...], faceless: tuple[Drop, ...]) -> list[Finding]:
    """Return the findings on values; suspicions of the index are added if these checks find nothing suspicious."""
    findings = value_findings(pack.table)
    if not any(finding.severity != "info" for finding in findings):
        findings += [Finding("warning", "values", note.replace(SUSPICIOUS, "").rstrip(".")) for note in suspicions]
    if faceless:
        found = f"no face was found in {len(faceless)} of {len(pack.table)} frames; these frames have no landmarks"
        findings.append(Finding("warning", "values", found, "", "", _named([d.path for d in faceless], "no_face")))
    return findings


def drops_by_reason(drops: tuple[Drop, ...]) -> dict[str, list[str]]:
    """Return the paths by reason, the most frequent reason first."""
    groups: dict[str, list[str]] = {}
    for drop in drops:
        groups.setdefault(drop.reason, []).append(drop.path)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def drop_findings(drops: tuple[Drop, ...], kept: int) -> list[Finding]:
    """Return one finding for each of the first few reasons, a warning if more than one frame in a hundred is lost."""
    groups = list(drops_by_reason(drops).items())
    findings = [
        Finding("warning" if len(paths) > 0.01 * kept else "info", "drops", f"{len(paths)} left out: {reason}", "", "",
                _named(paths))
        for reason, paths in groups[:_REASONS]
    ]  # fmt: skip
    rest = sum(len(paths) for _, paths in groups[_REASONS:])
    if rest:
        found = f"{rest} left out for {len(groups) - _REASONS} other reasons"
        findings.append(Finding("info", "drops", found, "", "drops.csv lists all of them."))
    return findings


def _named(paths: list[str], file: str = "drops") -> tuple[str, ...]:
    more = (f"+{len(paths) - 3} in {file}.csv",) if len(paths) > 3 else ()
    return (*paths[:3], *more)


def _split(pack: Pack, config: DatasetConfig) -> tuple[Split | None, str]:
    """Return the split, or the reason why there is none."""
    try:
        return split_rows(pack.table, config.val_fraction, config.split, config.split_seed), ""
    except UserError as error:
        return None, str(error)
