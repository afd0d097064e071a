"""Weights & Biases: one W&B run across resumes; a lost connection never stops the training."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from rich.console import Console

from fexgan_lit.metrics.registry import direction
from fexgan_lit.metrics.tables import ABSENT
from fexgan_lit.runs.folder import RunFolder
from fexgan_lit.training.loggers.artifacts import log_model, run_labels
from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    from fexgan_lit.runs.config import LoggerSettings

#: Checkpoint key for the id of the W&B run.
RUN_ID = "wandb_run_id"
#: W&B summaries of metrics with a direction: the best and the last value.
_SUMMARY = {"minimize": "min,last", "maximize": "max,last"}


class RunWandb(WandbLogger):
    """Lightning's `WandbLogger` with the iteration as step and x axis of all panels.

    Unlike Lightning's logger, it passes the step to W&B; otherwise each offline part of a resumed run would count from
    0. If the connection is lost, the W&B run continues as an offline part with the same id, which `wandb sync` uploads.

    Args:
        options: arguments of `wandb.init`.
        mode: `online` or `offline`.
        console: the terminal, for warnings.
        keep_weights: whether to log the weights as an artifact.
    """

    def __init__(self, options: Mapping[str, Any], mode: str, console: Console, keep_weights: bool = True) -> None:
        self.options = dict(options)
        self.console = console
        self.keep_weights = keep_weights
        self.lost = False  # the connection or W&B's own process is lost
        self.modes: set[str] = set()  # modes of the parts of this run
        super().__init__(project=options.get("project"), save_dir=options["dir"], experiment=self._begin(mode))

    def _begin(self, mode: Any) -> Any:
        import wandb

        run = wandb.init(**self.options, mode=mode)
        self.modes.add("offline" if run.offline else "online")
        self._directions: dict[str, str | None] = {}
        run.define_metric("iteration")
        run.define_metric("*", step_metric="iteration")  # the x axis of every panel
        return run

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: W&B got the whole configuration when the run started."""

    def _send(self, action: Callable[[], Any]) -> None:
        """Call `action`; if W&B's server or process is lost, switch to an offline part and call it again.

        W&B's media objects belong to one run, so `action` must create them.
        """
        try:
            action()
        except Exception as error:
            # an odd answer of the server may raise any error, which must not fail a finished training
            offline = self.experiment.offline
            if offline and not isinstance(error, lost_connection()):
                raise
            if offline and self.lost:
                return  # lost again; metrics.csv has every value
            self._say_lost(error)
            with contextlib.suppress(*lost_connection()):
                self.experiment.finish()
            import wandb

            with contextlib.suppress(*lost_connection()):
                wandb.teardown()
            self.options |= {"id": self.experiment.id, "resume": "allow"}
            self._experiment = self._begin("offline")
            action()

    def _say_lost(self, error: BaseException) -> None:
        if not self.lost:
            line = f"  W&B cannot be reached any more ({first_line(error)}); continuing offline"
            self.console.print(line, style="yellow", markup=False, soft_wrap=True)
        self.lost = True

    def _log(self, make: Callable[[], Mapping[str, Any]], step: int | None) -> None:
        step = int(step or 0)
        self._send(lambda: self.experiment.log({**make(), "iteration": step}, step=step))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send the metrics of iteration `step`, and the direction of new metrics."""
        for name in set(metrics) - set(self._directions):
            self._send(partial(self._define, name))
        self._log(lambda: metrics, step)

    def _define(self, name: str) -> None:
        way = self._directions[name] = direction(name)
        # final metrics have a single value and need no summary
        if way is not None and not name.startswith(("final/", "evaluation/")):
            self.experiment.define_metric(name, step_metric="iteration", summary=_SUMMARY[way])

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Send one image under `key`; W&B shows the iterations with a slider."""
        import wandb

        self._log(lambda: {key: wandb.Image(images[0], **{name: values[0] for name, values in kwargs.items()})}, step)

    def log_table(
        self, key: str, columns: list[str] | None = None, data: list[list[Any]] | None = None, dataframe: Any = None,
        step: int | None = None,
    ) -> None:  # fmt: skip
        """Send a table, with numeric columns as numbers so that W&B can sort and plot them."""
        import wandb

        data = None if data is None else numeric_columns(data)
        self._log(lambda: {key: wandb.Table(columns=cast(Any, columns), data=data, dataframe=dataframe)}, step)

    def log_confusion(self, key: str, counts: Sequence[Sequence[int]], names: Sequence[str], step: int) -> None:
        """Send W&B's confusion matrix chart, made from counts (`wandb.plot` needs the single predictions)."""
        import wandb

        cells = [[a, j, n] for a, row in zip(names, counts, strict=True) for j, n in zip(names, row, strict=True)]
        columns = {"Actual": "asked", "Predicted": "judged", "nPredictions": "faces"}
        title = {"title": "Target affects against the judge's predictions"}

        def chart() -> dict[str, Any]:
            table = wandb.Table(columns=list(columns.values()), data=cells)
            return {key: wandb.plot_table("wandb/confusion_matrix/v1", table, columns, title)}

        self._log(chart, step)

    def log_summary(
        self, run: RunFolder, config: Mapping[str, Any], iteration: int, metrics: Mapping[str, float], data_key: str
    ) -> None:
        """Send weights and data facts as artifacts, and the direction of each metric."""
        known = {name: way for name, way in self._directions.items() if way is not None}
        self._send(lambda: self.experiment.config.update({"directions": known}, allow_val_change=True))
        if self.keep_weights:
            self._send(lambda: log_model(self.experiment, run, config, iteration, metrics, data_key))

    def close(self, failed: bool) -> str | None:
        """End the run; wait for the network for at most `logger.patience`.

        Returns:
            The command that uploads what is only on disk; None if everything was uploaded.
        """
        import wandb

        try:
            self.experiment.finish(exit_code=int(failed))
            # `finish` returns before W&B's process has written the last records, which would be lost if the job ends
            # now
            wandb.teardown()
        except lost_connection() as error:  # a TimeoutError is an OSError
            self._say_lost(error)
        path = shlex.quote(str(self.options["dir"] / "wandb"))
        cut = self.lost and "online" in self.modes
        parts = [f"{path}/run-*"] if cut else []
        parts += [f"{path}/offline-run-*"] if "offline" in self.modes else []
        return f"wandb sync {'--include-online ' if cut else ''}{' '.join(parts)}" if parts else None


class KeepRunId(Callback):
    """Saves the id of the W&B run in the checkpoints, so that a resumed run continues it.

    A run that is resumed without W&B keeps the id.
    """

    def __init__(self) -> None:
        self.known: str | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the id from the checkpoint."""
        self.known = checkpoint.get(RUN_ID)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the id as a plain string, which loads with `weights_only=True`."""
        ids = [str(logger.version) for logger in trainer.loggers if isinstance(logger, RunWandb)]
        if run_id := next(iter(ids), self.known):
            checkpoint[RUN_ID] = run_id


def first_line(error: BaseException) -> str:
    """Return the first line of an error message without a trailing full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def lost_connection() -> tuple[type[BaseException], ...]:
    """Return the errors that W&B raises if its process or server is lost."""
    import wandb.errors

    # OSError: a broken pipe or a full disk
    found: tuple[type[BaseException], ...] = (wandb.errors.CommError, OSError)
    with contextlib.suppress(ImportError):  # private classes, raised if W&B's process is lost
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

        found += (HandleAbandonedError, MailboxClosedError)
    return found


def numeric_columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Convert the columns that hold only figures to numbers (missing ones to None); other columns stay text."""

    def number(cell: Any) -> Any:
        text = cell.strip("*") if isinstance(cell, str) else cell  # the best value is bold in Markdown
        try:
            return None if text is None or text == ABSENT else float(text)
        except ValueError:
            return cell

    columns = []
    for column in zip(*rows, strict=True):
        numbers = [number(cell) for cell in column]
        columns.append(list(column) if any(isinstance(cell, str) for cell in numbers) else numbers)
    return [list(row) for row in zip(*columns, strict=True)]


def start_wandb(
    settings: LoggerSettings, run: RunFolder, config: Mapping[str, Any], run_id: str | None, console: Console
) -> RunWandb:
    """Start a W&B run, or resume the one with `run_id`; offline if the server cannot be reached.

    Raises:
        UserError: the mode is online but there is no API key.
    """
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    # WANDB_MODE=offline in the environment overrides logger.mode=online, but not the reverse
    mode: Any = os.environ.get("WANDB_MODE", "online") if settings.mode == "online" else "offline"
    labels = run_labels(run.path, config, settings)
    options: dict[str, Any] = {
        **labels, "project": settings.project, "entity": settings.entity, "dir": run.path,
        "config": {**config, "setting": labels["job_type"]}, "id": run_id,
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
            "logger.mode=online, but there is no Weights & Biases key: run `wandb login`, or use logger.mode=offline"
        ) from error
    except wandb.errors.CommError as error:
        console.print(
            f"  W&B cannot be used online ({first_line(error)}); logging offline", style="yellow", soft_wrap=True
        )
        return RunWandb(options, "offline", console, settings.weights)
