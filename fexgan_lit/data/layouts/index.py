"""From `dataset=` to the table of its frames: root, layout, choice, labels, checks. No picture is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fexgan_lit.data.archives import unpack
from fexgan_lit.data.guidance import check_root, no_frames, wrong_layout, wrong_level
from fexgan_lit.data.labels import AffectReader, keep_pairable, table_of_frame, wanted_affects
from fexgan_lit.data.layouts.characters import FERG, FOLDER, MHFED
from fexgan_lit.data.layouts.ckplus import CKPLUS
from fexgan_lit.data.layouts.duplicates import drop_twins, unify_identities
from fexgan_lit.data.layouts.emotionet import EMOTIONET
from fexgan_lit.data.layouts.manifest import read_manifest
from fexgan_lit.data.layouts.mug import MUG
from fexgan_lit.data.layouts.only import keep_only
from fexgan_lit.data.layouts.oulu_casia import OULU_CASIA
from fexgan_lit.data.layouts.rafd import RAFD
from fexgan_lit.data.layouts.sequences import label_clips
from fexgan_lit.data.layouts.sheet import Layout, Sheet, knows_any
from fexgan_lit.data.settings import STUDIOS, DatasetConfig
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.data.walk import find_level
from fexgan_lit.errors import UserError
from fexgan_lit.expression import KNOWN_AFFECTS

LAYOUTS: dict[str, Layout] = {
    "ferg": FERG,
    "mhfed": MHFED,
    "folder": FOLDER,
    "ckplus": CKPLUS,
    "oulu_casia": OULU_CASIA,
    "rafd": RAFD,
    "mug": MUG,
    "emotionet": EMOTIONET,
}


@dataclass
class _Place:
    """The root to read, and what unpacking it left out."""

    root: Path
    drops: Sequence[Drop] = ()
    notes: list[str] = field(default_factory=list)


def index_dataset(config: DatasetConfig) -> FrameTable:
    """The table of the data set `config` names, annotations joined.

    Raises:
        UserError: unknown layout, missing or wrong root, bad archive, manifest or annotations, unknown affects,
            nothing to pair.
    """
    layout = find_layout(config.layout_name)
    place = _find_root(config, layout)
    reader, wanted = _reader(config, layout)
    if config.manifest is not None:
        sheet = read_manifest(Path(config.manifest).expanduser(), place.root, config.annotations is not None)
        sheet = label_clips(keep_only(drop_twins(sheet), config.only), None, config)
    else:
        sheet = layout.read(place.root, config)
        _check_form(sheet, reader, place.root, config, layout)
        sheet = label_clips(keep_only(drop_twins(sheet), config.only), layout.clips, config)
    sheet.drops, sheet.notes = [*place.drops, *sheet.drops], [*place.notes, *sheet.notes]
    table = _label(sheet, reader, wanted, place.root, config)
    return _complete(table, config, layout, wanted)


def find_layout(name: str) -> Layout:
    """The layout of a name of ours, or the `Layout` of a package of the user's (`mypkg.frames.LAYOUT`).

    Raises:
        UserError: there is no such layout, or the package is not trusted.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    found = None
    if "." in name:
        from fexgan_lit.config import load_target

        found = load_target(name)
    if not isinstance(found, Layout):
        known = ", ".join([*LAYOUTS, *STUDIOS])
        raise UserError(
            f"dataset.layout={name}: no such layout; expected one of {known}, or a Layout of your own as "
            "package.module.NAME."
        )
    return found


def _complete(table: FrameTable, config: DatasetConfig, layout: Layout, wanted: Sequence[str] | None) -> FrameTable:
    """Leave out what cannot be paired, and join what else is known of the frames."""
    if (layout.paired or config.manifest is not None) and not config.unpaired:
        table = keep_pairable(table, fixed_affects=wanted is not None)[0]
    if layout.finish is not None:
        table = layout.finish(table, config)
    if config.annotations is None or (layout is EMOTIONET and config.manifest is None):
        return table  # EmotionNet's action units are what it is made of, and joined already
    from fexgan_lit.data.annotations import join_annotations

    return join_annotations(table, Path(config.annotations).expanduser())


def _find_root(config: DatasetConfig, layout: Layout) -> _Place:
    """The root; that of an archive is where the layout begins in it, or as it stands if it begins nowhere."""
    if config.root is None and config.manifest is not None:
        return _Place(Path(config.manifest).expanduser().absolute().parent)
    root = check_root(config)
    if root.is_dir():
        return _Place(root)
    unpacked = unpack(root, config.cache_dir)
    top = unpacked.folder
    inner = None
    if config.manifest is None and not layout.fits(top, config):
        inner = find_level(top, lambda folder: folder.is_relative_to(top) and layout.fits(folder, config))
    return _Place(inner or top, unpacked.skipped, [f"{root.name} is unpacked in {unpacked.folder}"])


def _reader(config: DatasetConfig, layout: Layout) -> tuple[AffectReader, tuple[str, ...] | None]:
    """Reads words as affects of this layout; and the affects the table is to have, None for those found."""
    own = layout.affects
    wanted = wanted_affects(config.affects, config.aliases)
    if config.manifest is not None and not layout.paired:
        own = None  # a manifest brings the affects such a set does not have
    if own is not None:
        wanted = wanted or tuple(own)
    # Where the user lists affects, a word that is neither listed nor known is a misspelling; else any word will do.
    allowed = own if own is not None or wanted is None else KNOWN_AFFECTS
    return AffectReader(wanted, allowed, config.aliases), wanted


def _check_form(sheet: Sheet, reader: AffectReader, root: Path, config: DatasetConfig, layout: Layout) -> None:
    """Where nothing is read off the root, say where it should be, or which data set it is."""
    if not sheet.frame.empty and knows_any(sheet.frame["word"].unique(), reader):
        return
    right = find_level(root, lambda folder: layout.fits(folder, config))
    if right is not None:
        raise UserError(wrong_level(config, root, right))
    others = (name for name in LAYOUTS if name not in (config.layout_name, "folder"))
    other = next((name for name in others if LAYOUTS[name].fits(root, config)), None)
    if other is not None:
        raise UserError(wrong_layout(config, root, other))
    if sheet.frame.empty:
        raise UserError(no_frames(config, root, sheet.drops))


def _label(
    sheet: Sheet, reader: AffectReader, wanted: Sequence[str] | None, root: Path, config: DatasetConfig
) -> FrameTable:
    """The table of the rows whose words are affects in use."""
    words = sheet.frame.drop_duplicates("word")
    read = {word: reader.read(word, path) for word, path in zip(words["word"], words["path"], strict=True)}
    affect = sheet.frame["word"].map({word: name for word, (name, _) in read.items() if name is not None})
    unused = sheet.frame.loc[affect.isna(), ["path", "word"]]
    drops = [Drop(path, read[word][1] or "") for path, word in zip(unused["path"], unused["word"], strict=True)]
    sheet.drops = [*sheet.drops, *drops]
    kept = sheet.frame.assign(affect=affect)[affect.notna()].drop(columns=["word", "key"], errors="ignore")
    if kept.empty:
        raise UserError(no_frames(config, root, sheet.drops))
    ordered = ["path", "identity", "affect", *kept.columns.difference(["path", "identity", "affect"], sort=False)]
    named = unify_identities(Sheet(kept[ordered].reset_index(drop=True), sheet.drops, sheet.notes))
    return table_of_frame(named.frame, root, named.drops, named.notes, wanted)
