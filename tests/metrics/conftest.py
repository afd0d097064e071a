from __future__ import annotations

import pytest
import torch

from fexgan_lit.metrics.judges.affect import Judge, JudgeRecipe, train_judge
from tests.metrics.faces import make_frames

SMALL = JudgeRecipe(working_size=32, widths=(8, 16, 16, 32), min_images=2000, max_images=2000, batch_size=32)


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Networks this small lose more than they gain by a second thread, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_recipe() -> JudgeRecipe:
    return SMALL


@pytest.fixture(scope="package")
def judge(one_thread) -> Judge:
    return train_judge(make_frames(6, seed=0), make_frames(3, seed=1), image_size=32, seed=0, recipe=SMALL)
