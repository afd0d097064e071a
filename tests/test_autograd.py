"""Functions whose gradients have none themselves say so, and cost nothing for it where nobody asks."""

from __future__ import annotations

import pytest
import torch

from fexgan_lit.strided import HalvingConv
from tests.winograd.maps import last


def walked_back(recorded):
    layer = HalvingConv(3, 8).to(memory_format=torch.channels_last)
    x = last(torch.randn(2, 3, 8, 8)).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=recorded)
    return x, gradient


def test_a_second_derivative_is_refused_by_name():
    _, gradient = walked_back(recorded=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_first_is_the_same_whether_it_is_recorded_or_not():
    torch.manual_seed(0)
    _, plain = walked_back(recorded=False)
    torch.manual_seed(0)
    _, recorded = walked_back(recorded=True)
    assert torch.equal(plain, recorded)
    assert recorded.requires_grad
    assert not plain.requires_grad
