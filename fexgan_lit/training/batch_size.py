"""`trainer.auto_batch`: the largest part of a batch that fits into memory, found by trials in other processes."""

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


#: Seconds between two looks at the memory of a trial that may outgrow its limit.
_LOOK_S = 0.05


@dataclass
class Trial:
    """What is tried.

    Attributes:
        system: a copy; its generator moves in every iteration.
        batch: two parts, or all pairs there are.
        size: pairs the networks see at once.
        settings: device, precision, layout and the limit of the memory.
    """

    system: ExpressionSystem
    batch: PairBatch
    size: int
    settings: TrainerSettings


def run_trial(trial: Trial, folder: Path) -> None:
    """Train two iterations as `python -m fexgan_lit.train` would; nothing is kept, global random numbers neither."""
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
    """Whether a process that does the trial and nothing else stays within `memory_limit_gb`.

    It is ended as soon as it holds more, so that a machine is not driven into its swap; one that the system ends for
    want of memory did not fit either.

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
        if process.returncode == -9:  # the system had none left
            return False
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"the trial of trainer.auto_batch failed:\n{errors.read()}")
    return int(answer.read_text()) <= limit


def main() -> None:
    """Do the trial of a file that `trial_in_process` wrote and say what it took."""
    material, answer = map(Path, sys.argv[1:])
    trial: Trial = pickle.loads(material.read_bytes())  # noqa: S301 (written by the parent, in a folder of its own)
    run_trial(trial, material.parent)
    answer.write_text(str(peak_bytes()))


#: Whether so many pairs at once fit.
Fits = Callable[[int], bool]


def largest_fitting(fits: Fits, smallest: int, whole: int) -> int | None:
    """The largest size in `smallest`..`whole` that fits, by doubling and then bisection; None where none does.

    The whole is tried first, since it mostly fits.

    Args:
        fits: what fits does so at every smaller size too.
        smallest: the first size of the doubling.
        whole: the batch.
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
    """How many pairs of `batch` the networks may see at once.

    Args:
        system: ready to be trained, on the CPU; it is copied for every trial and stays as it is.
        batch: of training pairs, whole.
        settings: with `auto_batch`.
        device: where it will be trained.

    Returns:
        the size of the largest part, all parts being as even as can be; the batch's own where it fits as a whole.

    Raises:
        UserError: the limit of a CPU is not given, several devices train together, the system cannot work off a batch
            in parts, or not even the smallest part fits.
    """
    if settings.devices != 1:
        raise UserError(
            f"trainer.auto_batch=true with trainer.devices={settings.devices}: search on one device, then give what it "
            "found as trainer.micro_batch"
        )
    if device.type != "cuda" and settings.memory_limit_gb is None:
        raise UserError(
            f"trainer.auto_batch=true on {device.type}: its memory has no bound that could be run into; give "
            "trainer.memory_limit_gb=NUMBER, what training may hold"
        )
    whole = len(batch)
    found = largest_fitting(tried(system, batch, settings, device), system.min_batch, whole)
    where = f"{device}" if settings.memory_limit_gb is None else f"trainer.memory_limit_gb={settings.memory_limit_gb:g}"
    if found is None:
        raise UserError(
            f"trainer.auto_batch=true: not even {system.min_batch} pairs at once fit into the memory ({where}); a "
            "smaller dataset.image_size or model.width is needed"
        )
    part = -(-whole // -(-whole // found))  # as even as can be: 20 of 32 are two parts of 16
    if problem := micro_batch_problem(type(system), whole, part):
        raise UserError(
            f"trainer.auto_batch=true: {found} pairs at once fit into the memory ({where}), the batch does not. "
            f"{problem}. Set dataset.batch_size={found} or less"
        )
    return part


def tried(system: ExpressionSystem, batch: PairBatch, settings: TrainerSettings, device: torch.device) -> Fits:
    """The test of a size on this device: two iterations of two parts, since the second iteration holds moments too."""

    def fits(size: int) -> bool:
        trial = Trial(copy.deepcopy(system), batch[: 2 * size], size, settings)
        with tempfile.TemporaryDirectory() as folder:
            if device.type != "cuda":
                return trial_in_process(trial, Path(folder))
            return trial_on_gpu(trial, Path(folder), device)

    return fits


def trial_on_gpu(trial: Trial, folder: Path, device: torch.device) -> bool:
    """Whether the trial fits on a GPU, within the limit where there is one."""
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
