"""The messages that help a user to the right data folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fexgan_lit.data.settings import DatasetConfig
from fexgan_lit.data.table import Drop
from fexgan_lit.errors import UserError

FORMS = {
    "ferg": "<root>/<character>/<character>_<affect>/<character>_<affect>_<n>.png, "
    "for example FERG_DB_256/aia/aia_joy/aia_joy_1.png",
    "mhfed": "<root>/<character>/<affect>/<any name>.jpg (or .png), for example MH-FED/Amelia/joy/0001.jpg",
}
HOW_TO_GET = {
    "ferg": "FERG-DB is given on request by its authors: fill in the form of the University of Washington's GRAIL "
    "group on the FERG-DB page, and unpack the archive.",
    "mhfed": "MH-FED is given on request by its authors: the card of azad-wolf-se/MH-FED on the Hugging Face hub "
    "links the form for the password; unpack the archive.",
    "folder": "Put your own frames in a folder in which the path of each file says who it is and how they look.",
}


def expected_form(config: DatasetConfig) -> str:
    """The folder form the layout expects."""
    return FORMS.get(config.layout_name, f"<root>/{config.pattern}")


def check_root(config: DatasetConfig) -> Path:
    """The folder `config.root`.

    Raises:
        UserError: not given, not there, or not a folder; says how to get the data set and the two ways on.
    """
    if config.root is None:
        raise UserError(_missing_root(config, "dataset.root is not given"))
    root = Path(config.root).expanduser()
    if not root.exists():
        raise UserError(_missing_root(config, f"dataset.root={config.root} does not exist"))
    if not root.is_dir():
        raise UserError(f"dataset.root={config.root} is a file; expected the folder it unpacks to.")
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
    """Message for a root one or two levels too high or too low."""
    return (
        f"dataset.root={root} is not the folder whose subfolders are the characters; {right} looks like it.\n"
        f"Say dataset.root={right}\nExpected folder form: {expected_form(config)}"
    )


def wrong_layout(config: DatasetConfig, root: Path, other: str) -> str:
    """Message for the root of another data set."""
    return (
        f"dataset.root={root} has the folder form of dataset={other}: {FORMS[other]}\n"
        f"Say dataset={other} dataset.root={root}; dataset={config.name} expects {expected_form(config)}"
    )


def no_frames(config: DatasetConfig, root: Path, drops: Sequence[Drop]) -> str:
    """Message for a root in which nothing fits the layout, with what is there instead."""
    seen = "; ".join(f"{drop.path} ({drop.reason})" for drop in drops[:5])
    more = f"; and {len(drops) - 5} more" if len(drops) > 5 else ""
    return (
        f"dataset.root={root}: no image lies where dataset={config.name} expects one; "
        f"found {seen + more if seen else 'an empty folder'}.\n"
        f"Expected folder form: {expected_form(config)}"
    )
