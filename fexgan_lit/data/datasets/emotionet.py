"""Layout of EmotionNet as GANimation uses it: images and a table of 17 action units, without affects.

The images are `imgs/*.jpg`. The table is `aus.csv` or `aus_openface.csv` beside `imgs` (or
`dataset.annotations=FILE.csv`), with a column that names the image and the 17 intensities of OpenFace, 0..5; or the
folder `processed/`, where OpenFace writes one table for all images or one per image. `train_ids.csv` and
`test_ids.csv`, with one name per line, become the column part.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.annotations import OPTION, join_rows
from fexgan_lit.data.datasets.base import Layout, PathRule, Sheet, empty_sheet, first_folder
from fexgan_lit.data.datasets.csv_files import NAMES
from fexgan_lit.data.datasets.labels import UNLABELLED
from fexgan_lit.data.datasets.openface import name_pictures, read_annotations
from fexgan_lit.data.datasets.scan import sample_images
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import AU_COLUMNS
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("aus.csv", "aus_openface.csv")
#: OpenFace's default output folder; it contains one table per folder of images, or one per image.
_FOLDER = "processed"
_PARTS = {"train": "train_ids.csv", "test": "test_ids.csv"}


def _labels(parts: tuple[str, ...]) -> tuple[str, str]:
    return "/".join(parts).rpartition(".")[0], UNLABELLED


_RULE = PathRule(("identity", "word"), _labels, depth=2, least=1)


def _top(root: Path) -> str:
    return first_folder(root, ("imgs",)) or ""


def _read(root: Path, config: DatasetConfig) -> Sheet:
    if not (root / "imgs").is_dir() and not _fits(root, config):
        return empty_sheet()
    _units_file(root, config)  # fails before the images are listed, which may be slow
    sheet = _RULE.sheet(root, _top(root))
    ids = sheet.frame["identity"]
    lists = {part: _id_list(root / name) for part, name in _PARTS.items()}
    if any(names is not None for names in lists.values()):
        sheet.frame = sheet.frame.assign(part=_parts(ids, lists))
        sheet.notes += _unmatched(ids, lists)
    return sheet


def _fits(folder: Path, config: DatasetConfig) -> bool:
    named = config.annotations is not None and (folder / "imgs").is_dir()
    has_table = named or _table(folder) is not None or bool(_pickles(folder))
    return has_table and any(sample_images(folder / _top(folder), depth) for depth in (1, 2))


def _table(folder: Path) -> Path | None:
    """Return the table of action units in `folder`, or the folder of such tables, or None."""
    found = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    tables = (folder / "imgs").is_dir() and any((folder / _FOLDER).glob("*.csv"))
    return found or (folder / _FOLDER if tables else None)


def _pickles(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("aus*.pkl") if path.is_file())


def _units_file(root: Path, config: DatasetConfig) -> Path:
    """Return the path of the table of action units, or raise a UserError."""
    if config.annotations is not None:
        return Path(config.annotations).expanduser()
    found = _table(root)
    if found is not None:
        return found
    pickles = _pickles(root)
    if pickles:
        raise UserError(
            f"dataset.root={root}: {pickles[0].name} is a pickle, which can run any program when it is opened, so it "
            f"is not opened here; expected {TABLES[0]} (columns path, AU01..AU45, 0..5).\n"
            "If you trust its origin, write the table once yourself:\n"
            "  python -c \"import pickle, pandas as pd; d = pickle.load(open('" + pickles[0].name + "', 'rb'), "
            "encoding='latin1'); pd.DataFrame.from_dict(d, orient='index', columns=['"
            + "', '".join(_headings())
            + "'])"
            ".rename_axis('path').to_csv('" + TABLES[0] + "')\""
        )
    raise UserError(
        f"dataset.root={root}: the table of action units is missing; expected {' or '.join(TABLES)}, a folder "
        f"{_FOLDER}/ as OpenFace writes it, or dataset.annotations=FILE.csv, with the columns path, AU01..AU45 (the 17 "
        "of OpenFace, 0..5)."
    )


def _headings() -> list[str]:
    return [name.upper() for name in AU_COLUMNS]


def join_units(table: FrameTable, config: DatasetConfig) -> FrameTable:
    """Join the action units (0..1) to `table`, and drop the images that have no row or no values.

    Raises:
        UserError: no column names the images, action units are missing or outside 0..5, or no row matches an image.
    """
    root = table.root
    if root is None or config.manifest is not None:
        return table
    csv = _units_file(root, config)
    rows, notes = read_annotations(csv, OPTION)
    missing = [name.upper() for name in AU_COLUMNS if name not in rows]
    if missing:
        raise UserError(f"{csv}: of the 17 action units, {len(missing)} are missing: {', '.join(missing)}.")
    rows, said = name_pictures(rows, NAMES, table, csv, OPTION)
    known = rows["path"].isin(table.paths)
    if not known.any():
        raise UserError(f"{csv}: none of its {len(rows)} rows has action units of an image of {root}.")
    table = _with_identities(replace(table, notes=(*table.notes, *notes, *said)), rows[known])
    return _keep_measured(join_rows(table, rows, csv), set(rows["path"]), csv)


def _with_identities(table: FrameTable, rows: pd.DataFrame) -> FrameTable:
    if "identity" not in rows:
        return table
    names = dict(zip(rows["path"], rows["identity"], strict=True))
    own = table.frame["identity"].tolist()
    identity = [names.get(path) or name for path, name in zip(table.paths, own, strict=True)]
    return replace(table, frame=table.frame.assign(identity=identity), identities=tuple(sorted(set(identity))))


def _keep_measured(table: FrameTable, rows: set[str], csv: Path) -> FrameTable:
    """Keep the frames with action units and drop the others; the reason states whether `csv` has a row for them."""
    measured = table.frame[AU_COLUMNS[0]].notna().to_numpy()
    reasons = {True: f"{csv.name} has no action units for it", False: f"image without a row in {csv.name}"}
    drops = [Drop(path, reasons[path in rows]) for path in table.frame.loc[~measured, "path"]]
    kept = table.select(np.flatnonzero(measured), drops)
    return replace(kept, identities=tuple(sorted(kept.frame["identity"].unique())))


def _id_list(file: Path) -> set[str] | None:
    """Read the names in a list of images, without extensions; return None if the file does not exist."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a list of names ({error}).") from error
    # GANimation writes names with their extension, one per line.
    names = (line.strip().strip('"').replace("\\", "/") for line in lines)
    return {name.rpartition(".")[0] or name for name in names if name}


def _parts(ids: pd.Series, lists: dict[str, set[str] | None]) -> np.ndarray:
    """Return the part (N,) of each image: train, test or none. A name in both lists is test, to avoid a leak."""
    part = np.full(len(ids), "none", dtype=object)
    for name, members in lists.items():  # train first, so that test overwrites it
        if members is not None:
            part[ids.isin(members).to_numpy()] = name
    return part


def _unmatched(ids: pd.Series, lists: dict[str, set[str] | None]) -> list[str]:
    there = set(ids)
    notes = []
    for part, members in lists.items():
        missing = sorted((members or set()) - there)
        if missing:
            notes.append(f"{_PARTS[part]}: {len(missing)} names match no image, such as {missing[0]}")
    both = (lists["train"] or set()) & (lists["test"] or set())
    if both:
        notes.append(f"{len(both)} names are in train_ids.csv and in test_ids.csv, such as {min(both)}; they are test")
    return notes


EMOTIONET = Layout(_read, _fits, affects=(UNLABELLED,), finish=join_units, paired=False)
