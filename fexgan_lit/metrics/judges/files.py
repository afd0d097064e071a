"""Networks of users' judges from TorchScript and ONNX files or from modules, and readers of weight files.

TorchScript and ONNX files are programs that run with the user's rights: load only files from people you trust. Plain
pickles can run code while being read, and are rejected without reading them.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fexgan_lit.metrics.judges.external import COLOURS, ExternalJudge, ExternalJudgeSettings, Network
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import read_yaml

SIDECARS = (".yaml", ".yml", ".json")
HOW_TO_EXPORT = (
    "Export the network with torch.jit.trace(net.eval(), torch.zeros(1, 3, S, S)).save('judge.pt'), or with "
    "torch.onnx.export to 'judge.onnx'."
)


def load_own_judge(settings: ExternalJudgeSettings, section: str, needs_classes: bool = True) -> ExternalJudge:
    """Return the judge that `settings` and the file beside the network declare.

    Args:
        settings: declaration with a path.
        section: name of the options in messages, for example "metrics.affect_judge".
        needs_classes: False for an identity judge.

    Raises:
        UserError: the file does not exist, is neither TorchScript nor ONNX or cannot be run, or the declaration is
            incomplete.
    """
    full = declared(settings)
    problems = full.problems(section, needs_classes)
    if problems:
        raise UserError(f"the judge {full.path} cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    path = Path(full.path or "").expanduser()
    if not path.is_file():
        raise UserError(f"{section}.path={full.path}: there is no such file")
    return ExternalJudge(_load(path, full, section), full, path.name)


def own_judge(module: nn.Module, settings: ExternalJudgeSettings, needs_classes: bool = True) -> ExternalJudge:
    """Return a judge from a torch module for use from Python; the module runs on the CPU in evaluation mode.

    Raises:
        UserError: the declaration is incomplete.
    """
    full = declared(settings)
    problems = full.problems(type(module).__name__, needs_classes)
    if problems:
        raise UserError("the judge cannot be used:\n" + "\n".join(f"  - {p}" for p in problems))
    return ExternalJudge(module.cpu().eval(), full, type(module).__name__)


def declared(settings: ExternalJudgeSettings) -> ExternalJudgeSettings:
    """Complete `settings` from the file beside the judge, then with defaults.

    Raises:
        UserError: that file cannot be read or has unknown or invalid entries.
    """
    beside = _beside(Path(settings.path).expanduser()) if settings.path is not None else None
    said = _sidecar(beside) if beside is not None else {}
    given = {name: value for name, value in vars(settings).items() if value is not None}
    return ExternalJudgeSettings(**{"colour": "rgb", "output": "logits", "scale": 1.0, **said, **given})


def _beside(path: Path) -> Path | None:
    """Return the path of the declaration beside a judge's file `path`, or None."""
    return next((p for p in map(path.with_suffix, SIDECARS) if p.is_file()), None)


def _sidecar(path: Path) -> dict[str, Any]:
    """Read the declaration in `path`."""
    known = [name for name in vars(ExternalJudgeSettings()) if name != "path"]
    content = read_yaml(path)  # JSON is a subset of YAML
    wrong = (
        [str(key) for key in content if key not in known] if isinstance(content, Mapping) else ["expected a mapping"]
    )
    if wrong:
        raise UserError(f"{path} is not a declaration of a judge ({', '.join(wrong)}); expected {', '.join(known)}.")
    return {name: value for name, value in _typed(path, content).items() if value is not None}


def _typed(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Convert `content` to the types of the declaration, with the same schema as command-line options."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    schema = OmegaConf.structured(ExternalJudgeSettings)
    for name, value in content.items():
        try:
            schema[name] = value
        except OmegaConfBaseException as error:
            raise UserError(f"{path}, {name}={value!r}: {str(error).splitlines()[0]}") from error
    return vars(OmegaConf.to_object(schema))


def _load(path: Path, settings: ExternalJudgeSettings, section: str) -> Network:
    if path.suffix.lower() == ".onnx":
        return _onnx(path, settings, section)
    if not is_torchscript(path):
        raise UserError(
            f"{section}.path={path}: this file is neither TorchScript nor ONNX. State dicts have no network, and "
            f"pickles can run code while being read; both are rejected. {HOW_TO_EXPORT}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer torch deprecates TorchScript but still reads it
            return torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{section}.path={path}: cannot be loaded ({reason}). {HOW_TO_EXPORT}") from error


def is_torchscript(path: Path) -> bool:
    """Return whether `path` is a TorchScript archive; looks at file names and unpickles nothing."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return False
    # torch.save also writes an archive, but without code and constants
    return any("/code/" in name for name in names) and any(name.endswith("/constants.pkl") for name in names)


def _onnx(path: Path, settings: ExternalJudgeSettings, section: str) -> Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{section}.path={path}: reading ONNX files needs the package onnxruntime: pip install onnxruntime. "
            "Or give a TorchScript file."
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no narrower common base
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{section}.path={path}: cannot be loaded ({reason}). {HOW_TO_EXPORT}") from error
    _check_ends(session, path, settings, section)
    name, one_by_one = session.get_inputs()[0].name, session.get_inputs()[0].shape[0] == 1

    def network(pictures: Tensor) -> Tensor:
        parts = pictures.split(1) if one_by_one else [pictures]
        try:
            return torch.from_numpy(np.concatenate([session.run(None, {name: part.numpy()})[0] for part in parts]))
        except Exception as error:
            raise RuntimeError(str(error)) from error

    return network


def _check_ends(session: Any, path: Path, settings: ExternalJudgeSettings, section: str) -> None:
    """Raise a UserError if the inputs and outputs of a graph do not match the declaration."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        names = ", ".join(end.name for end in [*inputs, *outputs])
        raise UserError(
            f"{section}.path={path}: has {len(inputs)} inputs and {len(outputs)} outputs ({names}); expected one each"
        )
    size = settings.input_size
    wanted = [None, COLOURS[settings.colour or "rgb"], size, size]
    shape, kind = list(inputs[0].shape), inputs[0].type
    fits = len(shape) == 4 and all(
        w is None or not isinstance(s, int) or s == w for s, w in zip(shape, wanted, strict=True)
    )
    if not fits or kind != "tensor(float)" or (isinstance(shape[0], int) and shape[0] != 1):
        raise UserError(
            f"{section}.path={path}: the input is {kind} of shape {shape}; expected tensor(float) of shape (batch, "
            f"{wanted[1]}, {size}, {size}) as declared by input_size and colour, with a free batch size or 1"
        )


@dataclass(frozen=True)
class Unavailable:
    """A metric that cannot be computed, with the reason; reports name it as absent."""

    reason: str


def read_state(path: Path, option: str, expected: str) -> dict[str, Tensor]:
    """Read the state dict in `path`: safetensors by its suffix, else a file of torch.save; the file cannot run code.

    Args:
        path: the file.
        option: name of the option, for the message.
        expected: description of the expected file, for the message.

    Raises:
        UserError: the file is missing, damaged or not a dictionary of tensors.
    """
    if not path.is_file():
        raise UserError(f"{option}={path}: there is no such file; expected {expected}")
    try:
        state: Any = _read_state(path)
    except Exception as error:  # torch.load raises many kinds of exceptions for a damaged or foreign file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{option}={path} does not contain weights: {reason}; expected {expected}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        kind = type(state).__name__
        raise UserError(f"{option}={path} is not a dictionary of tensors but a {kind}; expected {expected}")
    return {str(name): value for name, value in state.items()}


def check_shapes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str, expected: str) -> None:
    """Raise a UserError that names the first difference between the names and shapes of two state dicts.

    Args:
        found: state dict of the file.
        wanted: state dict of the network.
        where: option and path, for the message.
        expected: description of the expected file, for the message.
    """
    for name in (*wanted, *sorted(set(found) - set(wanted))):
        if name not in found:
            problem = f"{name} is missing among {', '.join(list(found)[:3]) or 'nothing'}, ..."
        elif name not in wanted:
            problem = f"{name} is unexpected"
        elif found[name].shape != wanted[name].shape:
            problem = f"{name} is {tuple(found[name].shape)}, expected {tuple(wanted[name].shape)}"
        else:
            continue
        raise UserError(f"{where} holds the weights of another network: {problem}; expected {expected}")


def _read_state(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
