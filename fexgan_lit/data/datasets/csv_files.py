"""Read CSV files in the dialects of common programs; a line that does not match the header is an error."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


#: Columns of whole numbers, kept as float64; the others become float32.
WHOLE = ("take", "frame")


# Names of measured columns. All other columns are text: a person may be called NA, and 001 is not 1.
_MEASURED = re.compile(
    r"time_s|timestamp|intensity|yaw|pitch|roll|au[ _-]?\d{1,2}(_[rc])?|[xyz]_?\d\d?|\w+_[rt][xyz]|success|confidence"
)
#: The spellings of a missing number.
_NO_NUMBER = ("", "nan", "NaN", "-nan", "nan(ind)", "-nan(ind)", "-1.#IND", "1.#QNAN", "1.#INF", "NA", "N/A")
_AS_UTF8 = "Save it as UTF-8, which a spreadsheet calls 'CSV UTF-8'."
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class _Form:
    """The encoding, separator and column names of a file."""

    encoding: str
    separator: str
    names: tuple[str, ...]


def read_csv(path: Path, option: str) -> tuple[pd.DataFrame, list[str]]:
    """Read the rows of a CSV with lower-case column names.

    Fields may be separated by commas, semicolons or tabs; decimals may be written with points or commas; the text may
    be UTF-8 or UTF-16. Measured columns become numbers, all others text ("" where a value is missing). Columns without
    a name are left out. The tables in a folder are read as one. If no column names the image, the name of each file
    is its column path, as in the output of OpenFace's FaceLandmarkImg.

    Returns:
        The rows, and notes on unusual separators, decimals or encodings.

    Raises:
        UserError: the file is not CSV, a line has more fields than the header, or two columns have the same name.
    """
    if path.is_dir():
        form, source = _folder(path, option)
    else:
        form, source = _form(path, option), path
    twice = sorted({name for name in form.names if name and form.names.count(name) > 1})
    if twice:
        raise UserError(f"{option}={path}: the column '{twice[0]}' occurs twice.")
    try:
        rows = _parsed(source, form)
        commas = _has_decimal_commas(rows)
        rows = _parsed(source, form, decimal=",") if commas else rows
    except (OSError, ValueError) as error:  # ValueError: pandas' parser errors and bytes that are not text
        raise UserError(f"{option}={path} cannot be read as CSV ({error}).") from error
    odd = [f"{_SEPARATORS[form.separator]} between the fields"] if form.separator != "," else []
    odd += ["decimal commas"] if commas else []
    odd += ["UTF-16 text"] if form.encoding == "utf-16" else []
    texts = {name: rows[name].str.strip() for name in rows.columns if not _MEASURED.fullmatch(name)}
    return rows.assign(**texts), [f"{path.name}: read with {' and '.join(odd)}"] if odd else []


def _parsed(source: Path | str, form: _Form, decimal: str = ".") -> pd.DataFrame:
    """Parse a file, or a text, that has the form `form`."""
    import pandas as pd

    named = {place: name for place, name in enumerate(form.names) if name}
    measured = [place for place, name in named.items() if _MEASURED.fullmatch(name)]
    rows = pd.read_csv(
        io.StringIO(source) if isinstance(source, str) else source,
        sep=form.separator, decimal=decimal, encoding=form.encoding, skipinitialspace=True,
        header=0, names=list(range(len(form.names))), usecols=list(named), index_col=False,
        keep_default_na=False, low_memory=False,
        dtype={place: str for place in named if place not in measured},
        na_values={place: list(_NO_NUMBER) for place in measured},
    )  # fmt: skip
    rows.columns = list(named.values())
    return rows


def _has_decimal_commas(rows: pd.DataFrame) -> bool:
    """Return whether a measured column, which does not parse with decimal points, has decimal commas."""
    import pandas as pd

    measured = [rows[name] for name in rows.columns if _MEASURED.fullmatch(name)]
    texts = [values.astype(str) for values in measured if not pd.api.types.is_numeric_dtype(values)]
    return any(text.str.fullmatch(r"[-+]?\d*,\d+").any() for text in texts)


def _form(path: Path, option: str) -> _Form:
    """Detect the form of the file and check every line.

    Raises:
        UserError: the file is not text, a line has more fields than the header, or a quote is not closed.
    """
    try:
        with path.open("rb") as file:
            mark = file.read(2)
        encoding = "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        with path.open(encoding=encoding, newline="") as file:
            header = re.sub(r'"[^"]*"', "", next((line for line in file if line.strip()), ""))
            if "\0" in header:
                raise UserError(f"{option}={path} cannot be read as CSV: it contains zero bytes. {_AS_UTF8}")
            separator = max(_SEPARATORS, key=header.count)
            file.seek(0)
            names = _checked(file, separator, path, option)
    except UnicodeDecodeError as error:
        raise UserError(f"{option}={path} cannot be read as CSV: it is not UTF-8 text. {_AS_UTF8}") from error
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{option}={path} cannot be read as CSV ({error}).") from error
    return _Form(encoding, separator, names)


def _checked(lines: Iterable[str], separator: str, path: Path, option: str) -> tuple[str, ...]:
    """Return the column names in the first line, after a check of all other lines."""
    names: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.split(separator)  # many times faster than the csv module, and correct where nothing is quoted
        if '"' in line:
            fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
            if fields[-1].endswith(("\n", "\r")):
                raise UserError(f'{option}={path}: line {number} opens a quote (") that it does not close; correct it.')
        if not names:
            names = [field.strip().lower() for field in fields]
            while names and not names[-1]:  # a comma at the end of the line
                names.pop()
        elif len(fields) > len(names) and any(map(str.strip, fields[len(names) :])):
            what = _SEPARATORS[separator]
            raise UserError(
                f"{option}={path}: line {number} has {len(fields)} fields, the header {len(names)}; fields are "
                f"separated by {what}. If a value contains the separator, such as 0,5 or Doe, Ann, put it in double "
                "quotes, and write numbers with a point."
            )
    if not names:
        raise UserError(f"{option}={path} cannot be read as CSV: it is empty; expected a line with column names.")
    return tuple(names)


#: Columns that may name the image of a row, the most specific first; some tools call it `frame`.
NAMES = ("path", "filename", "file", "image", "input", "name", "id", "frame")


def _folder(folder: Path, option: str) -> tuple[_Form, str | Path]:
    """Join the tables in a folder into one text; file names become the column path if no column names images."""
    files = sorted(folder.rglob("*.csv"))
    if not files:
        arrays = f" {AFFECTNET}" if any(folder.rglob("*.npy")) else ""
        raise UserError(f"{option}={folder}: there is no CSV in this folder.{arrays}")
    forms = [_form(file, option) for file in files]
    if len(files) == 1 and set(NAMES) & set(forms[0].names):
        return forms[0], files[0]
    for file, form in zip(files, forms, strict=True):
        if (form.names, form.separator) != (forms[0].names, forms[0].separator):
            raise UserError(f"{option}={folder}: {file.name} has other columns than {files[0].name}; give one of them.")
    separator, names = forms[0].separator, forms[0].names
    if "frame" in names and "path" not in names:
        raise UserError(
            f"{option}={folder}: the {len(files)} tables number frames, so each describes a sequence and not an "
            f"image. Give one of them, such as {option}={files[0]}."
        )
    add = not set(NAMES) & set(names)
    lines = []
    for file, form in zip(files, forms, strict=True):
        stem = file.relative_to(folder).with_suffix("").as_posix().replace('"', '""')
        start = f'"{stem}"{separator}' if add else ""
        body = [line for line in file.read_text(form.encoding).splitlines() if line.strip()]
        lines += [f"{start}{line}" for line in body[1:]]
    names = ("path", *names) if add else names
    return _Form("utf-8", separator, names), "\n".join([separator.join(names), *lines])


#: How to convert AffectNet's labels.
AFFECTNET = (
    "AffectNet keeps its labels in annotations/N_exp.npy, one array per image, which are not read. Write them into a "
    "manifest once, in the folder with images/ and annotations/:\n"
    '  python -c "import glob, numpy as np; '
    "words = 'neutral joy sadness surprise fear disgust anger contempt'.split(); print('path,identity,affect'); "
    "[print(f'images/{n}.jpg,{n},{words[k]}') for f in "
    "sorted(glob.glob('annotations/*_exp.npy')) for n, k in [(f[12:-8], int(np.load(f)))] if k < 8]\" > labels.csv\n"
    "and give dataset=folder dataset.manifest=labels.csv dataset.unpaired=true."
)


def to_numbers(
    rows: pd.DataFrame, columns: Sequence[str], where: Path, option: str, gaps: bool = False
) -> pd.DataFrame:
    """Convert `columns` of `rows` to numbers.

    Args:
        rows: the table, with a column path.
        columns: names of the columns to convert.
        where: the file that errors name.
        option: the option that errors name.
        gaps: whether empty and infinite entries become NaN; otherwise they are errors.

    Raises:
        UserError: an entry is not a number, or not a whole number in a column of `WHOLE`; the first is named.
    """
    import pandas as pd

    converted = {}
    for name in columns:
        numbers = pd.to_numeric(rows[name], errors="coerce").to_numpy(np.float64)
        finite = np.isfinite(numbers)
        bad = rows[name].notna().to_numpy() & np.isnan(numbers) if gaps else ~finite
        if name in WHOLE:
            bad |= finite & (np.mod(np.where(finite, numbers, 0), 1) != 0)
        if bad.any():
            first = rows.iloc[int(bad.argmax())]
            expected = "a whole number" if name in WHOLE else "a number"
            expected += " written with a decimal point" if "," in str(first[name]) else ""
            raise UserError(
                f"{option}={where}: {name} of {first['path']} is '{first[name] or 'nan'}', not {expected} "
                f"({int(bad.sum())} such entries in this column)."
            )
        numbers = np.where(finite, numbers, np.nan)
        converted[name] = numbers if name in WHOLE else numbers.astype(np.float32)
    return pd.concat([rows.drop(columns=list(columns)), pd.DataFrame(converted, index=rows.index)], axis=1)


def check_scales(values: pd.DataFrame, limits: Mapping[str, float], where: Path, option: str) -> None:
    """Raise a UserError that names the first value outside 0..limit, if there is one."""
    for name in (name for name in limits if name in values):
        outside = values[name].notna() & ~values[name].between(0, limits[name])
        if outside.any():
            first = values.loc[outside].iloc[0]
            raise UserError(
                f"{option}={where}: {name} of {first['path']} is {first[name]:g}; "
                f"expected 0..{limits[name]:g} ({int(outside.sum())} values are outside)."
            )
