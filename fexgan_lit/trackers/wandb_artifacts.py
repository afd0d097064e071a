"""The weights of a run as a W&B artifact, with the data they come from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from fexgan_lit import __version__
from fexgan_lit.trackers.labels import setting_digest
from fexgan_lit.trackers.tracker import Ending

#: Options of a data set that say where it lies, not what it is.
_PLACES = ("root", "manifest", "videos", "annotations", "cache_dir", "facekit", "workers")
#: What an artifact's name may not hold.
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]+")


def log_model(experiment: Any, ending: Ending) -> None:
    """Log `weights/` and config.yaml as an artifact, and the data set as one that the run used.

    The model's artifact is a run folder without checkpoints, which every door takes.
    """
    import wandb

    config = ending.config
    data = data_artifact(ending)
    use_data(experiment, data)
    model = wandb.Artifact(
        artifact_name(f"{config['model']['name']}_{config['dataset']['name']}"),
        type="model",
        metadata={
            "iteration": ending.iteration, "setting": setting_digest(config), "seed": config["seed"],
            "version": __version__, "data": data.name, "data_digest": data.metadata["digest"],
            "metrics": dict(ending.metrics),
        },
    )  # fmt: skip
    for name, path in keep_files(ending).items():
        # the copy that W&B would take is not needed: the files in the folder of this iteration are never written again
        model.add_file(str(path), name=name, policy="immutable")
    experiment.log_artifact(model, aliases=["latest", "final"])


def data_artifact(ending: Ending) -> Any:
    """The data set as facts: options, affects, counts of frames, a digest of the table and its split; no frames."""
    import wandb

    dataset = ending.config["dataset"]
    facts = {
        "digest": hashlib.sha256(ending.data_key.encode()).hexdigest()[:16],
        "options": {key: value for key, value in dataset.items() if key not in _PLACES},
        **(ending.config.get("data") or {}),
    }
    artifact = wandb.Artifact(artifact_name(str(dataset["name"])), type="dataset", metadata=facts)
    with artifact.new_file("facts.json") as file:
        file.write(json.dumps(facts, indent=1))
    return artifact


def use_data(experiment: Any, data: Any) -> None:
    """Say that the run used `data`.

    `use_artifact` refuses to work offline; what it does for a new artifact does not need the network.
    """
    if experiment.offline:
        experiment._log_artifact(data, is_user_created=True, use_after_commit=True)
    else:
        experiment.use_artifact(data)


def keep_files(ending: Ending) -> dict[str, Path]:
    """The weights and config.yaml once more under `wandb/`, as links where the disk has them.

    A run that goes on writes new weights; those of this iteration can still be uploaded then.

    Returns:
        The files by their name in the run folder.
    """
    folder = ending.run.path / "wandb" / f"weights-{ending.iteration:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {}
    for path in [*sorted(ending.run.weights.glob("*.safetensors")), ending.run.config]:
        target = folder / path.name
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:  # no links on this file system
            shutil.copy2(path, target)
        kept[path.relative_to(ending.run.path).as_posix()] = target
    return kept


def artifact_name(text: str) -> str:
    """`text` with nothing in it that an artifact's name may not hold, at most 128 characters."""
    return _FOREIGN.sub("-", text)[:128]
