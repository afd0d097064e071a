"""`python -m fexgan_lit.data.faces.install`: install the detector in its own environment, on request only.

mediapipe 0.10.21 is the newest release that contains the face mesh; it needs numpy below 2 and protobuf below 5, which
are older than the rest of this project needs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from fexgan_lit.utils.cache import builder_lock, cache_root, partial_folder, publish
from fexgan_lit.utils.errors import UserError

VERSION = "0.10.21"
COMMAND = "python -m fexgan_lit.data.faces.install"

#: Python versions for which this mediapipe was published.
_PYTHONS = ((3, 9), (3, 12))


def detector_folder() -> Path:
    """Return the folder of the environment, installed or not; it is shared by all data sets."""
    return cache_root(None) / "detectors" / f"mediapipe-{VERSION}"


def detector_python() -> Path:
    """Return the path of the environment's Python.

    Raises:
        UserError: the detector is not installed.
    """
    python = _python_in(detector_folder())
    if not python.exists():
        raise UserError(
            f"dataset.detector=mediapipe: the detector is not installed ({detector_folder()} does not exist). Install "
            f"it with\n  {COMMAND}\nIt gets its own environment (about 1 GB) and needs the network once."
        )
    return python


def install_detector() -> Path:
    """Create the environment unless it exists, completely or not at all, and return its folder.

    Raises:
        UserError: there is no suitable Python, or pip failed; the message ends with pip's last lines.
    """
    folder = detector_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with builder_lock(folder):
        if _python_in(folder).exists():
            return folder
        with partial_folder(folder) as partial:
            _run([_suitable_python(), "-m", "venv", str(partial)])
            _run([str(_python_in(partial)), "-m", "pip", "install", "--no-input", f"mediapipe=={VERSION}"])
            _run([str(_python_in(partial)), "-c", "import mediapipe"])
            publish(partial, folder)
    return folder


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _suitable_python() -> str:
    low, high = _PYTHONS
    if low <= sys.version_info[:2] <= high:
        return sys.executable
    for minor in range(high[1], low[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    raise UserError(
        f"mediapipe {VERSION} runs on Python {low[0]}.{low[1]} to {high[0]}.{high[1]}; this is "
        f"{sys.version_info.major}.{sys.version_info.minor} and no python3.{high[1]} or older is on the PATH. "
        "Install one; the rest of the project keeps its Python."
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise UserError(f"{' '.join(command)} failed, and nothing was installed:\n{tail}")


def main() -> None:
    """Install the detector and print where."""
    from rich.console import Console

    from fexgan_lit.utils.hydra import fail

    console = Console(soft_wrap=True, highlight=False)
    console.print(f"installing mediapipe {VERSION} in {detector_folder()} ...")
    try:
        folder = install_detector()
    except UserError as error:
        fail(str(error))
    else:
        console.print(f"done: dataset.detector=mediapipe will use {folder}")


if __name__ == "__main__":
    main()
