"""The bridge: its sizes, its points, its steps and its loss by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fexgan_lit.expression import Expression
from fexgan_lit.systems.bridge import (
    Attention,
    Bridge,
    BridgeLossSettings,
    BridgeOptimizerSettings,
    BridgeSettings,
    UNet,
    bridge_point,
    sample,
    sampling_noise,
)
from fexgan_lit.systems.gan import ema_decay
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import NoisePairs, changed, count, fit, snapshot

AFFECTS = [f"a{k}" for k in range(4)]


def settings(**model) -> BridgeSettings:
    return BridgeSettings(**{"image_size": 32, "width": 0.07} | model)


def make_system(loss=None, optimizer=None, **model) -> Bridge:
    torch.manual_seed(0)
    optimizer = optimizer or BridgeOptimizerSettings(ema_half_life_images=0)
    return Bridge(settings(**model), loss or BridgeLossSettings(), optimizer, AFFECTS)


def woken(network: nn.Module) -> nn.Module:
    """The network with weights in the layers that start at zero."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return network


def faces(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def units(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    return torch.rand(batch, 17, generator=g), torch.rand(batch, 17, generator=g), torch.ones(batch, 1)


# ---------------------------------------------------------------------- the network


def conv(inputs: int, outputs: int, kernel: int = 3) -> int:
    return kernel**2 * inputs * outputs + outputs


def block(inputs: int, outputs: int) -> int:
    """Two norms and convolutions, a scale and shift from 256 numbers, a 1x1 convolution where the counts differ."""
    norms, film = 2 * inputs + 2 * outputs, 257 * 2 * outputs
    skip = conv(inputs, outputs, 1) if inputs != outputs else 0
    return norms + conv(inputs, outputs) + conv(outputs, outputs) + film + skip


def test_the_u_net_has_the_parameters_of_its_table():
    inwards = block(64, 64) * 2 + block(64, 128) + block(128, 128) + block(128, 256) + block(256, 256) * 3
    outwards = block(512, 256) + block(256, 256) + block(384, 128) + block(128, 128) + block(192, 64) + block(64, 64)
    attention = 2 * 256 + conv(256, 3 * 256, 1) + conv(256, 256, 1)
    units = (17 + 1) * 256 + 257 * 256 + 256 + 513 * 256 + 257 * 256  # encoder, code of unknown units, mix
    time = (64 + 256 + 1) * 256 + 257 * 256
    ends = conv(6, 64) + 2 * 64 + conv(64, 3)
    network = UNet(BridgeSettings())
    assert count(network) == inwards + outwards + attention + units + time + ends == 11_260_355
    assert not dict(network.named_buffers(remove_duplicate=False)).keys() & network.state_dict().keys()


@pytest.mark.parametrize(
    ("size", "scales", "attended"), [(32, 4, 2), (64, 4, 2), (128, 4, 1), (256, 5, 1), (512, 6, 1)]
)
def test_every_size_has_attention_at_16_px_alone(size, scales, attended):
    network = UNet(settings(image_size=size)).to("meta")
    seen = []
    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _, given, made: seen.append(given[0].shape[-1]))
    image = torch.zeros(1, 3, size, size, device="meta")
    wanted, shown, known = (x.to("meta") for x in units(1))
    made = network(image, image, torch.zeros(1, device="meta"), wanted, shown, known, known)
    assert made.shape == image.shape
    assert len(network.down) == scales
    assert seen == [16] * attended


def test_an_untrained_network_returns_the_source_and_a_trained_one_reads_all_its_inputs():
    network, x, source, time = UNet(settings()), faces(seed=1), faces(), torch.tensor([0.2, 0.7])
    wanted, shown, known = units()
    assert torch.equal(network(x, source, time, wanted, shown, known, known), source)
    woken(network)
    base = {"x": x, "source": source, "time": time, "wanted": wanted, "shown": shown, "known": known, "given": known}
    made = network(**base)
    others = {name: value + 0.1 for name, value in base.items()} | {"known": 0 * known, "given": 0 * known}
    for name, value in others.items():
        assert not torch.allclose(network(**base | {name: value}), made, atol=1e-4), name
    hidden = base | {"given": 0 * known}
    assert torch.equal(network(**hidden), network(**hidden | {"wanted": wanted + 0.1}))
    # one face does not see another
    alone = network(**{name: value[:1] for name, value in base.items()})
    torch.testing.assert_close(alone, made[:1], atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------- the path and the steps


@pytest.mark.parametrize("u", [0.0, 0.3, 0.8, 1.0])
def test_points_have_the_mean_and_variance_of_a_brownian_bridge(u):
    start, target = torch.tensor([-0.5, 0.25]), torch.tensor([1.0, 0.0])
    n = 40_000
    start, target = (x[:, None, None, None].repeat(1, 1, 1, n) for x in (start, target))
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    points = bridge_point(start, target, torch.full((2,), u), 0.1, noise)
    for row, mean in enumerate([(1 - u) * -0.5 + u, (1 - u) * 0.25]):
        deviation = 0.1 * math.sqrt(u * (1 - u))
        assert points[row].mean().item() == pytest.approx(mean, abs=1e-6 + 4 * deviation / math.sqrt(n))
        assert points[row].std().item() == pytest.approx(deviation, rel=0.02, abs=1e-6)
    if u in (0.0, 1.0):
        assert torch.equal(points, start if u == 0 else target)


def test_without_sigma_points_lie_on_a_straight_line():
    start, target, noise = faces(seed=1), faces(seed=2), torch.full((2, 3, 32, 32), 1e3)
    points = bridge_point(start, target, torch.tensor([0.25, 0.5]), 0.0, noise)
    torch.testing.assert_close(points[0], 0.75 * start[0] + 0.25 * target[0])
    torch.testing.assert_close(points[1], (start[1] + target[1]) / 2)


class Perfect:
    """A predictor that knows the target, and keeps what it was asked."""

    def __init__(self, target: Tensor) -> None:
        self.target, self.points, self.times = target, [], []

    def __call__(self, x, source, time, wanted, shown, known, given):
        self.points.append(x)
        self.times.append(time[0].item())
        return self.target


@pytest.mark.parametrize(("prior", "stochastic"), [("source", False), ("noise", False), ("source", True)])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_a_perfect_predictor_arrives_at_the_target(steps, prior, stochastic):
    chosen = settings(steps=steps, prior=prior, stochastic=stochastic)
    noise = sampling_noise(chosen, 2, torch.Generator().manual_seed(0))
    assert len(noise) == (steps if stochastic else int(prior == "noise"))
    source, perfect = faces(), Perfect(faces(seed=1))
    assert torch.equal(sample(perfect, chosen, noise, source, *units()), perfect.target)
    assert perfect.times == pytest.approx([k / steps for k in range(steps)])
    start = noise[0] if prior == "noise" else source
    assert torch.equal(perfect.points[0], start)
    if not stochastic:
        for time, point in zip(perfect.times, perfect.points, strict=True):
            torch.testing.assert_close(point, (1 - time) * start + time * perfect.target)


def test_stochastic_steps_have_the_points_of_training():
    """Mean and variance at every step are those of `bridge_point`, whatever was added before."""
    chosen, n = settings(steps=4, sigma=0.3, stochastic=True), 40
    noise = sampling_noise(chosen, n, torch.Generator().manual_seed(0))
    perfect = Perfect(torch.full((n, 3, 32, 32), 0.5))
    sample(perfect, chosen, noise, torch.full((n, 3, 32, 32), -0.5), *units(n))
    for u, points in zip(perfect.times, perfect.points, strict=True):
        assert points.mean().item() == pytest.approx(-0.5 + u, abs=0.003)
        assert points.std().item() == pytest.approx(0.3 * math.sqrt(u * (1 - u)), rel=0.02)


def test_one_step_is_the_regression_at_the_source():
    system, source = make_system().eval(), faces()
    woken(system.average)
    wanted, shown, known = units()
    made = system.synthesize(source, Expression(aus=shown), Expression(aus=wanted))
    direct = system.average(source, source, torch.zeros(2), wanted, shown, known, known)
    assert torch.equal(made, direct.clamp(-1, 1))
    system.settings.steps = 2
    assert not torch.allclose(system.synthesize(source, Expression(aus=shown), Expression(aus=wanted)), made)


def test_guidance_goes_beyond_what_is_predicted_without_the_target():
    def predict(x, source, time, wanted, shown, known, given):
        return (0.1 + 0.2 * given)[:, :, None, None].expand_as(source)  # 0.3 with the target, 0.1 without

    none = sampling_noise(settings(), 1, torch.Generator())
    for guidance, expected in ((1.0, 0.3), (2.0, 0.5), (0.0, 0.1), (20.0, 1.0)):
        made = sample(predict, settings(guidance=guidance), none, faces(), *units())
        torch.testing.assert_close(made, torch.full_like(made, expected))


@pytest.mark.parametrize("model", [{"prior": "noise", "steps": 2}, {"stochastic": True, "steps": 3}, {"steps": 3}])
def test_results_are_the_same_for_any_batch_and_vary_with_a_generator(model):
    system, source = make_system(**model).eval(), faces(3)
    woken(system.average)
    wanted, shown, _ = units(3)
    target, present = Expression(aus=wanted), Expression(aus=shown)
    torch.manual_seed(5)
    made = system.synthesize(source, present, target)
    torch.manual_seed(6)
    assert torch.equal(system.synthesize(source, present, target), made), "nothing draws from torch's generator"
    alone = system.synthesize(source[1:2], Expression(aus=shown[1:2]), Expression(aus=wanted[1:2]))
    torch.testing.assert_close(alone, made[1:2], rtol=1e-3, atol=1e-4)
    first, again, other = (system.edit(source, present, target, torch.Generator().manual_seed(n)) for n in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (model == {"steps": 3}), "only noise varies a result"


# ---------------------------------------------------------------------- training


def gradients_of(system: Bridge, iteration: int, asked: list) -> dict[str, Tensor]:
    """The losses of a batch and, in `asked`, what was given to the network, which predicts the source."""
    system.generator.forward = lambda *given: asked.append(given) or given[1]
    system.backward_into = lambda network, loss: asked.append(loss)
    system.iteration = iteration
    system.seed_iteration()
    return system._gradients(NoisePairs(batch=64).batch(0, 0), 1.0)


@pytest.mark.parametrize(("prior", "sigma"), [("source", 0.1), ("source", 0.0), ("noise", 0.1)])
def test_the_loss_is_the_distance_of_the_prediction_to_the_target(prior, sigma):
    system, batch, asked = make_system(prior=prior, sigma=sigma), NoisePairs(batch=64).batch(0, 0), []
    parts = gradients_of(system, 0, asked)
    (x, source, time, wanted, shown, _, _), loss = asked
    assert torch.equal(source, batch.source)
    assert torch.equal(wanted, batch.target_aus)
    assert torch.equal(shown, batch.source_aus)
    by_hand = (((batch.source - batch.target) ** 2 + 0.03**2).sqrt() - 0.03).mean()
    assert loss.item() == parts["generator"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    u = time[:, None, None, None]
    if prior == "source":
        rest = x - (1 - u) * batch.source - u * batch.target
        deviation = sigma * (time * (1 - time)).sqrt()
    else:
        rest, deviation = x - u * batch.target, 1 - time
    torch.testing.assert_close(rest.flatten(1).std(1), deviation, rtol=0.06, atol=1e-6)


def test_a_share_of_the_times_is_0_and_of_the_units_unknown():
    system, times, known, given = make_system(), [], [], []
    for iteration in range(20):
        asked = []
        gradients_of(system, iteration, asked)
        (_, _, time, _, _, k, g), _ = asked
        times.append(time)
        known.append(k)
        given.append(g)
    times, known, given = (torch.cat(values).flatten() for values in (times, known, given))
    n = len(times)  # 1280

    def near(share):
        return pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / n))

    assert (times == 0).float().mean().item() == near(0.2)
    assert known.mean().item() == near(0.8)
    assert given.mean().item() == near(0.9)
    rest = times[times > 0].sort().values
    assert rest.max() < 1
    assert (rest - torch.linspace(0, 1, len(rest))).abs().max() < 0.06, "uniform"
    system.loss_weights.at_start = 1.0
    gradients_of(system, 0, asked := [])
    assert not asked[0][2].any(), "at_start=1 is the regression alone"


def test_an_iteration_in_parts_is_an_iteration_at_once(tmp_path):
    quiet = BridgeLossSettings(at_start=1.0, unknown_source=0.0, unknown_target=0.0)  # nothing is random
    whole, parts = (make_system(quiet, BridgeOptimizerSettings(lr=1e-3)) for _ in range(2))
    parts.micro_batch = 2
    before = snapshot(whole.generator)
    fit(whole, 3, tmp_path)
    fit(parts, 3, tmp_path)
    assert changed(whole.generator, before)
    for (name, ours), theirs in zip(whole.generator.named_parameters(), parts.generator.parameters(), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: n + m)


def test_training_twice_gives_the_same_weights(tmp_path):
    first, second = (make_system() for _ in range(2))
    for system in (first, second):
        fit(system, 2, tmp_path)
        torch.rand(3)  # what is drawn in between changes nothing
    again = second.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items() if "proto" not in name)


def test_a_few_iterations_learn_what_a_unit_does(tmp_path):
    """Action unit 1 (column 0) brightens the face by one half."""

    class Lights(NoisePairs):
        def batch(self, epoch, number):
            pairs = super().batch(epoch, number)
            pairs.source_aus, pairs.target_aus = (torch.zeros(self.size, 17) for _ in range(2))
            pairs.target_aus[::2, 0] = 1.0
            pairs.source = 0.4 * pairs.source - 0.4
            pairs.target = pairs.source + 0.5 * pairs.target_aus[:, :1, None, None]
            return pairs

    system = make_system(optimizer=BridgeOptimizerSettings(lr=4e-3, ema_half_life_images=20))
    fit(system.train(), 60, tmp_path, pairs=Lights())
    system, batch = system.eval(), Lights().batch(9, 0)
    for steps in (1, 4):
        system.settings.steps = steps
        made = system.synthesize(batch.source, batch.source_expression(4), batch.target_expression(4))
        copied, error = ((image - batch.target).abs().mean().item() for image in (batch.source, made))
        assert error < 0.4 * copied, steps


def test_the_average_is_that_of_9995_at_batches_of_32():
    assert ema_decay(32, BridgeOptimizerSettings().ema_half_life_images, 10**9) == pytest.approx(0.9995, abs=1e-5)


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"prior": "target"}, "model.prior=target: expected one of source, noise"),
        ({"steps": 0}, "model.steps=0: expected 1 to 1000"),
        ({"sigma": -0.1}, "model.sigma=-0.1: expected"),
        ({"stochastic": True}, "model.stochastic=true with model.prior=source model.sigma=0.1 model.steps=1: no step"),
        ({"stochastic": True, "steps": 4, "sigma": 0.0}, "model.sigma=0 model.steps=4: no step adds noise"),
        ({"stochastic": True, "steps": 4, "prior": "noise"}, "model.prior=noise model.sigma=0.1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(model, words):
    with pytest.raises(UserError) as told:
        make_system(**model)
    assert words in str(told.value)


def test_guidance_needs_training_without_the_target():
    never = BridgeLossSettings(unknown_target=0.0)
    with pytest.raises(UserError, match=r"model.guidance=1.5 .* expected loss.unknown_target above 0"):
        make_system(never, guidance=1.5)
    make_system(never)


def test_a_source_without_units_is_edited_and_a_target_without_them_refused(tmp_path):
    system, x = make_system().eval(), faces(1)
    woken(system.average)
    wanted, shown = Expression(aus=torch.full((1, 17), 0.5)), Expression(aus=torch.full((1, 17), 0.1))
    assert not torch.equal(system.synthesize(x, None, wanted), system.synthesize(x, shown, wanted))
    with pytest.raises(UserError, match="bridge reads action units"):
        system.synthesize(x, None, system.expression([0]))
    with pytest.raises(UserError, match="bridge reads action units; the frames have none"):
        fit(make_system(), 1, tmp_path, NoisePairs(bare=True))
