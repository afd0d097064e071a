from __future__ import annotations

import pytest

from fexgan_lit.metrics.judges.affect import Judge, JudgeRecipe, train_judge
from tests.metrics.faces import make_frames

SMALL = JudgeRecipe(working_size=32, widths=(8, 16, 16, 32), min_images=2000, max_images=2000, batch_size=32)


@pytest.fixture(scope="session")
def small_recipe() -> JudgeRecipe:
    return SMALL


@pytest.fixture(scope="session")
def judge() -> Judge:
    return train_judge(make_frames(6, seed=0), make_frames(3, seed=1), image_size=32, seed=0, recipe=SMALL)
