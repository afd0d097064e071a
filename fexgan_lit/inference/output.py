"""The folder that a call of `generate` writes: faces, sheets, films, and generation.json with how each was made."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.hydra import out_trouble

if TYPE_CHECKING:
    from fexgan_lit.expression import Expression
    from fexgan_lit.inference.faces import Sources


RECORD = "generation.json"


_DIGITS = 4


#: Weights are float32.
_SLACK = 1e-4


@dataclass
class OutputFolder:
    """What is written, and the record of it.

    Attributes:
        folder: new and empty.
        affects: class names of the run, for the record.
        trained: the largest weight of an affect that the run saw in training; pictures asked for more are marked.
        pictures: an entry a face that was written: file, face it was made from, what was asked for.
        files: the other files, by name, and what each shows.
        measured: numbers, by name.
    """

    folder: Path
    affects: Sequence[str]
    trained: float = 1.0
    pictures: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    def face(self, name: str, pixels: np.ndarray, source: str, asked: Expression | None, row: int = 0) -> None:
        """Write `pixels` (S, S, 3) uint8 RGB as `<name>.png`, made from `source` for row `row` of `asked`.

        `asked` None is the input itself.
        """
        path = f"{name}.png"
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(self.folder / path)
        entry: dict[str, Any] = {"file": path, "source": source, "asked": asked and described(asked, row, self.affects)}
        if asked is not None and asked.affect is not None and float(asked.affect[row].max()) > self.trained + _SLACK:
            entry["beyond_training"] = True
        self.pictures.append(entry)

    def pasted(self, name: str, pixels: np.ndarray, faces: Sequence[str]) -> None:
        """Write a picture (H, W, 3 or 4) uint8 with `faces`, files of this output, put back into it."""
        path = f"{name}.png"
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        # a photo at full resolution: ten seconds of packing would save a few per cent
        Image.fromarray(pixels).save(self.folder / path, compress_level=1)
        self.pictures.append({"file": path, "faces": list(faces)})

    def drawn(self, name: str, face: Tensor, asked: Expression, row: int) -> None:
        """Write a face (3, S, S) in [-1, 1] that was made from a code and not from a face."""
        self.face(name, to_uint8(face[None])[0], "prior", asked, row)

    def picture(self, name: str, page: Image.Image, shows: str) -> None:
        """Write a sheet or a strip."""
        page.save(self.path(name, shows))

    def text(self, name: str, content: str, shows: str) -> None:
        """Write a table."""
        write_atomic(self.path(name, shows), content)

    def path(self, name: str, shows: str) -> Path:
        """Where the file `name` goes, which is noted in the record."""
        self.files[name] = shows
        return self.folder / name

    def close(self, about: dict[str, Any]) -> None:
        """Write the record; `about` says what was run."""
        record = {**about, "measured": self.measured, "files": self.files, "pictures": self.pictures}
        write_atomic(self.folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def described(asked: Expression, row: int, affects: Sequence[str]) -> dict[str, Any]:
    """Row `row` of an expression in words and numbers: weights above or below 0, the 17 units, the 68 points."""
    found: dict[str, Any] = {}
    if asked.affect is not None:
        weights = zip(affects, asked.affect[row].tolist(), strict=True)
        found["affect"] = {name: round(weight, _DIGITS) for name, weight in weights if weight}
    if asked.aus is not None:
        units = zip(ACTION_UNITS, asked.aus[row].tolist(), strict=True)
        found["action_units"] = {f"AU{unit:02d}": round(value, _DIGITS) for unit, value in units}
    if asked.landmarks is not None:
        found["landmarks"] = np.round(asked.landmarks[row].cpu().numpy().astype(float), _DIGITS).tolist()
    return found


def file_name(*parts: str) -> str:
    """`parts` joined by _ as a name that every file system takes."""
    return re.sub(r"[^\w.+-]+", "_", "_".join(parts)).strip("._") or "face"


#: Columns of a sheet; more are spread over several.
MOST_COLUMNS = 16


def sheet_of_identities(
    output: OutputFolder, sources: Sources, cells: Tensor, columns: Sequence[str], shows: str
) -> None:
    """Write sheet.png, or sheet_1.png and so on: a row an identity, the input first.

    Args:
        output: where it goes.
        sources: N faces.
        cells: (N, C, 3, S, S) in [-1, 1].
        columns: C labels.
        shows: what the sheet shows, for the record.
    """
    from fexgan_lit.figures import face_sheet

    most = math.ceil(len(columns) / math.ceil(len(columns) / MOST_COLUMNS))
    pages = [slice(start, start + most) for start in range(0, len(columns), most)]
    for number, page in enumerate(pages, 1):
        name = "sheet.png" if len(pages) == 1 else f"sheet_{number}.png"
        picture = face_sheet(cells[:, page], sources.names, columns[page], references=sources.images)
        output.picture(name, picture, shows)


def sheet_of_one(
    output: OutputFolder, source: Tensor, cells: Tensor, rows: Sequence[str], columns: Sequence[str], shows: str
) -> None:
    """Write sheet.png for one identity: a row for each thing asked for, a column a strength.

    Args:
        output: where it goes.
        source: the input, (3, S, S) in [-1, 1].
        cells: (R, C, 3, S, S) in [-1, 1].
        rows: R labels.
        columns: C labels.
        shows: what the sheet shows, for the record.
    """
    from fexgan_lit.figures import face_sheet

    references = source.expand(len(rows), -1, -1, -1)
    output.picture("sheet.png", face_sheet(cells, rows, columns, references=references), shows)


def grey_levels(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of two batches of images (N, 3, S, S) in [-1, 1], a number an image, of 255."""
    return (a - b).abs().flatten(1).mean(1) * torch.tensor(127.5)


def check_out(out: str | None, folder: Path) -> None:
    """Refuse a folder that cannot be written or holds something.

    Raises:
        UserError: with what is there and what to do.
    """
    if out and (trouble := out_trouble(str(out))):
        raise UserError(trouble)
    if any(folder.iterdir()):
        raise UserError(f"out={folder} holds other things, such as {next(folder.iterdir()).name}; name a new folder.")
