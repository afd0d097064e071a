"""Reading the CSV files users bring, with messages that name the option, the row and the value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

#: Columns of whole numbers, kept as float64; the others become float32.
WHOLE = ("take", "frame")

# Measurements; all else is text: a person may be called NA, and 001 is not 1.
_MEASURED = re.compile(r"time_s|timestamp|intensity|yaw|pitch|roll|au\d\d?(_[rc])?|[xyz]_?\d\d?|\w+_[rt][xyz]|success")


def read_csv(csv: Path, option: str) -> pd.DataFrame:
    """The rows of `csv` with lower-case column names; text apart from measurements, "" where a text is missing.

    Raises:
        UserError: it cannot be read as CSV, or two columns have one name.
    """
    import pandas as pd

    try:
        names = pd.read_csv(csv, header=None, nrows=1, dtype=str, skipinitialspace=True, encoding="utf-8-sig")
        columns = [str(name).strip().lower() for name in names.iloc[0]]
        rows = pd.read_csv(
            csv, header=0, names=list(range(len(columns))), skipinitialspace=True, encoding="utf-8-sig",
            index_col=False, keep_default_na=False, low_memory=False,
            dtype={i: str for i, name in enumerate(columns) if not _MEASURED.fullmatch(name)},
            na_values={i: [""] for i, name in enumerate(columns) if _MEASURED.fullmatch(name)},
        )  # fmt: skip
    except (OSError, ValueError) as error:  # ValueError: pandas' parser errors and bytes that are not UTF-8
        raise UserError(f"{option}={csv} cannot be read as CSV ({error}).") from error
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UserError(f"{option}={csv}: the column '{twice[0]}' is there twice.")
    rows.columns = columns
    texts = {name: rows[name].str.strip() for name in columns if not _MEASURED.fullmatch(name)}
    return rows.assign(**texts)


def to_numbers(rows: pd.DataFrame, columns: Sequence[str], csv: Path, option: str) -> pd.DataFrame:
    """`rows` with `columns` as numbers; a UserError names the first entry that is empty, infinite or text."""
    import pandas as pd

    converted = {}
    for name in columns:
        numbers = pd.to_numeric(rows[name], errors="coerce").to_numpy(np.float64)
        bad = np.flatnonzero(~np.isfinite(numbers) | (np.mod(numbers, 1) != 0 if name in WHOLE else False))
        if len(bad):
            first = rows.iloc[int(bad[0])]
            expected = "a whole number" if name in WHOLE else "a number"
            raise UserError(
                f"{option}={csv}: {name} of {first['path']} is '{_shown(first[name])}', not {expected} "
                f"({len(bad)} such entries in this column)."
            )
        converted[name] = numbers if name in WHOLE else numbers.astype(np.float32)
    return pd.concat([rows.drop(columns=list(columns)), pd.DataFrame(converted, index=rows.index)], axis=1)


def check_scales(values: pd.DataFrame, limits: Mapping[str, float], csv: Path, option: str) -> None:
    """Raise a UserError that names the first value outside 0..limit."""
    for name in (name for name in limits if name in values):
        outside = ~values[name].between(0, limits[name])
        if outside.any():
            first = values.loc[outside].iloc[0]
            raise UserError(
                f"{option}={csv}: {name} of {first['path']} is {first[name]:g}; "
                f"expected 0..{limits[name]:g} ({int(outside.sum())} values are outside)."
            )


def _shown(value: object) -> str:
    return str(value) or "nan"
