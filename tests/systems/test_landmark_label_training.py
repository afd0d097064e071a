"""Landmark-and-label guided synthesis: equations 4 to 7, who learns from what, and going on after a stop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fexgan_lit.data.config import DatasetConfig
from fexgan_lit.data.datamodule import FrameDataModule
from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.judges.affect import JudgeNet
from fexgan_lit.runs.weights import load_weights, save_weights
from fexgan_lit.systems.annotations import landmark_heatmaps
from fexgan_lit.systems.landmark_label.config import LandmarkLabelSettings
from fexgan_lit.systems.landmark_label.losses import (
    LandmarkLabelLossSettings,
    adversarial_loss,
    discriminator_loss,
    generator_loss,
    perceptual_loss,
    pixel_loss,
)
from fexgan_lit.systems.landmark_label.perceptual import VGG19Start
from fexgan_lit.systems.optimizers import DualOptimizerSettings
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import NoisePairs, fit, saver
from tests.systems.landmark_label import make_system

# ---------------------------------------------------------------------- equations 4 to 7


def test_equation_4_by_hand():
    a, b = torch.tensor([[[[0.0, math.log(3)]]]]), torch.full((1, 1, 2, 2), -math.log(3))  # D = 1/2, 3/4 and 1/4
    total, parts = adversarial_loss(a, b)
    image, geometry = (math.log(2) + math.log(4 / 3)) / 2, math.log(4)
    assert parts["adversarial_image"].item() == pytest.approx(image)
    assert parts["adversarial_geometry"].item() == pytest.approx(geometry)
    assert total.item() == pytest.approx((image + geometry) / 2)
    # real judged 1/2 and 3/4, generated 1/4
    assert discriminator_loss(a, b).item() == pytest.approx(image + math.log(4 / 3))


def test_equations_5_to_7_by_hand():
    generated, true = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    true[0, :, 1, 2] = torch.tensor([1.0, -0.5, 0.25])  # |difference| 1.75 in one of two images of 20 pixels
    assert pixel_loss(generated, true).item() == pytest.approx(1.75 / 20 / 2)
    assert pixel_loss(generated, true, "mean").item() == pytest.approx(1.75 / 60 / 2)
    a, b = torch.zeros(1, 4, 2, 3), torch.full((1, 4, 2, 3), -0.5)
    assert perceptual_loss(a, b).item() == pytest.approx(0.5)
    total = generator_loss(torch.tensor(0.7), torch.tensor(0.2), torch.tensor(0.1), LandmarkLabelLossSettings())
    assert total.item() == pytest.approx(5 * 0.7 + 10 * 0.2 + 10 * 0.1)


# ---------------------------------------------------------------------- training


def gradients_of_one_step(**loss: float) -> dict[str, list[torch.Tensor]]:
    system = make_system(LandmarkLabelLossSettings(**{"perceptual": 0} | loss), dropout=0.0)
    system.manual_backward = lambda total, **kwargs: total.backward(**kwargs)
    system.step_together = lambda *_: None
    system.training_step(NoisePairs().batch(0, 0), 0)
    names = ("generator", "image_discriminator", "geometry_discriminator")
    return {name: [p.grad.clone() for p in getattr(system, name).parameters()] for name in names}


def test_each_loss_reaches_its_own_network_only():
    """The weights of equation 7 scale the generator's gradient; the discriminators' they do not touch."""
    base, heavy, double = (
        gradients_of_one_step(adversarial=a, pixel=p) for a, p in ((1.0, 1.0), (1.0, 50.0), (2.0, 2.0))
    )
    for name in ("image_discriminator", "geometry_discriminator"):
        for other in (heavy, double):
            assert all(torch.equal(a, b) for a, b in zip(base[name], other[name], strict=True))
    assert not all(torch.allclose(a, b) for a, b in zip(base["generator"], heavy["generator"], strict=True))
    for a, b in zip(base["generator"], double["generator"], strict=True):
        torch.testing.assert_close(2 * a, b, rtol=1e-4, atol=1e-6)


def test_three_adams_as_stated():
    optimizers = make_system(optimizer=DualOptimizerSettings(lr_discriminator=1e-3)).configure_optimizers()
    assert [o.param_groups[0]["lr"] for o in optimizers] == [2e-4, 1e-3, 1e-3]
    assert {o.param_groups[0]["betas"] for o in optimizers} == {(0.5, 0.999)}


def test_one_generator_forward_and_one_step_of_each_network_an_iteration(tmp_path):
    system, calls = make_system(), []
    system.generator.register_forward_hook(lambda *_: calls.append(1))
    before = {name: value.clone() for name, value in system.named_parameters()}
    fit(system, 2, tmp_path)
    assert len(calls) == 2
    assert system.iteration == 2
    moved = {name.split(".")[0] for name, value in system.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"generator", "image_discriminator", "geometry_discriminator", "average"}


def test_n_critic_lets_the_generator_step_on_every_nth_iteration(tmp_path):
    system = make_system(optimizer=DualOptimizerSettings(n_critic=3))
    before = {name: value.clone() for name, value in system.named_parameters()}

    def moved() -> set[str]:
        return {n.split(".")[0] for n, value in system.named_parameters() if not torch.equal(value, before[n])}

    fit(system, 2, tmp_path)
    assert moved() == {"image_discriminator", "geometry_discriminator"}
    fit(system, 3, tmp_path)
    assert moved() >= {"generator", "average"}


def test_the_discriminators_see_the_stated_pairs():
    """Source beside face for one, wanted landmarks beside face for the other; the painted face in both."""
    system, seen = make_system(), {}
    for name in ("image_discriminator", "geometry_discriminator"):
        getattr(system, name).register_forward_pre_hook(lambda m, inputs, name=name: seen.update({name: inputs}))
    system.step_together = lambda *_: None
    system.manual_backward = lambda *_, **__: None
    batch = NoisePairs().batch(0, 0)
    system.training_step(batch, 0)
    heatmaps = landmark_heatmaps(batch.target_landmarks, 32, 0.5)
    for name, condition in (("image_discriminator", batch.source), ("geometry_discriminator", heatmaps)):
        given, images = seen[name]
        assert torch.equal(given, torch.cat((condition, condition)))
        assert torch.equal(images[:4], batch.target)
        assert not torch.equal(images[4:], batch.target)
    assert torch.equal(seen["image_discriminator"][1], seen["geometry_discriminator"][1])


def test_resume_gives_the_same_weights(tmp_path):
    module, save = VGG19Start(), saver(tmp_path, 4)

    def fresh():
        system = make_system(LandmarkLabelLossSettings())
        system.set_perceptual(module)
        return system

    whole, first, second = fresh(), fresh(), fresh()
    fit(whole, 6, tmp_path)
    fit(first, 4, tmp_path, callbacks=[save])
    for parameter in second.parameters():
        parameter.data.zero_()
    torch.rand(5)  # whatever was drawn before must not matter
    fit(second, 6, tmp_path, checkpoint=save.path)
    states = zip(whole.state_dict().items(), second.state_dict().values(), strict=True)
    assert [name for (name, a), b in states if not torch.equal(a, b)] == []

    other = fresh()
    other.set_perceptual(JudgeNet(7, 2, working_size=32).freeze())
    with pytest.raises(UserError, match=r"trained with vgg19.*judge was found now"):
        fit(other, 8, tmp_path, checkpoint=save.path)


def test_portable_weights_restore_the_system(tmp_path):
    system, other = make_system(), make_system()
    fit(system, 2, tmp_path)
    save_weights(system, tmp_path / "weights")
    load_weights(other, tmp_path / "weights")
    batch = NoisePairs().batch(0, 1)
    ours, theirs = system.eval().validation_step(batch), other.eval().validation_step(batch)
    assert torch.equal(ours.generated, theirs.generated)
    assert torch.equal(ours.real_realness, theirs.real_realness)


def test_assess_judges_the_true_target_beside_its_source():
    system = make_system()
    batch = NoisePairs().batch(0, 0)
    outcome = system.validation_step(batch)
    assert outcome.generated.shape == batch.target.shape
    assert outcome.real_realness.shape == outcome.fake_realness.shape == (4,)
    assert outcome.real_affect is None
    assert outcome.fake_affect is None
    assert torch.equal(outcome.real_realness, system.realness(batch.source, batch.target_expression(7), batch.target))
    one = Expression(landmarks=batch.target_landmarks[1:2])
    alone = system.realness(batch.source[1:2], one, batch.target[1:2])
    torch.testing.assert_close(outcome.real_realness[1:2], alone)  # fixed statistics: no row sees another
    assert system.image_discriminator.training


@pytest.fixture(scope="module")
def studio() -> FrameDataModule:
    return FrameDataModule(DatasetConfig(
        image_size=32, identities=2, takes=2, frames=3, batch_size=8, val_fraction=0.3, split="take"
    ))  # fmt: skip


def test_a_few_steps_lower_the_pixel_loss_on_the_studio(studio, tmp_path):
    """On one batch seen again and again, beside the loss of an even grey."""
    assert studio.train.landmarks is not None
    batch = studio.train_dataloader().batch(0, 0)

    class Same(NoisePairs):
        def batch(self, epoch: int, number: int) -> PairBatch:
            return batch

    losses = LandmarkLabelLossSettings(adversarial=0.1, perceptual=0)
    rates = DualOptimizerSettings(lr=4e-3, ema_half_life_images=0)
    system = make_system(losses, rates, studio.affects, width=0.1, dropout=0.0)
    assert np.ptp(batch.target_landmarks.numpy()) > 0.5  # the points spread over the face

    def loss() -> float:
        return float(pixel_loss(system.validation_step(batch).generated, batch.target))

    fit(system, 20, tmp_path, Same())
    first = loss()
    fit(system, 40, tmp_path, Same())
    assert loss() < 0.6 * first
    assert loss() < float(pixel_loss(torch.zeros_like(batch.target), batch.target)) / 2


def test_configuration_files_hold_the_defaults_of_the_dataclasses():
    from dataclasses import asdict

    from omegaconf import OmegaConf

    from fexgan_lit.utils.hydra import conf_folder

    loss, both = (
        OmegaConf.to_container(OmegaConf.load(conf_folder() / group / "landmark_label.yaml"), resolve=False)
        for group in ("loss", "model")
    )
    assert loss == asdict(LandmarkLabelLossSettings())
    assert both["optimizer"] == asdict(DualOptimizerSettings())
    assert both["model"].pop("_target_").endswith("LandmarkLabel")
    assert both["model"].pop("image_size") == "${dataset.image_size}"
    assert both["model"] | {"image_size": 128} == asdict(LandmarkLabelSettings())
