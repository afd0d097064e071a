"""Batches of noise, and the ordinary way to train a system on them."""

from __future__ import annotations

import torch

from fexgan_lit.config import TrainerSettings
from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.trainer import IterationStream, make_trainer


class NoisePairs:
    """Four batches an epoch of seeded noise with labels, action units and landmarks; `bare` leaves the last two out."""

    def __init__(self, batch: int = 4, size: int = 32, affects: int = 4, bare: bool = False) -> None:
        self.size, self.side, self.affects, self.bare = batch, size, affects, bare

    def __len__(self) -> int:
        return 4

    def batch(self, epoch: int, number: int) -> PairBatch:
        g = torch.Generator().manual_seed(10 * epoch + number)
        source, target = torch.rand(2, self.size, 3, self.side, self.side, generator=g) * 2 - 1
        label = torch.randint(self.affects, (3, self.size), generator=g)
        units, points = torch.rand(2, self.size, 17, generator=g), torch.rand(2, self.size, 68, 2, generator=g)
        guides = () if self.bare else (units[0], units[1], points[0], points[1])
        return PairBatch(source, target, label[0], label[1], label[2], label[0], label[1], *guides)


def fit(system, iterations, tmp_path, pairs=None, callbacks=(), checkpoint=None, precision="float32"):
    settings = TrainerSettings(accelerator="cpu", precision=precision, threads=1)
    stream = IterationStream(pairs or NoisePairs(), system, iterations)
    trainer = make_trainer(settings, list(callbacks), [], str(tmp_path))
    trainer.fit(system, stream, ckpt_path=checkpoint, weights_only=True)


def snapshot(network):
    return {name: value.clone() for name, value in network.named_parameters()}


def changed(network, before) -> bool:
    return any(not torch.equal(value, before[name]) for name, value in network.named_parameters())


def count(network) -> int:
    return sum(p.numel() for p in network.parameters())


def share_apart(ours, theirs, rtol=1e-3, atol=2e-5) -> float:
    """Share of all weights of two state dicts that differ.

    Sums in another order round otherwise, and Adam makes a whole step of a gradient that is next to nothing: a few
    weights may then go another way, whatever the processor.
    """
    assert ours.keys() == theirs.keys()
    pairs = [(value, theirs[name]) for name, value in ours.items() if value.is_floating_point()]
    close = [torch.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True).flatten() for a, b in pairs]
    return 1 - float(torch.cat(close).double().mean())
