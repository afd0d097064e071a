"""The hardware: cores and their name, devices, and whether they compute in bf16."""

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
    """`asked`, else the cores this process may use: those it is bound to, at most the quota of its container."""
    if asked:
        return asked
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound, cpu_quota() or bound)


def cpu_quota() -> int | None:
    """The processors' worth of time that the container of this process may use, rounded up; None without a bound."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # of cgroups 2 and 1
        try:
            quota, period = " ".join((_CGROUP / name).read_text(encoding="ascii") for name in names).split()
        except (OSError, ValueError):
            continue
        return None if quota in ("max", "-1") else max(1, -(-int(quota) // int(period)))
    return None


def keep_to_quota() -> None:
    """Let torch take no more threads than `cpu_quota` allows; it counts the cores of the machine."""
    quota = cpu_quota()
    if quota is None or "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = str(cores())  # for torch in this process, if it is still to come, and in others
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(min(cores(), torch.get_num_threads()))


def cpu_name() -> str:
    """The processor as it calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


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


#: Lightning's own words for precisions; float16 needs scaled losses, which two optimizers do not share.
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "64-true")
#: What `device=` may say.
DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> str:
    """The device `name` means; `auto` takes the graphics processor where there is one.

    Raises:
        UserError: it is none of `DEVICES`, or not there.
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
    """A sentence where `device=name` is none of `DEVICES`."""
    return [] if name in DEVICES else [f"device={name}: expected one of {', '.join(DEVICES)}"]


def resolve_precision(wanted: str, accelerator: str) -> str:
    """Lightning's name of the precision: float32 where it is asked for or where the device has no bf16 of its own."""
    if wanted in PRECISIONS:
        return wanted
    return "bf16-mixed" if wanted != "float32" and native_bf16(accelerator) else "32-true"


def precision_note(wanted: str, accelerator: str) -> str | None:
    """What the user is told where the precision is not the one asked for."""
    if wanted != "bf16" or native_bf16(accelerator):
        return None
    return "trainer.precision=bf16: this device has no native bf16, so float32 is faster; using float32"


def native_bf16(accelerator: str) -> bool:
    """Whether the device computes in bf16 itself; of several that `auto` could mean, the one Lightning takes."""
    import torch

    device = root_device(accelerator).type
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and native_cpu_bf16()


def root_device(accelerator: str) -> torch.device:
    """The device that Lightning takes first for an accelerator."""
    import torch

    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator in ("auto", "mps", "gpu") and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    return torch.device("cpu")


def native_cpu_bf16() -> bool:
    """Whether this processor multiplies bf16 in hardware (AVX-512 BF16 or AMX)."""
    import torch

    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
