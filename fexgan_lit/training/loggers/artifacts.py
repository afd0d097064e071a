"""The labels of a W&B run (group, job type, tags) and its artifacts (weights and facts about the data)."""

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

#: Parts of a configuration that do not change what a run learns, and the seed.
_ASIDE = ("seed", "run", "name", "data", "logger", "metrics", "sweep")
_ASIDE_IN = {
    "dataset": ("root", "cache_dir", "workers", "val_batch", "val_limit"),
    "trainer": ("threads", "log_every", "val_every", "figures_every", "checkpoint_every", "max_minutes"),
}
#: The most characters of a tag or job type.
_LONGEST = 64
#: Options of a data set that are paths or do not change its content.
_PLACES = ("root", "manifest", "videos", "annotations", "cache_dir", "facekit", "workers")


def run_labels(folder: Path, config: Mapping[str, Any], settings: LoggerSettings) -> dict[str, Any]:
    """Return the arguments of `wandb.init` that label the run in `folder`.

    Returns:
        `name`: name of the folder; `group`: the user's group or the sweep; `job_type`: the setting, equal for all its
        seeds, or "evaluation" for a configuration without a model; `tags`: system, data set, seed and the user's tags.
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
    """Return the values of this run in its sweep, without the seed, such as `alpha=0.5 beta=1`; None if it has none."""
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
    """Return a digest (eight hexadecimal digits) of all options that determine what a run learns, except the seed."""
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
    """Log `weights/` and config.yaml as the model artifact, and facts about the data as an artifact that the run used.

    The model artifact is a run folder without checkpoints, which every command accepts. The data artifact holds facts
    (options, affects, counts of frames, a digest of the table and its split) but no frames.
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
        # `use_artifact` does not work offline, but what it does for a new artifact needs no network
        experiment._log_artifact(data, is_user_created=True, use_after_commit=True)
    model = wandb.Artifact(
        _artifact_name(f"{config['model']['name']}_{dataset['name']}"),
        type="model",
        metadata={
            "iteration": iteration, "setting": setting_digest(config), "seed": config["seed"],
            "version": __version__, "data": data.name, "data_digest": facts["digest"], "metrics": dict(metrics),
        },
    )  # fmt: skip
    # link or copy the files to `wandb/`: a resumed run overwrites the weights, and those of this iteration may still
    # have to be uploaded then
    folder = run.path / "wandb" / f"weights-{iteration:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*sorted(run.weights.glob("*.safetensors")), run.config]:
        target = folder / path.name
        target.unlink(missing_ok=True)
        try:
            os.link(path, target)
        except OSError:  # this file system has no hard links
            shutil.copy2(path, target)
        # these files are never written again, so W&B need not copy them
        model.add_file(str(target), name=path.relative_to(run.path).as_posix(), policy="immutable")
    experiment.log_artifact(model, aliases=["latest", "final"])


def _artifact_name(text: str) -> str:
    """Replace the characters that are invalid in an artifact name; at most 128 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128]
