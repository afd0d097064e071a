"""Who can say which affect a generated face shows, without training anything for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fexgan_lit.api import LoadedSystem
    from fexgan_lit.exporting.int8 import Reader
    from fexgan_lit.metrics.judge import Judge


def readers_of(loaded: LoadedSystem) -> dict[str, Reader]:
    """The system's own discriminator where it reads affects, and the judge of the run's data where one was kept."""
    found: dict[str, Reader] = {}
    example = torch.zeros(1, 3, loaded.image_size, loaded.image_size)
    if loaded.system.read_faces(example)[1] is not None:
        found["discriminator"] = lambda faces: _seen(loaded.system.read_faces(faces)[1])
    judge = judge_of(loaded)
    if judge is not None:
        found["judge"] = lambda faces: judge.read(faces).affect
    return found


def judge_of(loaded: LoadedSystem) -> Judge | None:
    """The judge that was trained on the run's data, if it is still in the cache."""
    from fexgan_lit.data.cache import cache_root
    from fexgan_lit.metrics.judge_cache import kept_judge

    data = loaded.references.data
    if data is None:
        return None
    place = cache_root(data.config.cache_dir)
    return kept_judge(data.train, image_size=data.config.image_size, cache_dir=place, key=data.key)


def _seen(scores: Tensor | None) -> Tensor:
    if scores is None:
        raise ValueError("no reading of affects")
    return scores.argmax(1)
