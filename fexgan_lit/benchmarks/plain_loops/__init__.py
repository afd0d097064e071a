"""The training of every system as a plain PyTorch loop, the baseline for the speed of the library.

A plain loop trains the networks of a system with its loss weights and optimizer settings, but without Lightning,
callbacks or logging. It is a Python generator: each `next` runs one iteration and yields the losses of generator and
discriminator. Random numbers come from torch's global generator.
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

#: The detached losses of one iteration: of the generator, and of the discriminators.
Losses = tuple[Tensor, Tensor]
#: Takes a system, endless batches and whether to use bf16 autocast; yields the losses of each iteration.
PlainLoop = Callable[[Any, Iterable[PairBatch], bool], Iterator[Losses]]

#: Plain loops by model name.
PLAIN_LOOPS: dict[str, PlainLoop] = {
    "fexgan": train_fexgan,
    "fexgan_meta": train_fexgan,
    "ganimation": train_ganimation,
    "stargan": train_stargan,
    "landmark_label": train_landmark_label,
}
