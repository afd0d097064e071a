"""Two iterations that show how much memory a part of a batch takes; on a CPU in a process of their own."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fexgan_lit.config import TrainerSettings
    from fexgan_lit.data.pairs import PairBatch
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

    from fexgan_lit.trainer import build_trainer, root_device
    from fexgan_lit.training.accelerate import accelerate

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
    command = [sys.executable, "-m", "fexgan_lit.batch_trial", str(material), str(answer)]
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


def peak_bytes(process: int | str = "self") -> int:
    """Most memory a process has held so far; 0 of another one where the system does not tell (Linux does)."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        if process != "self":
            return 0
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> None:
    """Do the trial of a file that `trial_in_process` wrote and say what it took."""
    material, answer = map(Path, sys.argv[1:])
    trial: Trial = pickle.loads(material.read_bytes())  # noqa: S301 (written by the parent, in a folder of its own)
    run_trial(trial, material.parent)
    answer.write_text(str(peak_bytes()))


if __name__ == "__main__":
    main()
