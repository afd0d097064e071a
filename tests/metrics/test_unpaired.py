"""What is measured where no true frame of what is asked for is known."""

from __future__ import annotations

import pytest
import torch
from torchmetrics import Metric

from fexgan_lit.data.pairs import PairBatch
from fexgan_lit.metrics.frechet import Unavailable
from fexgan_lit.metrics.measure import measure
from fexgan_lit.metrics.unpaired import UnpairedSuite


class Shift:
    """A system that adds a tenth of the first action unit to the picture, and reads it off the mean of one."""

    image_size = 32
    affects = ("unlabelled",)
    device = torch.device("cpu")

    def synthesize(self, source, shown, wanted):
        return source + 0.1 * (wanted.aus - shown.aus)[:, :1, None, None]

    def read_units(self, images):
        return images.mean((1, 2, 3))[:, None].expand(-1, 17)


def batches(shown=0.25, wanted=0.75):
    pictures = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    nobody = torch.zeros(3, dtype=torch.long)
    units = [torch.full((3, 17), value) for value in (shown, wanted)]
    return [PairBatch(*pictures, *[nobody] * 5, *units)]


def test_the_way_back_the_own_expression_and_the_change():
    numbers = measure(Shift(), batches(), UnpairedSuite())
    assert numbers["own_ssim"] == pytest.approx(1)
    assert numbers["back_ssim"] == pytest.approx(1)
    assert numbers["change"] == pytest.approx(0.05)
    means = batches()[0].source.mean((1, 2, 3))
    assert numbers["units_error"] == pytest.approx(float((means + 0.05 - 0.75).abs().mean()))
    assert numbers["real_units_error"] == pytest.approx(float((means - 0.25).abs().mean()))


def test_what_does_not_come_back_is_seen():
    class Forgetful(Shift):
        def synthesize(self, source, shown, wanted):
            return torch.where((wanted.aus == shown.aus)[:, :1, None, None], source, torch.zeros_like(source))

    numbers = measure(Forgetful(), batches(), UnpairedSuite())
    assert numbers["own_ssim"] == pytest.approx(1)
    assert numbers["back_ssim"] < 0.1


def test_a_system_without_a_reader_of_units_has_no_such_figure():
    class Mute(Shift):
        read_units = None

    suite = UnpairedSuite("train", seed=4, fid=Unavailable("no weights here"))
    numbers = measure(Mute(), batches(), suite)
    assert set(numbers) == {"back_ssim", "own_ssim", "change"} == set(suite.recipes())
    assert "n=3, split=train, seed=4" in suite.recipes()["change"]
    assert "no true frame" in suite.notes()["absent"]
    assert suite.notes()["fid"] == "absent: no weights here"


def test_fid_needs_no_pairs():
    seen = []

    class Fid(Metric):
        def update(self, images, real):
            seen.append((real, images.dtype, len(images)))

        def compute(self):
            return torch.tensor(7.0)

    suite = UnpairedSuite(fid=Fid())
    assert measure(Shift(), batches(), suite)["fid"] == 7
    assert seen == [(True, torch.uint8, 3), (False, torch.uint8, 3)]
    assert "only 3 images" in suite.notes()["fid"]
