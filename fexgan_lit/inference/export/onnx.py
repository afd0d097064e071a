"""ONNX files with a dynamic batch, written by torch and run by onnxruntime, and files of `torch.export`."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fexgan_lit.inference.export.config import OLDEST_OPSET
from fexgan_lit.systems.export import Exported
from fexgan_lit.utils.errors import UserError

#: The networks are traced with a batch of this size.
EXAMPLE_BATCH = 2


def require_onnx() -> None:
    """Raise a UserError if a package that ONNX files need is not installed."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"format=onnx needs {', '.join(missing)}; install them with pip install 'fexgan_lit[export]'")


def check_opset(opset: int | None) -> None:
    """Raise a UserError if the installed packages do not support `opset`; None is torch's own choice."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if opset is not None and not OLDEST_OPSET <= opset <= newest:
        raise UserError(
            f"opset={opset} is not available: torch {torch.__version__} and onnx {onnx.__version__} write "
            f"{OLDEST_OPSET} to {newest}; null uses torch's own choice"
        )


def write_onnx(part: Exported, path: Path, opset: int | None) -> None:
    """Write `part` to an ONNX file with a dynamic batch, and check that onnxruntime can open it.

    Raises:
        UserError: it cannot be written with this opset, or onnxruntime cannot run it.
    """
    batch = torch.export.Dim("batch", min=1)
    with quiet():
        try:
            program = torch.onnx.export(
                part.module,
                kwargs=part.draw(EXAMPLE_BATCH),
                dynamo=True,
                opset_version=opset,
                dynamic_shapes={name: {0: batch} for name in part.inputs},
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                verbose=False,
            )
            program.save(str(path))  # type: ignore[union-attr]
            open_session(path)
        except Exception as error:  # the exporter and onnxruntime raise dozens of types
            path.unlink(missing_ok=True)
            instead = f" with opset={opset}; expected an older one, or" if opset else "; expected"
            raise UserError(
                f"{path.name} cannot be written as ONNX that onnxruntime runs{instead} opset=null, torch's own choice. "
                f"The error was: {str(error).strip().splitlines()[0][:200]}"
            ) from error


def open_session(path: Path, threads: int | None = None) -> Any:
    """Open the file with onnxruntime on the CPU; `threads` None uses as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_session(session: Any, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the outputs in order for inputs by name."""
    found = session.run(None, {name: value.contiguous().numpy() for name, value in inputs.items()})
    return [torch.from_numpy(value) for value in found]


def opset_of(path: Path) -> int:
    """Return the opset that a file requires."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress log messages and warnings of the exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_torch(part: Exported, path: Path) -> None:
    """Write `part` as a `torch.export` program with a dynamic batch."""
    batch = torch.export.Dim("batch", min=1)
    shapes = {name: {0: batch} for name in part.inputs}
    with quiet():
        program = torch.export.export(part.module, (), part.draw(EXAMPLE_BATCH), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, path)


def open_program(path: Path) -> Any:
    """Load the program of a file as a callable."""
    with quiet():
        return torch.export.load(path).module()


def run_program(program: Any, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the outputs in order for inputs by name."""
    with torch.no_grad():
        found = program(**inputs)
    return [found] if isinstance(found, Tensor) else list(found)
