"""EmotionNet as GANimation uses it: loose images and a table of 17 action units; there are no affects.

`imgs/*.jpg` beside `aus.csv` or `aus_openface.csv` (or `dataset.annotations=FILE.csv`): a column that names the image
and the 17 intensities of OpenFace, 0..5. `train_ids.csv` and `test_ids.csv`, one name a line, become the column part.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datasets.annotations import join_rows, read_annotations
from fexgan_lit.data.datasets.base import Layout, PathRule, Sheet, empty_sheet, first_folder
from fexgan_lit.data.datasets.labels import UNLABELLED
from fexgan_lit.data.datasets.scan import sample_images
from fexgan_lit.data.table import Drop, FrameTable
from fexgan_lit.expression import AU_COLUMNS
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("aus.csv", "aus_openface.csv")
#: Columns that may name the image, the plainest first; `frame` is what some tools call it.
_NAMES = ("path", "filename", "file", "image", "input", "name", "id", "frame")
_PARTS = {"train": "train_ids.csv", "test": "test_ids.csv"}


def _labels(parts: tuple[str, ...]) -> tuple[str, str]:
    return "/".join(parts).rpartition(".")[0], UNLABELLED


_RULE = PathRule(("identity", "word"), _labels, depth=2, least=1)


def _top(root: Path) -> str:
    return first_folder(root, ("imgs",)) or ""


def _read(root: Path, config: DatasetConfig) -> Sheet:
    if not _fits(root, config):
        return empty_sheet()
    _units_file(root, config)  # before the images are listed, which may take long
    sheet = _RULE.sheet(root, _top(root))
    ids = sheet.frame["identity"]
    lists = {part: _id_list(root / name) for part, name in _PARTS.items()}
    if any(names is not None for names in lists.values()):
        sheet.frame = sheet.frame.assign(part=_parts(ids, lists))
        sheet.notes += _unmatched(ids, lists)
    return sheet


def _fits(folder: Path, config: DatasetConfig) -> bool:
    named = config.annotations is not None and (folder / "imgs").is_dir()
    has_table = named or any((folder / name).is_file() for name in TABLES) or bool(_pickles(folder))
    return has_table and any(sample_images(folder / _top(folder), depth) for depth in (1, 2))


def _pickles(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("aus*.pkl") if path.is_file())


def _units_file(root: Path, config: DatasetConfig) -> Path:
    """The table of action units."""
    if config.annotations is not None:
        return Path(config.annotations).expanduser()
    found = next((root / name for name in TABLES if (root / name).is_file()), None)
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
        f"dataset.root={root}: the table of action units is missing; expected {' or '.join(TABLES)}, or "
        "dataset.annotations=FILE.csv, with the columns path, AU01..AU45 (the 17 of OpenFace, 0..5)."
    )


def _headings() -> list[str]:
    return [name.upper() for name in AU_COLUMNS]


def join_units(table: FrameTable, config: DatasetConfig) -> FrameTable:
    """`table` with its action units (0..1); images without a row, or with a row that has no values, are dropped.

    Raises:
        UserError: no column names the images, action units are missing or outside 0..5, no row fits an image.
    """
    root = table.root
    if root is None or config.manifest is not None:
        return table
    csv = _units_file(root, config)
    rows = read_annotations(csv)
    named = next((name for name in _NAMES if name in rows), None)
    if named is None:
        found = ", ".join(rows.columns[:8])
        raise UserError(f"{csv}: no column names the image; expected one of {', '.join(_NAMES)}; found: {found}.")
    if named == "frame":
        rows = rows.rename(columns={"frame": "path"})
    rows = rows.assign(path=_paths_of(rows["path" if named == "frame" else named], table))
    rows, useless = _usable(rows, csv)
    known = rows["path"].isin(table.paths)
    if not known.any():
        raise UserError(f"{csv}: none of its {len(rows)} rows has action units of an image of {root}.")
    table = _with_identities(table, rows[known])
    return _keep_measured(join_rows(table, rows, csv), useless, csv)


def _paths_of(names: pd.Series, table: FrameTable) -> list[str]:
    """The frame each name means: its path below the root or `imgs/`, with or without the extension."""
    known: dict[str, str] = {}
    for path in table.paths:
        stem, inner = path.rpartition(".")[0], path.partition("/")[2]
        for name in (inner.rpartition(".")[0], stem, inner, path):
            known.setdefault(name, path)
    plain = [name.replace("\\", "/").removeprefix("./") for name in names]
    return [known.get(name) or known.get(name.rpartition("/")[2], name) for name in plain]


def _usable(rows: pd.DataFrame, csv: Path) -> tuple[pd.DataFrame, list[Drop]]:
    """The rows with 17 numbers; the others, and those on which OpenFace failed, as drops."""
    import pandas as pd

    missing = [name.upper() for name in AU_COLUMNS if name not in rows]
    if missing:
        raise UserError(f"{csv}: of the 17 action units, {len(missing)} are missing: {', '.join(missing)}.")
    units = rows[list(AU_COLUMNS)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    failed = ~np.isfinite(units).all(axis=1)
    if "success" in rows:
        failed |= pd.to_numeric(rows["success"], errors="coerce").to_numpy(np.float64) == 0
    drops = [Drop(path, f"{csv.name} has no action units for it") for path in rows.loc[failed, "path"]]
    return rows[~failed].reset_index(drop=True), drops


def _with_identities(table: FrameTable, rows: pd.DataFrame) -> FrameTable:
    if "identity" not in rows:
        return table
    names = dict(zip(rows["path"], rows["identity"], strict=True))
    own = table.frame["identity"].tolist()
    identity = [names.get(path) or name for path, name in zip(table.paths, own, strict=True)]
    return replace(table, frame=table.frame.assign(identity=identity), identities=tuple(sorted(set(identity))))


def _keep_measured(table: FrameTable, useless: list[Drop], csv: Path) -> FrameTable:
    measured = table.frame[AU_COLUMNS[0]].notna().to_numpy()
    named = {drop.path for drop in useless}
    bare = [path for path in table.frame.loc[~measured, "path"] if path not in named]
    drops = [*useless, *(Drop(path, f"image without a row in {csv.name}") for path in bare)]
    kept = table.select(np.flatnonzero(measured), drops)
    return replace(kept, identities=tuple(sorted(kept.frame["identity"].unique())))


def _id_list(file: Path) -> set[str] | None:
    """The names in a list of images, without extensions; None where there is no list."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a list of names ({error}).") from error
    # GANimation writes names with their extension; a line is one name.
    names = (line.strip().strip('"').replace("\\", "/") for line in lines)
    return {name.rpartition(".")[0] or name for name in names if name}


def _parts(ids: pd.Series, lists: dict[str, set[str] | None]) -> np.ndarray:
    """(N,) train, test or none; a name on both lists is in test, so that nothing of the test is trained on."""
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
