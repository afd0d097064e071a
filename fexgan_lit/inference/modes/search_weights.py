"""`mode=lambda`: learn the weights of a complex expression instead of choosing them by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fexgan_lit.expression import Expression
from fexgan_lit.inference.conditions import direction_to, of_affects, read_affects
from fexgan_lit.inference.modes.blend import LEARNT, Blend, painter
from fexgan_lit.inference.modes.interpolate import check_codes
from fexgan_lit.inference.modes.transform import write_columns
from fexgan_lit.inference.output import RECORD, file_name
from fexgan_lit.inference.weight_search import LARGEST, Aim, Faces, Found, Reading, read, search, with_shift
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.options import Options, option

if TYPE_CHECKING:
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.inference.session import GenerationSession
    from fexgan_lit.metrics.judges.affect import Judge
    from fexgan_lit.metrics.judges.identity import IdentityJudge

TABLE = "before_and_after.md"
#: Weight of both affects of a complex expression in the FExGAN papers.
_PAPERS = 1.0
#: Minimum accuracy of a judge on held-out frames, below which its results are not reliable.
_FLOOR = 0.9


@dataclass
class LambdaOptions(Options):
    """Affects, target shares and extent of the search.

    Attributes:
        affects: two or more names.
        shares: target share of the judge's probability for each affect; None: equal.
        shift: whether to learn a shift of the latent code, too, equal for all faces.
        steps: optimizer steps in each descent.
        restarts: number of descents; the first starts at the papers' lambda.
        faces: number of neutral training frames for the search, and of neutral validation frames for the metrics.
        keep_identity: weight of the identity loss.
    """

    affects: Any = None
    shares: list[float] | None = option(None, "numbers above 0; an affect without a share is left out", above=0)
    shift: bool = False
    steps: int = option(100, at_least=1, at_most=100_000)
    restarts: int = option(3, at_least=1, at_most=1000)
    faces: int = option(48, at_least=1, at_most=10_000)
    keep_identity: float = option(1.0, "a weight, 0 or more", at_least=0)

    def conflicts(self) -> list[str]:
        """Return a sentence for each rule that is broken by values that are allowed by themselves."""
        if not isinstance(self.affects, list) or len(set(map(str, self.affects))) < 2:
            return [f"affects={self.affects}: expected two or more, such as affects=[joy,disgust]"]
        if self.shares is not None and len(self.shares) != len(self.affects):
            return [f"shares={list(self.shares)}: expected one for each of affects={self.affects}"]
        return []


@dataclass(frozen=True, eq=False)
class Trial:
    """A blend, and the judges' results on faces that were not used for the search."""

    name: str
    blend: Blend
    reading: Reading


def learn_lambda(session: GenerationSession, options: LambdaOptions) -> None:
    """Search the weights, compare them with the papers' on held-out faces, and write table, sheet and record.

    Raises:
        UserError: an affect is unknown, the system has no gradients, or no judge can be trained on the data.
    """
    names = read_affects(options.affects, "affects", session.system.affects)
    if len(names) < 2:
        raise UserError(f"affects={options.affects}: these names mean one affect; expected two or more")
    if options.shift:
        check_codes(session, "shift=true")
    shares = _shares(session, options, len(names))
    judge, identity = judges_of(session)
    aim = _aim(session, judge, identity, names, shares, options.keep_identity)
    trained, held_out = _faces(session, names, judge, identity, options.faces)
    found, shifted = _search(session, aim, trained, names, options)
    trials = [_trial(session, aim, held_out, names, "papers", Found(torch.full((len(names),), _PAPERS), None, 0.0))]
    trials.append(_trial(session, aim, held_out, names, "learnt", found))
    if shifted is not None:
        trials.append(_trial(session, aim, held_out, names, "learnt, with shift", shifted))
    _report(session, trials, names, shares, judge, identity, (len(trained), len(held_out)))
    _write_faces(session, trials, names)


def _shares(session: GenerationSession, options: LambdaOptions, count: int) -> list[float]:
    """Return P shares that sum to 1."""
    given = options.shares or [1 / count] * count
    if len(given) != count:
        raise UserError(f"affects={options.affects}: two names mean one affect, and each has a share")
    total = sum(given)
    if abs(total - 1) > 1e-6:
        session.say(f"shares sum to {total:g}; they are divided by it")
    return [share / total for share in given]


def judges_of(session: GenerationSession) -> tuple[Judge, IdentityJudge | None]:
    """Return the judges of the run's data, cached or trained now, and print a note if they are not reliable.

    Raises:
        UserError: the data have no affects.
    """
    from fexgan_lit.metrics.judges.affect import load_or_train_judge
    from fexgan_lit.metrics.judges.identity import can_tell_people, load_or_train_identity_judge
    from fexgan_lit.utils.cache import cache_root
    from fexgan_lit.utils.console import stages

    data = session.data
    if not data.labelled:
        raise UserError(
            f"mode={session.settings.mode}: the data of the run have no affects, so no judge can be trained"
        )
    shared: dict[str, Any] = {
        "image_size": session.run.dataset.image_size, "cache_dir": cache_root(session.run.dataset.cache_dir),
        "key": data.key, "device": session.system.device,
    }  # fmt: skip
    with stages(session.console) as stage:
        judge = load_or_train_judge(data.train, data.val, progress=_told(stage("training the judge")), **shared)
        identity = None
        if can_tell_people(data.train):
            told = _told(stage("training the judge of identity"))
            identity = load_or_train_identity_judge(data.train, data.val, progress=told, **shared)
    if judge.affect_accuracy is None or judge.affect_accuracy < _FLOOR:
        session.say(f"this judge is unreliable: its accuracy on held-out frames is below {_FLOOR:.0%}")
    return judge, identity


def _told(progress: Callable[[int, int], None]) -> Callable[..., None]:
    """Adapt `progress` to trainings that report more than (done, total)."""
    return lambda done, total, *_: progress(done, total)


def _aim(
    session: GenerationSession,
    judge: Judge,
    identity: IdentityJudge | None,
    names: list[str],
    shares: list[float],
    keep: float,
) -> Aim:
    asked = torch.zeros(len(judge.affects))
    asked[[judge.affects.index(name) for name in names]] = torch.tensor(shares)
    return Aim(session.system, judge.net, None if identity is None else identity.net, asked, keep)


def _faces(
    session: GenerationSession, names: list[str], judge: Judge, identity: IdentityJudge | None, most: int
) -> tuple[Faces, Faces]:
    """Return neutral frames for the search and for the metrics: of both splits, or alternate training frames."""
    data = session.data
    if data.val is not None and len(data.val) >= 2:
        splits = [(data.train, _calm_rows(data.train)), (data.val, _calm_rows(data.val))]
        session.say("the search uses frames of the training split, the metrics use the validation split")
    else:
        rows = _calm_rows(data.train)
        if len(rows) < 2:
            raise UserError(
                f"mode=lambda: {len(rows)} frames; expected two or more, since the metrics use other frames"
            )
        splits = [(data.train, rows[::2]), (data.train, rows[1::2])]
        session.say(
            "the run has no validation split: the search uses every other frame, the metrics use the frames between"
        )
    first, second = (_gather(session, frames, _spread(rows, most), names, judge, identity) for frames, rows in splits)
    return first, second


def _calm_rows(frames: FrameSet) -> np.ndarray:
    """Return the rows of neutral frames, or all rows if fewer than two are neutral."""
    neutral = frames.affects.index("neutral") if "neutral" in frames.affects else -1
    rows = np.flatnonzero(frames.affect == neutral)
    return rows if len(rows) >= 2 else np.arange(len(frames))


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of `rows`, evenly spread."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]


def _gather(
    session: GenerationSession,
    frames: FrameSet,
    rows: np.ndarray,
    names: list[str],
    judge: Judge,
    identity: IdentityJudge | None,
) -> Faces:
    """Return the frames `rows` as source faces of a blend."""
    other = session.with_frames(frames, rows)
    images = other.sources.images
    people = torch.tensor([judge.identities.index(frames.identities[i]) for i in frames.identity[rows]])
    landmarks = other.own("landmarks") if "landmarks" in session.system.reads else None
    directions = tuple(direction_to(other, name) for name in names)
    return Faces(
        images, other.shown, directions, landmarks, None if identity is None else identity.embed(images), people
    )


def _search(
    session: GenerationSession, aim: Aim, faces: Faces, names: list[str], options: LambdaOptions
) -> tuple[Found, Found | None]:
    """Return the weights, and if configured the weights with a shift."""
    from fexgan_lit.utils.console import stage_bar

    seed = session.settings.seed
    with stage_bar(session.console) as bar:
        task = bar.add_task("searching lambda", total=options.steps * (options.restarts + options.shift))

        def told(steps: int) -> None:
            bar.update(task, advance=steps)

        found = search(aim, faces, [_PAPERS] * len(names), options.steps, options.restarts, seed, told)
        shifted = with_shift(aim, faces, found, options.steps, seed, told) if options.shift else None
    if float(found.weights.max()) >= LARGEST:
        session.say(
            f"a weight is at its limit of {LARGEST:g}: the run hardly shows this affect together with the others"
        )
    return found, shifted


def _trial(session: GenerationSession, aim: Aim, faces: Faces, names: list[str], name: str, found: Found) -> Trial:
    index = [session.system.affects.index(affect) for affect in names]
    weights = {affect: round(float(w), 4) for affect, w in zip(names, found.weights, strict=True)}
    return Trial(name, Blend(weights, found.shift), read(aim, faces, index, found.weights, found.shift))


def _report(
    session: GenerationSession, trials: list[Trial], names: list[str], shares: list[float], judge: Judge,
    identity: IdentityJudge | None, counts: tuple[int, int],
) -> None:  # fmt: skip
    """Print and write the table, and record everything with the command that uses the result."""
    from fexgan_lit.utils.tables import TextTable

    asked = " and ".join(f"{name} {share:.0%}" for name, share in zip(names, shares, strict=True))
    header = ("lambda", "", *names, "others", "all seen", "divergence", "person kept", "likeness")
    rows = tuple((trial.name, _rounded(trial.blend), *_cells(trial.reading)) for trial in trials)
    about = f"The judge's probabilities on {counts[1]} faces not used for the search; target shares: {asked}"
    notes = (
        "all seen: faces where each affect has at least half its share; divergence: mean KL from the shares, 0 is best",
        "person kept: the judge recognises the source; likeness: cosine similarity of the identity judge's embeddings",
        judge.describe(), *([identity.describe()] if identity is not None else []),
    )  # fmt: skip
    table = TextTable(about, header, rows, notes=notes)
    session.console.print(table.rich())
    session.output.text(TABLE, table.markdown(), "the papers' lambda and the learnt lambda, evaluated by the judges")
    best = trials[-1].blend
    use = f"'affects={{{', '.join(f'{name}: {weight:g}' for name, weight in best.weights.items())}}}'"
    if best.shift is not None:
        use = f"affects={session.output.folder / RECORD}"
    session.say(f"use it: mode=blend {use}")
    session.output.measured[LEARNT] = {
        "weights": best.weights, "shift": None if best.shift is None else best.shift.tolist(),
        "shares": dict(zip(names, shares, strict=True)), "judges": list(notes[2:]),
        "searched_on": counts[0], "measured_on": counts[1],
        "trials": {trial.name: {"weights": trial.blend.weights, **asdict(trial.reading)} for trial in trials},
    }  # fmt: skip


def _cells(reading: Reading) -> tuple[str, ...]:
    likeness = "-" if reading.likeness is None else f"{reading.likeness:.3f}"
    seen = (f"{share:.1%}" for share in reading.shares)
    return (*seen, f"{reading.elsewhere:.1%}", f"{reading.both:.0%}", f"{reading.divergence:.3f}",
            f"{reading.kept:.0%}", likeness)  # fmt: skip


def _rounded(blend: Blend) -> str:
    """Return the blend's label with two digits per weight."""
    return replace(blend, weights={name: round(w, 2) for name, w in blend.weights.items()}).label


def _write_faces(session: GenerationSession, trials: list[Trial], names: list[str]) -> None:
    """Write reference faces with each affect alone, with the papers' lambda and with the learnt lambda."""
    alone = [Trial("", Blend({name: 1.0}), trials[0].reading) for name in names]
    columns = [*alone, *trials]
    wanted: list[Expression] = [of_affects(session, trial.blend.weights) for trial in columns]
    labels = [_label(session, trial) for trial in columns]
    places = [file_name(trial.name or trial.blend.label) for trial in columns]
    makers = [painter(session, trial.blend) for trial in columns]
    write_columns(
        session,
        wanted,
        places,
        labels,
        "each affect alone, and the blends with the papers' and the learnt lambda",
        makers,
    )


def _label(session: GenerationSession, trial: Trial) -> str:
    """Return a label for the sheet, with two digits per weight."""
    text = f"{trial.name}: {_rounded(trial.blend)}" if trial.name else _rounded(trial.blend)
    return session.marked(text, max(trial.blend.weights.values()))
