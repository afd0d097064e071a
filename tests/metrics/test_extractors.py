from __future__ import annotations

import pytest
import torch

from fexgan_lit.metrics.distributions import frechet_distance
from fexgan_lit.metrics.extractors import INCEPTION_FILE, InceptionExtractor, JudgeExtractor, make_inception, to_bytes
from fexgan_lit.metrics.judges.affect import JudgeNet
from fexgan_lit.metrics.judges.files import Unavailable
from fexgan_lit.utils.errors import UserError


def images(count: int = 4, size: int = 128, seed: int = 0) -> torch.Tensor:
    """Blurred noise with waves in it, where the place of the samples tells."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 16, 16, generator=generator) - 0.5
    waves = torch.sin(torch.arange(size) * 2 * torch.pi / 5)
    return (torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear") + 0.5 * waves).clamp(-1, 1)


def test_judge_features_and_probabilities_are_the_judges(judge):
    extractor = JudgeExtractor(judge.net)
    batch = images(3, 32)
    seen, reading = extractor(batch), judge.read(batch)
    torch.testing.assert_close(seen.features, reading.features)
    torch.testing.assert_close(seen.class_probabilities.sum(1), torch.ones(3))
    assert torch.equal(seen.class_probabilities.argmax(1), reading.affect)
    assert extractor.feature_size == seen.features.shape[1]
    assert not extractor.train().training
    assert "averaged to 32 px" in extractor.describe()
    assert extractor.fingerprint[:8] in extractor.describe()


def test_fingerprint_depends_on_weights_and_recipe_alone():
    def extractor(seed: int, size: int = 32) -> JudgeExtractor:
        torch.manual_seed(seed)
        return JudgeExtractor(JudgeNet(2, 2, size, (4, 4, 4, 4), 8))

    first = extractor(0)
    assert first.fingerprint == extractor(0).fingerprint
    assert first.fingerprint != extractor(1).fingerprint
    moved = extractor(0)
    moved.resizer = "another"
    assert moved.fingerprint != first.fingerprint
    with torch.no_grad():
        nudged = extractor(0)
        next(nudged.parameters())[0, 0, 0, 0] += 1e-6
    assert nudged.fingerprint != first.fingerprint


def test_inception_is_absent_with_a_reason_and_a_wrong_path_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    absent = make_inception()
    assert isinstance(absent, Unavailable)
    assert INCEPTION_FILE in absent.reason
    with pytest.raises(UserError, match="inception_weights: there is no file"):
        make_inception(tmp_path / "nothing.pth")


@pytest.fixture(scope="module")
def fidelity():
    """torch-fidelity's module of the Inception graph."""
    try:
        import torch_fidelity.feature_extractor_inceptionv3 as module
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torch-fidelity cannot be used here ({error}); pip install fexgan_lit[fid] runs these tests")
    return module


@pytest.fixture(scope="module")
def inception_file(fidelity, tmp_path_factory):
    """A file of random weights."""
    graph = fidelity.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(graph, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        net = graph("inception-v3-compat", ["2048", "logits_unbiased"])
    path = tmp_path_factory.mktemp("inception") / INCEPTION_FILE
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def inception(inception_file):
    return make_inception(inception_file)


def test_inception_prepares_images_as_torch_fidelity_does(inception, fidelity):
    assert isinstance(inception, InceptionExtractor)
    batch = images()
    seen = inception(batch)
    expected, logits = inception.net(((batch + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
    torch.testing.assert_close(seen.features, expected)
    torch.testing.assert_close(seen.class_probabilities, logits.softmax(1))
    assert seen.features.shape == (4, 2048)
    assert seen.class_probabilities.shape == (4, 1008)
    # the resizing is TensorFlow 1's and no other: torch's own moves the grid by a third of a pixel
    as_tf = fidelity.interpolate_bilinear_2d_like_tensorflow1x(to_bytes(batch).float(), (299, 299), align_corners=False)
    as_torch = torch.nn.functional.interpolate(to_bytes(batch).float(), (299, 299), mode="bilinear")
    assert (as_tf - as_torch).abs().mean() > 1
    shifted = inception.net(as_torch.round().to(torch.uint8))[0]
    assert (shifted - seen.features).abs().mean() > 10 * (expected - seen.features).abs().mean()


def test_fid_at_128_px_is_that_of_torchmetrics_without_antialias(inception, inception_file):
    from torchmetrics.image.fid import FrechetInceptionDistance

    path = str(inception_file)
    theirs = FrechetInceptionDistance(antialias=False, feature_extractor_weights_path=path).set_dtype(torch.float64)
    real, fake = images(6), images(5, seed=1)
    theirs.update(to_bytes(real), real=True)
    theirs.update(to_bytes(fake), real=False)
    mine = frechet_distance(inception(real).features, inception(fake).features)
    assert mine == pytest.approx(float(theirs.compute()), rel=1e-3)


def test_weights_of_another_network_are_named(fidelity, tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(10, 10)}, other)
    with pytest.raises(UserError, match=r"weights of another network: .*expected weights-inception"):
        make_inception(other)
    other.write_bytes(b"nothing")
    with pytest.raises(UserError, match="does not contain weights"):
        make_inception(other)


def test_bytes_are_rounded_and_clamped():
    levels = torch.tensor([-1.2, -1.0, 0.0, 100.6 / 127.5 - 1, 1.0, 1.3])
    assert to_bytes(levels).tolist() == [0, 0, 128, 101, 255, 255]
