"""Save the weights of a system as safetensors, and load systems from run folders and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fexgan_lit.runs.folder import RunFolder, is_shipped
from fexgan_lit.systems.checkpoints import check_not_empty, check_numbers, read_checkpoint
from fexgan_lit.systems.prior import FittedPrior
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.files import write_atomic
from fexgan_lit.utils.version import __version__

if TYPE_CHECKING:
    from fexgan_lit.runs.config import TrainSettings
    from fexgan_lit.systems.base import ExpressionSystem

#: Least share of the weights that a training must find in the run that it starts from.
_LEAST_SHARE = 0.1


def save_weights(system: ExpressionSystem, folder: Path, dtype: torch.dtype = torch.float32) -> list[Path]:
    """Write every saved module of `system` to `folder` as a safetensors file; each file is written atomically.

    Args:
        system: the system to save.
        folder: the target folder; it is created if necessary.
        dtype: torch.float16 halves the file sizes; a tensor whose values do not fit stays float32.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    about = {"format": "fexgan_lit", "version": __version__, "system": str(system.settings.name),
             "affects": ",".join(system.affects), "iteration": str(system.iteration)}  # fmt: skip
    written = []
    for name, part in system.saved_modules().items():
        path = folder / f"{name}.safetensors"
        try:
            write_atomic(path, save(_plain(part, dtype), metadata=about))
        except OSError as error:
            raise UserError(f"cannot write {path}: {error}; the checkpoints of the run are complete") from error
        written.append(path)
    return written


def _plain(part: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the state on the CPU, contiguous and without batch counters, which no forward pass reads."""
    state = part.state_dict().items()
    return {k: _cast(v.detach().cpu(), dtype) for k, v in state if not k.endswith("num_batches_tracked")}


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a contiguous copy of `value`, converted to `dtype` if all values fit."""
    fits = value.is_floating_point() and bool((value.abs() <= torch.finfo(dtype).max).all())
    return value.to(dtype if fits else value.dtype, copy=True).contiguous()


def load_weights(system: ExpressionSystem, folder: Path) -> None:
    """Load the files of `save_weights` into `system` as float32, also if they are float16.

    Raises:
        UserError: a file is missing, damaged, or belongs to other networks.
    """
    for name, part in system.saved_modules().items():
        path = folder / f"{name}.safetensors"
        if not path.is_file() and getattr(part, "optional", False):
            continue  # written by a version that did not save this optional module
        if not path.is_file():
            raise UserError(f"{path} is missing; the run ended before its weights were written")
        try:
            check_not_empty(path)
            state = load_file(path)
        except (SafetensorError, OSError, UserError) as error:
            raise UserError(f"{path} is not a complete safetensors file: {error}") from error
        check_numbers(state, part.state_dict(), path)
        # float16 is only a storage format
        state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
        if isinstance(part, FittedPrior):
            part.resize_as(state)
        missing, unexpected = _load(part, state, path)
        if unexpected or any(not key.endswith("num_batches_tracked") for key in missing):
            raise UserError(f"{path} belongs to other networks: missing {missing[:3]}, unexpected {unexpected[:3]}")


def _load(part: nn.Module, state: dict[str, Tensor], path: Path) -> tuple[list[str], list[str]]:
    try:
        result = part.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"{path} belongs to networks of another size: {str(error).splitlines()[1].strip()}") from error
    return list(result.missing_keys), list(result.unexpected_keys)


def load_system(
    place: str | Path, device: str = "cpu", settings: TrainSettings | None = None
) -> ExpressionSystem:  # fmt: skip
    """Load the trained system of a run folder (from its portable weights) or of a checkpoint file in one.

    Args:
        place: the folder or the file.
        device: where the system goes.
        settings: those of the run; None reads them.

    Raises:
        UserError: `place` is not a run folder, or its weights are missing or do not match.
    """
    from fexgan_lit.runs.build import build_system
    from fexgan_lit.runs.config import train_settings

    run = RunFolder.at(place)
    settings = settings or train_settings(run.read_config())
    if not settings.data:
        raise UserError(
            f"{run.config} does not describe the training data (data); it was not written by a training run"
        )
    system = build_system(settings, settings.data["affects"])
    if Path(place).is_dir():
        load_weights(system, run.weights)
    else:
        load_checkpoint_weights(system, read_checkpoint(Path(place)), Path(place))
    return system.to(device).eval()


def find_start(place: str) -> Path:
    """Return the folder or checkpoint that `start=` means: of a run, or of a model of the package.

    Raises:
        UserError: there is none.
    """
    if is_shipped(place):
        return RunFolder.shipped(place).path
    try:
        RunFolder.at(Path(place).expanduser())
    except UserError as error:
        raise UserError(str(error).replace("run=", "start=", 1)) from error
    return Path(place).expanduser()


def copy_weights(system: ExpressionSystem, place: Path, name: str) -> str:
    """Copy the weights of a trained system into a new one, as far as names and shapes fit; the others stay random.

    Args:
        system: the new system, before its training.
        place: the result of `find_start`. The run may be of another image size.
        name: what the user calls it.

    Returns:
        A line that says what was copied.

    Raises:
        UserError: the run is of another kind or of other affects, or hardly any of its weights fit.
    """
    from fexgan_lit.systems.gan import MovingAverageSystem

    other = load_system(place)
    if type(other) is not type(system):
        raise UserError(f"start={name}: found a {other.settings.name}; expected a run of {system.settings.name}")
    if "affect" in system.reads and other.affects != system.affects:
        raise UserError(
            f"start={name}: its affects are {', '.join(other.affects)}; expected {', '.join(system.affects)}, in this "
            "order, since the networks have inputs or outputs for each"
        )
    given, fresh, copied, numbers, total = system.weights_of(other), [], 0, 0, 0
    for part_name, part in system.saved_modules().items():
        own = part.state_dict()
        fitting = {k: v for k, v in given.get(part_name, {}).items() if k in own and own[k].shape == v.shape}
        part.load_state_dict({**own, **fitting})
        copied += len(fitting)
        numbers += sum(value.numel() for value in fitting.values())
        total += sum(value.numel() for value in own.values())
        fresh += [f"{part_name}.{key}" for key in own if key not in fitting]
    if numbers < _LEAST_SHARE * total:
        raise UserError(
            f"start={name}: {numbers / total:.2%} of the weights fit; expected a run of the same model.width and of "
            "networks alike"
        )
    if isinstance(system, MovingAverageSystem):  # runs keep the moving average alone
        system.generator.load_state_dict(system.average.state_dict())
    parts = dict.fromkeys(".".join(key.split(".")[:2]) for key in fresh)
    rest = f"; {len(fresh)} do not fit and start at random, of {', '.join(parts)}" if fresh else ""
    return f"{copied} tensors of {name}, {numbers / total:.0%} of the weights{rest}"


def load_checkpoint_weights(system: ExpressionSystem, checkpoint: dict[str, Any], path: Path) -> None:
    """Load the weights of a training checkpoint, which was read from `path`, into a system.

    Raises:
        UserError: the checkpoint does not match the networks.
    """
    try:
        system.on_load_checkpoint(checkpoint)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    system.load_state_dict(checkpoint["state_dict"])


def lightning_checkpoint(place: Path) -> Path | None:
    """Find the checkpoint of a plain Lightning training: the file `place`, or one in that folder.

    If `place` or `place/checkpoints` has several checkpoints, `last.ckpt` or else the newest is used.

    Returns:
        The path, or None if there is no checkpoint or `place` is a run folder of `python -m fexgan_lit.train`.
    """
    folder = place.parent if place.is_file() else place
    if any((where / "config.yaml").is_file() for where in (folder, folder.parent)):
        return None
    if place.is_file():
        return place
    found = [*folder.glob("*.ckpt"), *folder.glob("checkpoints/*.ckpt")]
    return max(found, key=lambda path: (path.name == "last.ckpt", path.stat().st_mtime_ns), default=None)


def load_lightning(path: Path, device: str = "cpu") -> tuple[ExpressionSystem, TrainSettings]:
    """Load a checkpoint of any `lightning.Trainer`.

    Returns:
        The system, and settings from its hyper-parameters.

    Raises:
        UserError: the file is not a complete checkpoint, or its system is not trusted.
    """
    from fexgan_lit.data.config import DatasetConfig
    from fexgan_lit.runs.config import LoggerSettings, MetricsSettings, TrainerSettings, TrainSettings
    from fexgan_lit.utils.trust import load_target

    checkpoint = read_checkpoint(path)
    options = checkpoint.get("hyper_parameters")
    if "system" not in checkpoint or not isinstance(options, dict):
        raise UserError(f"{path} does not name its system and hyper-parameters; expected run=RUN_DIR or a newer file")
    system = load_target(checkpoint["system"])(**options)
    load_checkpoint_weights(system, checkpoint, path)
    dataset = (checkpoint.get("datamodule_hyper_parameters") or {}).get("config") or {}
    settings = TrainSettings(
        seed=system.seed, dataset=DatasetConfig(**{"image_size": system.image_size} | dataset), model=system.settings,
        loss=system.loss_weights, optimizer=system.optimizer_settings, trainer=TrainerSettings(),
        metrics=MetricsSettings(), logger=LoggerSettings(), callbacks={}, system=type(system),
        data={"affects": list(system.affects)},
    )  # fmt: skip
    return system.to(device).eval(), settings
