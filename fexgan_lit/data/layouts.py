"""One pure function a layout: from the folder of a data set to its FrameTable. Nothing is decoded here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fexgan_lit.data.guidance import check_root, no_frames, wrong_layout, wrong_level
from fexgan_lit.data.labels import AffectReader, Row, table_of_rows, wanted_affects
from fexgan_lit.data.patterns import PathPattern
from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.data.walk import find_level, list_images, sample_images
from fexgan_lit.errors import UserError
from fexgan_lit.expression import AFFECTS, KNOWN_AFFECTS

#: What a layout reads off the parts of a path: identity, the word for the affect, take, frame; None if it does not fit.
Labels = tuple[str, str, int | None, int | None]
ReadLabels = Callable[[tuple[str, ...]], Labels | None]

_NUMBER = re.compile(r"(\d+)$")


def ferg(root: Path, config: DatasetConfig) -> FrameTable:
    """FERG-DB: `<character>/<character>_<affect>/<character>_<affect>_<n>.png`."""
    wanted = wanted_affects(config.affects, config.aliases) or AFFECTS
    return _index(root, config, 3, _ferg_labels, AffectReader(wanted, AFFECTS, config.aliases), wanted)


def mhfed(root: Path, config: DatasetConfig) -> FrameTable:
    """MH-FED: `<character>/<affect>/*`, any image extension."""
    wanted = wanted_affects(config.affects, config.aliases) or AFFECTS
    return _index(root, config, 3, _mhfed_labels, AffectReader(wanted, AFFECTS, config.aliases), wanted)


def folder(root: Path, config: DatasetConfig) -> FrameTable:
    """The user's own characters, by `config.pattern`; affects are those found unless `config.affects` is given."""
    wanted = wanted_affects(config.affects, config.aliases)
    pattern = PathPattern(config.pattern, [*(wanted or ()), *config.aliases])
    # Where the user lists affects, a word that is neither listed nor known is a misspelling; else any word will do.
    reader = AffectReader(wanted, None if wanted is None else KNOWN_AFFECTS, config.aliases)
    table = _index(root, config, pattern.depth, pattern.read, reader, wanted)
    _check_shared_affects(table, config)
    return table


def _check_shared_affects(table: FrameTable, config: DatasetConfig) -> None:
    """Refuse a table in which every affect belongs to one identity: the pattern took the identity for an affect."""
    owners = table.frame.groupby("affect")["identity"].nunique()
    if len(table.identities) < 2 or owners.max() > 1:
        return
    first = table.frame.iloc[0]
    raise UserError(
        f"dataset.pattern={config.pattern}: read so, every affect belongs to one identity only; for example "
        f"'{first['path']}' shows the affect '{first['affect']}' of '{first['identity']}'. "
        "Expected affects that several identities share. Say where the name ends and the affect begins, for example "
        "'dataset.pattern=\"{identity}/{identity}_{affect}/{frame}.*\"'."
    )


LAYOUTS: dict[str, Callable[[Path, DatasetConfig], FrameTable]] = {"ferg": ferg, "mhfed": mhfed, "folder": folder}


def index_dataset(config: DatasetConfig) -> FrameTable:
    """The table of the data set `config` names, annotations joined.

    Raises:
        UserError: unknown layout, missing or wrong root, unknown affects, nothing to pair, bad annotations.
    """
    if config.layout_name not in LAYOUTS:
        known = ", ".join([*LAYOUTS, "studio_cartoon"])
        raise UserError(f"dataset.layout={config.layout_name}: no such layout; expected one of {known}.")
    root = check_root(config)
    table = LAYOUTS[config.layout_name](root, config)
    if config.annotations is None:
        return table
    from fexgan_lit.data.annotations import join_annotations

    return join_annotations(table, Path(config.annotations).expanduser())


def _index(
    root: Path,
    config: DatasetConfig,
    depth: int,
    read_labels: ReadLabels,
    reader: AffectReader,
    wanted: Sequence[str] | None,
) -> FrameTable:
    """List the images `depth` below `root`, label each, and check that the whole can be trained on."""
    listing = list_images(root, depth)
    labelled = [(parts, read_labels(parts)) for parts in listing.images]
    fitting = [(parts, labels) for parts, labels in labelled if labels is not None]
    drops = [Drop("/".join(parts), "name does not fit the pattern") for parts, labels in labelled if labels is None]
    if not _any_affect(fitting, reader):
        right = find_level(root, lambda other: _fits(other, depth, read_labels, reader))
        if right is not None:
            raise UserError(wrong_level(config, root, right))
        other = _other_layout(root, config)
        if other is not None:
            raise UserError(wrong_layout(config, root, other))
    if not fitting:
        raise UserError(no_frames(config, root, [*listing.drops, *drops]))
    rows, left_out = _label_rows(fitting, reader)
    if not rows:
        raise UserError(no_frames(config, root, [*listing.drops, *drops, *left_out]))
    return table_of_rows(rows, root, [*listing.drops, *drops, *left_out], wanted)


def _label_rows(fitting: list[tuple[tuple[str, ...], Labels]], reader: AffectReader) -> tuple[list[Row], list[Drop]]:
    rows: list[Row] = []
    drops: list[Drop] = []
    for parts, (identity, word, take, frame) in fitting:
        path = "/".join(parts)
        affect, reason = reader.read(word, path)
        if affect is None:
            drops.append(Drop(path, reason or ""))
        else:
            rows.append((path, identity, affect, take, frame))
    return rows, drops


def _any_affect(fitting: Iterable[tuple[tuple[str, ...], Labels]], reader: AffectReader) -> bool:
    """Whether any word is an affect: if none is, the root is more likely wrong than every name misspelt."""
    for word, path in {labels[1]: "/".join(parts) for parts, labels in fitting}.items():
        try:
            reader.read(word, path)
        except UserError:
            continue
        return True
    return False


def _fits(other: Path, depth: int, read_labels: ReadLabels, reader: AffectReader) -> bool:
    """Whether `other` holds images in this layout; with any word an affect, only known ones count as a sign."""
    strict = reader if reader.allowed is not None else AffectReader(None, AFFECTS, reader.aliases)
    found = ((parts, read_labels(parts)) for parts in sample_images(other, depth))
    return _any_affect([(parts, labels) for parts, labels in found if labels is not None], strict)


def _other_layout(root: Path, config: DatasetConfig) -> str | None:
    """The named layout, other than the configured one, that fits `root`."""
    reader = AffectReader(None, AFFECTS, config.aliases)
    named = {"ferg": _ferg_labels, "mhfed": _mhfed_labels}
    others = (name for name in named if name != config.layout_name)
    return next((name for name in others if _fits(root, 3, named[name], reader)), None)


def _ferg_labels(parts: tuple[str, ...]) -> Labels:
    character, folder_name, file_name = parts
    prefix = f"{character}_".lower()
    word = folder_name[len(prefix) :] if folder_name.lower().startswith(prefix) else folder_name
    return character, word, None, _trailing_number(file_name)


def _mhfed_labels(parts: tuple[str, ...]) -> Labels:
    character, word, file_name = parts
    return character, word, None, _trailing_number(file_name)


def _trailing_number(file_name: str) -> int | None:
    found = _NUMBER.search(file_name.rpartition(".")[0])
    return int(found.group(1)) if found else None
