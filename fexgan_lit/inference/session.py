"""The state of a `generate` call: the system, its data, the source faces, and generation in batches."""

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

from fexgan_lit.data.frames import to_uint8
from fexgan_lit.expression import ACTION_UNITS, FIELD_NAMES, Expression, rows_of
from fexgan_lit.inference.config import PASTING
from fexgan_lit.inference.faces import MOST_FACES, Sources, at_rest, choose, from_files, from_frames, from_shipped
from fexgan_lit.inference.output import file_name
from fexgan_lit.runs.folder import FACES
from fexgan_lit.systems.base import EditsSeveral
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.data.datamodule import FrameDataModule
    from fexgan_lit.data.faces.geometry import Framing
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.inference.config import GenerateSettings
    from fexgan_lit.inference.loaded_system import LoadedSystem
    from fexgan_lit.inference.output import OutputFolder
    from fexgan_lit.inference.paste import Placed


#: A function of the source (B, 3, S, S), its expression and the target expression that returns images (B, 3, S, S).
Painter = Callable[[Tensor, Expression, Expression], Tensor]


#: Modes that use every image of a folder.
UNLIMITED = ("transform", "blend", "expressions", "tune")


#: Annotation columns of each field of `Expression`.
_COLUMNS = {"affect": "affect", "aus": "AU01..AU45", "landmarks": "x00,y00..x67,y67"}


class GenerationSession:
    """State shared by all modes.

    Args:
        loaded: the run.
        settings: options of this call.
        output: the output folder.
        console: the terminal.

    Attributes:
        system: the system on its device.
        run: the training settings.
        notes: lines printed for the user, for the record.
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
        """Print a line for the user once, and add it to the record."""
        if line not in self.notes:
            self.notes.append(line)
            self.console.print(f"  {line}", markup=False)

    # ------------------------------------------------------------------ data and faces

    @cached_property
    def data(self) -> FrameDataModule:
        """The run's data, opened on first use.

        Raises:
            UserError: the data are missing, or have other affects than in training.
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
                f"the data of the run cannot be opened: {error}\nIf they moved, give root=DIR. images=FILE|DIR uses "
                "other faces, and keyframes, a CSV, an image or a video drive without data; run=cartoon draws its own"
            ) from error
        if tuple(data.affects) != self.system.affects:
            raise UserError(
                f"the data of the run have other affects now: {', '.join(data.affects)}; it was trained with "
                f"{', '.join(self.system.affects)}"
            )
        return data

    @property
    def frames(self) -> FrameSet:
        """The split of the source faces."""
        return self.data.reference_frames

    @cached_property
    def placed(self) -> Placed | None:
        """Positions of the faces in the images they are pasted into; None without `paste=true`."""
        if not self.settings.paste:
            return None
        from fexgan_lit.inference.paste import find_faces

        return find_faces(self, Path(str(self.settings.images)).expanduser())

    @cached_property
    def synthesize(self) -> Painter:
        """The system's `synthesize`, or with `others` its edit of several frames of one person.

        Raises:
            UserError: the system cannot combine frames, or the sources are several faces.
        """
        place = self.settings.others
        if place is None:
            return self.system.synthesize
        if not isinstance(self.system, EditsSeveral):
            raise UserError(f"others={place}: {self.loaded.name} edits one picture at a time; mien combines several")
        if len(self.sources) > 1:
            raise UserError(
                f"others={place}: it shows the person of one face; found {len(self.sources)} faces of "
                f"{self.sources.origin}. Expected images=FILE, or who=NAME"
            )
        path = Path(place).expanduser()
        if self.settings.paste:
            from fexgan_lit.inference.paste import find_faces

            found = find_faces(self, path).sources
        else:
            found = from_files(path, self.system.image_size, None, self.system.affects)
        for note in found.notes:
            self.say(note)
        count = f"{len(found)} other picture{'s' if len(found) > 1 else ''}"
        self.say(
            f"{count} of {self.sources.names[0]}: each part of the face comes from the one in which it moves least"
        )
        return functools.partial(self.system.synthesize_among, others=found.images.to(self.system.device))

    @cached_property
    def framing(self) -> Framing:
        """Where the run's frames lie relative to a face; see `LoadedSystem.framing`."""
        from fexgan_lit.data.datamodule import data_facts
        from fexgan_lit.data.faces.geometry import Framing

        if self.loaded.framing is not None:
            return self.loaded.framing
        if known := data_facts(self.data).get("framing"):
            return Framing(*known)
        self.say(
            f"the frames of {self.run.dataset.name} have no landmarks, so their framing is unknown: faces are cropped "
            f"as with dataset.crop=face and dataset.crop_margin={self.run.dataset.crop_margin:g}"
        )
        return self.loaded.usual_framing

    @cached_property
    def sources(self) -> Sources:
        """The source faces."""
        s = self.settings
        # these modes write one PNG per image; other modes show all faces on one sheet
        most = None if s.mode in UNLIMITED and s.images is not None else MOST_FACES
        chosen = choose(self._found(), s.names, most)
        for note in chosen.notes:
            self.say(note)
        shown = f"{', '.join(chosen.names[:MOST_FACES])}{' ...' if len(chosen) > MOST_FACES else ''}"
        self.say(f"{len(chosen)} face{'s' if len(chosen) > 1 else ''} of {chosen.origin}: {shown}")
        if s.images is not None and s.mode != "tune" and (strangers := self.loaded.strangers(chosen.images)):
            self.say(self.loaded.stranger_note(strangers, chosen.names))
            self.output.measured["not_of_the_cast"] = {chosen.names[i]: round(e, 2) for i, e in strangers.items()}
        return chosen

    def _found(self) -> Sources:
        """Return all available faces."""
        size, s = self.system.image_size, self.settings
        if self.placed is not None:
            return self.placed.sources
        if s.images is not None:
            csv = None if s.annotations is None else Path(s.annotations).expanduser()
            finds = "; paste=true finds faces" if s.mode in PASTING else ""
            self.say(f"the central square of each image is taken for a face as the run knows it{finds}")
            return from_files(Path(s.images).expanduser(), size, csv, self.system.affects)
        folder = self.loaded.folder
        if (folder / FACES).is_dir() and "neutral" in self.system.affects:
            reads = self.system.reads
            # frames of the data also have true action units; the models of the package come without their data
            if reads == {"affect"} or (reads <= {"affect", "aus"} and self.loaded.prepared_data is None):
                return from_shipped(folder, size, self.system.affects)
        return from_frames(self.frames, size, f"the data of the run ({self.run.dataset.name})")

    def with_frames(self, frames: FrameSet, rows: np.ndarray) -> GenerationSession:
        """Return a copy of the session with the frames `rows` (N,) of `frames` as its faces."""
        from fexgan_lit.data.reference import frame_expression

        other = copy.copy(self)
        names = tuple(f"{frames.identities[frames.identity[row]]} {row}" for row in rows)
        images = frames.floats(rows, self.system.image_size)
        chosen = Sources(names, images, frame_expression(frames, rows), rows, f"the data of {self.run.dataset.name}")
        # cached properties store their values here
        other.__dict__.update(frames=frames, sources=chosen)
        for name in ("shown", "starts"):
            other.__dict__.pop(name, None)
        return other

    # ------------------------------------------------------------------ expressions of the sources

    @property
    def count(self) -> int:
        """N, the number of faces."""
        return len(self.sources)

    def own(self, field: str) -> Tensor:
        """Return a field of the sources' expressions, (N, ...).

        Unknown action units are replaced by those of a relaxed face, with a note to the user.

        Raises:
            UserError: the field is unknown and has no default.
        """
        if field == "aus" and self.settings.neutral_first:
            return at_rest(len(self.sources))
        known = self.sources.shown.known.get(field)
        if known is not None:
            return known
        if field == "affect" and "neutral" in self.system.affects:
            self.say(
                f"the affects of the faces of {self.sources.origin} are not known: neutral is assumed; annotations=CSV "
                "with the columns path and affect gives them"
            )
            index = [self.system.affects.index("neutral")] * len(self.sources)
            return Expression.of_affects(index, len(self.system.affects)).known["affect"]
        way = f"annotations=CSV with the columns path and {_COLUMNS[field]} gives them"
        if field == "aus":
            self.say(
                f"the action units of {self.sources.origin} are not known: relaxed faces (all 0) are assumed; {way}"
            )
            return at_rest(len(self.sources))
        raise UserError(f"the {FIELD_NAMES[field]} of the faces of {self.sources.origin} are not known; {way}")

    @cached_property
    def shown(self) -> Expression:
        """The expressions of `starts` for the system, (N, ...): known fields, and the affect if the system needs it."""
        if self.settings.neutral_first:
            return Expression(aus=at_rest(len(self.sources)))
        if getattr(self.system.settings, "encoder_label", None) == "source":
            return replace(self.sources.shown, affect=self.own("affect"))
        return self.sources.shown

    @cached_property
    def starts(self) -> Tensor:
        """The images (N, 3, S, S) that are changed: the sources or, with `neutral_first`, the sources at rest.

        Raises:
            UserError: `neutral_first` is set, and the system reads no action units.
        """
        images, shown = self.sources.images, self.sources.shown
        if not self.settings.neutral_first:
            return images
        rest = self.loaded.at_rest(images, Expression(aus=shown.aus))
        known = "those that are known" if shown.aus is not None else "unknown"
        self.say(f"the faces are brought to rest first; their action units are {known}")
        for name, face in zip(self.sources.names, to_uint8(rest), strict=True):
            place = f"faces/{file_name(name)}/at_rest"
            self.output.face(place, face, name, Expression(aus=at_rest(1)))
        return rest

    def own_expression(self) -> Expression:
        """Return the sources' expressions with every field that the system reads or that is known, (N, ...)."""
        return replace(
            self.shown if self.settings.neutral_first else self.sources.shown,
            **{name: self.own(name) for name in self.system.reads},
        )

    def true_expression(self, affect: int) -> Expression:
        """Return the expression of the strongest real frame of an affect for each face's identity, (N, ...).

        Raises:
            UserError: the faces do not come from the run's data.
        """
        from fexgan_lit.data.reference import affect_expression

        if self.sources.rows is None:
            raise UserError(
                f"{self.system.settings.name} reads landmarks or action units, which come from real frames of the same "
                f"person for each affect; {self.sources.origin} has none. Leave out images= to use faces of the run's "
                "data"
            )
        return Expression.stack([affect_expression(self.frames, int(row), affect) for row in self.sources.rows])

    # ------------------------------------------------------------------ generation

    def check(self, wanted: Expression, instead: str) -> None:
        """Check that the system can read an expression.

        Raises:
            UserError: the message names the system, what it reads and what it was given, and ends with `instead`.
        """
        try:
            self.system.check_reads(wanted)
        except UserError as error:
            raise UserError(f"mode={self.settings.mode}: {error}. {instead}") from error

    def painted(
        self, index: np.ndarray, wanted: Expression, what: str, make: Painter | None = None
    ) -> Iterator[tuple[range, Tensor]]:
        """Generate images of the faces at `index` (M,) with the expressions `wanted` (M, ...), in batches.

        Args:
            index: indices of the sources.
            wanted: target expressions.
            what: description for the progress bar.
            make: function of (source, shown, wanted); None uses `synthesize`.

        Yields:
            The positions 0..M-1 of a batch, and its images (B, 3, S, S) in [-1, 1] on the CPU.
        """
        from fexgan_lit.utils.console import stage_bar

        torch.manual_seed(self.settings.seed)
        device, make = self.system.device, make or self.synthesize
        self.mark(wanted)
        starts = self.starts
        with stage_bar(self.console) as bar:
            task = bar.add_task(what, total=len(index))
            for start in range(0, len(index), self.settings.batch_size):
                part = range(len(index))[start : start + self.settings.batch_size]
                rows = torch.from_numpy(np.asarray(index[part.start : part.stop], np.int64))
                shown, asked = rows_of(self.shown, rows).to(device), rows_of(wanted, part).to(device)
                with torch.no_grad():
                    faces = make(starts[rows].to(device), shown, asked)
                yield part, faces.float().cpu()
                bar.update(task, advance=len(rows))

    def paint(self, index: np.ndarray, wanted: Expression, what: str, make: Painter | None = None) -> Tensor:
        """Return all images of `painted` at once: (M, 3, S, S) in [-1, 1] on the CPU."""
        return torch.cat([faces for _, faces in self.painted(index, wanted, what, make)])

    def mark(self, wanted: Expression) -> None:
        """Print a note if weights of affects or action units exceed those of training."""
        for what, (asked, trained) in self.output.beyond(wanted).items():
            self.say(
                f"{what} reach{'' if what.startswith('weights') else 'es'} {asked:.3g}; training used up to "
                f"{trained:.3g}, and beyond that faces may break (marked as beyond training)"
            )

    def marked(self, label: str, weight: float, wanted: Expression | None = None) -> str:
        """Return the label of a column, marked if `weight` of an affect or `wanted` (N, ...) exceed the training."""
        beyond = weight > self.output.trained + 1e-4 or (wanted is not None and self.output.beyond(wanted))
        return f"{label} (beyond training)" if beyond else label

    def paint_columns(self, columns: list[Expression], what: str, make: Painter | None = None) -> Tensor:
        """Generate all N faces with each of C expressions (N, ...): (N, C, 3, S, S) in [-1, 1] on the CPU."""
        count = len(self.sources)
        index = np.tile(np.arange(count), len(columns))
        faces = self.paint(index, Expression.stack(columns), what, make)
        # (C * N, 3, S, S) -> (N, C, 3, S, S)
        return faces.unflatten(0, (len(columns), count)).transpose(0, 1)


def open_run(settings: GenerateSettings, folder: Path, console: Console) -> GenerationSession:
    """Open the run and print a line about it.

    Raises:
        UserError: the run or the device does not exist, or the weights are missing or do not fit.
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
    units = loaded.largest_units
    largest = None if units is None else torch.tensor([units[unit] for unit in ACTION_UNITS])
    output = OutputFolder(folder, system.affects, loaded.trained_strength, largest)
    return GenerationSession(loaded, settings, output, console)


def about(session: GenerationSession, options: Any) -> dict[str, Any]:
    """Return a description of the call for the record."""
    import torch

    from fexgan_lit.inference.output import described
    from fexgan_lit.utils.version import __version__

    settings = session.settings
    # without source faces (random mode) the data need not be opened here
    sources = session.__dict__.get("sources")
    return {
        "command": ["python", "-m", "fexgan_lit.generate", *sys.argv[1:]],
        "run": {"path": str(settings.run), "model": session.system.settings.name, "dataset": session.run.dataset.name,
                "image_size": session.system.image_size, "affects": list(session.system.affects)},
        "mode": settings.mode,
        "options": {**asdict(options), **({"paste": True, "which": settings.which, "box": settings.box}
                                          if settings.paste else {})},
        "neutral_first": settings.neutral_first,
        "seed": settings.seed,
        "device": str(session.system.device),
        "versions": {"fexgan_lit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "sources": [{"name": name, "origin": sources.origin,
                     "shows": described(sources.shown, i, session.system.affects)}
                    for i, name in enumerate(sources.names)] if sources is not None else [],
        "notes": session.notes,
    }  # fmt: skip
