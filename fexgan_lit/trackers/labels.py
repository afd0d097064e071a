"""What a run is called where runs are compared: its sweep, its setting without the seed, its tags."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

if TYPE_CHECKING:
    from fexgan_lit.config import LoggerSettings

#: Parts of a configuration that do not change what is trained, or are the seed.
_ASIDE = ("seed", "run", "name", "data", "logger", "metrics", "sweep")
_ASIDE_IN = {
    "dataset": ("root", "cache_dir", "workers", "val_batch", "val_limit"),
    "trainer": ("threads", "log_every", "val_every", "figures_every", "checkpoint_every", "max_minutes"),
}
#: Longest tag and job type.
_LONGEST = 64


@dataclass(frozen=True)
class Labels:
    """How a run is named and found again.

    Attributes:
        name: of the run: its folder's.
        group: the sweep it belongs to, or what the user grouped it under.
        job_type: the setting, the same for every seed of it.
        tags: system, data set, seed, and the user's own.
    """

    name: str
    group: str | None
    job_type: str
    tags: tuple[str, ...]


def labels(folder: Path, config: Mapping[str, Any], settings: LoggerSettings) -> Labels:
    """The labels of the run in `folder`; a configuration that trains nothing is an evaluation."""
    sweep = sweep_folder(folder)
    group = settings.group or (sweep.name if sweep else None)
    own = tuple(settings.tags or ())
    if "model" not in config:
        return Labels(folder.name, group, "evaluation", own)
    names = (config["model"]["name"], config["dataset"]["name"], f"seed-{config['seed']}")
    job_type = (sweep and swept_setting(sweep, folder.name)) or (
        f"{names[0]}_{names[1]}"[: _LONGEST - 9] + f"_{setting_digest(config)}"
    )
    tags = dict.fromkeys(tag[:_LONGEST] for tag in (*names, *own))
    return Labels(folder.name, group, job_type, tuple(tags))


def sweep_folder(folder: Path) -> Path | None:
    """The sweep that the run in `folder` is part of; None where it stands alone."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    parent = folder.resolve().parent
    swept = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return parent if swept or (parent / "sweep.yaml").is_file() else None


def swept_setting(sweep: Path, run: str) -> str | None:
    """What the sweep set in this run, without the seed: `alpha=0.5 beta=1`; None where it set nothing else."""
    file = sweep / "sweep.yaml"
    if not file.is_file():
        return None
    plan: Any = OmegaConf.to_container(OmegaConf.load(file))
    values = {key: value for key, value in plan.get("runs", {}).get(run, {}).items() if key != "seed"}
    text = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 9]}_{_digest(values)}"
    return text or None


def setting_digest(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of everything that decides what is trained, except the seed."""
    kept: dict[str, Any] = {}
    for name, part in config.items():
        if name not in _ASIDE:
            aside = _ASIDE_IN.get(name, ())
            kept[name] = {k: v for k, v in part.items() if k not in aside} if isinstance(part, Mapping) else part
    return _digest(kept)


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
