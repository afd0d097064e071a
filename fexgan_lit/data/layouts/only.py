"""`dataset.only`: keep the frames of some cameras, spectra, takes or the like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fexgan_lit.data.layouts.sheet import COMMON, Sheet
from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_LISTED = 12


def keep_only(sheet: Sheet, only: Mapping[str, Any]) -> Sheet:
    """The rows whose columns have one of the values asked for; values are compared as text, case aside.

    Raises:
        UserError: a column the layout does not read, or a value no frame has; says what there is.
    """
    frame = sheet.frame
    if not only or frame.empty:
        return sheet
    for column, wanted in only.items():
        values = list(wanted) if isinstance(wanted, (list, tuple)) else [wanted]
        matching = _matching(frame, column, values)
        frame = frame[frame[column].isin(matching)]
    note = f"dataset.only={_shown(only)}: {len(frame)} of {len(sheet.frame)} frames"
    return Sheet(frame.reset_index(drop=True), sheet.drops, [*sheet.notes, note])


def _matching(frame: pd.DataFrame, column: str, values: list[Any]) -> list[Any]:
    """The entries of `column` that one of `values` means."""
    usable = [name for name in frame if name in ("identity", "take") or name not in COMMON]
    if column not in usable:
        raise UserError(
            f"dataset.only={{{column}: {values}}}: there is no column '{column}' here; expected one of "
            f"{', '.join(usable)}. To use every frame: dataset.only=null."
        )
    # These are the rows earlier columns left, so that the message lists what can be combined.
    there = frame[column].dropna().unique().tolist()
    missing = {_text(value) for value in values} - {_text(entry) for entry in there}
    if missing:
        listed = ", ".join(sorted(map(str, there))[:_LISTED])
        more = f" +{len(there) - _LISTED} more" if len(there) > _LISTED else ""
        raise UserError(f"dataset.only: no frame has {column} {', '.join(sorted(missing))}; found: {listed}{more}.")
    return [entry for entry in there if _text(entry) in {_text(value) for value in values}]


def _text(value: Any) -> str:
    """90, "90", "090" and 90.0 are the same; so are VL and vl."""
    text = str(value).strip().casefold().removesuffix(".0")
    return text.lstrip("0") or "0" if text.isdigit() else text


def _shown(only: Mapping[str, Any]) -> str:
    parts = [
        f"{column}: [{', '.join(map(str, values))}]" if isinstance(values, (list, tuple)) else f"{column}: {values}"
        for column, values in only.items()
    ]
    return "{" + ", ".join(parts) + "}"
