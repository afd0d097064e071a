"""Build a system from the settings of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fexgan_lit.systems.base import check_units
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.runs.config import TrainSettings
    from fexgan_lit.systems.base import ExpressionSystem


#: How to add missing annotations to a data set.
_ADD = {
    "aus": "a CSV with the columns path and AU01..AU45 (the 17 of OpenFace, 0..5) for every frame",
    "landmarks": "a CSV with the columns path and x00,y00..x67,y67 (68 points, pixels) for every frame",
}


def build_system(settings: TrainSettings, affects: Sequence[str]) -> ExpressionSystem:
    """Build the system of `settings`; the initial weights depend only on the seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return settings.system(settings.model, settings.loss, settings.optimizer, affects, settings.seed)


def check_reads(settings: TrainSettings, frames: FrameSet) -> None:
    """Check that the frames have all annotations that the system reads.

    Raises:
        UserError: annotations are missing, or action units are out of range. The message says how to add them.
    """
    from fexgan_lit.data.datasets.labels import has_affects
    from fexgan_lit.expression import FIELD_NAMES

    reads = settings.system.reads | settings.system.source_reads
    has = [name for name in FIELD_NAMES if getattr(frames, name) is not None]
    if not has_affects(frames.affects):
        has.remove("affect")
    lacking = [name for name in FIELD_NAMES if name in reads and name not in has]
    model, data = settings.model.name, settings.dataset.name
    found = f"model={model} reads {_listed(reads)}, but dataset={data} has only {_listed(has)}"
    if "affect" in lacking:
        raise UserError(f"{found}. Give affects with dataset.manifest=FILE.csv (path, identity, affect).")
    if lacking:
        raise UserError(
            f"{found} for every frame. Add {_listed(lacking)} with dataset.annotations=FILE.csv, "
            f"{'; '.join(_ADD[name] for name in lacking)}; "
            f"or estimate them with python -m fexgan_lit.prepare dataset={data} dataset.root=DIR "
            f"dataset.detector=mediapipe. If only some frames lack them, leave those out with "
            f"dataset.require=[{','.join(lacking)}]."
        )
    if "aus" in reads and frames.aus is not None:
        check_units(float(frames.aus.min()), float(frames.aus.max()), f"dataset={data}")


def _listed(names: Sequence[str] | frozenset[str]) -> str:
    from fexgan_lit.expression import FIELD_NAMES

    return " and ".join(FIELD_NAMES[name] for name in FIELD_NAMES if name in names)
