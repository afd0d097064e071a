"""Index a data set: find its root and layout, filter, label and check its frames. No image is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fexgan_lit.data.config import STUDIOS, DatasetConfig
from fexgan_lit.data.datasets.archives import unpack
from fexgan_lit.data.datasets.base import Layout, Sheet, knows_any
from fexgan_lit.data.datasets.characters import FERG, FOLDER, MHFED
from fexgan_lit.data.datasets.ckplus import CKPLUS
from fexgan_lit.data.datasets.csv_files import AFFECTNET
from fexgan_lit.data.datasets.emotionet import EMOTIONET
from fexgan_lit.data.datasets.filters import drop_twins, keep_only, unify_identities
from fexgan_lit.data.datasets.labels import AffectReader, keep_pairable, table_of_frame, wanted_affects
from fexgan_lit.data.datasets.manifest import read_manifest
from fexgan_lit.data.datasets.mug import MUG
from fexgan_lit.data.datasets.oulu_casia import OULU_CASIA
from fexgan_lit.data.datasets.rafd import RAFD
from fexgan_lit.data.datasets.scan import find_level, subfolders
from fexgan_lit.data.datasets.sequences import label_clips
from fexgan_lit.data.table import Drop, FrameTable, some
from fexgan_lit.expression import KNOWN_AFFECTS
from fexgan_lit.utils.errors import UserError

FORMS = {
    "ferg": "<root>/<character>/<character>_<affect>/<character>_<affect>_<n>.png, "
    "for example FERG_DB_256/aia/aia_joy/aia_joy_1.png",
    "mhfed": "<root>/<character>/<affect>/<any name>.jpg (or .png), for example MH-FED/Amelia/joy/0001.jpg",
    "ckplus": "<root>/cohn-kanade-images/S005/001/S005_001_00000011.png and <root>/Emotion/S005/001/*_emotion.txt, "
    "perhaps <root>/Landmarks and <root>/FACS",
    "oulu_casia": "<root>/OriginalImg/VL/Strong/P001/Anger/000.jpeg (or Oulu_CASIA_NIR_VIS in place of OriginalImg)",
    "rafd": "<root>/Rafd090_28_Caucasian_male_angry_frontal.jpg, also in folders one or two levels down",
    "mug": "<root>/subjects3/<id>/<emotion>/take<n>/img_<n>.jpg, "
    "for example subjects3/001/happiness/take000/img_0000.jpg",
    "emotionet": "<root>/imgs/<any name>.jpg and <root>/aus.csv (columns path, AU01..AU45, the 17 of OpenFace, 0..5), "
    "perhaps <root>/train_ids.csv and test_ids.csv",
}


HOW_TO_GET = {
    "ferg": "FERG-DB is given on request by its authors: fill in the form of the University of Washington's GRAIL "
    "group on the FERG-DB page, and unpack the archive.",
    "mhfed": "MH-FED is given on request by its authors: the card of azad-wolf-se/MH-FED on the Hugging Face hub "
    "links the form for the password; unpack the archive.",
    "ckplus": "CK+ is given on request by its authors for research; unpack its four archives (images, emotion labels, "
    "and if wanted landmarks and FACS labels) into one folder.",
    "oulu_casia": "Oulu-CASIA is given on request by the University of Oulu; unpack the archive of original images.",
    "rafd": "RaFD is given to verified researchers of universities by Radboud University: each user applies.",
    "mug": "MUG is given on request by the Multimedia Understanding Group of the University of Thessaloniki.",
    "emotionet": "EmotioNet's images are links given on request by its authors; GANimation extracted the action units "
    "again with OpenFace, which you can do for images of your own too.",
    "folder": "Put your own frames in a folder in which the path of each file says who it is and how they look.",
}


def expected_form(config: DatasetConfig) -> str:
    """Return the folder structure that the layout expects."""
    return FORMS.get(config.layout_name, f"<root>/{config.pattern}")


def check_root(config: DatasetConfig) -> Path:
    """Return the path `config.root`, a folder or an archive.

    Raises:
        UserError: the root is not given or does not exist; the error explains how to get the data set.
    """
    if config.root is None:
        raise UserError(_missing_root(config, "dataset.root is not given"))
    root = Path(config.root).expanduser()
    if not root.exists():
        raise UserError(_missing_root(config, f"dataset.root={config.root} does not exist"))
    return root


def _missing_root(config: DatasetConfig, problem: str) -> str:
    return (
        f"{problem}; dataset={config.name} needs the folder of the data set.\n"
        f"{HOW_TO_GET.get(config.layout_name, '')}\n"
        f"Expected folder form: {expected_form(config)}\n"
        f"Then: dataset={config.name} dataset.root=DIR. Without any data: leave dataset= out to train on the "
        "built-in cartoon studio."
    )


def wrong_level(config: DatasetConfig, root: Path, right: Path) -> str:
    """Return the message for a root that is one or two levels too high or too low."""
    return (
        f"dataset.root={root} is not the top folder of such a data set; {right} looks like it.\n"
        f"Say dataset.root={right}\nExpected folder form: {expected_form(config)}"
    )


def wrong_layout(config: DatasetConfig, root: Path, other: str) -> str:
    """Return the message for a root that belongs to another data set."""
    return (
        f"dataset.root={root} has the folder form of dataset={other}: {FORMS[other]}\n"
        f"Say dataset={other} dataset.root={root}; dataset={config.name} expects {expected_form(config)}"
    )


def no_frames(config: DatasetConfig, root: Path, drops: Sequence[Drop]) -> str:
    """Return the message for a root in which no file fits the layout; it lists the files that were found."""
    seen = "; ".join(f"{drop.path} ({drop.reason})" for drop in drops[:5])
    more = f"; and {len(drops) - 5} more" if len(drops) > 5 else ""
    return (
        f"dataset.root={root}: no image lies where dataset={config.name} expects one; "
        f"found {seen + more if seen else 'an empty folder'}.\n"
        f"Expected folder form: {expected_form(config)}"
    )


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
    """The root to read, and the members that were skipped when it was unpacked."""

    root: Path
    drops: Sequence[Drop] = ()
    notes: list[str] = field(default_factory=list)


def index_dataset(config: DatasetConfig) -> FrameTable:
    """Return the table of the data set in `config`, with its annotations.

    Raises:
        UserError: the layout is unknown, the root is missing or wrong, the archive, manifest or annotations are
            invalid, an affect is unknown, or there are no pairs.
    """
    layout = find_layout(config.layout_name)
    place = _find_root(config, layout)
    reader, wanted = _reader(config, layout)
    if config.manifest is not None:
        sheet = read_manifest(Path(config.manifest).expanduser(), place.root, config.annotations is not None)
        sheet = label_clips(keep_only(drop_twins(sheet), config.only), None, config)
    else:
        _refuse_arrays(place.root)
        sheet = layout.read(place.root, config)
        _check_form(sheet, reader, place.root, config, layout)
        sheet = label_clips(keep_only(drop_twins(sheet), config.only), layout.clips, config)
    sheet.drops, sheet.notes = [*place.drops, *sheet.drops], [*place.notes, *sheet.notes]
    table = _label(sheet, reader, wanted, place.root, config)
    return _complete(table, config, layout, wanted)


def find_layout(name: str) -> Layout:
    """Return a built-in layout by its name, or a `Layout` in a user's package by its path (`mypkg.frames.LAYOUT`).

    Raises:
        UserError: the layout does not exist, or the package is not trusted.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    found = None
    if "." in name:
        from fexgan_lit.utils.trust import load_target

        found = load_target(name)
    if not isinstance(found, Layout):
        known = ", ".join([*LAYOUTS, *STUDIOS])
        raise UserError(
            f"dataset.layout={name}: no such layout; expected one of {known}, or a Layout of your own as "
            "package.module.NAME."
        )
    return found


def _complete(table: FrameTable, config: DatasetConfig, layout: Layout, wanted: Sequence[str] | None) -> FrameTable:
    """Drop frames that cannot be paired, and join the annotations."""
    if (layout.paired or config.manifest is not None) and not config.unpaired:
        table = keep_pairable(table, fixed_affects=wanted is not None)[0]
    if layout.finish is not None:
        table = layout.finish(table, config)
    if config.annotations is None or (layout is EMOTIONET and config.manifest is None):
        return table  # the action units of EmotionNet are joined already
    from fexgan_lit.data.datasets.annotations import join_annotations

    return join_annotations(table, Path(config.annotations).expanduser())


def _refuse_arrays(root: Path) -> None:
    """Raise a UserError for AffectNet, whose labels are in NumPy files; the error explains how to convert them."""
    for folder in (root, *subfolders(root)):
        if any((folder / "annotations").glob("*_exp.npy")):
            raise UserError(f"dataset.root={root}: {AFFECTNET}")


def _find_root(config: DatasetConfig, layout: Layout) -> _Place:
    """Find the root. An archive is unpacked, and its root is the folder that fits the layout, else its top folder."""
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
    """Return the reader of this layout's affect words, and the affects of the table (None: those that are found)."""
    own = layout.affects
    wanted = wanted_affects(config.affects, config.aliases)
    if config.manifest is not None and not layout.paired:
        own = None  # the manifest adds affects to a data set without
    if own is not None:
        wanted = wanted or tuple(own)
    # If the user lists affects, a word that is neither listed nor known is a typo; otherwise any word is allowed.
    allowed = own if own is not None or wanted is None else KNOWN_AFFECTS
    return AffectReader(wanted, allowed, config.aliases), wanted


def _check_form(sheet: Sheet, reader: AffectReader, root: Path, config: DatasetConfig, layout: Layout) -> None:
    """If the root has no labelled frames, raise a UserError that names the right folder or the right data set."""
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
    """Make a table of the rows whose words are affects in use."""
    words = sheet.frame.drop_duplicates("word")
    read = {word: reader.read(word, path) for word, path in zip(words["word"], words["path"], strict=True)}
    affect = sheet.frame["word"].map({word: name for word, (name, _) in read.items() if name is not None})
    sheet.notes = [*sheet.notes, *_about_words(read, config.aliases)]
    unused = sheet.frame.loc[affect.isna(), ["path", "word"]]
    drops = [Drop(path, read[word][1] or "") for path, word in zip(unused["path"], unused["word"], strict=True)]
    sheet.drops = [*sheet.drops, *drops]
    kept = sheet.frame.assign(affect=affect)[affect.notna()].drop(columns=["word", "key"], errors="ignore")
    if kept.empty:
        raise UserError(no_frames(config, root, sheet.drops))
    ordered = ["path", "identity", "affect", *kept.columns.difference(["path", "identity", "affect"], sort=False)]
    named = unify_identities(Sheet(kept[ordered].reset_index(drop=True), sheet.drops, sheet.notes))
    return table_of_frame(named.frame, root, named.drops, named.notes, wanted)


def _about_words(read: Mapping[str, tuple[str | None, str | None]], aliases: Mapping[str, str]) -> list[str]:
    """Return notes on aliases that no frame uses, words that are read as the same affect, and numbers as affects."""
    words = {word.strip().lower(): affect for word, (affect, _) in read.items()}
    own = {alias.strip().lower() for alias in aliases}
    notes = [f"dataset.aliases: no frame has the word '{alias}'; found: {some(sorted(words), 12)}"
             for alias in sorted(own - set(words))]  # fmt: skip
    affects = {affect for affect in words.values() if affect is not None}
    for affect in sorted(affects):
        same = sorted(word for word, name in words.items() if name == affect and word not in own)
        notes += [f"the words {' and '.join(same)} are read as one affect, {affect}"] if len(same) > 1 else []
    if affects and all(affect.isdigit() for affect in affects):
        listed = some(sorted(affects), 12)
        notes.append(
            f"the affects are bare numbers, {listed}; 'dataset.aliases={{{min(affects)}: NAME, ...}}' "
            "names them (docs/data.md lists those of RAF-DB, FER2013 and AffectNet)"
        )
    return notes
