"""The training of every system as a plain PyTorch loop, to time the library's own beside it.

A plain loop takes the networks, the weights of the losses and the optimizer's settings of a system and trains them
without Lightning, callbacks or logging. It is a generator: each `next` is one iteration and gives the losses of both
sides.
Random numbers come from torch's global generator as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from fexgan_lit.benchmarks.plain_loops.fexgan import train_fexgan
from fexgan_lit.benchmarks.plain_loops.ganimation import train_ganimation
from fexgan_lit.benchmarks.plain_loops.landmark_label import train_landmark_label
from fexgan_lit.benchmarks.plain_loops.stargan import train_stargan
from fexgan_lit.data.pairs import PairBatch

#: One iteration a step: the detached losses of the generator and of its discriminators.
Losses = tuple[Tensor, Tensor]
#: System, batches without end, whether to compute in bf16 where it suffices -> the iterations.
PlainLoop = Callable[[Any, Iterable[PairBatch], bool], Iterator[Losses]]

#: The plain loop of every system, by the name of its model.
PLAIN_LOOPS: dict[str, PlainLoop] = {
    "fexgan": train_fexgan,
    "fexgan_meta": train_fexgan,
    "ganimation": train_ganimation,
    "stargan": train_stargan,
    "landmark_label": train_landmark_label,
}
