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
    """The folder form the layout expects."""
    return FORMS.get(config.layout_name, f"<root>/{config.pattern}")


def check_root(config: DatasetConfig) -> Path:
    """The folder or file `config.root`.

    Raises:
        UserError: not given or not there; says how to get the data set and the two ways on.
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
    """Message for a root one or two levels too high or too low."""
    return (
        f"dataset.root={root} is not the top folder of such a data set; {right} looks like it.\n"
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
