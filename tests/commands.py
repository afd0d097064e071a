"""Commands of the library as a user runs them, in processes that have imported what they need already.

A command spends most of its few seconds importing. A server that has done so (`preload.py`) is forked for every command
here: its own process, folder, arguments, environment, output and exit code, as after `python -m`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

#: On Windows a process of its own each, which imports everything anew.
_CONTEXT: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
if sys.platform != "win32":
    _CONTEXT.set_forkserver_preload(["tests.preload"])


def run_here(command: str, *overrides: str) -> subprocess.CompletedProcess:
    """`fexgan_lit.<command>` in this process and this folder, which takes a tenth of the time of a process."""
    out, err = io.StringIO(), io.StringIO()
    module, code = importlib.import_module(f"fexgan_lit.{command}"), 0
    with (
        mock.patch.dict(os.environ, HYDRA_FULL_ERROR="0", COLUMNS="200"),
        mock.patch.object(sys, "argv", [f"{command}.py", *map(str, overrides)]),
        # Hydra composes everything once more to read hydra.mode, which is null
        mock.patch("hydra._internal.hydra.Hydra.get_mode", return_value=None),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            module.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess([command, *overrides], code, out.getvalue(), err.getvalue())


def run_command(
    folder: Path, command: str, *overrides: str, timeout: int = 200, brief_judge: bool = False
) -> subprocess.CompletedProcess:
    """`python -m fexgan_lit.<command> <overrides>` in `folder`; a judge learns from 640 images where it is brief."""
    environment = {"TESTS_BRIEF_JUDGE": "1"} if brief_judge else {}
    return run_python(folder, "-m", f"fexgan_lit.{command}", *overrides, timeout=timeout, **environment)


def run_python(folder: Path, *arguments: str, timeout: int = 200, **environment: str) -> subprocess.CompletedProcess:
    """`python <arguments>`, which are `-m MODULE ...` or `-c CODE ...`, in `folder`."""
    with tempfile.TemporaryDirectory() as written:
        out, err = Path(written, "out"), Path(written, "err")
        process = start_python(folder, *arguments, out=out, err=err, **environment)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        said = [file.read_text(encoding="utf-8") for file in (out, err)]
    return subprocess.CompletedProcess(list(arguments), process.exitcode, *said)


def start_python(
    folder: Path, *arguments: str, out: str | Path = os.devnull, err: str | Path = os.devnull, **environment: str
) -> Any:
    """The process of `run_python`, which writes to the files, or the terminal, `out` and `err`."""
    work = [*map(str, arguments)], str(folder), {**os.environ, **environment}, (str(out), str(err))
    process = _CONTEXT.Process(target=_as_main, args=work)
    here = Path.cwd()
    os.chdir(Path(__file__).parents[1])  # where the server, which the first command starts, finds `tests`
    process.start()
    os.chdir(here)
    return process


def _as_main(arguments: list[str], folder: str, environment: dict[str, str], streams: tuple[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # as TMPDIR says here
    for number, name in enumerate(streams, 1):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
    sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(n, "wb", 0), "utf-8", write_through=True) for n in (1, 2))
    sys.path[0] = folder
    sys.argv = arguments[1:]
    if "TESTS_BRIEF_JUDGE" in environment:
        from fexgan_lit.metrics.judges import affect

        affect.JudgeRecipe = functools.partial(affect.JudgeRecipe, min_images=640, max_images=640)
    if arguments[0] == "-c":
        exec(arguments[1], {"__name__": "__main__"})  # noqa: S102 (the code of a test)
    else:
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
