"""Export a studio's frames to files in the layout of MH-FED, with a CSV of their ground truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fexgan_lit.data.config import IMAGE_SIZES, DatasetConfig
from fexgan_lit.data.datasets.annotations import AU_SCALE
from fexgan_lit.expression import AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS
from fexgan_lit.synthetic.base import Studio
from fexgan_lit.synthetic.regions import BOX_COLUMNS
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd


#: Number of decimals in the CSV: times to a tenth of a millisecond, pixels and degrees to a hundredth.
_DECIMALS = {"time_s": 4, "intensity": 4, **dict.fromkeys((*POSE_COLUMNS, *LANDMARK_COLUMNS, *BOX_COLUMNS), 2)}


_CHUNK = 64


def export_studio(
    studio: Studio, folder: Path, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write every frame as `<identity>/<affect>/<identity>_<affect>_t<take>_<frame>.png`, and `annotations.csv`.

    `dataset=mhfed dataset.root=FOLDER dataset.annotations=FOLDER/annotations.csv` reads them back. Existing frames
    are kept, so that an interrupted export can be continued. The CSV is written last.

    Args:
        studio: renders the frames.
        folder: created if it does not exist.
        workers: number of processes that render.
        progress: called with (frames done, total frames).

    Returns:
        The path of the CSV. Its columns are path, identity, affect, take, frame, time_s, intensity, 17 action units
        (0..5), yaw, pitch, roll (degrees), 68 landmarks and the boxes of eyes and mouth (pixels).

    Raises:
        UserError: the folder contains the frames of another studio.
    """
    folder = folder.absolute()  # workers may have another working directory
    recipe, text = check_export(studio, folder)
    write_atomic(recipe, text)
    table = studio.table()
    paths = _file_names(table)
    done = 0
    for count in _draw_all(studio, [str(folder / path) for path in paths], workers):
        done += count
        if progress is not None:
            progress(done, len(paths))
    csv = folder / "annotations.csv"
    rows = _annotations(table, paths)
    write_atomic(csv, rows.to_csv(index=False))
    return csv


def check_export(studio: Studio, folder: Path) -> tuple[Path, str]:
    """Return the path and the content of the file that identifies the studio of a folder's frames.

    Raises:
        UserError: the folder contains the frames of another studio.
    """
    recipe, text = folder / "studio.json", json.dumps(studio.recipe, sort_keys=True, indent=1)
    if recipe.is_file() and recipe.read_text(encoding="utf-8") != text:
        raise UserError(f"{folder} holds the frames of a studio with other settings; choose another folder.")
    return recipe, text


def _file_names(table: pd.DataFrame) -> list[str]:
    """Return the paths in row order; names of counterfactual frames end in their strength, as in the table."""
    names = []
    for path, who, affect in zip(table["path"], table["identity"], table["affect"], strict=True):
        names.append(f"{who}/{affect}/{who}_{affect}_{path.rpartition('/')[2]}.png")
    return names


def _annotations(table: pd.DataFrame, paths: list[str]) -> pd.DataFrame:
    units = list(AU_COLUMNS)
    rows = table.drop(columns=[name for name in ("counterfactual",) if name in table]).assign(path=paths)
    rows[units] = (rows[units] * AU_SCALE).round(4)
    return rows.round(_DECIMALS).rename(columns={name: name.upper() for name in units})


def _draw_all(studio: Studio, paths: list[str], workers: int) -> Iterator[int]:
    """Render chunks of rows, in parallel if there are several workers, and yield the number of frames in each."""
    chunks = [range(start, min(start + _CHUNK, len(paths))) for start in range(0, len(paths), _CHUNK)]
    if workers == 1:
        for chunk in chunks:
            yield _draw(studio, chunk, paths[chunk.start : chunk.stop])
        return
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=workers, return_as="generator_unordered")
    yield from pool(delayed(_draw)(studio, chunk, paths[chunk.start : chunk.stop]) for chunk in chunks)


def _draw(studio: Studio, rows: range, paths: list[str]) -> int:
    for row, path in zip(rows, map(Path, paths), strict=True):
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.ascontiguousarray(studio.render(row)[..., ::-1])  # RGB to OpenCV's BGR
        write_atomic(path, cv2.imencode(".png", image)[1].tobytes())
    return len(rows)


NO_FACEKIT = (
    "dataset.facekit is not given; studio_human and studio_mixed draw people from ICT-FaceKit (USC ICT, MIT licence).\n"
    "Get it with `git clone https://github.com/USC-ICT/ICT-FaceKit` and give dataset.facekit=ICT-FaceKit, or the file "
    "of a compact copy (.npz). dataset=studio_cartoon works without it."
)


def make_studio(config: DatasetConfig) -> Studio:
    """Create the studio in `config`, with its cast and script."""
    from fexgan_lit.synthetic.cartoon.studio import CartoonStudio

    arguments: dict[str, Any] = {
        "identities": config.identities,
        "population": config.population,
        "framing": config.framing,
        "expressions": config.expressions,
        "takes": config.takes,
        "frames": config.frames,
        "size": next((size for size in IMAGE_SIZES if size >= config.load_size), IMAGE_SIZES[-1]),
        "seed": config.studio_seed,
        "head_motion": config.head_motion,
        "take_seconds": config.take_seconds,
        "exact": config.min_target_intensity if config.targets == "exact" else None,
    }
    if config.layout_name == "studio_cartoon":
        return CartoonStudio(**arguments)
    if config.facekit is None:
        raise UserError(NO_FACEKIT)
    from fexgan_lit.synthetic.human.studio import HumanStudio
    from fexgan_lit.synthetic.mixed import MixedStudio

    facekit = Path(config.facekit).expanduser().absolute()  # workers may have another working directory
    studio = HumanStudio if config.layout_name == "studio_human" else MixedStudio
    return studio(**arguments, facekit=str(facekit))
