"""What W&B calls a run (sweep, setting without the seed, tags) and keeps of it (the weights as an artifact)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from fexgan_lit.utils.files import digest, read_mapping
from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from fexgan_lit.runs.config import LoggerSettings
    from fexgan_lit.runs.folder import RunFolder

#: Parts of a configuration that do not change what is trained, or are the seed.
_ASIDE = ("seed", "run", "name", "data", "logger", "metrics", "sweep")
_ASIDE_IN = {
    "dataset": ("root", "cache_dir", "workers", "val_batch", "val_limit"),
    "trainer": ("threads", "log_every", "val_every", "figures_every", "checkpoint_every", "max_minutes"),
}
#: Longest tag and job type.
_LONGEST = 64
#: Options of a data set that say where it lies, not what it is.
_PLACES = ("root", "manifest", "videos", "annotations", "cache_dir", "facekit", "workers")


def run_labels(folder: Path, config: Mapping[str, Any], settings: LoggerSettings) -> dict[str, Any]:
    """What `wandb.init` takes to name the run in `folder` and to find it again.

    Returns:
        `name`: the folder's; `group`: the sweep it belongs to, or the user's own; `job_type`: the setting, the same for
        every seed of it (a configuration that trains nothing is an evaluation); `tags`: system, data set, seed, and the
        user's own.
    """
    parent = folder.resolve().parent
    swept = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    sweep = parent if swept or (parent / "sweep.yaml").is_file() else None
    found: dict[str, Any] = {"name": folder.name, "group": settings.group or (sweep.name if sweep else None)}
    own = tuple(settings.tags or ())
    if "model" not in config:
        return {**found, "job_type": "evaluation", "tags": own}
    names = (config["model"]["name"], config["dataset"]["name"], f"seed-{config['seed']}")
    job_type = (sweep and swept_setting(sweep, folder.name)) or (
        f"{names[0]}_{names[1]}"[: _LONGEST - 9] + f"_{setting_digest(config)}"
    )
    tags = tuple(dict.fromkeys(tag[:_LONGEST] for tag in (*names, *own)))
    return {**found, "job_type": job_type, "tags": tags}


def swept_setting(sweep: Path, run: str) -> str | None:
    """What the sweep set in this run, without the seed: `alpha=0.5 beta=1`; None where it set nothing else."""
    file = sweep / "sweep.yaml"
    if not file.is_file():
        return None
    plan: Any = read_mapping(file)
    values = {key: value for key, value in plan.get("runs", {}).get(run, {}).items() if key != "seed"}
    text = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 9]}_{digest(values, 8)}"
    return text or None


def setting_digest(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of everything that decides what is trained, except the seed."""
    kept: dict[str, Any] = {}
    for name, part in config.items():
        if name not in _ASIDE:
            aside = _ASIDE_IN.get(name, ())
            kept[name] = {k: v for k, v in part.items() if k not in aside} if isinstance(part, Mapping) else part
    return digest(kept, 8)


def log_model(
    experiment: Any, run: RunFolder, config: Mapping[str, Any], iteration: int, metrics: Mapping[str, float],
    data_key: str,
) -> None:  # fmt: skip
    """Log `weights/` and config.yaml as an artifact, and the data set as one that the run used.

    The model's artifact is a run folder without checkpoints, which every command takes. The data set's holds facts
    (options, affects, counts of frames, a digest of the table and its split) and no frame.
    """
    import wandb

    dataset = config["dataset"]
    facts = {
        "digest": hashlib.sha256(data_key.encode()).hexdigest()[:16],
        "options": {key: value for key, value in dataset.items() if key not in _PLACES},
        **(config.get("data") or {}),
    }
    data = wandb.Artifact(_artifact_name(str(dataset["name"])), type="dataset", metadata=facts)
    with data.new_file("facts.json") as file:
        file.write(json.dumps(facts, indent=1))
    if not experiment.offline:
        experiment.use_artifact(data)
    elif hasattr(experiment, "_log_artifact"):
        # `use_artifact` refuses to work offline; what it does for a new artifact does not need the network
        experiment._log_artifact(data, is_user_created=True, use_after_commit=True)
    model = wandb.Artifact(
        _artifact_name(f"{config['model']['name']}_{dataset['name']}"),
        type="model",
        metadata={
            "iteration": iteration, "setting": setting_digest(config), "seed": config["seed"],
            "version": __version__, "data": data.name, "data_digest": facts["digest"], "metrics": dict(metrics),
        },
    )  # fmt: skip
    # the files once more under `wandb/`, as links where the disk has them: a run that goes on writes new weights, and
    # those of this iteration can still be uploaded then
    folder = run.path / "wandb" / f"weights-{iteration:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*sorted(run.weights.glob("*.safetensors")), run.config]:
        target = folder / path.name
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:  # no links on this file system
            shutil.copy2(path, target)
        # the copy that W&B would take is not needed: these files are never written again
        model.add_file(str(target), name=path.relative_to(run.path).as_posix(), policy="immutable")
    experiment.log_artifact(model, aliases=["latest", "final"])


def _artifact_name(text: str) -> str:
    """`text` with nothing in it that an artifact's name may not hold, at most 128 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128]
