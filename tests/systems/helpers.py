"""Batches of noise, and the ordinary way to train a system on them."""

from __future__ import annotations

import io

import torch
from rich.console import Console

from fexgan_lit.data.pairs import PairBatch, PairLoader
from fexgan_lit.runs.config import TrainerSettings
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.training.callbacks import LastCheckpoint, LossMonitor
from fexgan_lit.training.trainer import build_trainer


class NoisePairs(PairLoader):
    """Four batches an epoch of seeded noise with labels, action units and landmarks; `bare` leaves the last two out.

    Attributes:
        asked: (epoch, batch) of every batch that was made.
    """

    def __init__(self, batch: int = 4, size: int = 32, affects: int = 4, bare: bool = False, bad_from: int = 1 << 60):
        self.size, self.side, self.affects, self.bare, self.bad_from = batch, size, affects, bare, bad_from
        self.first, self._wait_s, self.asked = int, 0.0, []

    def __len__(self) -> int:
        return 4

    def batch(self, epoch: int, number: int) -> PairBatch:
        self.asked.append((epoch, number))
        g = torch.Generator().manual_seed(10 * epoch + number)
        source, target = torch.rand(2, self.size, 3, self.side, self.side, generator=g) * 2 - 1
        if 4 * epoch + number >= self.bad_from:
            target = target * float("nan")
        label = torch.randint(self.affects, (3, self.size), generator=g)
        units, points = torch.rand(2, self.size, 17, generator=g), torch.rand(2, self.size, 68, 2, generator=g)
        guides = () if self.bare else (units[0], units[1], points[0], points[1])
        return PairBatch(source, target, label[0], label[1], label[2], label[0], label[1], *guides)


def fit(
    system, iterations, tmp_path, pairs=None, callbacks=(), checkpoint=None, place=None, strategy="auto", **options
):
    """Train to `iterations` on the CPU in float32 with one thread; `options` are of the group `trainer`. The pairs."""
    settings = {"accelerator": "cpu", "precision": "float32", "threads": 1, "val_every": 0, "max_steps": iterations}
    trainer = build_trainer(
        TrainerSettings(**(settings | options)), list(callbacks), [], str(tmp_path), place, strategy
    )  # fmt: skip
    pairs = pairs or NoisePairs()
    pairs.first = lambda: trainer.global_step  # as in a FrameDataModule
    trainer.fit(system, pairs, ckpt_path=checkpoint, weights_only=True)
    return pairs


def saver(folder, every):
    """A callback that writes checkpoints/last.ckpt below `folder` every so many iterations and at the end."""
    run = RunFolder(folder)
    return LastCheckpoint(every, run.last, LossMonitor(run, Console(file=io.StringIO())))


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
