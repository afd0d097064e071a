"""The page suite: many clients that move sliders, each requesting the next face as soon as it has one."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fexgan_lit.benchmarks.config import BenchmarkSettings
from fexgan_lit.benchmarks.report import Progress, Result, Table, listed
from fexgan_lit.utils.errors import UserError
from fexgan_lit.utils.hardware import peak_bytes
from fexgan_lit.utils.timing import Spread

#: Number of clients and seconds of load; the same with `quick=true`.
CLIENTS, SECONDS, FEW, SHORT = 50, 60.0, 4, 3.0
#: Targets: median time of an answer in seconds, and growth of the server's memory in MB.
ANSWER_TARGET, GROWTH_TARGET = 1.0, 100.0
#: Number of requests by one client before the first reading of the memory.
WARM_UP = 20
PATIENCE_S = 120


class Answer(NamedTuple):
    """The seconds that a request took and its HTTP status, which is 0 without a response."""

    seconds: float
    status: int


def run(settings: BenchmarkSettings, folder: Path, progress: Progress) -> tuple[list[Result], Table]:
    """Serve the page in a separate process and send requests from one thread per client."""
    clients, seconds = (FEW, SHORT) if settings.quick else (CLIENTS, SECONDS)
    load, answers = os.getloadavg()[0], list[Answer]()
    progress("starting the page", 0, 2)
    with served(settings.run) as (port, process):
        bodies = _bodies(port)
        _ask(port, bodies, answers, WARM_UP, time.perf_counter() + PATIENCE_S, seed=0)
        before = peak_bytes(process)
        answers.clear()
        progress(f"{clients} clients for {seconds:g} s", 1, 2)
        end = time.perf_counter() + seconds
        threads = [threading.Thread(target=_ask, args=(port, bodies, answers, None, end, k)) for k in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        grown = (peak_bytes(process) - before) / 1e6
    results = results_of(answers, grown, seconds)
    return results, listed(results, (f"{clients} clients; the load average before was {load:.1f}",))


def results_of(answers: list[Answer], grown: float, seconds: float) -> list[Result]:
    """Return the rows: time and number of answers, errors, and the growth of the page's memory in MB."""
    fine = [answer.seconds for answer in answers if answer.status == 200]
    if not fine:
        raise UserError(f"the page answered none of {len(answers)} requests")
    errors = len(answers) - len(fine)
    return [
        Result("answer", Spread.of(np.array(fine)), "s", "from a request to its image", ANSWER_TARGET, at_most=True),
        Result("answers a second", Spread.of(len(fine) / seconds), "", f"{len(fine)} in all"),
        Result("errors", Spread.of(float(errors)), "", "status other than 200, or no answer", 0, at_most=True),
        Result("growth of memory", Spread.of(grown), "MB", "of its peak, since single requests", GROWTH_TARGET, True),
    ]


@contextmanager
def served(run: str | None) -> Iterator[tuple[int, int]]:
    """Serve the page of `run` in a process; yield the port and the process id."""
    command = [sys.executable, "-m", "fexgan_lit.explore", "port=0", *([f"run={run}"] if run else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603
        try:
            said = []
            for line in process.stdout or ():
                said.append(line)
                if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                    yield int(found[1]), process.pid
                    return
            raise UserError(f"the page did not open: {''.join(said)[-500:]}")
        finally:
            process.kill()


def _bodies(port: int) -> list[bytes]:
    """Return bodies of requests for random characters with random strengths of two affects."""
    draw, found = random.Random(0), {}
    for name in ("about", "faces"):
        page = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        page.request("GET", f"/api/{name}")
        found[name] = json.loads(page.getresponse().read())
        page.close()
    faces = [face["id"] for face in found["faces"]["faces"]]
    bodies = []
    for _ in range(500):
        weights = {affect: round(draw.random(), 3) for affect in draw.sample(found["about"]["affects"], 2)}
        bodies.append(json.dumps({"face": draw.choice(faces), "weights": weights}).encode())
    return bodies


def _ask(port: int, bodies: list[bytes], answers: list[Answer], most: int | None, end: float, seed: int) -> None:
    """Send requests one after the other, `most` of them or until the time `end`, and append to `answers`."""
    draw, page = random.Random(seed), None
    asked = 0
    while time.perf_counter() < end and (most is None or asked < most):
        asked, start, status = asked + 1, time.perf_counter(), 0
        try:
            page = page or http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            page.request("POST", "/api/paint", draw.choice(bodies), {"content-type": "application/json"})
            response = page.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException):
            page = None
        answers.append(Answer(time.perf_counter() - start, status))
