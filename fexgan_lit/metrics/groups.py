"""The groups of a metric suite: pixels, distributions, judge, discriminator, geometry, identity, cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.aggregation import CatMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from fexgan_lit.expression import ACTION_UNITS
from fexgan_lit.metrics import pixels
from fexgan_lit.metrics.distributions import (
    KID,
    PRDC,
    SPLITS,
    SUBSET_SIZE,
    SUBSETS,
    FrechetDistance,
    SeededInceptionScore,
    prdc,
    small_sample_note,
)
from fexgan_lit.metrics.effnet import EffnetExtractor
from fexgan_lit.metrics.expression import CONFUSED_PAIRS, confusion_partners, f1_per_affect, landmark_distances
from fexgan_lit.metrics.extractors import FeatureExtractor, Features
from fexgan_lit.metrics.identity import FALSE_ACCEPT_RATES, cosine_to_source, rank1_hits, tar_at_far
from fexgan_lit.metrics.judges.affect import Judge, JudgeReading
from fexgan_lit.metrics.judges.files import Unavailable
from fexgan_lit.metrics.lpips import Lpips
from fexgan_lit.metrics.suite import Answer, MetricGroup

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.metrics.judges.external import OwnAffectJudge, OwnIdentityJudge, OwnReading
    from fexgan_lit.metrics.judges.identity import IdentityJudge
    from fexgan_lit.metrics.judges.panel import JudgePanel

#: Neighbour that bounds the neighbourhoods of precision, recall, density and coverage; most images per side.
NEIGHBOURS, MOST_NEIGHBOURS = 5, 10_000
#: Metric -> its name on Inception, as in the literature, and its prefix on other extractors.
_NAMES = {"frechet": ("fid", "fd"), "kid": ("kid", "kid"), "score": ("inception_score", "is")}
#: Metric names by false accept rate.
_TAR = {0.01: "tar_far1", 0.001: "tar_far01"}


class PixelMetrics(MetricGroup):
    """SSIM, PSNR and sharpness against the target, and optionally MS-SSIM, LPIPS and EfficientNet's distance.

    Args:
        multiscale: whether to compute MS-SSIM.
        lpips: result of `make_lpips`; None for no LPIPS.
        effnet: result of `make_effnet`; None for no distance on its features.
    """

    def __init__(
        self, multiscale: bool = False, lpips: Lpips | Unavailable | None = None,
        effnet: EffnetExtractor | Unavailable | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.multiscale = multiscale
        self.lpips = lpips if isinstance(lpips, Lpips) else None
        self.effnet = effnet if isinstance(effnet, EffnetExtractor) else None
        given = {"lpips": lpips, "effnet_distance": effnet}
        self.absent = {name: f"absent: {e.reason}" for name, e in given.items() if isinstance(e, Unavailable)}
        self.image_size = 0
        self.torchmetrics: tuple[str, ...] = ()

    def update(self, answer: Answer) -> None:
        """Add a batch."""
        made, true = answer.generated, answer.batch.target.float()
        if not self.torchmetrics:
            self.image_size = made.shape[-1]
            metrics = pixels.pixel_metrics(self.image_size, self.multiscale)
            self.torchmetrics = tuple(metrics)
            for name, metric in metrics.items():
                metric.sync_on_compute = False
                self.per_pair[name] = metric.to(made.device)
        for name in self.torchmetrics:
            cast(Metric, self.per_pair[name]).update(pixels.to_unit(made), pixels.to_unit(true))
        self.keep("sharpness", pixels.sharpness(made, true))
        if answer.batch.target_landmarks is not None:
            boxes = pixels.mouth_boxes(answer.batch.target_landmarks)
            self.keep("mouth_sharpness", pixels.sharpness(made, true, boxes))
            self.keep("mouth_psnr", pixels.box_psnr(made, true, boxes))
        if self.lpips is not None:
            device = self.lpips.shift.device
            self.keep("lpips", self.lpips(made.to(device), true.to(device)))
        if self.effnet is not None:
            device = self.effnet.device
            distances, answer.seen["effnet"] = self.effnet.distance(made.to(device), true.to(device))
            self.keep("effnet_distance", distances)

    def recipes(self) -> dict[str, str]:
        """Return image size and value range of each metric."""
        lines = pixels.recipes(self.image_size) if self.image_size else {}
        lines |= {"lpips": self.lpips.recipe(self.image_size)} if self.lpips is not None else {}
        lines |= {"effnet_distance": self.effnet.distance_recipe(self.image_size)} if self.effnet is not None else {}
        return {name: line for name, line in lines.items() if name in self.per_pair}

    def notes(self) -> dict[str, str]:
        """Return the reasons for absent distances."""
        return self.absent


class DistributionMetrics(MetricGroup):
    """Distances between the distributions of generated and real images in the features of one or more networks.

    Metrics on Inception have the names of the literature (`fid`); on other networks the network's name follows
    (`fd_judge`).

    Args:
        extractors: extractors by name, or the reasons for their absence.
        real: features (n, F) of the real frames by extractor name.
        full: whether to add KID, inception score, precision, recall, density and coverage.
        seed: seed of KID's subsets and the inception score's shuffle.
    """

    def __init__(
        self, extractors: Mapping[str, FeatureExtractor | Unavailable], real: Mapping[str, Tensor], *,
        full: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.full, self.seed, self.image_size = full, seed, 0
        self.absent = {name: e.reason for name, e in extractors.items() if isinstance(e, Unavailable)}
        self.extractors = torch.nn.ModuleDict({n: e for n, e in extractors.items() if isinstance(e, FeatureExtractor)})
        self.real_n = {name: len(real[name]) for name in self.extractors}
        self.distances, self.kids, self.scores = (torch.nn.ModuleDict() for _ in range(3))
        for name in self.extractors:
            size = real[name].shape[1]
            distance = self.distances[name] = FrechetDistance(size)
            distance.update(real[name], real=True)
            if full:
                kid = self.kids[name] = KID(size, seed)
                kid.update(real[name], real=True)
        self._notes: dict[str, str] = {}

    def called(self, extractor: str) -> dict[str, str]:
        """Return the name of each metric on the features of `extractor`, the Fréchet distance first."""
        if extractor == "inception":
            return {m: _NAMES[m][0] if m in _NAMES else m for m in (*_NAMES, *PRDC._fields)}
        return {m: f"{_NAMES[m][1] if m in _NAMES else m}_{extractor}" for m in (*_NAMES, *PRDC._fields)}

    def update(self, answer: Answer) -> None:
        """Add a batch."""
        self.image_size = answer.generated.shape[-1]
        for name, module in self.extractors.items():
            extractor = cast(FeatureExtractor, module)
            if name not in answer.seen:
                answer.seen[name] = extractor(answer.generated.to(extractor.device))
            features, probabilities = answer.seen[name]
            distance = cast(FrechetDistance, self.distances[name])
            features = features.to(distance.fake_features_sum.device)
            distance.update(features, real=False)
            if self.full:
                cast(KID, self.kids[name]).update(features, real=False)
                if probabilities is not None:
                    if name not in self.scores:
                        self.scores[name] = SeededInceptionScore(probabilities.shape[1], self.seed)
                        cast(Metric, self.scores[name]).sync_on_compute = False
                    cast(SeededInceptionScore, self.scores[name]).update(probabilities.cpu())

    def numbers(self) -> dict[str, float]:
        """Return every metric that can be computed."""
        self._notes = {}
        values: dict[str, float] = {}
        for name in self.extractors:
            values |= self._numbers_of(name)
        return values

    def _numbers_of(self, name: str) -> dict[str, float]:
        distance = cast(FrechetDistance, self.distances[name])
        called, real_n, n = self.called(name), self.real_n[name], int(distance.fake_features_num_samples)
        fewer = min(n, real_n)
        if fewer < 2:
            few = f"absent: needs at least two images per side; found {real_n} real and {n} generated"
            self._notes |= {called["frechet"]: few} | ({called["kid"]: few} if self.full else {})
            return {}
        values = {called["frechet"]: float(distance.compute())}
        if small := small_sample_note(fewer, distance.fake_features_sum.shape[0]):
            self._notes[called["frechet"]] = small + (f"; {called['kid']} has no such bias" if self.full else "")
        if not self.full:
            return values
        kid = cast(KID, self.kids[name])
        values |= dict(zip((called["kid"], f"{called['kid']}_std"), map(float, kid.compute()), strict=True))
        if fewer < SUBSET_SIZE:
            few = f"subsets of {fewer} in place of {SUBSET_SIZE}, the number of images per side"
            self._notes[called["kid"]] = few
        if name in self.scores:
            score, spread = map(float, cast(SeededInceptionScore, self.scores[name]).compute())
            values |= {called["score"]: score} | ({f"{called['score']}_std": spread} if spread == spread else {})
            if n < SPLITS:
                self._notes[called["score"]] = f"{n} splits in place of {SPLITS}, the number of images"
        if fewer > NEIGHBOURS:
            real, fake = (torch.cat(side)[:MOST_NEIGHBOURS] for side in (kid.real_features, kid.fake_features))
            values |= {called[metric]: value for metric, value in prdc(real, fake, NEIGHBOURS)._asdict().items()}
        else:
            few = f"absent: neighbourhoods of {NEIGHBOURS} need {NEIGHBOURS + 1} images per side; found {fewer}"
            self._notes |= {called[metric]: few for metric in PRDC._fields}
        return values

    def recipes(self) -> dict[str, str]:
        """Return the features and the number of real frames of each metric."""
        lines = {}
        for name, extractor in self.extractors.items():
            called = self.called(name)
            seen = (
                f"against the {self.real_n[name]} real frames of the split that may be a target; "
                f"{cast(FeatureExtractor, extractor).describe()}; images at {self.image_size} px"
            )
            is_fid = "" if name == "inception" else " (not FID)"
            lines[called["frechet"]] = f"Fréchet distance{is_fid} in double precision, generated {seen}"
            if self.full:
                lines[called["kid"]] = (
                    f"unbiased MMD^2 with the kernel (x.y/F + 1)^3, {SUBSETS} subsets of {SUBSET_SIZE}, mean and "
                    f"standard deviation, seed {self.seed}, {seen}"
                )
                if name in self.scores:
                    lines[called["score"]] = (
                        f"exponential of the mean KL divergence of class probabilities, {SPLITS} shuffled splits, mean "
                        f"and standard deviation, seed {self.seed}; {seen.partition('; ')[2]}"
                    )
                first = f"first {MOST_NEIGHBOURS} images per side"
                lines |= {called[m]: f"{m} by neighbourhoods of k={NEIGHBOURS}, {first}, {seen}" for m in PRDC._fields}
        return lines

    def notes(self) -> dict[str, str]:
        """Return warnings about small samples, and the reasons for absent metrics."""
        absent = {}
        for name, reason in self.absent.items():
            first, *others = self.called(name).values()
            with_it = f", and with it {', '.join(others)}" if self.full else ""
            absent[first] = f"absent{with_it}: {reason}"
        return absent | self._notes


class JudgeMetrics(MetricGroup):
    """Affect and, if the judge knows the identities, identity of the generated frames in the judge's eyes.

    Args:
        judge: a judge trained on the training split only, or the user's own.
        ceiling: whether to evaluate the real target frames too.
        f1: whether to compute the F1 score of every affect and the structural confusion (`confusion_partners`).
        people: whether the judge knows the people in the frames; without it no identity is compared.
        prefix: beginning of the names of the accuracies, such as ``trained_`` for a second judge.
    """

    def __init__(
        self, judge: Judge | OwnAffectJudge, ceiling: bool = False, f1: bool = False, people: bool = True,
        prefix: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.judge, self.ceiling, self.f1, self.people, self.prefix = judge, ceiling, f1, people, prefix
        self.partners = confusion_partners(judge.affects)
        self.net = judge.net if isinstance(judge, Judge) else None  # a submodule moves with the suite
        self.counts = MulticlassConfusionMatrix(max(2, len(judge.affects)), validate_args=False)

    def update(self, answer: Answer) -> None:
        """Add a batch."""
        batch = answer.batch
        reading = self.judge.read(answer.generated)
        self._read(self.prefix, reading, batch.target_affect.cpu(), batch.identity.cpu())
        self.counts.update(reading.affect.to(self.counts.device), batch.target_affect.to(self.counts.device))
        partner = self.partners[batch.target_affect.cpu()]
        if self.f1 and (self.partners >= 0).any():
            self.keep("structural_confusion", (reading.affect == partner).float().where(partner >= 0, torch.nan))
        if isinstance(reading, JudgeReading):
            answer.seen["judge"] = Features(reading.features, reading.affect_logits.softmax(dim=1))
        if self.ceiling:
            self._read("real_", self.judge.read(batch.target.float()), batch.target_affect.cpu(), batch.identity.cpu())

    def _read(self, prefix: str, reading: JudgeReading | OwnReading, affect: Tensor, identity: Tensor) -> None:
        self.keep(f"{prefix}judge_affect_accuracy", (reading.affect == affect).float())
        if self.people and isinstance(reading, JudgeReading):  # a user's own judge has no identities
            self.keep(f"{prefix}judge_identity_accuracy", (reading.identity == identity).float())

    def confusion(self) -> Tensor | None:
        """Return the counts (K, K)."""
        K = len(self.judge.affects)
        return self.counts.compute().cpu()[:K, :K] if self.counts.update_called else None

    def numbers(self) -> dict[str, float]:
        """Return the F1 score of every target affect, and their mean."""
        counts = self.confusion() if self.f1 else None
        if counts is None or not counts.sum():
            return {}
        scores = f1_per_affect(counts)
        found = {f"f1_{name}": score for name, score in zip(self.judge.affects, scores.tolist(), strict=True)}
        return {"macro_f1": float(scores.nanmean())} | {name: v for name, v in found.items() if not np.isnan(v)}

    def recipes(self) -> dict[str, str]:
        """Return the judge's description for each metric."""
        seen = self.judge.describe()
        lines = {
            f"{self.prefix}judge_affect_accuracy": "fraction of generated frames the judge classifies as the target "
            f"affect; {seen}",
            f"{self.prefix}judge_identity_accuracy": "fraction of generated frames that the judge classifies as the "
            f"source's person; {seen}",
            "structural_confusion": "share of the frames asked for one of "
            f"{', '.join('/'.join(pair) for pair in CONFUSED_PAIRS)} that the judge takes for the other of the pair, "
            f"both directions; {seen}",
            "real_judge_affect_accuracy": f"ceiling: the same for the real target frames; {seen}",
            "real_judge_identity_accuracy": f"ceiling: the same for the real target frames; {seen}",
        }
        lines = {name: line for name, line in lines.items() if name in self.per_pair}
        f1 = f"F1 of the judge's predictions, mean over the target affects (f1_*: each affect); {seen}"
        return lines | ({"macro_f1": f1} if self.f1 else {})


class DiscriminatorMetrics(MetricGroup):
    """The columns of the papers' Table 1 that the system's discriminator provides: correct or not, 0 or 1."""

    def update(self, answer: Answer) -> None:
        """Add a batch; batches without a discriminator output are skipped."""
        outcome, batch = answer.outcome, answer.batch
        if outcome is None:
            return
        sides = {
            "real": (outcome.real_realness > 0, outcome.real_affect, batch.source_affect),
            "fake": (outcome.fake_realness <= 0, outcome.fake_affect, batch.target_affect),
        }
        for side, (right, logits, affect) in sides.items():
            if outcome.calibrated:
                self.keep(f"d_{side}_binary", right.flatten().float())
            if logits is not None:
                self.keep(f"d_{side}_affect", (logits.argmax(1) == affect).float())

    def recipes(self) -> dict[str, str]:
        """Return the criterion of each metric."""
        told = "argmax of the discriminator's class head"
        lines = {
            "d_real_binary": "fraction of sources that the discriminator classifies as real (logit above 0)",
            "d_real_affect": f"fraction of sources whose affect it classifies correctly; {told}",
            "d_fake_binary": "fraction of generated faces it classifies as generated (logit 0 or less)",
            "d_fake_affect": f"fraction of generated faces it classifies as the target, as equation 6 trains; {told}",
        }
        return {name: line for name, line in lines.items() if name in self.per_pair}

    def notes(self) -> dict[str, str]:
        """Return the reason for absent metrics."""
        if self.per_pair and "d_real_binary" not in self.per_pair:
            return {"discriminator": "a critic's score has no threshold, so no fraction of faces counts as real"}
        return {}


class GeometryMetrics(MetricGroup):
    """Errors of action units and landmarks in the generated images, relative to the target frames.

    Args:
        judges: the judges that estimate action units and landmarks.
    """

    def __init__(self, judges: JudgePanel) -> None:
        super().__init__()
        self.judges = judges
        self.units = CatMetric(nan_strategy="disable")
        self._estimates = CatMetric(nan_strategy="disable")

    def update(self, answer: Answer) -> None:
        """Add a batch."""
        batch, generated = answer.batch, answer.generated
        if batch.target_aus is not None and (aus := self.judges.aus(generated)) is not None:
            self._estimates.update(aus.cpu())
            errors = (aus.double().cpu() - batch.target_aus.double().cpu()).abs()  # (B, 17)
            self.units.update(errors)
            self.keep("au_error", errors.nanmean(dim=1))  # NaN where no unit is known
        if batch.target_landmarks is not None and (points := self.judges.landmarks(generated)) is not None:
            self.keep("landmark_error", landmark_distances(points, batch.target_landmarks.cpu()))

    @property
    def estimates(self) -> Tensor | None:
        """Estimated action units (N, 17) of the generated images; None if none were estimated."""
        return self._estimates.compute() if self._estimates.update_called else None

    def numbers(self) -> dict[str, float]:
        """Return the mean absolute error of every action unit."""
        if not self.units.update_called:
            return {}
        means = self.units.compute().nanmean(dim=0).tolist()
        units = {f"au_error_au{unit:02d}": error for unit, error in zip(ACTION_UNITS, means, strict=True)}
        return {name: error for name, error in units.items() if not np.isnan(error)}

    def recipes(self) -> dict[str, str]:
        """Return the judge's description for each metric."""
        lines = {}
        geometry = self.judges.units or self.judges.geometry
        if "au_error" in self.per_pair and geometry is not None:
            lines["au_error"] = (
                "mean absolute difference of 17 action units in 0..1 between the generated face, as estimated, and the "
                f"real frame; {geometry.describe()}"
            )
        if "landmark_error" in self.per_pair and self.judges.geometry is not None:
            lines["landmark_error"] = (
                "mean distance of 68 landmarks between the generated face, as estimated, and the real frame, divided "
                f"by the distance of the outer eye corners; {self.judges.geometry.describe()}"
            )
        return lines


@dataclass(frozen=True, eq=False)
class SourceEmbeddings:
    """Embeddings of real frames from an identity judge.

    Attributes:
        judge: the identity judge.
        frames: embeddings of every frame of the split, (n, E).
        gallery: rows of the split in the gallery.
        identity: identity of every frame, (n,) int64.
    """

    judge: IdentityJudge | OwnIdentityJudge
    frames: Tensor
    gallery: np.ndarray
    identity: Tensor

    @classmethod
    def of(cls, judge: IdentityJudge | OwnIdentityJudge, frames: FrameSet, size: int) -> SourceEmbeddings | None:
        """Embed all frames of a split; return None where the split has no gallery."""
        from fexgan_lit.metrics.judges.identity import embed_rows, gallery_and_probes

        gallery, _ = gallery_and_probes(frames)
        if not len(gallery):
            return None
        embeddings = embed_rows(judge, frames, np.arange(len(frames)), size)
        return cls(judge, embeddings, gallery, torch.from_numpy(frames.identity))


class IdentityMetrics(MetricGroup):
    """Rank-1, true accept rates at given false accept rates, and cosine to the source; probes are the generated images.

    Args:
        sources: embeddings of the split, with the gallery (Li et al., Table 6).
        rates: whether to compute the true accept rates, which need frames of at least two people.
    """

    def __init__(self, sources: SourceEmbeddings, rates: bool = True) -> None:
        super().__init__()
        self.sources, self.rates = sources, rates
        self._embeddings, self._rows = CatMetric(nan_strategy="disable"), CatMetric(nan_strategy="disable")
        self._notes: dict[str, str] = {}

    def update(self, answer: Answer) -> None:
        """Add a batch."""
        embeddings, rows = self.sources.judge.embed(answer.generated), answer.batch.source_row.cpu()
        self._embeddings.update(embeddings)
        self._rows.update(rows)
        s = self.sources
        hits = rank1_hits(s.frames[s.gallery], s.identity[s.gallery], embeddings, s.identity[rows])
        self.keep("rank1", hits.float())
        self.keep("identity_cosine", cosine_to_source(embeddings, s.frames[rows]))

    @property
    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Embeddings (N, E) of the generated images, and identities (N,) int64 of their sources."""
        return self._embeddings.compute(), self.sources.identity[self._rows.compute().long()]

    def numbers(self) -> dict[str, float]:
        """Return the true accept rates; `notes` has the reasons for absent rates."""
        if not self.rates:
            return {}
        s = self.sources
        points = tar_at_far(s.frames[s.gallery], s.identity[s.gallery], *self.embeddings)
        self._notes = {_TAR[p.far]: p.note for p in points if p.note is not None}
        return {_TAR[p.far]: p.tar for p in points if p.tar is not None}

    def recipes(self) -> dict[str, str]:
        """Return gallery, probes and judge of each metric."""
        s = self.sources
        seen = (
            f"gallery {len(s.gallery)} real frames (first neutral frame of every take), probes the generated faces; "
            f"{s.judge.describe()}"
        )
        rates = FALSE_ACCEPT_RATES if self.rates else ()
        lines = {_TAR[far]: f"fraction of genuine pairs accepted at FAR {far:g}; {seen}" for far in rates}
        lines["rank1"] = f"fraction of probes whose nearest gallery frame shows the source's person; {seen}"
        lines["identity_cosine"] = f"mean cosine of the embeddings of face and source; {seen}"
        return lines

    def notes(self) -> dict[str, str]:
        """Return remarks on rates that rest on few pairs."""
        return self._notes


#: Note on the metrics that are absent without real frames of the target expression.
UNPAIRED = (
    "SSIM and PSNR against a real frame, affect as asked, identity kept and fd_judge: no identity has frames of two "
    "affects, so there are no real target frames to compare with or to train a judge on"
)


class UnpairedMetrics(MetricGroup):
    """Metrics without real frames of the target: cycle, own expression, and the critic's estimate of action units.

    The critic's estimate is left out where the system has no `read_units`, images (B, 3, S, S) -> units (B, 17).
    """

    def update(self, answer: Answer) -> None:
        """Add a batch."""
        batch, made, system = answer.batch, answer.generated, answer.system
        if system is None:
            raise ValueError("the cycle metrics need the system that generated the images")
        K = len(system.affects)
        shown, wanted = batch.source_expression(K), batch.target_expression(K)
        own, back = system.synthesize(batch.source, shown, shown), system.synthesize(made, wanted, shown)
        self.keep("back_ssim", pixels.ssim(back, batch.source))
        self.keep("own_ssim", pixels.ssim(own, batch.source))
        self.keep("change", (made - batch.source).abs().mean((1, 2, 3)))
        read = getattr(system, "read_units", None)
        if read is not None and shown.aus is not None and wanted.aus is not None:
            self.keep("units_error", (read(made) - wanted.aus).abs().mean(1))
            self.keep("real_units_error", (read(batch.source) - shown.aus).abs().mean(1))

    def recipes(self) -> dict[str, str]:
        """Return the definition of each metric."""
        lines = {
            "back_ssim": "SSIM between the source and its translation to a random other frame's expression and back",
            "own_ssim": "SSIM between the source and its translation to its own expression; 1 is best",
            "change": "mean absolute difference between source and generated image in [-1, 1]; 0 means no change",
            "units_error": "mean absolute error of the action units (0..1) that the system's critic estimates in the "
            "generated image, against the target",
            "real_units_error": "ceiling: the same for the real sources, against their own action units",
        }
        return {name: line for name, line in lines.items() if name in self.per_pair}

    def notes(self) -> dict[str, str]:
        """Return the absent metrics with the reason."""
        return {"absent": UNPAIRED}
