"""The output folder of `generate`: images, sheets, videos, and generation.json with how each was made."""

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
from fexgan_lit.expression import ACTION_UNITS, Expression, rows_of
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.hydra import out_trouble

if TYPE_CHECKING:
    from fexgan_lit.inference.faces import Sources


RECORD = "generation.json"


_DIGITS = 4


#: Tolerance for float32 weights.
_SLACK = 1e-4


@dataclass
class OutputFolder:
    """A folder of results and their record.

    Attributes:
        folder: a new, empty folder.
        affects: class names of the run, for the record.
        trained: largest weight of an affect in training; images with larger weights are marked.
        largest: (17,) largest action units in training, or None; images with larger ones are marked, too.
        pictures: an entry for each image: file, source, target expression.
        files: the other files by name, and their descriptions.
        measured: metrics by name.
    """

    folder: Path
    affects: Sequence[str]
    trained: float = 1.0
    largest: Tensor | None = None
    pictures: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    def face(self, name: str, pixels: np.ndarray, source: str, asked: Expression | None, row: int = 0) -> None:
        """Write `pixels` (S, S, 3) uint8 RGB as `<name>.png`, generated from `source` for row `row` of `asked`.

        `asked` None marks the source itself.
        """
        path = f"{name}.png"
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(self.folder / path)
        entry: dict[str, Any] = {"file": path, "source": source, "asked": asked and described(asked, row, self.affects)}
        if asked is not None and self.beyond(rows_of(asked, [row])):
            entry["beyond_training"] = True
        self.pictures.append(entry)

    def beyond(self, asked: Expression) -> dict[str, tuple[float, float]]:
        """Return what exceeds the training in expressions (N, ...): by name, the largest asked for and in training."""
        found = {}
        if asked.affect is not None and (most := float(asked.affect.max())) > self.trained + _SLACK:
            found["weights of affects"] = (most, self.trained)
        if asked.aus is not None and self.largest is not None:
            highest = asked.aus.cpu().amax(0)  # (N, 17) -> (17,)
            for k in (highest > self.largest + _SLACK).nonzero().flatten().tolist():
                found[f"AU{ACTION_UNITS[k]}"] = (float(highest[k]), float(self.largest[k]))
        return found

    def pasted(self, name: str, pixels: np.ndarray, faces: Sequence[str]) -> None:
        """Write an image (H, W, 3 or 4) uint8 into which `faces`, files of this output, were pasted."""
        path = f"{name}.png"
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        # a photo at full resolution: ten seconds of compression would save a few per cent
        Image.fromarray(pixels).save(self.folder / path, compress_level=1)
        self.pictures.append({"file": path, "faces": list(faces)})

    def drawn(self, name: str, face: Tensor, asked: Expression, row: int) -> None:
        """Write an image (3, S, S) in [-1, 1] that was generated from a latent code."""
        self.face(name, to_uint8(face[None])[0], "prior", asked, row)

    def picture(self, name: str, page: Image.Image, shows: str) -> None:
        """Write a sheet or a strip."""
        page.save(self.path(name, shows))

    def text(self, name: str, content: str, shows: str) -> None:
        """Write a table."""
        write_atomic(self.path(name, shows), content)

    def path(self, name: str, shows: str) -> Path:
        """Return the path of the file `name`, and add it to the record."""
        self.files[name] = shows
        return self.folder / name

    def close(self, about: dict[str, Any]) -> None:
        """Write the record; `about` describes the call."""
        record = {**about, "measured": self.measured, "files": self.files, "pictures": self.pictures}
        write_atomic(self.folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def described(asked: Expression, row: int, affects: Sequence[str]) -> dict[str, Any]:
    """Describe row `row` of an expression: nonzero weights of affects, 17 action units, 68 landmarks."""
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
    """Join `parts` by _ to a name that is valid on every file system."""
    return re.sub(r"[^\w.+-]+", "_", "_".join(parts)).strip("._") or "face"


#: Maximum number of columns of a sheet; more columns are divided among several sheets.
MOST_COLUMNS = 16


def sheet_of_identities(
    output: OutputFolder, sources: Sources, cells: Tensor, columns: Sequence[str], shows: str
) -> None:
    """Write sheet.png (or sheet_1.png, ...) with a row for each identity, the source first.

    Args:
        output: the output folder.
        sources: N faces.
        cells: (N, C, 3, S, S) in [-1, 1].
        columns: C labels.
        shows: description of the sheet, for the record.
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
    """Write sheet.png of one identity with a row for each expression and a column for each strength.

    Args:
        output: the output folder.
        source: the source image, (3, S, S) in [-1, 1].
        cells: (R, C, 3, S, S) in [-1, 1].
        rows: R labels.
        columns: C labels.
        shows: description of the sheet, for the record.
    """
    from fexgan_lit.figures import face_sheet

    references = source.expand(len(rows), -1, -1, -1)
    output.picture("sheet.png", face_sheet(cells, rows, columns, references=references), shows)


def grey_levels(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean absolute difference (N,) of images (N, 3, S, S) in [-1, 1], in grey levels of 255."""
    return (a - b).abs().flatten(1).mean(1) * torch.tensor(127.5)


def check_out(out: str | None, folder: Path) -> None:
    """Check that the output folder is empty and writable.

    Raises:
        UserError: the message says what was found and what to do.
    """
    if out and (trouble := out_trouble(str(out))):
        raise UserError(trouble)
    if any(folder.iterdir()):
        raise UserError(f"out={folder} holds other files, such as {next(folder.iterdir()).name}; choose a new folder.")
