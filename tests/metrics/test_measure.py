"""Running a system over pairs and grids: the right face in the right cell, whatever the split lacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fexgan_lit.data.frames import FrameSet
from fexgan_lit.data.pairs import FixedPairLoader, fixed_pairs
from fexgan_lit.expression import Expression
from fexgan_lit.metrics.groups import DiscriminatorMetrics, PixelMetrics
from fexgan_lit.metrics.suite import MetricSuite, ValidationOutput
from fexgan_lit.systems.grids import affect_grid, complex_faces, grid_similarity, reference_rows

AFFECTS = ("anger", "joy", "neutral")


class Oracle:
    """A system that answers with the true frame: brightness tells the affect, the first row the identity."""

    image_size = 32
    affects = AFFECTS
    device = torch.device("cpu")

    def expression(self, indices):
        return Expression.of_affects(indices, 3)

    def synthesize(self, source, source_expression, target):
        level = target.affect @ torch.tensor([-0.5, 0.0, 0.5])
        made = level.view(-1, 1, 1, 1).expand(-1, 3, 32, 32).clone()
        made[:, :, 0] = source[:, :, 0]
        return made

    def validation_step(self, batch):
        made = self.synthesize(batch.source, None, self.expression(batch.target_affect))
        real = torch.ones(len(batch))
        logits = 9 * torch.eye(3)
        return ValidationOutput(made, real, logits[batch.source_affect], -real, logits[batch.target_affect])


def frames(cells: dict[tuple[int, int], int], identities: int = 2) -> FrameSet:
    """`cells` maps (identity, affect) to a number of identical frames."""
    identity = np.array([i for (i, _), n in cells.items() for _ in range(n)])
    affect = np.array([k for (_, k), n in cells.items() for _ in range(n)])
    level = np.array([-0.5, 0.0, 0.5])[affect]
    images = np.repeat(np.round((level + 1) * 127.5).astype(np.uint8), 32 * 32 * 3).reshape(-1, 32, 32, 3)
    images[:, 0] = (40 * identity)[:, None, None]
    names = tuple(f"p{i}" for i in range(identities))
    return FrameSet(images, np.arange(len(identity)), affect, identity, None, AFFECTS, names)


WHOLE = {(i, k): 2 for i in range(2) for k in range(3)}


def test_an_oracle_gets_full_marks_and_known_table_1():
    data = frames(WHOLE)
    suite = MetricSuite([PixelMetrics(), DiscriminatorMetrics()])
    for batch in FixedPairLoader(data, fixed_pairs(data), 4, 32):
        suite.add(Oracle(), batch)
    numbers = suite.compute()
    assert numbers["ssim"] == pytest.approx(1, abs=1e-2)
    assert numbers["d_real_binary"] == numbers["d_fake_binary"] == 1
    assert numbers["d_real_affect"] == numbers["d_fake_affect"] == 1


def test_references_are_neutral_where_there_are_neutral_frames():
    data = frames({**WHOLE, (1, 2): 0})
    rows = reference_rows(data)
    assert [AFFECTS[data.affect[row]] for row in rows] == ["neutral", "anger"]


def test_grid_holds_every_cell_and_compares_only_those_the_data_has():
    grid = affect_grid(Oracle(), frames({**WHOLE, (1, 1): 0}))
    assert grid.identities == ("p0", "p1")
    levels = grid.generated[:, :, 0, 16, 16]
    assert torch.allclose(levels, torch.tensor([[-0.5, 0.0, 0.5]] * 2))
    assert grid.present.tolist() == [[True, True, True], [True, False, True]]
    assert grid_similarity(grid) == pytest.approx(1, abs=1e-2)


def test_an_identity_missing_from_the_split_is_left_out_by_name():
    grid = affect_grid(Oracle(), frames({(1, 0): 1, (1, 2): 1}))
    assert grid.identities == ("p1",)
    assert len(grid.references) == 1


def test_complex_faces_ask_for_both_affects():
    grid = affect_grid(Oracle(), frames(WHOLE))
    faces = complex_faces(Oracle(), grid, [("anger", "joy"), ("joy", "neutral")], strength=0.5)
    assert faces.shape == (2, 2, 3, 32, 32)
    assert torch.allclose(faces[0, :, 0, 16, 16], torch.tensor([-0.25, 0.25]))
