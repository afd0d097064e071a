"""Motions of landmarks in `protocol=clips`: clips after other motions than the true ones, and measures of motions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fexgan_lit.data.clips import affect_of_take
from fexgan_lit.systems.motion_texture.srvf import (
    COORDINATES,
    Motions,
    apply_motion,
    as_landmarks,
    as_vectors,
    displacement,
    geodesic,
    motions_of,
    nearest,
    normalised,
    resample,
    srvf,
    to_apex,
)
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.tables import TextTable

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.evaluation.measure import Scores
    from fexgan_lit.evaluation.methods import Trained
    from fexgan_lit.evaluation.protocols.clips import Clip
    from fexgan_lit.evaluation.test_set import TestSet

#: Generated motions of each affect.
DRAWN = 50
#: Time steps of a motion where no system draws motions; the default of `model.steps`.
TIME_STEPS = 30
#: Optimizer steps of the classifier.
_STEPS = 150
#: A dash in the place of a number that does not exist.
_NONE = "–"


class Generated(NamedTuple):
    """Motions without frames: SRVFs (M, T, 136), lengths (M,) and affects (M,)."""

    q: Tensor
    length: Tensor
    affect: Tensor


def generators(methods: Sequence[Trained]) -> list[Trained]:
    """Return the methods whose systems draw motions."""
    return [m for m in methods if getattr(m.system, "moving_affects", ())]


def linear_ramps(motions: Motions) -> Generated:
    """Return for each affect the straight way to the mean apex of its motions, at constant speed."""
    affects = motions.affect.unique()
    apexes = displacement(motions.q, motions.length)[:, -1]  # (N, 136)
    time = torch.linspace(0, 1, motions.q.shape[1] + 1)[:, None]
    ways = torch.stack([time * apexes[motions.affect == k].mean(0) for k in affects])
    return Generated(*srvf(ways), affects)


def drawn_motions(system: Any, affects: Sequence[int], each: int, seed: int) -> Generated:
    """Draw `each` motions of every affect that the system knows, among the class indices `affects`."""
    known = [k for k in affects if system.affects[k] in system.moving_affects]
    index = torch.tensor(known).repeat_interleave(each)
    generator = torch.Generator().manual_seed(seed)
    parts = [system.draw_motions(part, generator) for part in index.split(64)]
    return Generated(torch.cat([q.cpu() for q, _ in parts]), torch.cat([length.cpu() for _, length in parts]), index)


def redirected(frames: FrameSet, clips: Sequence[Clip], motions: Mapping[int, tuple[Tensor, Tensor]]) -> FrameSet:
    """Return the frames with other landmarks in the clips of some affects.

    A clip keeps its first landmarks and the time of its apex. Up to the apex it follows the motion, and after it the
    same way back.

    Args:
        frames: the split.
        clips: the clips.
        motions: SRVF (T, 136) and length () by number of the clip; other clips keep their landmarks.
    """
    if frames.landmarks is None:
        raise UserError("protocol=clips: the frames have no landmarks to be moved")
    landmarks = frames.landmarks.copy()
    for number, (q, length) in motions.items():
        take = clips[number].rows
        points = torch.from_numpy(frames.landmarks[take])
        up = len(to_apex(frames, take, normalised(points), affect_of_take(frames, take))[0])
        curve = as_vectors(apply_motion(q, length, points[0]))  # (T + 1, 136)
        ways = [resample(curve, up, by_arc_length=False)]
        if up < len(take):
            ways.append(resample(curve.flip(0), len(take) - up + 1, by_arc_length=False)[1:])
        landmarks[take] = as_landmarks(torch.cat(ways)).numpy()
    return replace(frames, landmarks=landmarks)


def redirections(method: Trained, clips: Sequence[Clip], test_set: TestSet, seed: int) -> dict[str, FrameSet]:
    """Return the frames with landmarks of a linear ramp and of drawn motions of the clips' affects, by row name."""
    system: Any = method.system
    frames = test_set.frames
    affects = [affect_of_take(frames, clip.rows) for clip in clips]
    moving = [n for n, k in enumerate(affects) if system.affects[k] in system.moving_affects]
    found = {}
    ramps = linear_ramps(motions_of(test_set.data.train, system.settings.steps, system.settings.arc_length))
    ways = {int(k): (q, length) for q, length, k in zip(*ramps, strict=True)}
    found["linear ramp"] = {n: ways[affects[n]] for n in moving if affects[n] in ways}
    index = torch.tensor([affects[n] for n in moving], dtype=torch.long)
    q, length = system.draw_motions(index, torch.Generator().manual_seed(seed))
    found["drawn motion"] = dict(zip(moving, zip(q.cpu(), length.cpu(), strict=True), strict=True))
    return {f"{method.name}, {name}": redirected(frames, clips, chosen) for name, chosen in found.items()}


# ------------------------------------------------------------------ what motions are worth


class SequenceClassifier(nn.Module):
    """Two convolutions over time, and a linear layer of their mean: SRVFs (B, T, 136) -> logits (B, K)."""

    def __init__(self, affects: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv1d(136, 32, 5, padding=2), nn.ReLU(), nn.Conv1d(32, 32, 5, stride=2, padding=2), nn.ReLU()
        )
        self.head = nn.Linear(32, affects)

    def forward(self, q: Tensor) -> Tensor:
        """Classify `q` (B, T, 136)."""
        return self.head(self.convs(q.mT).mean(2))


def fit_classifier(q: Tensor, affect: Tensor, affects: int, seed: int) -> SequenceClassifier:
    """Train a classifier on motions (N, T, 136) of affects (N,), all affects weighing the same."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        net = SequenceClassifier(affects)
        adam = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.01)
        counts = affect.bincount(minlength=affects)
        loss = nn.CrossEntropyLoss(weight=len(affect) / counts.clamp_min(1))
        for _ in range(_STEPS):
            rows = torch.randint(len(q), (min(64, len(q)),))
            loss(net(q[rows] + 0.02 * torch.randn_like(q[rows])), affect[rows]).backward()
            adam.step()
            adam.zero_grad()
    return net.eval()


@torch.no_grad()
def accuracy(net: SequenceClassifier, q: Tensor, affect: Tensor) -> float:
    """Return the share of motions that the classifier assigns to their affect."""
    return float((net(q).argmax(1) == affect).double().mean())


def distance_within_affect(q: Tensor, affect: Tensor, real: Motions) -> float:
    """Return the mean geodesic distance to the nearest real motion of the same affect; NaN if no affect has one."""
    parts = [nearest(q[affect == k], real.q[real.affect == k])[0] for k in affect.unique() if (real.affect == k).any()]
    return float(torch.cat(parts).mean()) if parts else float("nan")


def variety(q: Tensor, affect: Tensor) -> float:
    """Return the mean geodesic distance between two motions of one affect; NaN if no affect has two."""
    parts = []
    for k in affect.unique():
        own = q[affect == k]
        parts.append(geodesic(own, own.roll(1, 0)) if len(own) > 1 else own.new_empty(0))
    together = torch.cat(parts)
    return float(together.mean()) if len(together) else float("nan")


def motions_read(
    frames: FrameSet, clips: Sequence[Clip], landmarks: Tensor, steps: int, by_arc_length: bool
) -> Generated:
    """Return the motions of `clips` by the landmarks (N, 68, 2) of all their frames, one clip after the other.

    A clip whose landmarks do not move has no motion.
    """
    moved = np.zeros((len(frames), 68, 2), np.float32)  # other takes do not move
    moved[np.concatenate([clip.rows for clip in clips])] = landmarks.numpy()
    try:
        return Generated(*motions_of(replace(frames, landmarks=moved), steps, by_arc_length)[:3])
    except UserError:  # none moves
        return Generated(torch.zeros(0, steps, COORDINATES), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def motions_table(
    methods: Sequence[Trained], scores: Sequence[Scores], clips: Sequence[Clip], test_set: TestSet, seed: int
) -> TextTable:
    """Compare motions of the training clips, the linear ramp and every system with those of the measured split.

    Args:
        methods: the systems. `model.steps` and `model.arc_length` of the first one that draws motions apply to all.
        scores: the scores of the clips, with the landmarks that the judge reads in their frames.
        clips: the clips.
        test_set: the measured split, and the training split.
        seed: of the draws and of the classifiers.

    Raises:
        UserError: a split has no motions.
    """
    drawing, K = generators(methods), len(test_set.frames.affects)
    settings = drawing[0].system.settings if drawing else None
    sampling = (TIME_STEPS, True) if settings is None else (settings.steps, settings.arc_length)
    train, real = (motions_of(frames, *sampling) for frames in (test_set.data.train, test_set.frames))
    on_real = fit_classifier(train.q, train.affect, K, seed)
    every = {"true motions (training split)": Generated(train.q, train.length, train.affect)}
    every["linear ramp to the mean apex"] = linear_ramps(train)
    same = [m for m in drawing if m.system.settings.steps == sampling[0]]
    affects = train.affect.unique().tolist()
    every |= {method.name: drawn_motions(method.system, affects, DRAWN, seed) for method in same}
    firsts = {s.name: s for s in reversed(scores)}  # the first seed of each
    every |= {
        f"read from {s.name}": motions_read(test_set.frames, clips, s.landmarks, *sampling)
        for s in reversed(firsts.values())
        if s.landmarks is not None
    }
    rows = []
    for name, (q, length, affect) in every.items():
        if not len(q):
            rows.append((name, "0", *[_NONE] * 5))
            continue
        own = name.startswith("true motions")
        back = accuracy(on_real if own else fit_classifier(q, affect, K, seed), real.q, real.affect)
        known = test_set.split == "train" and own
        numbers = (
            f"{float(length.mean()):.3f}",
            _NONE if known else f"{distance_within_affect(q, affect, real):.3f}",
            _NONE if len(q) == len(affect.unique()) else f"{variety(q, affect):.3f}",
            _NONE if own else f"{accuracy(on_real, q, affect):.3f}",
            f"{back:.3f}",
        )
        rows.append((name, str(len(q)), *numbers))
    left = "; ".join(f"{len(names)} {reason}" for reason, names in real.left_out.items())
    notes = (
        f"The {len(real.q)} true motions of the {test_set.split} split run from neutral to the apex"
        + (f"; takes left out: {left}." if left else "."),
        "length: mean length of the motions in sizes of a face; a still face trembles, with next to none.",
        "distance: mean geodesic distance (radians) to the nearest true motion of the affect in that split. variety: "
        "the same between two motions of one affect; a generator that repeats itself is near 0.",
        "recognised: share of motions that a classifier of sequences recognises, trained on the motions of the "
        "training split. teaches: the reverse, accuracy on the true motions of a classifier trained on the row's.",
        "read from: the landmarks that the judge finds in the frames of the clips, whatever was asked for; the row of "
        "the true frames has the judge's mistakes alone. Clips that follow the takes of the split know their motions.",
    )
    header = ("motions", "number", "length", "distance ↓", "variety", "recognised ↑", "teaches ↑")
    return TextTable("Motions of landmarks", header, tuple(rows), 0, notes)
