"""Query the hardware: the number and name of CPU cores, devices, and native bf16."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fexgan_lit.utils.errors import UserError

if TYPE_CHECKING:
    import torch

_CGROUP = Path("/sys/fs/cgroup")


def cores(asked: int | None = None) -> int:
    """Return `asked` or, if it is None or 0, the number of cores that this process may use.

    That is the number of cores in its affinity mask, at most the CPU quota of its container.
    """
    if asked:
        return asked
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound, cpu_quota() or bound)


def cpu_quota() -> int | None:
    """Return the CPU quota of this process's container in cores, rounded up, or None if there is no limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # of cgroups 2 and 1
        try:
            quota, period = " ".join((_CGROUP / name).read_text(encoding="ascii") for name in names).split()
        except (OSError, ValueError):
            continue
        return None if quota in ("max", "-1") else max(1, -(-int(quota) // int(period)))
    return None


def keep_to_quota() -> None:
    """Limit the threads of torch to `cpu_quota`, because torch counts all cores of the machine."""
    quota = cpu_quota()
    if quota is None or "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = str(cores())  # for child processes, and for torch if it is imported later
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(min(cores(), torch.get_num_threads()))


def cpu_name() -> str:
    """Return the model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def peak_bytes(process: int | str = "self") -> int:
    """Return the peak memory of a process in bytes; 0 for other processes on systems without /proc (not Linux)."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        if process != "self":
            return 0
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


#: Lightning's names of precisions; float16 needs scaled losses, which two optimizers do not share.
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "64-true")
#: The values of `device=`.
DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> str:
    """Return the device of `device=name`; `auto` uses a GPU if there is one.

    Raises:
        UserError: the name is not in `DEVICES`, or the device does not exist.
    """
    if problems := device_problems(name):
        raise UserError(problems[0])
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if not there[name]:
        raise UserError(f"device={name}: this machine has none that torch can use; expected device=cpu or auto")
    return name


def device_problems(name: str) -> list[str]:
    """Return a message if `name` is not in `DEVICES`."""
    return [] if name in DEVICES else [f"device={name}: expected one of {', '.join(DEVICES)}"]


def resolve_precision(wanted: str, accelerator: str) -> str:
    """Return Lightning's name of a precision; `auto` and `bf16` become float32 on devices without native bf16."""
    if wanted in PRECISIONS:
        return wanted
    return "bf16-mixed" if wanted != "float32" and native_bf16(accelerator) else "32-true"


def precision_note(wanted: str, accelerator: str) -> str | None:
    """Return a note for the user if the precision is not the requested one, else None."""
    if wanted != "bf16" or native_bf16(accelerator):
        return None
    return "trainer.precision=bf16: this device has no native bf16, so float32 is faster; using float32"


def native_bf16(accelerator: str) -> bool:
    """Return whether the device that Lightning selects for an accelerator computes natively in bf16."""
    import torch

    device = root_device(accelerator).type
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and native_cpu_bf16()


def root_device(accelerator: str) -> torch.device:
    """Return the first device that Lightning selects for an accelerator."""
    import torch

    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator in ("auto", "mps", "gpu") and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    return torch.device("cpu")


def native_cpu_bf16() -> bool:
    """Return whether this processor multiplies bf16 in hardware (AVX-512 BF16 or AMX)."""
    import torch

    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
