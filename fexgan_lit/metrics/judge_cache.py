"""Judges on disk: found again by the data and options they were trained with, checked before they are trusted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fexgan_lit.errors import UserError
from fexgan_lit.files import write_atomic
from fexgan_lit.metrics.judge import JUDGE_VERSION, Judge, JudgeNet
from fexgan_lit.metrics.judge_training import JudgeRecipe, Progress, train_judge, working_size

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet

WEIGHTS, FACTS = "judge.safetensors", "judge.json"


def load_or_train_judge(
    train: FrameSet,
    held_out: FrameSet | None,
    *,
    image_size: int,
    cache_dir: str | Path,
    key: str,
    seed: int = 0,
    recipe: JudgeRecipe | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Judge:
    """The judge of this data from ``cache_dir/judges/``, trained and stored there first when it is missing or broken.

    Args:
        train: the training split.
        held_out: frames to measure the judge on, or None.
        image_size: side in pixels of the frames it will judge.
        cache_dir: folder of the cache; made when missing.
        key: what identifies the data and its split, for example the hash of the pack and the split's seed.
        seed: of the training.
        recipe: options of the training.
        device: where to train and where the judge ends up.
        progress: told of every step of a training; never called when the judge is found.

    Raises:
        UserError: the cache folder cannot be written.
    """
    recipe = recipe or JudgeRecipe()
    identity = _cache_key(train, key, image_size, seed, recipe)
    folder = Path(cache_dir) / "judges" / identity[:12]
    judge = load_judge(folder, identity)
    if judge is not None:
        return judge.to(device)
    try:
        folder.mkdir(parents=True, exist_ok=True)  # before the training: a read-only cache is said at once
        judge = train_judge(
            train, held_out, image_size=image_size, seed=seed, recipe=recipe, device=device, progress=progress
        )
        save_judge(judge, folder, identity)
    except OSError as error:
        raise UserError(
            f"The judge cannot be stored in the cache folder {folder}: {error.strerror or error}. "
            "Choose a cache folder that can be written and has a few MB free."
        ) from error
    return judge


def save_judge(judge: Judge, folder: Path, key: str) -> None:
    """Write weights, then facts with the weights' checksum; each appears whole or not at all."""
    from safetensors.torch import save

    weights = save({name: tensor.cpu().contiguous() for name, tensor in judge.net.state_dict().items()})
    facts = {f.name: getattr(judge, f.name) for f in fields(judge) if f.name not in {"net", "from_cache"}}
    facts |= {"key": key, "sha256": hashlib.sha256(weights).hexdigest()}
    write_atomic(folder / WEIGHTS, weights)
    write_atomic(folder / FACTS, (json.dumps(facts, indent=2) + "\n").encode())


def load_judge(folder: Path, key: str) -> Judge | None:
    """The judge stored in `folder` under `key`; None when it is missing, incomplete, altered or of another key."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        weights = (folder / WEIGHTS).read_bytes()
        facts = json.loads((folder / FACTS).read_bytes())
        if facts.pop("key") != key or facts.pop("sha256") != hashlib.sha256(weights).hexdigest():
            return None
        return _rebuild(facts, load(weights))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError):
        # Whatever is wrong with a stored judge, training it again mends it; the caller sees from_cache=False.
        return None


def _rebuild(facts: dict[str, Any], state: dict[str, torch.Tensor]) -> Judge:
    recipe = JudgeRecipe(**facts["recipe"] | {"widths": tuple(facts["recipe"]["widths"])})
    size = working_size(facts["image_size"], recipe)
    with torch.random.fork_rng(devices=[]):  # building a network draws its initial weights
        net = JudgeNet(len(facts["affects"]), len(facts["identities"]), size, recipe.widths)
    net.load_state_dict(state, strict=True)
    known = {"affects": tuple(facts["affects"]), "identities": tuple(facts["identities"]), "recipe": asdict(recipe)}
    return Judge(**{**facts, **known, "net": net.freeze(), "from_cache": True})


def _cache_key(train: FrameSet, key: str, image_size: int, seed: int, recipe: JudgeRecipe) -> str:
    parts = [JUDGE_VERSION, key, image_size, seed, train.affects, train.identities, asdict(recipe)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
