"""The judge of a run's data, if one lies in the cache; none is ever trained for the page."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from fexgan_lit.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.api import LoadedSystem
    from fexgan_lit.metrics.judge import Judge


class _NotPreparedError(Exception):
    """The run's data would have to be prepared first."""


def cached_judge(loaded: LoadedSystem) -> Judge | None:
    """The judge that training or evaluation left in the cache for the data of a run.

    None where there is none, and where the data are gone, have changed or are not prepared: nothing is trained or
    prepared for it.
    """
    from fexgan_lit.data.cache import cache_root

    cache = cache_root(loaded.run.dataset.cache_dir)
    if not ((cache / "judges").is_dir() and (cache / "packs").is_dir()):
        return None
    try:
        return _find(loaded)
    except (UserError, _NotPreparedError, OSError):
        return None


def _find(loaded: LoadedSystem) -> Judge | None:
    from fexgan_lit.data.cache import cache_root
    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.metrics.judge_cache import kept_judge

    def stop(done: int, total: int) -> None:
        raise _NotPreparedError

    data = FrameDataModule(loaded.run.dataset, loaded.run.seed, loaded.run.system.pairing)
    data.stages = lambda: nullcontext(lambda _: stop)
    data.setup()
    if tuple(data.affects) != loaded.affects:
        return None
    judge = kept_judge(
        data.train, image_size=loaded.image_size, cache_dir=cache_root(data.config.cache_dir), key=data.key
    )
    return None if judge is None else judge.to(loaded.system.device)
