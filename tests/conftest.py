"""What the tests share: a tiny data set on disk, a tiny studio run, and no way to the network."""

from __future__ import annotations

import gc
import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.commands import run_command

os.environ.setdefault("WANDB_MODE", "offline")
# networks this small gain nothing by a second thread, and two workers with two each are several times slower
os.environ.setdefault("OMP_NUM_THREADS", "1")

AFFECTS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")

#: A run that takes seconds: two characters, 32 px, a few channels.
TINY = (
    "dataset.image_size=32", "dataset.identities=2", "dataset.takes=2", "dataset.frames=3", "dataset.batch_size=4",
    "dataset.val_fraction=0.5", "dataset.min_target_intensity=0", "model.width=0.05", "model.latent_size=8",
    "metrics.judge=false", "trainer.log_every=2", "trainer.val_every=0", "trainer.figures_every=0",
    "trainer.checkpoint_every=3", "trainer.precision=float32", "trainer.threads=1",
)  # fmt: skip
#: The same without rows of losses and thus without their curves, which take as long to draw as all the rest.
UNLOGGED = (*TINY, "trainer.log_every=1000")


#: Files that take longest come first, so that no process has one left when the others have ended.
LONGEST = (
    "test_accelerate.py", "test_export.py", "test_readme.py", "test_equality.py", "test_wandb_run.py", "test_train.py",
    "test_packaging.py", "test_several_processes.py", "test_docs.py", "test_paste.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """What was imported stays: with it every full collection of garbage takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs and judges of the tests stay out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["FEXGAN_LIT_CACHE"] = str(folder)
    return folder


def run_train(
    folder: Path, *overrides: str, check: bool = True, timeout: int = 200, brief_judge: bool = False
) -> subprocess.CompletedProcess:
    """`python -m fexgan_lit.train` in `folder`."""
    done = run_command(folder, "train", *overrides, timeout=timeout, brief_judge=brief_judge)
    if check and done.returncode:
        raise AssertionError(f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def write_frames(root: Path, identities: int = 2, affects: tuple[str, ...] = AFFECTS, frames: int = 4) -> Path:
    """MH-FED's folder form with plain coloured squares: hue tells the identity, brightness the affect."""
    rng = np.random.default_rng(0)
    for i in range(identities):
        for k, affect in enumerate(affects):
            folder = root / f"p{i}" / affect
            folder.mkdir(parents=True, exist_ok=True)
            for f in range(frames):
                image = np.full((40, 40, 3), (40 + 60 * i, 20 + 30 * k, 128), np.uint8)
                image += rng.integers(0, 8, image.shape, dtype=np.uint8)
                cv2.imwrite(str(folder / f"p{i}_{affect}_{f:03d}.png"), image)
    return root


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """So many threads work for torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
