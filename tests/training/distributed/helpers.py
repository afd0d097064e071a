"""Training runs on two processes as a user starts them, and what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from tests.conftest import TINY

#: Two characters at 32 px; StarGAN has neither dropout nor batch norm. A low rate, at which rounding does not grow.
STARGAN = (*(option for option in TINY if "latent" not in option), "model=stargan", "optimizer.n_critic=2",
           "optimizer.lr=1.0e-4", "optimizer.lr_discriminator=1.0e-4", "callbacks.linear_decay.start=null")  # fmt: skip
TWO = ("trainer=ddp", "trainer.devices=2")


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fexgan_lit.train", *overrides],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str], timeout: float = 200.0) -> None:
    """Until the file is there; fails where the process ended before."""
    until = time.monotonic() + timeout
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, f"no {path} after {timeout} s"
        time.sleep(0.02)


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that `process` started and that live."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a if a[name].numel())
