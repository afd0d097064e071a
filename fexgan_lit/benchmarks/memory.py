"""How much memory a process holds that does nothing but feed pairs; run as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def feed_memory(pack: Path, frames: int, size: int, batch_size: int, batches: int) -> dict[str, int]:
    """Resident MiB of a fresh process: `start` (imports and index), `most` while it draws the batches; see `main`."""
    numbers = [str(number) for number in (frames, size, batch_size, batches)]
    command = [sys.executable, "-m", "fexgan_lit.benchmarks.memory", str(pack), *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (our own arguments)
    result: dict[str, int] = json.loads(done.stdout)
    return result


def main() -> None:
    """Draw pairs from a sparse pack and print the memory held, as JSON."""
    from fexgan_lit.benchmarks.material import sparse_frames
    from fexgan_lit.data.pairs import PairLoader, PairSampler

    frames, size, batch_size, batches = map(int, sys.argv[2:])
    split = sparse_frames(Path(sys.argv[1]), frames, size)
    loader = PairLoader(split, PairSampler(split, batch_size, seed=0), size)
    loader.batch(0, 0)
    start = most = resident_mib()
    for number in range(batches):
        loader.batch(*divmod(number, len(loader)))
        if number % 10 == 0:
            most = max(most, resident_mib())
    sys.stdout.write(json.dumps({"start": start, "most": most}))


def resident_mib() -> int:
    """Memory this process holds, mapped files included; 0 where the system does not tell (it does on Linux)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
