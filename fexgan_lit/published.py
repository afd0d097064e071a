"""Networks computed layer by layer as published, by torch's kernels alone, where somebody counts what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_alone = False


@contextmanager
def kernels_alone() -> Iterator[None]:
    """Let every layer be torch's as published while this is entered, to count what it computes."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def are_kernels_alone() -> bool:
    """Whether `kernels_alone` is entered now."""
    return _alone
