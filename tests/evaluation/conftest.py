"""Tiny untrained runs, and judges that cost nothing: what they say means nothing, where it goes does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fexgan_lit.metrics import effnet
from fexgan_lit.metrics.judges.affect import Judge, JudgeNet
from fexgan_lit.metrics.judges.geometry import GeometryJudge, GeometryNet
from fexgan_lit.metrics.judges.identity import IdentityJudge, IdentityNet
from fexgan_lit.metrics.judges.panel import JudgePanel
from tests.conftest import AFFECTS
from tests.inference.conftest import make_run
from tests.metrics.faces import small_effnet

PEOPLE = ("bruno", "elin")


@pytest.fixture(scope="module", autouse=True)
def _brief_effnet() -> Iterator[None]:
    """The true network takes a second for a few frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effnet, "make_effnet", small_effnet)
        yield


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> list[Path]:
    """Two seeds of one configuration, and another system on the same frames."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        make_run(folder / "a1", "fexgan", False, "seed=1"),
        make_run(folder / "a2", "fexgan", False, "seed=2"),
        make_run(folder / "g1", "ganimation", False, "optimizer.n_critic=1"),
    ]


@pytest.fixture(scope="session")
def panel() -> JudgePanel:
    """Judges with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        affect = JudgeNet(len(AFFECTS), len(PEOPLE), 32, (8, 8, 8, 8), 16).freeze()
        geometry = GeometryNet(True, True, 32, (8, 8, 8, 8), 16).freeze()
        identity = IdentityNet(32, (8, 8, 8, 8), 16, 8).freeze()
    facts = {"image_size": 32, "n_held_out": 10, "n_train": 10, "seed": 0}
    return JudgePanel(
        Judge(affect, AFFECTS, PEOPLE, affect_accuracy=0.5, identity_accuracy=0.5, train_affect_accuracy=0.5,
              train_identity_accuracy=0.5, **facts),
        GeometryJudge(geometry, has_aus=True, has_landmarks=True, au_errors=[0.1] * 17, au_errors_of_mean=[0.2] * 17,
                      au_errors_of_median=[0.2] * 17, landmark_error=0.1, landmark_error_of_mean=0.2, **facts),
        IdentityJudge(identity, people=PEOPLE, rank1=0.95, tar={"0.01": 0.9}, impostors=100, n_gallery=2, **facts),
    )  # fmt: skip
