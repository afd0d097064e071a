"""A trained run at work: its system, its data, the faces to change, and painting in batches."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fexgan_lit.errors import UserError
from fexgan_lit.expression import FIELD_NAMES, Expression
from fexgan_lit.generation.expressions import rows_of
from fexgan_lit.generation.sources import Sources, at_rest, choose, from_files, from_frames

if TYPE_CHECKING:
    from rich.console import Console

    from fexgan_lit.config import TrainSettings
    from fexgan_lit.data.datamodule import FrameData
    from fexgan_lit.data.frames import FrameSet
    from fexgan_lit.generation.album import Album
    from fexgan_lit.generation.settings import GenerateSettings
    from fexgan_lit.systems.base import ExpressionSystem

#: Columns of the annotations that hold a field of `Expression`.
_COLUMNS = {"affect": "affect", "aus": "AU01..AU45", "landmarks": "x00,y00..x67,y67"}


class Workbench:
    """What every mode works with.

    Args:
        system: with its trained weights, on its device.
        run: the settings it was trained with.
        settings: options of this call.
        album: where results go.
        console: the terminal.

    Attributes:
        notes: what was said to the user, for the record.
    """

    def __init__(
        self, system: ExpressionSystem, run: TrainSettings, settings: GenerateSettings, album: Album, console: Console
    ) -> None:
        self.system = system
        self.run = run
        self.settings = settings
        self.album = album
        self.console = console
        self.notes: list[str] = []

    def say(self, line: str) -> None:
        """Tell the user, and keep it for the record."""
        if line not in self.notes:
            self.notes.append(line)
            self.console.print(f"  {line}", markup=False)

    # ------------------------------------------------------------------ data and faces

    @cached_property
    def data(self) -> FrameData:
        """The run's data, opened when they are first needed.

        Raises:
            UserError: they are gone, or have other affects than the run was trained with.
        """
        from fexgan_lit.data.datamodule import FrameData
        from fexgan_lit.progress import stage_bar

        config = self.run.dataset
        if self.settings.root is not None:
            config = replace(config, root=str(Path(self.settings.root).expanduser()))
        data = FrameData(config, self.run.seed, self.system.pairing)
        with stage_bar(self.console) as bar:
            task = bar.add_task("preparing frames", total=None)
            data.progress = lambda done, total: bar.update(task, completed=done, total=total)
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

    @cached_property
    def frames(self) -> FrameSet:
        """The split that faces come from: validation, unless an identity is missing there."""
        train, val = self.data.train, self.data.val
        complete = val is not None and len(set(val.identity.tolist())) == len(self.data.identities)
        return val if val is not None and complete else train

    @cached_property
    def sources(self) -> Sources:
        """The faces to change."""
        size, s = self.system.image_size, self.settings
        if s.images is None:
            found = from_frames(self.frames, size, f"the data of the run ({self.run.dataset.name})")
        else:
            csv = None if s.annotations is None else Path(s.annotations).expanduser()
            found = from_files(Path(s.images).expanduser(), size, csv, self.system.affects)
            if self.run.dataset.crop == "face":
                self.say("the run was trained on squares around faces; give pictures that are cut alike")
        chosen = choose(found, s.names)
        for note in chosen.notes:
            self.say(note)
        self.say(f"faces: {', '.join(chosen.names)} of {chosen.origin}")
        return chosen

    # ------------------------------------------------------------------ what the faces show

    def own(self, field: str) -> Tensor:
        """What the faces show of a field of `Expression`, (N, ...).

        Action units that are not known are those of a face at rest, which the user is told.

        Raises:
            UserError: it is not known, and nothing can stand in.
        """
        known = self.sources.shown.known.get(field)
        if known is not None:
            return known
        way = f"annotations=CSV with the columns path and {_COLUMNS[field]} gives them"
        if field == "aus":
            self.say(f"the action units of {self.sources.origin} are not known: taken as faces at rest (all 0); {way}")
            return at_rest(len(self.sources))
        raise UserError(f"the {FIELD_NAMES[field]} that the faces of {self.sources.origin} show are not known; {way}")

    def own_expression(self) -> Expression:
        """What the faces show, every field that the system reads and whatever else is known, (N, ...)."""
        return replace(self.sources.shown, **{name: self.own(name) for name in self.system.reads})

    def true_expression(self, affect: int) -> Expression:
        """What the strongest true frame of each face's identity shows of an affect, (N, ...).

        Raises:
            UserError: the faces are none of the data's.
        """
        from fexgan_lit.data.wanted import affect_expression

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

    @torch.no_grad()
    def paint(self, index: np.ndarray, wanted: Expression, what: str) -> Tensor:
        """Give the faces at `index` (M,) the expressions `wanted` (M, ...), in batches with a bar named `what`.

        Returns:
            (M, 3, S, S) in [-1, 1] on the CPU.
        """
        from fexgan_lit.progress import stage_bar

        torch.manual_seed(self.settings.seed)
        device, made = self.system.device, []
        with stage_bar(self.console) as bar:
            task = bar.add_task(what, total=len(index))
            for start in range(0, len(index), self.settings.batch_size):
                part = slice(start, start + self.settings.batch_size)
                rows = torch.from_numpy(np.asarray(index[part], np.int64))
                shown = rows_of(self.sources.shown, rows).to(device)
                asked = rows_of(wanted, range(*part.indices(len(index)))).to(device)
                faces = self.system.synthesize(self.sources.images[rows].to(device), shown, asked)
                made.append(faces.float().cpu())
                bar.update(task, advance=len(rows))
        return torch.cat(made)

    def paint_columns(self, columns: list[Expression], what: str) -> Tensor:
        """Give all N faces each of the C expressions (N, ...): (N, C, 3, S, S) in [-1, 1] on the CPU."""
        count = len(self.sources)
        index = np.tile(np.arange(count), len(columns))
        faces = self.paint(index, Expression.stack(columns), what)
        # (C * N, 3, S, S) -> (N, C, 3, S, S)
        return faces.unflatten(0, (len(columns), count)).transpose(0, 1)
