"""The perceptual network: VGG19 from a file, files that are refused, the judge in its place."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fexgan_lit.metrics.judges.affect import JudgeNet
from fexgan_lit.systems.landmark_label.losses import (
    LandmarkLabelLossSettings,
)
from fexgan_lit.systems.landmark_label.perceptual import (
    VGG19_CONVOLUTIONS,
    VGG19_FILE,
    Perceptual,
    VGG19Start,
    load_vgg19,
)
from fexgan_lit.utils.errors import UserError
from tests.systems.helpers import fit
from tests.systems.landmark_label import make_system


def vgg_state(**changed: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """VGG19's convolutions; all but the two in use hold a single number, stretched, so that files stay small."""
    g = torch.Generator().manual_seed(0)
    state = {}
    for place, (i, o) in VGG19_CONVOLUTIONS.items():
        used = place in (0, 2)
        state[f"features.{place}.weight"] = torch.randn(o, i, 3, 3, generator=g) * 0.1 if used else zeros(o, i, 3, 3)
        state[f"features.{place}.bias"] = torch.randn(o, generator=g) if used else zeros(o)
    state["classifier.0.bias"] = zeros(4096)
    return {k: v for k, v in (state | changed).items() if v is not None}


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(1).expand(shape)


def test_vgg19_is_read_and_computed_up_to_conv1_2(tmp_path):
    state = vgg_state()
    torch.save(state, tmp_path / "vgg.pth")
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    before, after = (load_vgg19(tmp_path / "vgg.pth", layer)(images) for layer in ("conv1_2", "relu1_2"))
    unit = (images / 2 + 0.5).permute(0, 2, 3, 1)
    seen = ((unit - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])).permute(0, 3, 1, 2)
    first = nn.functional.conv2d(seen, state["features.0.weight"], state["features.0.bias"], padding=1).clamp(min=0)
    second = nn.functional.conv2d(first, state["features.2.weight"], state["features.2.bias"], padding=1)
    torch.testing.assert_close(before, second)
    torch.testing.assert_close(after, second.clamp(min=0))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (
            vgg_state(**{"features.34.weight": None, "features.34.bias": None}),
            r"features\.34\.bias is missing",
        ),  # fewer
        (
            vgg_state(**{"features.1.running_mean": zeros(64)}),
            r"features\.1\.running_mean is unexpected",
        ),  # with norm
        (vgg_state(**{"features.0.weight": zeros(64, 1, 3, 3)}), r"features\.0\.weight is \(64, 1, 3, 3\)"),
        ({"conv1.weight": zeros(64, 3, 7, 7)}, "is missing"),
        ({"model": vgg_state()}, "not a state dict"),
        ([1, 2], "not a state dict of tensors but a list"),
        (nn.Conv2d(1, 1, 1), "does not contain weights"),
        (b"not torch at all", "does not contain weights"),
    ],
)
def test_weights_of_another_net_are_refused(tmp_path, content, match):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=match) as error:
        load_vgg19(path)
    assert f"model.vgg_weights={path}" in str(error.value)
    assert VGG19_FILE in str(error.value)


def test_a_path_without_a_file_is_refused(tmp_path):
    system = make_system(LandmarkLabelLossSettings(), vgg_weights=str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=r"model\.vgg_weights=.*no such file"):
        system.load_perceptual()


def test_which_perceptual_network_is_in_force(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    system = make_system(LandmarkLabelLossSettings())
    assert not system.load_perceptual()
    assert "not set yet" in system.summary_lines()[0]
    judge = JudgeNet(7, 2, working_size=32).freeze()
    system.set_perceptual(judge, "judge trained on 3 frames")
    assert system.perceptual.kind == "judge"
    assert system.summary_lines() == [
        "perceptual loss: first maps of the judge, in place of VGG19 (judge trained on 3 frames)"
    ]

    cached = tmp_path / "hub" / "checkpoints" / VGG19_FILE
    cached.parent.mkdir(parents=True)
    torch.save(vgg_state(), cached)
    assert system.load_perceptual()
    assert system.perceptual.kind == "vgg19"
    assert str(cached) in system.summary_lines()[0]
    assert not make_system(LandmarkLabelLossSettings(), perceptual="judge").load_perceptual()
    assert make_system(LandmarkLabelLossSettings(perceptual=0)).load_perceptual()
    cached.unlink()
    with pytest.raises(UserError, match=r"model\.perceptual=vgg19"):
        make_system(LandmarkLabelLossSettings(), perceptual="vgg19").load_perceptual()


def test_the_judge_stands_in_only_where_there_is_no_vgg19(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked = []

    def judge():
        asked.append(1)
        return SimpleNamespace(net=JudgeNet(7, 2, working_size=32).freeze(), describe=lambda: "right 9 times of 10")

    system = make_system(LandmarkLabelLossSettings())
    system.prepare(SimpleNamespace(landmarks=None), judge)
    assert system.perceptual.kind == "judge"
    assert "right 9 times of 10" in system.summary_lines()[0]
    with pytest.raises(UserError, match=r"model\.vgg_weights=FILE"):
        make_system(LandmarkLabelLossSettings()).prepare(SimpleNamespace(landmarks=None), lambda: None)
    torch.save(vgg_state(), tmp_path / "vgg.pth")
    own = make_system(LandmarkLabelLossSettings(), vgg_weights=str(tmp_path / "vgg.pth"))
    own.prepare(SimpleNamespace(landmarks=None), judge)
    make_system(LandmarkLabelLossSettings(perceptual=0)).prepare(SimpleNamespace(landmarks=None), judge)
    assert own.perceptual.kind == "vgg19"
    assert len(asked) == 1


def test_the_judge_gives_its_first_maps():
    judge = JudgeNet(7, 2, working_size=32).freeze()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    maps = Perceptual(judge, "")(images)
    pooled = nn.functional.interpolate(images, size=(32, 32), mode="area")
    torch.testing.assert_close(maps, judge.blocks[0](judge.stem(pooled)))


def test_the_perceptual_network_learns_nothing_and_stays_out_of_the_checkpoint(tmp_path):
    system = make_system(LandmarkLabelLossSettings())
    module = VGG19Start()
    system.set_perceptual(module)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    assert not any("perceptual" in name or "conv1_1" in name for name in system.state_dict())
    fit(system, 2, tmp_path)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not module.training


def test_a_perceptual_loss_without_network_is_refused_before_the_first_step(tmp_path):
    system = make_system(LandmarkLabelLossSettings())
    with pytest.raises(UserError, match=r"metrics\.judge=true"):
        fit(system, 1, tmp_path)
    assert system.iteration == 0


#: torchvision's configurations: channels of the convolutions, M a pooling.
CONFIGURATIONS = {
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


def torchvision_vgg(name: str, batch_norm: bool = False) -> dict[str, torch.Tensor]:
    """A state dict with torchvision's names and shapes; random, the large layers a single random number stretched."""
    g = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        large = math.prod(shape) > 100_000
        return torch.randn(1, generator=g).expand(shape) if large else 0.1 * torch.randn(shape, generator=g)

    state, place, inputs = {}, 0, 3
    for word in CONFIGURATIONS[name].split():
        if word == "M":
            place += 1
            continue
        outputs = int(word)
        layers = {"weight": random(outputs, inputs, 3, 3), "bias": random(outputs)}
        state |= {f"features.{place}.{part}": value for part, value in layers.items()}
        if batch_norm:
            parts = ("weight", "bias", "running_mean", "running_var")
            state |= {f"features.{place + 1}.{part}": random(outputs) for part in parts}
            state[f"features.{place + 1}.num_batches_tracked"] = torch.tensor(0)
        place, inputs = place + (3 if batch_norm else 2), outputs
    for layer, (outputs, inputs) in {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}.items():
        state |= {f"classifier.{layer}.weight": random(outputs, inputs), f"classifier.{layer}.bias": random(outputs)}
    return state


def resnet_state() -> dict[str, torch.Tensor]:
    """The first entries of torchvision's ResNet-18."""
    return {"conv1.weight": zeros(64, 3, 7, 7), "bn1.weight": zeros(64), "layer1.0.conv1.weight": zeros(64, 64, 3, 3),
            "layer1.0.conv2.weight": zeros(64, 64, 3, 3), "fc.weight": zeros(1000, 512)}  # fmt: skip


@pytest.mark.parametrize("layer", ["conv1_2", "relu1_2"])
def test_a_file_with_torchvisions_names_and_shapes_gives_the_features_of_an_independent_forward(tmp_path, layer):
    state = torchvision_vgg("vgg19")
    assert len(state) == 2 * 16 + 2 * 3
    assert state["features.34.weight"].shape == (512, 512, 3, 3)
    path = tmp_path / VGG19_FILE
    torch.save(state, path)
    system = make_system(LandmarkLabelLossSettings(), vgg_weights=str(path), perceptual_layer=layer)
    system.prepare(SimpleNamespace(landmarks=None), lambda: None)
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(2)) * 2 - 1
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, maps = ((images + 1) / 2 - mean) / std, {}
    for number, place in enumerate((0, 2), 1):  # torchvision: conv, relu, conv, relu
        x = nn.functional.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1)
        maps[f"conv1_{number}"] = x
        x = maps[f"relu1_{number}"] = nn.functional.relu(x)
    assert (maps["conv1_2"] < 0).any()
    torch.testing.assert_close(system.perceptual(images), maps[layer])
    assert str(path) in system.summary_lines()[0]


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (torchvision_vgg("vgg16"), "holds VGG16, not VGG19"),
        (torchvision_vgg("vgg19", batch_norm=True), "holds VGG19 with batch norm, not VGG19"),
        (resnet_state(), r"holds a ResNet \(3 convolutions\), not VGG19"),
    ],
    ids=["vgg16", "vgg19_bn", "resnet"],
)
def test_weights_of_torchvisions_other_networks_are_named(tmp_path, state, found):
    torch.save(state, tmp_path / "weights.pth")
    system = make_system(LandmarkLabelLossSettings(), vgg_weights=str(tmp_path / "weights.pth"))
    with pytest.raises(UserError, match=found) as error:
        system.prepare(SimpleNamespace(landmarks=None), lambda: None)
    assert f"expected torchvision's {VGG19_FILE}" in str(error.value)
