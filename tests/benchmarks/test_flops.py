"""Counting FLOP: closed forms, forward, backward and twice backward, precision by precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fexgan_lit.systems.losses import gradient_penalty
from fexgan_lit.training.flops import FlopsByPrecision, Operation, copy_block, matrix_product, roofline_seconds


def counted(task):
    with FlopsByPrecision() as counter:
        task()
    return dict(counter.counts)


def test_forward_and_backward_of_a_convolution():
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    image = torch.rand(2, 3, 10, 10)
    once = 2 * 2 * 8 * 10 * 10 * 3 * 3 * 3  # 2 FLOP * B * out * H * W * in * 3 * 3
    assert counted(lambda: conv(image)) == {torch.float32: once}
    assert counted(lambda: conv(image).sum().backward()) == {torch.float32: 2 * once}  # no gradient of the image
    assert counted(lambda: conv(image.requires_grad_()).sum().backward()) == {torch.float32: 3 * once}


def test_the_penalty_is_counted_through_its_double_backward():
    """D(x) = w . x: forward and gradient cost one product each, the gradient of the penalty one more."""
    linear = nn.Linear(12, 1, bias=False)
    images = torch.rand(4, 3, 2, 2)

    def penalty():
        gradient_penalty(lambda x: linear(x.flatten(1)), images, images + 1).backward()

    once = 2 * 4 * 12
    assert counted(penalty) == {torch.float32: 3 * once}


def test_totals_agree_with_the_counter_of_torch():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 5, 4, 2, 1), nn.Flatten(), nn.Linear(320, 2)
    )
    image = torch.rand(3, 3, 8, 8)
    with FlopCounterMode(display=False) as theirs:
        net(image).sum().backward()
    assert counted(lambda: net(image).sum().backward()) == {torch.float32: theirs.get_total_flops()}


def test_precisions_are_told_apart():
    a, b = torch.rand(4, 5), torch.rand(5, 6)

    def mixed():
        with torch.autocast("cpu", torch.bfloat16):
            a @ b
        a @ b

    assert counted(mixed) == {torch.bfloat16: 2 * 4 * 5 * 6, torch.float32: 2 * 4 * 5 * 6}


def test_a_matrix_product_computes_what_is_said_of_it():
    task = matrix_product(torch.float32, torch.device("cpu"), 16)
    assert counted(task) == {torch.float32: 2 * 16**3}


def moved(task):
    with FlopsByPrecision() as counter:
        task()
    return [(each.flops, each.bytes) for each in counter.operations]


def test_operations_move_what_they_read_and_write():
    a, b = torch.rand(4, 5), torch.rand(5, 6)
    assert moved(lambda: a @ b) == [(2 * 4 * 5 * 6, 4 * (20 + 30 + 24))]
    assert moved(lambda: a.relu()) == [(0, 4 * 40)]
    assert moved(lambda: a.mul_(2)) == [(0, 4 * 40)]
    assert moved(lambda: torch.cat([a, a])) == [(0, 4 * 80)]
    assert moved(lambda: a.t().reshape(2, 10)[0].expand(3, 10)[:1].detach()) == [(0, 4 * 40)]  # the copy of reshape
    assert moved(lambda: torch.empty(100)) == []
    assert moved(lambda: b[:1].expand(7, 6) + 1) == [(0, 4 * (30 + 42))]  # what is repeated lies there once
    assert moved(copy_block(torch.device("cpu"), 400)) == [(0, 800)]


def test_the_roofline_takes_what_takes_longer_of_each_operation():
    f32 = torch.float32
    operations = [Operation(f32, 100, 10), Operation(f32, 0, 30), Operation(torch.int64, 0, 5)]
    found = roofline_seconds(operations, {f32: np.array([10.0, 100.0])}, np.array([5.0, 5.0]))
    assert found.tolist() == [10 + 6 + 1, 2 + 6 + 1]
