"""`trainer.auto_batch`: find the largest micro-batch that fits into memory by trial trainings."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fexgan_lit.runs.config import micro_batch_problem
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hardware import peak_bytes

if TYPE_CHECKING:
    from fexgan_lit.data.pairs import PairBatch
    from fexgan_lit.runs.config import TrainerSettings
    from fexgan_lit.systems.base import ExpressionSystem


#: Seconds between two checks of a trial's memory.
_LOOK_S = 0.05


@dataclass
class Trial:
    """One trial training.

    Attributes:
        system: a copy of the system, with a generator step in every iteration.
        batch: pairs for two micro-batches, or the whole batch if that is smaller.
        size: pairs per micro-batch.
        settings: device, precision, memory format and memory limit.
    """

    system: ExpressionSystem
    batch: PairBatch
    size: int
    settings: TrainerSettings


def run_trial(trial: Trial, folder: Path) -> None:
    """Train two iterations as `python -m fexgan_lit.train` does, without changing global random state."""
    import torch
    from torch.utils.data import DataLoader

    from fexgan_lit.training.accelerate import accelerate
    from fexgan_lit.training.trainer import build_trainer
    from fexgan_lit.utils.hardware import root_device

    system, options = trial.system, getattr(trial.system, "optimizer_settings", None)
    if options is not None and hasattr(options, "n_critic"):
        options.n_critic = 1
    system.micro_batch = trial.size
    t = trial.settings
    accelerate(system, root_device(t.accelerator), kernels=t.kernels != "false", channels_last=t.channels_last)
    settings = replace(trial.settings, max_steps=2, val_every=0)
    batches: Any = DataLoader([trial.batch] * 2, batch_size=None)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        build_trainer(settings, [], [], str(folder)).fit(system, batches)


def trial_in_process(trial: Trial, folder: Path) -> bool:
    """Run the trial in its own process and return whether its memory stays within `memory_limit_gb`.

    The process is killed as soon as it exceeds the limit, so that the machine does not swap. A process that the OS
    kills for lack of memory does not fit either.

    Raises:
        RuntimeError: the trial failed for another reason.
    """
    limit = int((trial.settings.memory_limit_gb or float("inf")) * 1e9)
    material, answer = folder / "trial.pickle", folder / "peak.txt"
    material.write_bytes(pickle.dumps(trial))
    command = [sys.executable, "-m", "fexgan_lit.training.batch_size", str(material), str(answer)]
    with (folder / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)  # noqa: S603 (our own arguments)
        try:
            while process.poll() is None:
                if peak_bytes(process.pid) > limit:
                    return False
                time.sleep(_LOOK_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode == -9:  # killed by the OS: out of memory
            return False
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"the trial of trainer.auto_batch failed:\n{errors.read()}")
    return int(answer.read_text()) <= limit


def main() -> None:
    """Run the trial in a file that `trial_in_process` wrote, and write its peak memory."""
    material, answer = map(Path, sys.argv[1:])
    trial: Trial = pickle.loads(material.read_bytes())  # noqa: S301 (written by the parent, in a folder of its own)
    run_trial(trial, material.parent)
    answer.write_text(str(peak_bytes()))


#: Returns whether a micro-batch of that many pairs fits.
Fits = Callable[[int], bool]


def largest_fitting(fits: Fits, smallest: int, whole: int) -> int | None:
    """Find the largest size in `smallest`..`whole` that fits, by doubling and bisection; None if none fits.

    `whole` is tried first, since it usually fits.

    Args:
        fits: returns whether a size fits; if a size fits, all smaller ones must fit.
        smallest: the smallest size.
        whole: size of the whole batch.
    """
    if fits(whole):
        return whole
    best, size = None, smallest
    while size < whole and fits(size):
        best, size = size, 2 * size
    if best is None:
        return None
    too_large = min(size, whole)
    while too_large - best > 1:
        middle = (best + too_large) // 2
        if fits(middle):
            best = middle
        else:
            too_large = middle
    return best


def settle_micro_batch(
    system: ExpressionSystem, batch: PairBatch, settings: TrainerSettings, device: torch.device
) -> int:
    """Find the number of pairs per micro-batch.

    Args:
        system: the system, on the CPU; it is copied for every trial and not changed.
        batch: a whole batch of training pairs.
        settings: the trainer settings, with `auto_batch`.
        device: device of the training.

    Returns:
        The size of the largest micro-batch if the batch is divided evenly; the batch size if the whole batch fits.

    Raises:
        UserError: there is no memory limit for a CPU, several devices train together, the system does not support
            micro-batches, or the smallest one does not fit.
    """
    if settings.devices != 1:
        raise UserError(
            f"trainer.auto_batch=true with trainer.devices={settings.devices}: the search needs one device. Run "
            "it with trainer.devices=1, then give the size it finds as trainer.micro_batch"
        )
    if device.type != "cuda" and settings.memory_limit_gb is None:
        raise UserError(
            f"trainer.auto_batch=true on {device.type}: the search needs a memory limit; give "
            "trainer.memory_limit_gb=NUMBER"
        )
    whole = len(batch)
    found = largest_fitting(tried(system, batch, settings, device), system.min_batch, whole)
    where = f"{device}" if settings.memory_limit_gb is None else f"trainer.memory_limit_gb={settings.memory_limit_gb:g}"
    if found is None:
        raise UserError(
            f"trainer.auto_batch=true: not even {system.min_batch} pairs at once fit into the memory ({where}); use a "
            "smaller dataset.image_size or model.width"
        )
    part = -(-whole // -(-whole // found))  # as even as can be: 20 of 32 are two parts of 16
    if problem := micro_batch_problem(type(system), whole, part):
        raise UserError(
            f"trainer.auto_batch=true: {found} pairs at once fit into the memory ({where}), but the whole batch does "
            f"not. {problem}. Set dataset.batch_size={found} or less"
        )
    return part


def tried(system: ExpressionSystem, batch: PairBatch, settings: TrainerSettings, device: torch.device) -> Fits:
    """Return a function that tries a size with two iterations of two parts; the second one has Adam's moments, too."""

    def fits(size: int) -> bool:
        trial = Trial(copy.deepcopy(system), batch[: 2 * size], size, settings)
        with tempfile.TemporaryDirectory() as folder:
            if device.type != "cuda":
                return trial_in_process(trial, Path(folder))
            return trial_on_gpu(trial, Path(folder), device)

    return fits


def trial_on_gpu(trial: Trial, folder: Path, device: torch.device) -> bool:
    """Run the trial and return whether it fits on the GPU, within the memory limit if there is one."""
    limit = trial.settings.memory_limit_gb
    torch.cuda.reset_peak_memory_stats(device)
    try:
        run_trial(trial, folder)
    except torch.OutOfMemoryError:
        return False
    finally:
        trial.system.to("cpu")
        torch.cuda.empty_cache()
    return limit is None or torch.cuda.max_memory_reserved(device) <= limit * 1e9


if __name__ == "__main__":
    main()
