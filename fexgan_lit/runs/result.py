"""`result.json`: the result of a training run, the last file that it writes."""

from __future__ import annotations

import csv
import json
import math
import platform
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.hardware import cpu_name

RESULT = "result.json"
#: File with the traceback of a failed run.
ERROR = "error.txt"
#: Metric of systems that redraw faces from codes: faces with a larger error are none of the run's cast.
RECONSTRUCTION_LIMIT = "final/reconstruction_limit"
STATUSES = ("finished", "failed", "pruned")


class Clock:
    """Measures the time spent on a run, across interruptions.

    Attributes:
        before: seconds spent before the last interruption, restored from the checkpoint.
        began: when the run was started or resumed.
    """

    def __init__(self) -> None:
        self.before = 0.0
        self.began = now()
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Total seconds so far."""
        return self.before + time.perf_counter() - self._start


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        status: finished, failed (an error ended it) or pruned (stopped early because other runs were better).
        iteration: the last iteration.
        seconds: time spent on training and final evaluation, across interruptions.
        metrics: final metrics by their names in metrics.csv.
        error: reason why a run failed or was pruned, in one line.
        version: version of fexgan_lit.
        torch: version of torch.
        machine: GPU if there is one, operating system, threads and processor.
        memory_gb: peak memory in 10^9 bytes: reserved by torch on the GPU if it used one, or else of the process.
        started: when the run was started or last resumed, ISO 8601 with the offset from UTC.
        ended: when the result was written, in the same format.
    """

    status: str
    iteration: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    version: str = ""
    torch: str = ""
    machine: str = ""
    memory_gb: float = 0.0
    started: str = ""
    ended: str = ""


def make_result(
    status: str, *, iteration: int, seconds: float, started: datetime,
    metrics: Mapping[str, float] | None = None, error: str | None = None,
) -> RunResult:  # fmt: skip
    """Make the result of a run that ends now on this machine; metrics that are not finite are left out."""
    import torch

    from fexgan_lit.utils.hardware import peak_bytes
    from fexgan_lit.utils.version import __version__

    held = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
    gpu = f"{torch.cuda.get_device_name()}, " if held else ""
    kept = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
    return RunResult(
        status, iteration, round(seconds, 1), kept, error, __version__, torch.__version__,
        f"{gpu}{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads, {cpu_name()}",
        round((held or peak_bytes()) / 1e9, 2),
        started.isoformat(timespec="seconds"), now().isoformat(timespec="seconds"),
    )  # fmt: skip


def now() -> datetime:
    """Return the local time with its offset from UTC."""
    return datetime.now(tz=timezone.utc).astimezone()


def write_result(folder: Path, result: RunResult) -> None:
    """Write `result.json` to a run folder atomically."""
    write_atomic(folder / RESULT, json.dumps(asdict(result), indent=2) + "\n")


def read_result(folder: Path) -> RunResult | None:
    """Read the result of the run in `folder`; None if the run has not ended.

    Raises:
        UserError: the file cannot be read or is not a result.
    """
    path = folder / RESULT
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}. Delete it to resume or restart the run.") from error
    known = {f.name for f in fields(RunResult)}
    if not isinstance(content, dict) or content.get("status") not in STATUSES or not isinstance(
        content.get("metrics", {}), dict
    ):  # fmt: skip
        raise UserError(
            f"{path} is not the result of a run: expected a mapping with metrics and a status of "
            f"{', '.join(STATUSES)}. Delete it to resume or restart the run."
        )
    return RunResult(**{name: value for name, value in content.items() if name in known})


def read_metrics(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Read a `metrics.csv`: the iteration of each row, and its non-empty cells as text by column.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
        for row in rows:
            list(map(float, row.values()))  # raises where one is no number
        return [(int(row["iteration"]), row) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(
            f"{path} is not a table of a training run ({error}); move it away to resume the run without its curves"
        ) from error


def record_failure(folder: Path, error: Exception | str, iteration: int = 0, clock: Clock | None = None) -> RunResult:
    """Write an error to the run folder: one line to `result.json`, the traceback to `error.txt`.

    If writing fails, such as on a full disk, the error is printed and only the returned result has it.
    """
    clock = clock or Clock()
    line = error if isinstance(error, str) else one_line(error)
    result = make_result("failed", iteration=iteration, seconds=clock.seconds, started=clock.began, error=line)
    try:
        write_atomic(folder / ERROR, line if isinstance(error, str) else "".join(traceback.format_exception(error)))
        write_result(folder, result)
    except OSError as full:
        print(f"{folder}: cannot write the error of the run ({full.strerror}): {line}", file=sys.stderr)  # noqa: T201
    return result


def record_pruned(folder: Path, reason: str, numbers: Mapping[str, float], iteration: int, clock: Clock) -> None:
    """Write the result of a run that its sweep stopped early: the last metrics and the reason."""
    result = make_result(
        "pruned", iteration=iteration, seconds=clock.seconds, started=clock.began, metrics=numbers, error=reason
    )
    write_result(folder, result)


def one_line(error: BaseException) -> str:
    """Return type and message of an error without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
