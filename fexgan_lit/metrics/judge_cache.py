"""Judges on disk: found again by the data and options they were trained with, checked before they are trusted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fexgan_lit.metrics.fitting import Progress, working_size
from fexgan_lit.metrics.judge import JUDGE_VERSION, Judge, JudgeNet
from fexgan_lit.metrics.judge_training import JudgeRecipe, train_judge
from fexgan_lit.metrics.shelf import Shelf

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet


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

    def train_it() -> Judge:
        return train_judge(
            train, held_out, image_size=image_size, seed=seed, recipe=recipe, device=device, progress=progress
        )

    shelf = _shelf(train, image_size, cache_dir, key, seed, recipe)
    return shelf.taken_or_trained(_rebuild, train_it).to(device)


def kept_judge(
    train: FrameSet,
    *,
    image_size: int,
    cache_dir: str | Path,
    key: str,
    seed: int = 0,
    recipe: JudgeRecipe | None = None,
) -> Judge | None:
    """The judge that `load_or_train_judge` would find, or None where it would have to train one."""
    return _shelf(train, image_size, cache_dir, key, seed, recipe or JudgeRecipe()).load(_rebuild)


def _shelf(train: FrameSet, image_size: int, cache_dir: str | Path, key: str, seed: int, recipe: JudgeRecipe) -> Shelf:
    parts = [JUDGE_VERSION, key, image_size, seed, train.affects, train.identities, asdict(recipe)]
    return Shelf.of(cache_dir, "judge", parts)


def _rebuild(facts: dict[str, Any], state: dict[str, torch.Tensor]) -> Judge:
    recipe = JudgeRecipe(**facts["recipe"] | {"widths": tuple(facts["recipe"]["widths"])})
    size = working_size(facts["image_size"], recipe)
    with torch.random.fork_rng(devices=[]):  # building a network draws its initial weights
        net = JudgeNet(len(facts["affects"]), len(facts["identities"]), size, recipe.widths)
    net.load_state_dict(state, strict=True)
    known = {"affects": tuple(facts["affects"]), "identities": tuple(facts["identities"]), "recipe": asdict(recipe)}
    return Judge(**{**facts, **known, "net": net.freeze(), "from_cache": True})
