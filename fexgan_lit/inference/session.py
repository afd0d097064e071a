"""A trained run at work for `generate`: its system, its data, the faces to change, and generation in batches."""

from __future__ import annotations

import copy
import functools
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.expression import FIELD_NAMES, Expression, rows_of
from fexgan_lit.inference.faces import MOST_FACES, Sources, at_rest, choose, from_files, from_frames, from_shipped
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.inference.config import GenerateSettings
    from fexgan_lit.inference.loaded_system import LoadedSystem
    from fexgan_lit.inference.output import OutputFolder
    from fexgan_lit.inference.paste import Placed
    from fexgan_lit.systems.base import ExpressionSystem


#: (source (B, 3, S, S), what it shows, what is wanted) -> faces (B, 3, S, S).
Painter = Callable[[Tensor, Expression, Expression], Tensor]


#: Modes that take every picture of a folder, not the first few.
UNLIMITED = ("transform", "blend", "tune")


#: Columns of the annotations that hold a field of `Expression`.
_COLUMNS = {"affect": "affect", "aus": "AU01..AU45", "landmarks": "x00,y00..x67,y67"}


class GenerationSession:
    """What every mode works with.

    Args:
        loaded: the run.
        settings: options of this call.
        output: where results go.
        console: the terminal.

    Attributes:
        system: of the run, on its device.
        run: the settings it was trained with.
        notes: what was said to the user, for the record.
    """

    def __init__(
        self, loaded: LoadedSystem, settings: GenerateSettings, output: OutputFolder, console: Console
    ) -> None:
        self.loaded = loaded
        self.system = loaded.system
        self.run = loaded.run
        self.settings = settings
        self.output = output
        self.console = console
        self.notes: list[str] = []

    def say(self, line: str) -> None:
        """Tell the user, and keep it for the record."""
        if line not in self.notes:
            self.notes.append(line)
            self.console.print(f"  {line}", markup=False)

    # ------------------------------------------------------------------ data and faces

    @cached_property
    def data(self) -> FrameDataModule:
        """The run's data, opened when they are first needed.

        Raises:
            UserError: they are gone, or have other affects than the run was trained with.
        """
        from fexgan_lit.data.datamodule import FrameDataModule
        from fexgan_lit.data.streaming.storage import absolute_root
        from fexgan_lit.utils.console import stages

        config = self.run.dataset
        if self.settings.root is not None:
            config = replace(config, root=absolute_root(self.settings.root))
        data = FrameDataModule(config, self.run.seed, self.system.pairing)
        data.stages = functools.partial(stages, self.console)
        try:
            data.setup()
        except UserError as error:
            raise UserError(
                f"the data of the run cannot be opened: {error}\nIf they moved, say root=DIR; images=FILE|DIR "
                "takes faces from elsewhere"
            ) from error
        if tuple(data.affects) != self.system.affects:
            raise UserError(
                f"the data of the run have other affects now: {', '.join(data.affects)}; it was trained with "
                f"{', '.join(self.system.affects)}"
            )
        return data

    @property
    def frames(self) -> FrameSet:
        """The split that faces come from."""
        return self.data.reference_frames

    @cached_property
    def placed(self) -> Placed | None:
        """Where the faces lie in the pictures they are pasted back into; None without `paste=true`."""
        if not self.settings.paste:
            return None
        from fexgan_lit.inference.paste import find_faces

        return find_faces(self, Path(str(self.settings.images)).expanduser(), self.settings.which)

    @cached_property
    def sources(self) -> Sources:
        """The faces to change."""
        s = self.settings
        # a whole folder is turned into PNGs one by one; other modes show all faces on one sheet
        most = None if s.mode in UNLIMITED and s.images is not None else MOST_FACES
        chosen = choose(self._found(), s.names, most)
        for note in chosen.notes:
            self.say(note)
        shown = f"{', '.join(chosen.names[:MOST_FACES])}{' ...' if len(chosen) > MOST_FACES else ''}"
        self.say(f"{len(chosen)} face{'s' if len(chosen) > 1 else ''} of {chosen.origin}: {shown}")
        return chosen

    def _found(self) -> Sources:
        """All faces there are to choose from."""
        size, s = self.system.image_size, self.settings
        if self.placed is not None:
            return self.placed.sources
        if s.images is not None:
            csv = None if s.annotations is None else Path(s.annotations).expanduser()
            if self.run.dataset.crop == "face":
                self.say("the run was trained on squares around faces; paste=true finds and cuts them alike")
            return from_files(Path(s.images).expanduser(), size, csv, self.system.affects)
        folder = self.loaded.folder
        if self.system.reads == {"affect"} and (folder / "faces").is_dir() and "neutral" in self.system.affects:
            return from_shipped(folder, size, self.system.affects)
        return from_frames(self.frames, size, f"the data of the run ({self.run.dataset.name})")

    def with_frames(self, frames: FrameSet, rows: np.ndarray) -> GenerationSession:
        """The same session with the frames `rows` (N,) of `frames` as its faces."""
        from fexgan_lit.data.reference import frame_expression

        other = copy.copy(self)
        names = tuple(f"{frames.identities[frames.identity[row]]} {row}" for row in rows)
        images = frames.floats(rows, self.system.image_size)
        chosen = Sources(names, images, frame_expression(frames, rows), rows, f"the data of {self.run.dataset.name}")
        # in the place where the cached properties keep what they found
        other.__dict__.update(frames=frames, sources=chosen)
        other.__dict__.pop("shown", None)
        return other

    # ------------------------------------------------------------------ what the faces show

    @property
    def count(self) -> int:
        """N, the number of faces."""
        return len(self.sources)

    def own(self, field: str) -> Tensor:
        """What the faces show of a field of `Expression`, (N, ...).

        Action units that are not known are those of a face at rest, which the user is told.

        Raises:
            UserError: it is not known, and nothing can stand in.
        """
        known = self.sources.shown.known.get(field)
        if known is not None:
            return known
        if field == "affect" and "neutral" in self.system.affects:
            self.say(
                f"the affects that the faces of {self.sources.origin} show are not known: taken as neutral; "
                "annotations=CSV with the columns path and affect gives them"
            )
            index = [self.system.affects.index("neutral")] * len(self.sources)
            return Expression.of_affects(index, len(self.system.affects)).known["affect"]
        way = f"annotations=CSV with the columns path and {_COLUMNS[field]} gives them"
        if field == "aus":
            self.say(f"the action units of {self.sources.origin} are not known: taken as faces at rest (all 0); {way}")
            return at_rest(len(self.sources))
        raise UserError(f"the {FIELD_NAMES[field]} that the faces of {self.sources.origin} show are not known; {way}")

    @cached_property
    def shown(self) -> Expression:
        """What the system is told of the faces, (N, ...): what is known, and the affect where it needs one."""
        if getattr(self.system.settings, "encoder_label", None) == "source":
            return replace(self.sources.shown, affect=self.own("affect"))
        return self.sources.shown

    def own_expression(self) -> Expression:
        """What the faces show, every field that the system reads and whatever else is known, (N, ...)."""
        return replace(self.sources.shown, **{name: self.own(name) for name in self.system.reads})

    def true_expression(self, affect: int) -> Expression:
        """What the strongest true frame of each face's identity shows of an affect, (N, ...).

        Raises:
            UserError: the faces are none of the data's.
        """
        from fexgan_lit.data.reference import affect_expression

        if self.sources.rows is None:
            raise UserError(
                f"{self.system.settings.name} is told landmarks or action units, and those of an affect are taken from "
                f"true frames of the same person; {self.sources.origin} has none. Leave images= out to take faces of "
                "the run's data"
            )
        return Expression.stack([affect_expression(self.frames, int(row), affect) for row in self.sources.rows])

    # ------------------------------------------------------------------ painting

    def check(self, wanted: Expression, instead: str) -> None:
        """Refuse an expression that the system cannot read; `instead` says what would work.

        Raises:
            UserError: naming the run, what its system reads, what it was asked for, and `instead`.
        """
        try:
            self.system.check_reads(wanted)
        except UserError as error:
            raise UserError(f"mode={self.settings.mode}: {error}. {instead}") from error

    def painted(
        self, index: np.ndarray, wanted: Expression, what: str, make: Painter | None = None
    ) -> Iterator[tuple[range, Tensor]]:
        """Give the faces at `index` (M,) the expressions `wanted` (M, ...), in batches with a bar named `what`.

        Args:
            index: of the sources.
            wanted: what each is asked for.
            what: is done, for the bar.
            make: (source, shown, wanted) -> faces; None is the system's `synthesize`.

        Yields:
            the places 0..M-1 of a batch and its faces (B, 3, S, S) in [-1, 1] on the CPU.
        """
        from fexgan_lit.utils.console import stage_bar

        torch.manual_seed(self.settings.seed)
        device, make = self.system.device, make or self.system.synthesize
        self.mark(wanted)
        with stage_bar(self.console) as bar:
            task = bar.add_task(what, total=len(index))
            for start in range(0, len(index), self.settings.batch_size):
                part = range(len(index))[start : start + self.settings.batch_size]
                rows = torch.from_numpy(np.asarray(index[part.start : part.stop], np.int64))
                shown, asked = rows_of(self.shown, rows).to(device), rows_of(wanted, part).to(device)
                with torch.no_grad():
                    faces = make(self.sources.images[rows].to(device), shown, asked)
                yield part, faces.float().cpu()
                bar.update(task, advance=len(rows))

    def paint(self, index: np.ndarray, wanted: Expression, what: str, make: Painter | None = None) -> Tensor:
        """As `painted`, all at once: (M, 3, S, S) in [-1, 1] on the CPU."""
        return torch.cat([faces for _, faces in self.painted(index, wanted, what, make)])

    def mark(self, wanted: Expression) -> None:
        """Say where more is asked for than the run was trained with."""
        if wanted.affect is not None and self.beyond(float(wanted.affect.max())):
            self.say(
                f"affects up to {float(wanted.affect.max()):g} are asked for; the run saw up to "
                f"{self.output.trained:g} in training, and beyond that faces may break (marked as beyond training)"
            )

    def beyond(self, weight: float) -> bool:
        """Whether `weight` of an affect is more than the run saw in training."""
        return weight > self.output.trained + 1e-4

    def marked(self, label: str, weight: float) -> str:
        """`label` of a column, marked where `weight` of an affect is beyond training."""
        return f"{label} (beyond training)" if self.beyond(weight) else label

    def paint_columns(self, columns: list[Expression], what: str, make: Painter | None = None) -> Tensor:
        """Give all N faces each of the C expressions (N, ...): (N, C, 3, S, S) in [-1, 1] on the CPU."""
        count = len(self.sources)
        index = np.tile(np.arange(count), len(columns))
        faces = self.paint(index, Expression.stack(columns), what, make)
        # (C * N, 3, S, S) -> (N, C, 3, S, S)
        return faces.unflatten(0, (len(columns), count)).transpose(0, 1)


def open_run(settings: GenerateSettings, folder: Path, console: Console) -> GenerationSession:
    """The run at work, and in a line what it is.

    Raises:
        UserError: no run there, weights that are missing or do not fit, or a device that is not there.
    """
    from fexgan_lit.inference.loaded_system import load
    from fexgan_lit.inference.output import OutputFolder
    from fexgan_lit.utils.version import __version__

    console.print(f"[bold]fexgan_lit {__version__}[/]  generate {settings.mode}\n")
    loaded = load(settings.run, settings.device)
    system = loaded.system
    settings = replace(settings, run=str(settings.run or loaded.folder))
    console.print(
        f"  run: {loaded.folder}, {loaded.name} trained on {loaded.run.dataset.name} at {loaded.image_size} px; "
        f"device: {system.device}",
        markup=False,
    )
    return GenerationSession(loaded, settings, OutputFolder(folder, system.affects, trained_strength(system)), console)


def trained_strength(system: ExpressionSystem) -> float:
    """The largest weight of an affect in training: 1, or with lambda drawn from N(0, 1) three deviations."""
    return 1.0 if getattr(system.settings, "lambda_mode", "one") == "one" else 3.0


def about(session: GenerationSession, options: Any) -> dict[str, Any]:
    """What was run, for the record."""
    import torch

    from fexgan_lit.inference.output import described
    from fexgan_lit.utils.version import __version__

    settings = session.settings
    # random faces come from no face, and the data need not be opened to say so
    sources = session.__dict__.get("sources")
    return {
        "command": ["python", "-m", "fexgan_lit.generate", *sys.argv[1:]],
        "run": {"path": str(settings.run), "model": session.system.settings.name, "dataset": session.run.dataset.name,
                "image_size": session.system.image_size, "affects": list(session.system.affects)},
        "mode": settings.mode,
        "options": {**asdict(options), **({"paste": True, "which": settings.which} if settings.paste else {})},
        "seed": settings.seed,
        "device": str(session.system.device),
        "versions": {"fexgan_lit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "sources": [{"name": name, "origin": sources.origin,
                     "shows": described(sources.shown, i, session.system.affects)}
                    for i, name in enumerate(sources.names)] if sources is not None else [],
        "notes": session.notes,
    }  # fmt: skip
