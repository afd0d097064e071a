"""A clock with named ranges, and putting them around what a trainer calls in an iteration."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.profiler import record_function


class Ranges:
    """Seconds by name. While an inner range is open the outer one stands still, so that all add up.

    A GPU is waited for at every border: the work of a range is in it, and a timed iteration takes longer than a free
    one by what would have overlapped.

    Args:
        device: whose work is timed.

    Attributes:
        seconds: in each range since the last `clear`.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        self._open: list[str] = []
        self._since = 0.0

    def now(self) -> float:
        """Seconds on the clock, all work done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def clear(self) -> None:
        """Start anew; a range that is open goes on from here."""
        self.seconds.clear()
        self._since = self.now()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Open a range; the trace of torch.profiler shows it too."""
        self._turn()
        self._open.append(name)
        try:
            with record_function(name):
                yield
                self._turn()
        finally:
            self._open.pop()
            self._since = time.perf_counter()

    def _turn(self) -> None:
        now = self.now()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


class Wrapped:
    """Methods of objects with a range around each call, until `restore`.

    The objects get the wrapped methods as attributes of their own; nothing of their classes changes, and nothing is
    left behind afterwards.
    """

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._before: list[tuple[Any, str, Any]] = []

    def method(self, owner: Any, name: str, label: str | Callable[..., str]) -> None:
        """Put a range around `owner.name`, where there is such a method; `label` may depend on the arguments."""
        method = getattr(owner, name, None)
        if method is None:
            return

        @functools.wraps(method)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._ranges(label if isinstance(label, str) else label(*args)):
                return method(*args, **kwargs)

        self._put(owner, name, timed)

    def calls(self, network: nn.Module, label: str) -> None:
        """Put a range around calling `network`, compiled or not.

        Hooks would become part of what is compiled; torch asks this attribute first in either case.
        """
        call = network._compiled_call_impl or network._call_impl

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._ranges(label):
                return call(*args, **kwargs)

        self._put(network, "_compiled_call_impl", timed)

    def _put(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, vars(owner).get(name, self)))  # self: there was none
        vars(owner)[name] = value

    def restore(self) -> None:
        """Take all ranges away."""
        for owner, name, before in reversed(self._before):
            if before is self:
                del vars(owner)[name]
            else:
                vars(owner)[name] = before
        self._before.clear()
