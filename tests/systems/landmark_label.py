"""What the tests of landmark-and-label guided synthesis share: tiny systems, and what they are asked for."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from fexgan_lit.expression import Expression
from fexgan_lit.systems.landmark_label.config import LandmarkLabelSettings
from fexgan_lit.systems.landmark_label.losses import LandmarkLabelLossSettings
from fexgan_lit.systems.landmark_label.system import LandmarkLabel
from fexgan_lit.systems.optimizers import DualOptimizerSettings

AFFECTS = tuple(f"a{k}" for k in range(7))


def tiny(**changes) -> LandmarkLabelSettings:
    return LandmarkLabelSettings(**{"image_size": 32, "width": 0.06, "blocks": 2} | changes)


def make_system(loss=None, optimizer=None, affects=AFFECTS, **model) -> LandmarkLabel:
    torch.manual_seed(0)
    loss = loss or LandmarkLabelLossSettings(perceptual=0)
    return LandmarkLabel(tiny(**model), loss, optimizer or DualOptimizerSettings(), affects)


def awake(**model) -> LandmarkLabel:
    """A system whose generator answers visibly in evaluation mode, where N(0, 0.02) alone lets every signal fade."""
    system = make_system(dropout=0.0, **model).eval()
    for module in system.average.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
    return system


def wanted(batch: int = 2, affects: int = 7) -> Expression:
    landmarks = torch.rand(batch, 68, 2, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8
    return replace(Expression.of_affects(list(range(batch)), affects), landmarks=landmarks)
