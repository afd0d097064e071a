"""Weights & Biases: runs grouped by sweep, setting and seed; a lost connection costs the dashboard, never the run."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from fexgan_lit.errors import UserError
from fexgan_lit.runfolder import RunFolder
from fexgan_lit.tables import ABSENT
from fexgan_lit.trackers.directions import direction
from fexgan_lit.trackers.labels import labels
from fexgan_lit.trackers.tracker import Ending, Tracker

if TYPE_CHECKING:
    from PIL import Image

    from fexgan_lit.config import LoggerSettings

#: What a summary keeps of a number that has a better way: the best value beside the last.
_SUMMARY = {"minimize": "min,last", "maximize": "max,last"}
#: The chart that W&B draws of a confusion matrix, and the columns it reads.
_CONFUSION_CHART = "wandb/confusion_matrix/v1"
_CONFUSION_FIELDS = {"Actual": "asked", "Predicted": "judged", "nPredictions": "faces"}


class RunWandb(Tracker):
    """One W&B run; the iteration is the step and the x axis of everything.

    Where the connection is lost, the W&B run goes on in an offline part with the same id, which `wandb sync` adds.

    Args:
        options: of `wandb.init`.
        mode: `online` or `offline`.
        console: where to say that the connection was lost.
        keep_weights: whether the weights become an artifact.
    """

    def __init__(self, options: Mapping[str, Any], mode: str, console: Console, keep_weights: bool = True) -> None:
        super().__init__()
        self.options = dict(options)
        self.console = console
        self.keep_weights = keep_weights
        self.lost = False  # the connection, or W&B's own process
        self._begin(mode)

    def _begin(self, mode: Any) -> None:
        import wandb

        self.experiment = wandb.init(**self.options, mode=mode)
        self._directions: dict[str, str | None] = {}
        # every panel gets the iteration as its x axis
        self.experiment.define_metric("iteration")
        self.experiment.define_metric("*", step_metric="iteration")

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "wandb"

    @property
    def version(self) -> str:
        """The id of the W&B run."""
        return str(self.experiment.id)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration went to W&B when the run began."""

    def _send(self, action: Callable[[], Any]) -> None:
        """Do `action`; where W&B's server or its own process is gone, say so once and train on."""
        try:
            action()
        except Exception as error:
            # a server's odd answer comes as any error, and a finished training must not end with it
            if self.experiment.offline and not isinstance(error, lost_connection()):
                raise
            self._say_lost(error)
            if not self.experiment.offline:
                self._go_offline()
                action()

    def _say_lost(self, error: BaseException) -> None:
        if not self.lost:
            line = f"  W&B cannot be reached any more ({first_line(error)}); the run goes on offline"
            self.console.print(line, style="yellow", markup=False)
        self.lost = True

    def _go_offline(self) -> None:
        self.options |= {"id": self.experiment.id, "resume": "allow"}
        with contextlib.suppress(*lost_connection()):
            self.experiment.finish()
        self._begin("offline")

    def _log(self, values: Callable[[], Mapping[str, Any]], iteration: int) -> None:
        """Send what `values` gives; called again where it has to be sent again, since W&B's media belong to one run."""
        self._send(lambda: self.experiment.log({**values(), "iteration": iteration}, step=iteration))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send the numbers of iteration `step`."""
        for name in metrics:
            if name not in self._directions:
                self._define(name)
        self._log(lambda: metrics, int(step or 0))

    def _define(self, name: str) -> None:
        """Tell W&B which way a number is better; a final number stays plain, since it has one value only."""
        way = self._directions[name] = direction(name)
        if way is not None and not name.startswith(("final/", "evaluation/")):
            self._send(lambda: self.experiment.define_metric(name, step_metric="iteration", summary=_SUMMARY[way]))

    def picture(self, key: str, picture: Image.Image, iteration: int, caption: str) -> None:
        """An image under `key`; W&B's slider runs over the iterations that have one."""
        import wandb

        self._log(lambda: {key: wandb.Image(picture, caption=caption)}, iteration)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], iteration: int) -> None:
        """A table whose columns of figures can be sorted and plotted."""
        import wandb

        self._log(lambda: {key: wandb.Table(columns=list(columns), data=numeric_columns(rows))}, iteration)

    def confusion(self, key: str, counts: Sequence[Sequence[int]], names: Sequence[str], iteration: int) -> None:
        """The counts as a table, and as W&B's chart of a confusion matrix, which needs no single predictions."""
        import wandb

        rows = [[name, *row] for name, row in zip(names, counts, strict=True)]
        self.table(key, ["asked / judged", *names], rows, iteration)
        cells = [[asked, judged, n] for asked, *row in rows for judged, n in zip(names, row, strict=True)]
        columns: list[str | int] = list(_CONFUSION_FIELDS.values())
        title = {"title": "What was asked against what the judge reads"}

        def chart() -> dict[str, Any]:
            table = wandb.Table(columns=columns, data=cells)
            chosen = wandb.plot_table(_CONFUSION_CHART, table, _CONFUSION_FIELDS, title)
            return {f"charts/{key.rpartition('/')[2]}": chosen}

        self._log(chart, iteration)

    def ended(self, ending: Ending) -> None:
        """The weights and what they were trained on, as artifacts, and the directions of the summary."""
        from fexgan_lit.trackers.wandb_artifacts import log_model

        known = {name: way for name in self._directions if (way := direction(name)) is not None}
        self._send(lambda: self.experiment.config.update({"directions": known}, allow_val_change=True))
        if self.keep_weights:
            self._send(lambda: log_model(self.experiment, ending))

    def close(self, failed: bool) -> str | None:
        """End the run, waiting no longer for the network than `logger.patience` says.

        Returns:
            The line that uploads what is only on disk; None where everything was uploaded.
        """
        offline = self.experiment.offline
        try:
            self.experiment.finish(exit_code=int(failed))
        except lost_connection() as error:  # a TimeoutError is an OSError
            self._say_lost(error)
        path = shlex.quote(str(self.options["dir"] / "wandb"))
        parts = [f"{path}/run-*"] if self.lost else []
        parts += [f"{path}/offline-run-*"] if offline else []
        return f"wandb sync {'--include-online ' if self.lost else ''}{' '.join(parts)}" if parts else None


def first_line(error: BaseException) -> str:
    """What an error says first, without its last stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def lost_connection() -> tuple[type[BaseException], ...]:
    """The errors by which W&B's process or server shows that it is gone."""
    import wandb.errors
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    # OSError: a pipe that broke, and a disk that filled up under its files
    return (wandb.errors.CommError, HandleAbandonedError, MailboxClosedError, OSError)


def numeric_columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The rows with every column of figures as numbers (absent ones None); a column with words stays as it is."""
    columns = [[_number(cell) for cell in column] for column in zip(*rows, strict=True)]
    kept = [
        list(before) if any(isinstance(cell, str) for cell in after) else after
        for before, after in zip(zip(*rows, strict=True), columns, strict=True)
    ]
    return [list(row) for row in zip(*kept, strict=True)]


def _number(cell: Any) -> Any:
    """A number for text that is one, also in Markdown's bold; None for what stands in place of an absent one."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip("*")
    try:
        return None if text == ABSENT else float(text)
    except ValueError:
        return cell


def start_wandb(
    settings: LoggerSettings, run: RunFolder, config: Mapping[str, Any], run_id: str | None, console: Console
) -> RunWandb:
    """Begin a W&B run, or go on with the one of that id; offline where the server cannot be reached.

    Raises:
        UserError: online, but there is no key.
    """
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    # a WANDB_MODE=offline of the machine holds against an option, never the other way round
    mode: Any = os.environ.get("WANDB_MODE", "online") if settings.mode == "online" else "offline"
    named = labels(run.path, config, settings)
    options: dict[str, Any] = {
        **asdict(named), "project": settings.project, "entity": settings.entity, "dir": run.path,
        "config": {**config, "setting": named.job_type}, "id": run_id,
        "resume": "allow" if run_id else None, "reinit": "create_new",
        "settings": wandb.Settings(
            silent=True, init_timeout=settings.patience, finish_timeout=settings.patience, finish_timeout_raises=True
        ),
    }  # fmt: skip
    try:
        return RunWandb(options, mode, console, settings.weights)
    except wandb.errors.UsageError as error:
        if "key" not in str(error).lower():
            raise
        raise UserError(
            "logger.mode=online, but Weights & Biases has no key here: run `wandb login`, or stay offline"
        ) from error
    except wandb.errors.CommError as error:
        console.print(f"  W&B cannot be used online ({first_line(error)}); this run is kept offline", style="yellow")
        return RunWandb(options, "offline", console, settings.weights)
