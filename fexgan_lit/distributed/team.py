"""The processes of one run as a team: they meet in a key-value store, tell one another things, and fail together."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

from fexgan_lit.distributed.place import STARTED, Place
from fexgan_lit.errors import UserError

#: Seconds without a sign of life after which a process counts as dead, and until which all must have come.
SILENCE_S, ARRIVAL_S = 30.0, 600.0
#: Seconds between two looks at the others, that the main thread gets to end by itself once one is lost, and that
#: rank 0 gives the others to hear that the run is finished.
_LOOK_S, _GRACE_S, _FAREWELL_S = 1.0, 5.0, 30.0
_FINISHED = "finished"
#: What collective calls say when a process at the other end is gone.
_BROKEN = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL")
#: The watchdog finds a dead process; a collective call only has to outlast what rank 0 does alone meanwhile.
_PATIENCE = timedelta(days=7)


class RankLostError(UserError):
    """Another process of the run died or failed."""


class Team:
    """The processes that train one run, seen from one of them.

    Every process shows a sign of life each second. Rank 0 watches all others and the processes it started; they watch
    rank 0, whose store ends with it. Whoever fails says so in the store before it ends. Once one is lost the others
    cannot go on: a watchdog thread prints why and ends them, also out of a collective call that would wait for ever.

    Args:
        place: this process.
        store: where the processes meet.
        children: processes that this one started, by rank.

    Attributes:
        lost: why the run cannot go on; None while all is well.
        on_loss: called with `lost` before the watchdog ends this process.
    """

    def __init__(
        self, place: Place, store: dist.TCPStore, children: dict[int, subprocess.Popen[bytes]] | None = None
    ) -> None:
        self.place = place
        self._store = dist.PrefixStore(f"fexgan_lit/{place.attempt}", store)
        # the watchdog's own connection, so that it never waits for what the main thread waits for
        self._mine = dist.PrefixStore(f"fexgan_lit/{place.attempt}", store.clone())  # type: ignore[attr-defined]
        self.children = children or {}
        self.lost: str | None = None
        self.on_loss: Callable[[str], None] = lambda _: None
        self._ended = threading.Event()
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._began = time.monotonic()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    # ------------------------------------------------------------------ talk

    def tell(self, name: str, text: str) -> None:
        """Say something that every process can hear."""
        self._store.set(name, text)

    def hear(self, name: str) -> str | None:
        """Wait until it is said, however long rank 0 takes; None where it is finished without having said it.

        Raises:
            RankLostError: a process was lost meanwhile.
        """
        while not self._store.check([name]):
            if self._store.check([_FINISHED]):
                return None
            if self.lost is not None:
                raise RankLostError(self.lost)
            time.sleep(0.1)
        return bytes(self._store.get(name)).decode()

    def connect(self) -> None:
        """Make the process group in which gradients are averaged: gloo between CPUs, NCCL between GPUs."""
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(
            backend, store=dist.PrefixStore("ranks", self._store), rank=self.place.rank, world_size=self.place.world,
            timeout=_PATIENCE,
        )  # fmt: skip

    # ------------------------------------------------------------------ the end

    def part(self) -> None:
        """End the process group; from here on every process works alone."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def reason_of(self, error: BaseException) -> str | None:
        """Which process was lost, where `error` is what this one noticed of it; None where `error` is its own.

        The watchdog gets the time it needs to find out: what a collective call says of a lost process ("Connection
        closed by peer") does not name it.
        """
        if not isinstance(error, dist.DistError) and not any(word in str(error) for word in _BROKEN):
            return None
        until = time.monotonic() + SILENCE_S + 5 * _LOOK_S
        while self.lost is None and time.monotonic() < until:
            time.sleep(0.1)
        return self.lost

    def leave(self) -> None:
        """Go in peace: stop watching; rank 0 waits until the others know, since the store ends with it."""
        self.part()
        self._ended.set()
        with contextlib.suppress(RuntimeError, dist.DistError):
            if self.place.rank:
                self._store.set(f"left/{self.place.rank}", "")
                return
            self._store.set(_FINISHED, "")
            everyone = [f"left/{rank}" for rank in range(1, self.place.world)]
            self._store.wait(everyone, timedelta(seconds=_FAREWELL_S))
        self._end_children(_FAREWELL_S)

    def abandon(self, message: str) -> None:
        """Let the others know why this process ends, and end those that it started."""
        self._ended.set()
        with contextlib.suppress(RuntimeError, dist.DistError):  # rank 0 may be gone, and the store with it
            self._store.compare_set("failed", "", f"rank {self.place.rank}: {message}")
            if self.place.rank == 0 and not self.children:
                time.sleep(3 * _LOOK_S)  # the others read why before the store goes
        self._end_children()

    def _end_children(self, patience_s: float = 3 * _LOOK_S) -> None:
        """Wait for the processes that this one started, and end those that take too long."""
        for child in self.children.values():
            try:
                child.wait(timeout=patience_s)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    # ------------------------------------------------------------------ the watchdog

    def _watch(self) -> None:
        count = 0
        while not self._ended.wait(_LOOK_S):
            count += 1
            try:
                self._mine.set(f"alive/{self.place.rank}", str(count))
                trouble = self._trouble()
            except (RuntimeError, dist.DistError):
                trouble = "rank 0 ended" if self.place.rank else "the store of the run broke down"
            if trouble is not None and not self._ended.is_set():
                self._end(trouble)
                return

    def _trouble(self) -> str | None:
        """What is wrong with the others; None where nothing is."""
        if self._mine.check(["failed"]):
            return bytes(self._mine.get("failed")).decode()
        if self.place.rank:
            return self._silent(0)
        for rank in range(1, self.place.world):
            found = self._dead_child(rank) or self._silent(rank)
            if found:
                self._mine.set("failed", found)
                return found
        return None

    def _dead_child(self, rank: int) -> str | None:
        child = self.children.get(rank)
        code = child.poll() if child is not None else None
        if code is None:
            return None
        return f"rank {rank} was ended by signal {-code}" if code < 0 else f"rank {rank} ended with exit code {code}"

    def _silent(self, rank: int) -> str | None:
        now, key = time.monotonic(), f"alive/{rank}"
        if not self._mine.check([key]):
            late = now - self._began > ARRIVAL_S
            return f"rank {rank} of {self.place.world} did not come within {ARRIVAL_S:.0f} s" if late else None
        sign = bytes(self._mine.get(key))
        if self._seen.get(rank, (b"", 0.0))[0] != sign:
            self._seen[rank] = (sign, now)
        silence = now - self._seen[rank][1]
        return f"rank {rank} showed no sign of life for {silence:.0f} s" if silence > SILENCE_S else None

    def _end(self, trouble: str) -> None:
        """Give the main thread a moment to end by itself, then end the process."""
        self.lost = trouble
        if self._ended.wait(_GRACE_S):
            return
        if self.place.rank == 0:
            self.on_loss(trouble)
            sys.stderr.write(f"error: {trouble}\n")
            sys.stderr.flush()
            time.sleep(2 * _LOOK_S)  # the others read why before the store goes
            self._end_children()
        os._exit(1)


def found_team(world: int) -> Team:
    """Start the other processes of a run on this machine and meet them; this one is rank 0."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(world), STARTED: "1",
            "LOCAL_WORLD_SIZE": str(world)}  # fmt: skip
    children = {
        rank: subprocess.Popen(
            [sys.executable, "-m", "fexgan_lit.train"],
            env=os.environ | here | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
        )
        for rank in range(1, world)
    }
    return Team(Place(0, world, 0, world, "127.0.0.1", store.port), store, children)


def join_team(place: Place) -> Team:
    """Meet the processes that torchrun, SLURM or rank 0 started.

    Raises:
        UserError: rank 0 cannot be reached.
    """
    hosts = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = dist.TCPStore(
            place.address, place.port, is_master=hosts, timeout=timedelta(seconds=ARRIVAL_S), wait_for_workers=False
        )
    except (RuntimeError, dist.DistError) as error:
        raise UserError(
            f"rank {place.rank} of {place.world} cannot meet the others at {place.address}:{place.port} "
            f"({str(error).splitlines()[0]}). Set MASTER_ADDR to a name of the first machine that all others can "
            "reach, and MASTER_PORT to a port that is free there"
        ) from error
    return Team(place, store)
