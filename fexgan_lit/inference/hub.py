"""Sharing: a run as a portable folder, and download from the Hugging Face Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from omegaconf import OmegaConf

from fexgan_lit.data.config import STUDIOS
from fexgan_lit.inference.model_card import EVALUATION, evaluation_file, shared_config
from fexgan_lit.runs.folder import FACES, RunFolder
from fexgan_lit.runs.result import RESULT
from fexgan_lit.runs.weights import save_weights
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic

if TYPE_CHECKING:
    from fexgan_lit.inference.loaded_system import LoadedSystem

#: Files of a shared folder that are downloaded; it may also hold README.md and config.json.
FETCHED = ("config.yaml", "weights/*.safetensors", f"{FACES}/*.png", RESULT, *EVALUATION)


def write_shared(loaded: LoadedSystem, folder: Path, half: bool = False, faces: bool = False) -> list[Path]:
    """Write the run to `folder` as a run folder without checkpoints, which every command accepts.

    The configuration is written without paths of this machine. Reference images are copied only if the run keeps them
    as files (`faces/*.png`), since images of a data set must not be passed on.

    Args:
        loaded: the run.
        folder: the folder to write.
        half: whether to write weights as float16.
        faces: whether to draw a studio's reference images as files, so that no command needs to draw them.

    Returns:
        The weight files.

    Raises:
        UserError: the folder cannot be written, or `faces` is set and the data set is not a studio.
    """
    if faces and loaded.run.dataset.layout_name not in STUDIOS:
        raise UserError(
            f"faces=true: the run was trained on {loaded.run.dataset.name}, whose images must not be passed on; only "
            "images of a studio can be included"
        )
    _ = loaded.reconstruction_limit  # measured and added to result.json, if training has not done so
    written = save_weights(loaded.system, folder / "weights", torch.float16 if half else torch.float32)
    try:
        config = shared_config(loaded.folder)
        config.data = loaded.facts
        write_atomic(folder / "config.yaml", OmegaConf.to_yaml(config))
        write_atomic(folder / "config.json", json.dumps(_summary(loaded), indent=1) + "\n")
        for name in (RESULT, *EVALUATION):
            found = loaded.folder / RESULT if name == RESULT else evaluation_file(loaded.folder, name)
            if found is not None and found.is_file():
                write_atomic(folder / name, found.read_bytes())
        for kept in sorted((loaded.folder / FACES).glob("*.png")):
            (folder / FACES).mkdir(exist_ok=True)
            shutil.copyfile(kept, folder / FACES / kept.name)
        if faces:
            (folder / FACES).mkdir(exist_ok=True)
            for name, face in loaded.faces.items():
                face.save(folder / FACES / f"{name}.png", optimize=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    return written


def _summary(loaded: LoadedSystem) -> dict[str, object]:
    """Return the metadata that the Hub's pages and counters read; the commands read config.yaml."""
    return {
        "library_name": "fexgan_lit",
        "model_type": loaded.name,
        "image_size": loaded.image_size,
        "affects": list(loaded.affects),
    }


def fetch(
    model_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Return the folder of a shared run: `model_id` if it is a folder, else its download from the Hub.

    Only configuration, weights, reference images and metrics are downloaded, and no code.

    Raises:
        UserError: the Hub has no such run, or cannot be reached.
    """
    if Path(model_id).is_dir():
        return RunFolder.at(model_id).path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        place = snapshot_download(
            model_id, revision=revision, cache_dir=cache_dir, force_download=force_download,
            local_files_only=local_files_only, token=token, allow_patterns=list(FETCHED),
        )  # fmt: skip
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{model_id} is not a folder here, and the download from the Hub failed: {reason}. Expected a run folder, "
            "or user/name of a shared run"
        ) from error
    if not (Path(place) / "config.yaml").is_file():
        raise UserError(f"{model_id} on the Hub has no config.yaml; it was not shared by fexgan_lit")
    return Path(place)
