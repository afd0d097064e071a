"""Batches worked off in parts: the same gradients as the whole gives, and who cannot do it."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from fexgan_lit.runs.config import train_settings
from fexgan_lit.utils.errors import UserError
from tests.benchmarks.test_plain_loops import tiny
from tests.runs.test_config import composed
from tests.systems.helpers import NoisePairs, fit


class FixedNorms(Callback):
    """Batch norm in evaluation mode, so that it does not look at the batch; dropout off."""

    def on_train_start(self, trainer, system):
        for module in system.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
                module.eval()


class Keep(Callback):
    """Losses of every iteration, and the gradients each optimizer stepped with."""

    def __init__(self):
        self.losses, self.gradients = [], []

    def on_before_optimizer_step(self, trainer, system, optimizer):
        self.gradients.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    def on_train_batch_end(self, trainer, system, outputs, batch, batch_idx):
        self.losses.append({name: float(value) for name, value in outputs.items()})


def system_of(model):
    # 16 codes: torch draws normal numbers in blocks of 16, so that two parts get the noise of the whole
    return tiny(model, *(("model.latent_size=16",) if model == "fexgan" else ()))


def trained(system, micro_batch, tmp_path, iterations=2, norms=True):
    system, keep = copy.deepcopy(system), Keep()
    system.micro_batch = micro_batch
    fit(system, iterations, tmp_path, NoisePairs(batch=16), [keep, *([FixedNorms()] if norms else [])])
    return system, keep


@pytest.mark.parametrize(("model", "parts"), [("fexgan", 8), ("fexgan", 6), ("landmark_label", 8)])
def test_parts_add_up_to_the_batch(model, parts, tmp_path):
    """16 pairs as 8 + 8 and as 5 + 6 + 5: gradients, losses, moving average and count of iterations."""
    system = system_of(model)
    (whole, at_once), (cut, in_parts) = (trained(system, size, tmp_path) for size in (None, parts))
    assert len(at_once.gradients) == len(in_parts.gradients) == 2 * (2 if model == "fexgan" else 3)
    for ours, theirs in zip(at_once.gradients[:2], in_parts.gradients[:2], strict=True):  # of the same weights
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(at_once.losses, in_parts.losses, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3)
    assert cut.iteration == whole.iteration == 2
    for one, other in zip(whole.average.parameters(), cut.average.parameters(), strict=True):
        # Adam divides by the size of a gradient, so rounding shows in weights whose gradient is next to nothing
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3)


def test_batch_norm_sees_the_parts(tmp_path):
    system = system_of("fexgan")
    (_, whole), (_, parts) = (trained(system, size, tmp_path, 1, norms=False) for size in (None, 8))
    assert parts.losses[0]["generator"] != pytest.approx(whole.losses[0]["generator"], rel=1e-4)


def test_the_networks_never_see_more_than_a_part(tmp_path):
    system, seen = system_of("fexgan"), []
    system.micro_batch = 5
    system.generator.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    fit(system, 1, tmp_path, NoisePairs(batch=16))
    assert seen == [4, 4, 4, 4]


def test_parts_in_bf16(tmp_path):
    """Autocast keeps the weights it has cast for the next part; every part is walked back all the same."""
    system = system_of("fexgan")
    system.micro_batch, keep = 8, Keep()
    fit(system, 2, tmp_path, NoisePairs(batch=16), [keep], precision="bf16")
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in keep.gradients[0][:1])
    assert len(keep.losses) == 2


def test_parts_are_as_even_as_can_be_and_keep_the_order():
    batch = NoisePairs(batch=16).batch(0, 0)
    assert batch.parts(None)[0] is batch
    assert batch.parts(16)[0] is batch
    for largest, sizes in ((8, [8, 8]), (15, [8, 8]), (6, [5, 6, 5]), (1, [1] * 16)):
        parts = batch.parts(largest)
        assert [len(part) for part in parts] == sizes
        assert torch.equal(torch.cat([part.source for part in parts]), batch.source)
        assert torch.equal(torch.cat([part.target_landmarks for part in parts]), batch.target_landmarks)
    bare = NoisePairs(batch=4, bare=True).batch(0, 0).parts(2)
    assert bare[1].target_aus is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    {
        "critic steps in between": (("model=ganimation", "trainer.micro_batch=8"), ["GANimation", "critic steps"]),
        "stargan": (("model=stargan", "trainer.micro_batch=8", "dataset.batch_size=16"), ["StarGAN", "batch_size=16"]),
        "a part of one": (("trainer.micro_batch=2", "dataset.batch_size=3"), ["a part of 1", "BatchNorm"]),
        "nothing at once": (("trainer.micro_batch=0",), ["trainer.micro_batch=0", "positive"]),
        "no memory": (("trainer.memory_limit_gb=-1",), ["trainer.memory_limit_gb=-1", "positive"]),
    }.values(),
)
def test_what_cannot_be_done_in_parts_is_refused(overrides, said):
    with pytest.raises(UserError) as error:
        train_settings(composed(*overrides))
    assert [words for words in said if words not in str(error.value)] == []


def test_a_micro_batch_that_holds_the_batch_suits_every_system():
    settings = train_settings(composed("model=ganimation", "trainer.micro_batch=32", "dataset.batch_size=32"))
    assert settings.trainer.micro_batch == 32
