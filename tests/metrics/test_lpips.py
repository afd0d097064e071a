from __future__ import annotations

from functools import partial

import pytest
import torch
import torchmetrics.functional.image.lpips as theirs

from fexgan_lit.metrics.judges.files import Unavailable
from fexgan_lit.metrics.lpips import BACKBONE_FILES, Lpips, make_lpips, shipped_heads
from fexgan_lit.utils.errors import UserError


def images(count: int = 2, size: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def backbone(tmp_path):
    """A file like torchvision's, with random weights and the classifier that LPIPS does not need."""
    state = {f"features.{name}": tensor for name, tensor in Lpips("alex").features.state_dict().items()}
    path = tmp_path / "alexnet.pth"
    torch.save(state | {"classifier.1.weight": torch.zeros(3, 3)}, path)
    return path


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_agrees_with_torchmetrics_on_the_same_random_weights(net, monkeypatch):
    mine = Lpips(net)
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda name, pretrained=False: mine.features)
    other = theirs._LPIPS(pretrained=False, net=net, pnet_rand=True)
    for head, weights in zip(other.lins, mine.heads, strict=True):
        head.model[-1].weight.data = weights.weight.data.clone()
    a, b = images(), images(seed=1)
    torch.testing.assert_close(mine(a, b), other(a, b).flatten(), rtol=1e-4, atol=1e-7)


def test_zero_on_itself_symmetric_and_one_value_an_image():
    lpips = Lpips()
    a, b = images(3), images(3, seed=1)
    assert lpips(a, a).tolist() == [0.0] * 3
    torch.testing.assert_close(lpips(a, b), lpips(b, a))
    torch.testing.assert_close(lpips(a, b)[1:2], lpips(a[1:2], b[1:2]))
    assert (lpips(a, b) > 0).all()
    assert not lpips.train().training or not lpips.features[0].weight.requires_grad


def test_weights_from_a_path_and_the_heads_of_torchmetrics(backbone):
    lpips = make_lpips(backbone=backbone)
    assert isinstance(lpips, Lpips)
    torch.testing.assert_close(lpips.features[0].weight, torch.load(backbone)["features.0.weight"])
    shipped = torch.load(shipped_heads("alex"), map_location="cpu", weights_only=True)
    torch.testing.assert_close(lpips.heads[4].weight, shipped["lin4.model.1.weight"])
    assert "alexnet.pth, heads alex.pth" in lpips.recipe(128)


def test_absent_with_a_reason_and_found_in_the_cache(tmp_path, monkeypatch, backbone):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub_home"))
    absent = make_lpips()
    assert isinstance(absent, Unavailable)
    assert BACKBONE_FILES["alex"] in absent.reason
    cached = tmp_path / "hub_home" / "hub" / "checkpoints" / BACKBONE_FILES["alex"]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(backbone.read_bytes())
    assert isinstance(make_lpips(), Lpips)


def without(state: dict, name: str) -> dict:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (partial(without, name="features.3.bias"), "another network: 3.bias is missing"),
        (lambda state: state | {"features.0.weight": torch.zeros(64, 3, 3, 3)}, r"0.weight is \(64, 3, 3, 3\), exp"),
        (lambda state: state | {"features.12.weight": torch.zeros(1)}, "12.weight is unexpected"),
        (lambda state: [1, 2], "not a dictionary of tensors but a list"),
    ],
)
def test_other_weights_are_named(backbone, change, message):
    torch.save(change(torch.load(backbone)), backbone)
    with pytest.raises(UserError, match=message):
        make_lpips(backbone=backbone)


def test_broken_and_missing_files_and_other_heads_are_named(tmp_path, backbone):
    with pytest.raises(UserError, match=r"metrics\.lpips_backbone=.*there is no such file"):
        make_lpips(backbone=tmp_path / "nothing.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(UserError, match="does not contain weights"):
        make_lpips(backbone=broken)
    with pytest.raises(UserError, match=r"lin0.model.1.weight is missing"):
        make_lpips(backbone=backbone, heads=backbone)
    with pytest.raises(UserError, match=r"is \(1, 128, 1, 1\), expected \(1, 192, 1, 1\)"):
        make_lpips(backbone=backbone, heads=shipped_heads("vgg"))
    with pytest.raises(UserError, match="no network 'squeeze'; expected one of alex, vgg"):
        make_lpips("squeeze")
