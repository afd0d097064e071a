"""The second process of `test_equality.py`: trains its part of batches of noise; argv: port, folder, iterations."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning.pytorch import Callback
from torch.distributed import TCPStore
from torch.nn.modules.batchnorm import _BatchNorm

from fexgan_lit.config import TrainerSettings
from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.distributed.callbacks import WholeLosses
from fexgan_lit.distributed.place import Place, Share
from fexgan_lit.distributed.team import Team
from fexgan_lit.trainer import IterationStream, make_trainer
from tests.systems.helpers import NoisePairs
from tests.test_training import make_system


class FixedStatistics(Callback):
    """Batch norm in evaluation mode, so that no row of a batch depends on another."""

    def on_train_batch_start(self, trainer, system, batch, batch_idx):
        for layer in system.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()


class Losses(Callback):
    """Keeps what the others would log."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, system, outputs, batch, batch_idx):
        self.seen.append({name: float(value) for name, value in outputs.items()})


class PartOfPairs(NoisePairs):
    """The rows of one process."""

    def __init__(self, share: Share) -> None:
        super().__init__(batch=4)
        self.share = share

    def batch(self, epoch: int, number: int) -> PairBatch:
        whole, half = super().batch(epoch, number), self.size // self.share.world
        return whole._each(lambda rows: rows[self.share.rank * half : (self.share.rank + 1) * half])


def train_part(place: Place | None, folder: Path, iterations: int):
    """FExGAN on noise, as one process or as one of several; the system and its losses."""
    system = make_system(dropout=0.0, lambda_mode="normal")
    system.optimizer_settings.clip_norm, system.optimizer_settings.n_critic = 0.5, 2
    system.noise.share = place.share if place else Share()
    losses = Losses()
    watching = [FixedStatistics(), *([WholeLosses()] if place else []), losses]
    settings = TrainerSettings(accelerator="cpu", precision="float32", threads=1)
    stream = IterationStream(PartOfPairs(system.noise.share), system, iterations)
    make_trainer(settings, watching, [], str(folder), place).fit(system, stream)
    return system, losses.seen


if __name__ == "__main__":
    port = int(sys.argv[1])
    here = Place(1, 2, 1, 2, "127.0.0.1", port)
    team = Team(here, TCPStore("127.0.0.1", port, is_master=False))
    team.connect()
    train_part(here, Path(sys.argv[2]), int(sys.argv[3]))
    team.leave()
