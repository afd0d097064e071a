"""One of the processes of `test_equality.py`: trains its part of batches of noise; argv: folder, iterations."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback
from torch.nn.modules.batchnorm import _BatchNorm

from fexgan_lit.data.pairs import PairBatch, Share
from fexgan_lit.runs.build import build_system
from fexgan_lit.runs.config import train_settings
from fexgan_lit.training.callbacks import AverageLosses
from tests.runs.test_config import composed, options
from tests.systems.helpers import NoisePairs, fit

MODELS = options("model")


class FixedStatistics(Callback):
    """Batch norm in evaluation mode, so that no row of a batch depends on another; keeps the losses that are logged."""

    def __init__(self):
        self.losses = []

    def on_train_batch_start(self, trainer, system, batch, batch_idx):
        for layer in system.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()

    def on_train_batch_end(self, trainer, system, outputs, batch, batch_idx):
        self.losses.append({name: float(value) for name, value in outputs.items()})


class PartOfPairs(NoisePairs):
    """The rows of one process."""

    def __init__(self, share: Share) -> None:
        super().__init__(batch=4)
        self.share = share

    def batch(self, epoch: int, number: int) -> PairBatch:
        whole, half = super().batch(epoch, number), self.size // self.share.world
        return whole._each(lambda rows: rows[self.share.rank * half : (self.share.rank + 1) * half])


def make(model: str):
    """A small system without dropout, whose noise and gradients are clipped and n-critic as the case may be."""
    values = [f"model={model}", "dataset.image_size=32", "model.width=0.06", "optimizer.lr=1e-4"]
    values += ["optimizer.clip_norm=0.5"]
    if model not in ("mien", "bridge", "motion_texture"):
        values += ["optimizer.n_critic=2"]
    if model.startswith("fexgan"):
        values += ["model.dropout=0", "model.lambda_mode=normal", "model.latent_size=8"]
    if model in ("pix2pix", "landmark_fusion"):
        values += ["model.dropout=0"]
    if model == "motion_texture":  # the critic of motions has the statistics of its batch
        values += ["model.dropout=0", "model.part=texture", "loss.identity=0"]
    if model == "mien":
        values += ["loss.critics_from=0.5"]
    if model == "landmark_label":
        values += ["model.dropout=0", "loss.perceptual=0"]
    return build_system(train_settings(composed(*values)), [f"a{k}" for k in range(4)])


def train_part(model: str, environment, folder: Path, iterations: int):
    """A system on noise, trained by one process or by one of several; the system and its losses."""
    system, watching = make(model), FixedStatistics()
    share = Share(environment.global_rank(), environment.world_size()) if environment else Share()
    system.noise.share = share
    callbacks = [*([AverageLosses()] if environment else []), watching]
    fit(system, iterations, folder, PartOfPairs(share), callbacks, place=environment, devices=share.world)
    return system, watching.losses


if __name__ == "__main__":
    from fexgan_lit.training.distributed import connect, disconnect, find_environment

    environment, folder = find_environment(), Path(sys.argv[1])
    connect(environment)
    for model in MODELS:
        system, losses = train_part(model, environment, folder, int(sys.argv[2]))
        torch.save(
            {"weights": system.state_dict(), "losses": losses}, folder / f"{model}{environment.global_rank()}.pt"
        )
    disconnect()
