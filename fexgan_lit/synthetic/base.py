"""The base class of both studios: the order of frames, the table of exact ground truth, counterfactual frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fexgan_lit.expression import ACTION_UNITS, AFFECTS, AU_COLUMNS, LANDMARK_COLUMNS, POSE_COLUMNS
from fexgan_lit.synthetic.population import POPULATIONS
from fexgan_lit.synthetic.prototypes import AU_COLUMN, prototype
from fexgan_lit.synthetic.regions import BOX_COLUMNS, face_square, region_boxes
from fexgan_lit.synthetic.takes import FPS, FaceState, Take
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


IMAGE_SIZES = (32, 64, 128, 256, 512)
FRAMINGS = ("fixed", "random", "face")
EXPRESSIONS = ("prototypes", "varied")

#: Rows of ground truth that one process computes at a time.
_CHUNK = 4096

#: Separate the random numbers of counterfactual strengths and of varied expressions from those of the takes.
_STRENGTH, _VARIED = 7, 11


@dataclass(frozen=True)
class Script:
    """The content of every row; all arrays are (N,).

    Attributes:
        person: index of the character in the cast.
        affect: index in AFFECTS.
        take: index of the take.
        frame: index of the frame in its take, at 60 frames per second.
        strength: strength of the expression where it is not that of the take at this moment, otherwise NaN.
    """

    person: NDArray[np.int64]
    affect: NDArray[np.int64]
    take: NDArray[np.int64]
    frame: NDArray[np.int64]
    strength: NDArray[np.float64]


@dataclass(frozen=True)
class Studio(ABC):
    """A data set of characters x seven affects x takes x frames, rendered on demand.

    Rows are ordered by character, affect, take and frame; counterfactual rows follow. The same arguments give the same
    bytes in any process and any order of access.

    Attributes:
        identities: number of characters.
        takes: takes per character and affect; take k of a character has the same pose, gaze and light for all affects.
        frames: number of frames of a take, evenly spaced; None keeps all frames, 1 keeps the apex.
        size: width and height in pixels, a power of two from 32 to 512.
        seed: seed of the takes and of the random characters.
        head_motion: bound of yaw, pitch and roll in degrees.
        take_seconds: length of a take at 60 frames per second.
        exact: if set, every moment with a weaker strength (0..1) gets an additional frame of each affect with a
            strength from `exact` to 1, so that every frame has a real target of every affect.
        population: `cast`: the hand-made characters, then random ones; `random`: random characters of a wide range,
            each with own light, wall and views. Character k is the same for every number of characters.
        framing: `fixed`; `random`: the size and the place of the head in the image vary over the takes; or `face`: the
            face fills the image as with `dataset.crop=face`, and varies less.
        expressions: `prototypes`: an affect has the same action units in all takes, but for their scale; `varied`: in
            every take they are 0.4 to 1.15 times as strong, and each other one joins in with a probability of 0.12.

    Raises:
        UserError: an argument is out of range.
    """

    #: name and version of the renderer; increase the version whenever pixels change, so that packs are rebuilt
    kind: ClassVar[str]
    version: ClassVar[int]

    identities: int = 8
    takes: int = 5
    frames: int | None = 12
    size: int = 64
    seed: int = 0
    head_motion: float = 1.0
    take_seconds: float = 1.2
    exact: float | None = None
    population: str = "cast"
    framing: str = "fixed"
    expressions: str = "prototypes"

    def __post_init__(self) -> None:
        _check(self)

    @property
    @abstractmethod
    def people(self) -> tuple[str, ...]:
        """Names of the characters in row order, all different."""

    @abstractmethod
    def paint(self, person: int, act: FaceState, size: int) -> NDArray[np.uint8]:
        """Render a character by its index in the cast: (size, size, 3) RGB."""

    @abstractmethod
    def landmarks(self, person: int, act: FaceState, size: int) -> NDArray[np.float64]:
        """Return (68, 2) Multi-PIE points in pixels of an image of `size`, 0 at the left or top edge."""

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that determines the pixels, JSON-serialisable: the arguments and the renderer's version.

        Later arguments are left out where they have their defaults, since recipes without them exist.
        """
        later = {name: getattr(Studio, name) for name in ("population", "framing", "expressions")}
        arguments = {name: value for name, value in asdict(self).items() if later.get(name) != value}
        return {"studio": self.kind, "version": self.version, **arguments}

    def __len__(self) -> int:
        return len(self.script.person)

    @cached_property
    def script(self) -> Script:
        """The rows: the frames of the takes, then the counterfactual frames for `exact`."""
        counts = (self.identities, len(AFFECTS), self.takes, len(self._kept))
        person, affect, take, frame = (axis.ravel() for axis in np.indices(counts))
        filmed = Script(person, affect, take, self._kept[frame], np.full(person.size, np.nan))
        if self.exact is None:
            return filmed
        extra = _counterfactual(self, self.exact)
        columns = zip(vars(filmed).values(), vars(extra).values(), strict=True)
        return Script(*(np.concatenate(pair) for pair in columns))

    @cached_property
    def _kept(self) -> NDArray[np.int64]:
        """Indices of the frames kept of every take."""
        last = round(self.take_seconds * FPS) - 1
        if self.frames == 1:
            return np.array([last // 2])
        return np.rint(np.linspace(0, last, self.frames or last + 1)).astype(np.int64)

    def _moment(self, frame: int) -> float:
        """Return the position of `frame` in its take, 0..1."""
        return frame / (round(self.take_seconds * FPS) - 1)

    def take(self, person: int, number: int) -> Take:
        """Return take `number` of a character."""
        key, any_view = (self.seed, person, number), self.population == "random"
        if self.framing != "face":
            return _take(key, self.take_seconds, self.head_motion, any_view, self.framing == "random")
        if (person, number) not in self._squares:
            rest = _take(key, self.take_seconds, self.head_motion, any_view).perform(0.0, np.zeros(len(ACTION_UNITS)))
            self._squares[person, number] = face_square(self.landmarks(person, rest, 1))
        return _take(key, self.take_seconds, self.head_motion, any_view, True, self._squares[person, number])

    @cached_property
    def _squares(self) -> dict[tuple[int, int], tuple[float, float, float]]:
        """Squares around the faces by person and take, see `face_square`."""
        return {}

    def performance(self, row: int) -> FaceState:
        """Return the state of the face in a row of the table."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a studio of {len(self)} frames")
        script = self.script
        strength = float(script.strength[row])
        place = int(script.person[row]), int(script.take[row])
        return self.take(*place).perform(
            self._moment(int(script.frame[row])),
            self._apex(*place, int(script.affect[row])),
            None if np.isnan(strength) else strength,
        )

    def _apex(self, person: int, take: int, affect: int) -> NDArray[np.float64]:
        """Return the action units (17,) of an affect at its apex in a take."""
        units = prototype(AFFECTS[affect])
        if self.expressions == "prototypes" or AFFECTS[affect] == "neutral":
            return units
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, person, take, affect, _VARIED)))
        factor, other, joins = rng.uniform(0.4, 1.15, 17), rng.uniform(0.2, 0.8, 17), rng.random(17) < 0.12
        joins[AU_COLUMN[45]] = False  # blinks have their own time
        return np.clip(np.where(units > 0, units * factor, other * joins), 0.0, 1.0)

    def render(self, row: int) -> NDArray[np.uint8]:
        """Render a row of the table: (size, size, 3) uint8 RGB."""
        return self.paint(int(self.script.person[row]), self.performance(row), self.size)

    def render_as(self, row: int, aus: ArrayLike, strength: float = 1.0) -> NDArray[np.uint8]:
        """Render the character, pose, gaze, light and blink of `row` with another expression.

        Args:
            row: index of the row in the table.
            aus: (17,) action units in [0, 1] at the apex of the expression, for example `prototype("joy")`.
            strength: strength of the expression, 0..1.

        Returns:
            (size, size, 3) uint8 RGB.
        """
        apex = _units(aus, ((len(ACTION_UNITS),),))
        script = self.script
        person = int(script.person[row])
        act = self.take(person, int(script.take[row])).perform(self._moment(int(script.frame[row])), apex, strength)
        return self.paint(person, act, self.size)

    def render_face(
        self,
        identity: int | str,
        aus: ArrayLike,
        *,
        gaze: tuple[float, float] = (0.0, 0.0),
        pose: tuple[float, float, float] = (0.0, 0.0, 0.0),
        size: int | None = None,
    ) -> NDArray[np.uint8]:
        """Render any expression of any character.

        Args:
            identity: index in the cast, or name.
            aus: (17,) action units, or (2, 17) for the left and the right half of the image; clipped to [0, 1].
            gaze: horizontal and vertical gaze, right and down positive; 1 is the corner of the eye.
            pose: yaw, pitch, roll in degrees; right, down, clockwise positive.
            size: size in pixels; by default that of the studio.
        """
        count = len(ACTION_UNITS)
        sides = np.clip(np.broadcast_to(_units(aus, ((count,), (2, count))), (2, count)), 0.0, 1.0)
        size = self.size if size is None else size
        if size not in IMAGE_SIZES:
            raise UserError(f"size: found {size!r}, expected one of {', '.join(map(str, IMAGE_SIZES))} pixels.")
        return self.paint(self._person(identity), FaceState(sides, gaze, pose), size)

    def table(self, workers: int = 1) -> pd.DataFrame:
        """Return one row per frame: labels, take, frame, time, intensity, 17 AUs, pose in degrees, landmarks, boxes.

        The 68 landmarks and the boxes (of eyes with brows, and of the mouth) are in pixels of the image, 0 at the left
        or top edge and `size` at the opposite edge. With `exact`, the column `counterfactual` marks the additional
        frames.

        Args:
            workers: number of processes for large tables.
        """
        import pandas as pd

        return pd.concat([pd.DataFrame(self._labels()), self._all_truth(workers)], axis=1)

    def _all_truth(self, workers: int) -> pd.DataFrame:
        import pandas as pd
        from joblib import Parallel, delayed

        chunks = [range(start, min(start + _CHUNK, len(self))) for start in range(0, len(self), _CHUNK)]
        pool = Parallel(n_jobs=min(workers, len(chunks)))
        return pd.concat(pool(delayed(self._truth)(chunk) for chunk in chunks), ignore_index=True)

    def _truth(self, rows: range) -> pd.DataFrame:
        """Return AUs, pose, landmarks and boxes of some rows."""
        import pandas as pd

        acts = [self.performance(row) for row in rows]
        people = self.script.person[rows.start : rows.stop].tolist()
        points = np.array([self.landmarks(who, act, self.size) for who, act in zip(people, acts, strict=True)])
        numbers = {
            AU_COLUMNS: np.array([act.units.mean(axis=0) for act in acts]),
            POSE_COLUMNS: np.array([act.pose for act in acts]),
            LANDMARK_COLUMNS: points.reshape(len(points), -1),  # (n, 68, 2) -> (n, 136)
            BOX_COLUMNS: region_boxes(points, self.size).reshape(len(points), -1),  # (n, 2, 4) -> (n, 8)
        }
        return pd.concat([pd.DataFrame(values, columns=list(names)) for names, values in numbers.items()], axis=1)

    def _labels(self) -> dict[str, Any]:
        script, names = self.script, self.people
        who = [names[k] for k in script.person.tolist()]
        affect = [AFFECTS[k] for k in script.affect.tolist()]
        added = ~np.isnan(script.strength)
        marks = [f"_s{100 * s:03.0f}" if s == s else "" for s in script.strength.tolist()]  # NaN differs from itself
        rows = zip(who, affect, script.take.tolist(), script.frame.tolist(), marks, strict=True)
        labels = {
            "path": [f"studio/{name}/{word}/t{take}_{frame:03d}{mark}" for name, word, take, frame, mark in rows],
            "identity": who,
            "affect": affect,
            "take": script.take,
            "frame": script.frame,
            "time_s": script.frame / FPS,
            "intensity": self._intensity(),
        }
        return labels | ({"counterfactual": added} if self.exact is not None else {})

    def _intensity(self) -> NDArray[np.float64]:
        """Return the strength of the expression (N,) in [0, 1]; 0 in neutral frames."""
        script = self.script
        rows = zip(script.person.tolist(), script.take.tolist(), script.frame.tolist(), strict=True)
        filmed = np.array([self.take(who, take).strength(self._moment(frame)) for who, take, frame in rows])
        strength = np.where(np.isnan(script.strength), filmed, script.strength)
        return np.where(script.affect == AFFECTS.index("neutral"), 0.0, strength)

    def _person(self, identity: int | str) -> int:
        names = self.people
        if isinstance(identity, str):
            if identity in names:
                return names.index(identity)
        elif 0 <= identity < len(names):
            return identity
        raise UserError(f"identity: found {identity!r}, expected 0..{len(names) - 1} or one of: {', '.join(names)}.")


def _counterfactual(studio: Studio, exact: float) -> Script:
    """Return one frame of each affect but neutral for every moment at which the take is weaker than `exact`."""
    weak = [
        (person, take, int(frame))
        for person in range(studio.identities)
        for take in range(studio.takes)
        for frame in studio._kept
        if studio.take(person, take).strength(studio._moment(int(frame))) < exact
    ]
    acted = [k for k, affect in enumerate(AFFECTS) if affect != "neutral"]
    person, take, frame = np.repeat(np.array(weak, np.int64).reshape(-1, 3), len(acted), axis=0).T  # (M, 3) -> 3 x (M,)
    affect = np.tile(np.array(acted, np.int64), len(weak))
    rng = np.random.default_rng(np.random.SeedSequence((studio.seed, _STRENGTH)))
    return Script(person, affect, take, frame, rng.uniform(exact, 1.0, len(affect)))


@lru_cache(maxsize=4096)
def _take(
    key: tuple[int, ...],
    seconds: float,
    head_motion: float,
    any_view: bool,
    any_framing: bool = False,
    square: tuple[float, float, float] | None = None,
) -> Take:
    return Take(key, seconds, head_motion, any_view, any_framing, square)


def _units(aus: ArrayLike, shapes: tuple[tuple[int, ...], ...]) -> NDArray[np.float64]:
    units = np.asarray(aus, dtype=np.float64)
    if units.shape not in shapes or not np.isfinite(units).all():
        expected = " or ".join(" x ".join(map(str, shape)) for shape in shapes)
        raise UserError(f"aus: found an array of shape {units.shape}, expected {expected} finite numbers.")
    return units


def _check(studio: Studio) -> None:
    """Raise a UserError that lists every invalid argument."""
    wrong = [
        f"{name}: found {getattr(studio, name)!r}, expected one of {', '.join(map(str, choices))}{unit}."
        for name, choices, unit in (
            ("size", IMAGE_SIZES, " pixels"), ("population", POPULATIONS, ""), ("framing", FRAMINGS, ""),
            ("expressions", EXPRESSIONS, ""),
        )
        if getattr(studio, name) not in choices
    ]  # fmt: skip
    for name, least in (("identities", 1), ("takes", 1), ("frames", 1), ("seed", 0)):
        value = getattr(studio, name)
        allowed = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not allowed and not (name == "frames" and value is None):
            wrong.append(f"{name}: found {value!r}, expected a whole number of at least {least}.")
    if not isinstance(studio.head_motion, (int, float)) or not 0 <= studio.head_motion <= 15:
        wrong.append(f"head_motion: found {studio.head_motion!r}, expected degrees from 0 to 15.")
    if not 0.1 <= studio.take_seconds <= 600:
        wrong.append(f"take_seconds: found {studio.take_seconds!r}, expected seconds from 0.1 to 600.")
    elif isinstance(studio.frames, int) and studio.frames > round(studio.take_seconds * FPS):
        most = round(studio.take_seconds * FPS)
        wrong.append(
            f"frames: found {studio.frames}, but a take of {studio.take_seconds:g} s has {most} frames at {FPS} a "
            f"second; set take_seconds to {studio.frames / FPS:.2f} or more, or frames to {most} or fewer."
        )
    if studio.exact is not None and not 0 <= studio.exact <= 1:
        wrong.append(f"exact: found {studio.exact!r}, expected a strength in 0..1 or None.")
    if wrong:
        raise UserError("The studio has invalid settings. " + " ".join(wrong))
