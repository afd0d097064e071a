"""The perceptual network: VGG19 from a file, files that are refused, the judge in its place."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fexgan_lit.errors import UserError
from fexgan_lit.metrics.judge import JudgeNet
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
from tests.systems.landmark_label import fit, make_system


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
            r"features\.1\.running_mean does not belong",
        ),  # with norm
        (vgg_state(**{"features.0.weight": zeros(64, 1, 3, 3)}), r"features\.0\.weight is \(64, 1, 3, 3\)"),
        ({"conv1.weight": zeros(64, 3, 7, 7)}, "is missing"),
        ({"model": vgg_state()}, "not a state dict"),
        ([1, 2], "not a state dict of tensors but a list"),
        (nn.Conv2d(1, 1, 1), "holds no weights"),
        (b"not torch at all", "holds no weights"),
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
    assert "not set yet" in system.facts()[0]
    judge = JudgeNet(7, 2, working_size=32).freeze()
    system.set_perceptual(judge, "judge trained on 3 frames")
    assert system.perceptual.kind == "judge"
    assert system.facts() == ["perceptual loss: first maps of the judge, in place of VGG19 (judge trained on 3 frames)"]

    cached = tmp_path / "hub" / "checkpoints" / VGG19_FILE
    cached.parent.mkdir(parents=True)
    torch.save(vgg_state(), cached)
    assert system.load_perceptual()
    assert system.perceptual.kind == "vgg19"
    assert str(cached) in system.facts()[0]
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
    system.prepare(None, judge)
    assert system.perceptual.kind == "judge"
    assert "right 9 times of 10" in system.facts()[0]
    with pytest.raises(UserError, match=r"model\.vgg_weights=FILE"):
        make_system(LandmarkLabelLossSettings()).prepare(None, lambda: None)
    torch.save(vgg_state(), tmp_path / "vgg.pth")
    own = make_system(LandmarkLabelLossSettings(), vgg_weights=str(tmp_path / "vgg.pth"))
    own.prepare(None, judge)
    make_system(LandmarkLabelLossSettings(perceptual=0)).prepare(None, judge)
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
