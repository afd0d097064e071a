"""The plain twins: every system's training once more as a bare PyTorch loop, to time the library's own beside it.

A twin takes the networks, the weights of the losses and the optimizer's settings of a system and trains them without
Lightning, callbacks or logging. It is a generator: each `next` is one iteration and gives the losses of both sides.
Random numbers come from torch's global generator as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from fexgan_lit.benchmarks.twins.fexgan import train_fexgan
from fexgan_lit.benchmarks.twins.ganimation import train_ganimation
from fexgan_lit.benchmarks.twins.landmark_label import train_landmark_label
from fexgan_lit.benchmarks.twins.stargan import train_stargan
from fexgan_lit.data.pairs import PairBatch

#: One iteration a step: the detached losses of the generator and of its discriminators.
Losses = tuple[Tensor, Tensor]
#: System, batches without end, whether to compute in bf16 where it suffices -> the iterations.
Twin = Callable[[Any, Iterable[PairBatch], bool], Iterator[Losses]]

#: The twin of every system, by the name of its model.
TWINS: dict[str, Twin] = {
    "fexgan": train_fexgan,
    "fexgan_meta": train_fexgan,
    "ganimation": train_ganimation,
    "stargan": train_stargan,
    "landmark_label": train_landmark_label,
}
