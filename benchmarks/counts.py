"""Counts that are the same on every machine, and the ranges that they must stay in."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from benchmarks.bodies import SMALL_APPLICATIONS, queue_body
from benchmarks.ours import MAX_GROUPS, WAIT_BUCKETS
from benchmarks.programs import api, exporter, scrape
from benchmarks.scale import Scale
from benchmarks.scrapers import at_once
from benchmarks.table import Table
from nextmv_exporter import Account, Client, QueueCollector
from nextmv_exporter.demo import DEMO_KEY
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.scrape.runs import parse_queue
from nextmv_exporter.scrape.summary import summarise, take_snapshot

RUNS = 10_000
_MILLION_INSTRUCTIONS = {10: 5, 1_000: 75}
"""The most by number of runs; Python versions differ by about a fifth."""

_SCRAPES = 5
_SCRAPERS = 20
_HOLD = 1.0
_UNUSED = frozenset({"bcrypt", "nextmv_exporter.demo", "jinja2", "pydantic", "yaml"})
_COLLECTED = re.compile(r"Collected : (\d+)")


@dataclass(frozen=True)
class Count:
    """A count and its range.

    Args:
        name: what was counted.
        value: how many.
        least: the least that is right.
        most: the most that is right.
    """

    name: str
    value: float
    least: float
    most: float

    @property
    def within(self) -> bool:
        """Whether it is in its range."""
        return self.least <= self.value <= self.most


def measure(_scale: Scale) -> Table:
    """Count, and report what is out of its range.

    Returns:
        The counts; the faults are those out of their ranges.
    """
    counts = [*_requests(), *_threads(), *_imports(), *_allocations(), *_instructions()]
    return Table(
        "Counts that do not depend on the machine",
        ("", "Count", "Least", "Most"),
        [(c.name, f"{c.value:.4g}", f"{c.least:g}", f"{c.most:g}") for c in counts],
        [
            f"{c.name}: {c.value:.4g} is not in {c.least:g} to {c.most:g}"
            for c in counts
            if not c.within
        ],
    )


def _requests() -> Iterator[Count]:
    """Count requests: one for each scrape, shared by scrapes that overlap."""
    with api(runs=10) as queue, exporter(queue) as program:
        yield Count("API requests before the first scrape", queue.requests(), 0, 0)
        for _ in range(_SCRAPES):
            scrape(program)
        yield Count(f"API requests of {_SCRAPES} scrapes in turn", queue.requests(), 5, 5)
    with api(runs=10, hold=_HOLD) as queue, exporter(queue) as program:
        at_once(program, _SCRAPERS, rounds=1)
        yield Count(f"API requests of {_SCRAPERS} concurrent scrapes", queue.requests(), 1, 1)


def _imports() -> Iterator[Count]:
    """Count the modules imported at start that a scrape does not use."""
    code = "import sys, nextmv_exporter.program, nextmv_exporter.web.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = _UNUSED & set(done.stdout.split())
    yield Count(f"Modules imported at start of {', '.join(sorted(_UNUSED))}", len(found), 0, 0)


def _allocations() -> Iterator[Count]:
    """Measure the memory that the summary allocates for each run, and keeps for each group."""
    runs = list(parse_queue(queue_body(RUNS)))
    now = time.time()
    tracemalloc.start()
    snapshot = take_snapshot(runs, now)
    summary = summarise(snapshot, wait_buckets=WAIT_BUCKETS, max_groups=MAX_GROUPS)
    del snapshot  # an account keeps what its next scrape is compared with, not the summary
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    yield Count("Bytes allocated by the summary at its peak, per run", peak / RUNS, 0, 100)
    yield Count("Bytes kept in the summary, per group", kept / len(summary.length), 0, 1000)


def _threads() -> Iterator[Count]:
    """Count the threads that scrapes start, once there are enough of them."""
    started = []

    class Started(threading.Thread):
        def start(self) -> None:
            started.append(self.name)
            super().start()

    with api(runs=10) as queue, patch.object(threading, "Thread", Started):
        found = Credentials(api_key=DEMO_KEY, url=queue.url)
        collector = QueueCollector({"default": Account(Client(credentials=lambda: found))})
        list(collector.collect())
        first = len(started)
        for _ in range(_SCRAPES):
            list(collector.collect())
    yield Count("Threads started by the first scrape", first, 1, 4)
    yield Count(f"Threads started by {_SCRAPES} more in turn", len(started) - first, 0, 0)


def _instructions() -> Iterator[Count]:
    """Count the instructions of a scrape, and compare many runs with `orjson.loads`."""
    if shutil.which("valgrind") is None:
        return
    with tempfile.NamedTemporaryFile() as file:
        body = Path(file.name)
        for runs, most in _MILLION_INSTRUCTIONS.items():
            body.write_bytes(queue_body(runs, SMALL_APPLICATIONS))
            count = _instructions_of("exporter", body) / 1e6
            yield Count(f"Million instructions of a scrape of {runs:,} runs", count, 1, most)
        body.write_bytes(queue_body(RUNS))
        ratio = _instructions_of("exporter", body) / _instructions_of("orjson", body)
    yield Count(f"Instructions of a scrape of {RUNS:,} runs, times orjson's", ratio, 0.9, 1.5)


def _instructions_of(work: str, body: Path) -> int:
    """Count the instructions of one more repetition, so that start-up and warm-up drop out."""
    once, thrice = (_callgrind(work, times, body) for times in (1, 3))
    return (thrice - once) // 2


def _callgrind(work: str, times: int, body: Path) -> int:
    command = [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={os.devnull}",
        *(sys.executable, "-m", "benchmarks.instructions", work, str(times), str(body)),
    ]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = _COLLECTED.search(done.stderr)
    assert found, done.stderr
    return int(found[1])
