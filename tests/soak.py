"""Scrape an exporter under random faults for a long time, and fail if it grows.

Run by `make soak`; SOAK_SECONDS says for how long, SOAK_RATE how often in a second, and
SOAK_SEED repeats the faults of an earlier run.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from faults import fault_server
from faults.fault_server import Behaviour, FaultServer, answer, answers, queue
from faults.running_exporter import scrape
from support.exporter import Process, exporter_process
from support.fake_api import RUN

SCRAPES_A_SECOND = float(os.environ.get("SOAK_RATE", str(10 / 15)))
"""Ten times what a Prometheus asks that scrapes every 15 s, unless told otherwise."""

TIMEOUT = 2
GRACE = 1
"""Seconds by which a scrape may be late, since the machine has this program to run too."""

MIB_GROWN = 24
THREADS_GROWN = 12
DESCRIPTORS_GROWN = 12


@dataclass
class Size:
    """How large the exporter is."""

    mib: float
    threads: int
    descriptors: int

    @classmethod
    def of(cls, exporter: Process) -> "Size":
        return cls(exporter.resident_mib, exporter.threads, exporter.descriptors)

    def __str__(self) -> str:
        return f"{self.mib:6.1f} MiB {self.threads:4} threads {self.descriptors:4} descriptors"


def sound(chance: random.Random) -> Behaviour:
    runs = [
        {**RUN, "application_id": f"app-{chance.randrange(5000)}"}
        for _ in range(chance.randrange(1000))
    ]
    return answers(queue(*runs))


def hostile_body(chance: random.Random) -> Behaviour:
    bodies = (
        chance.randbytes(1000),
        b"[" * 100_000,
        json.dumps({"runs": [chance.random(), None, {"application_id": "\ud800" * 1000}]}).encode(),
        b'{"runs": [' + b" " * 6_000_000 + b"]}",
    )
    return answers(answer(chance.choice(bodies)))


def hostile_status(chance: random.Random) -> Behaviour:
    status = chance.choice(("302 Found", "401 No", "404 Gone", "429 Slow", "500 Oh", "503 Busy"))
    return answers(answer(b"x" * chance.randrange(10_000), status, Location="https://x.example/"))


FAULTS: tuple[Behaviour, ...] = (
    fault_server.never_answers,
    fault_server.drips_the_headers,
    fault_server.drips_the_body,
    fault_server.stalls_in_the_body,
    fault_server.resets,
)
KINDS: tuple[Callable[[random.Random], Behaviour], ...] = (
    sound,
    sound,
    hostile_body,
    hostile_status,
    lambda chance: chance.choice(FAULTS),
)


def soak(seconds: float, seed: int) -> bool:
    """Scrape for so long; tells whether the exporter stayed as it was."""
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    took: list[float] = []

    def one() -> None:
        answered = scrape(exporter.address, TIMEOUT)
        found["up" if answered.up else "down"] += 1
        took.append(answered.seconds)

    def scrape_for(span: float) -> None:
        end = time.monotonic() + span
        with ThreadPoolExecutor(16) as pool:
            while time.monotonic() < end:
                if chance.random() < 0.5:
                    server.behave = chance.choice(KINDS)(chance)
                    server.close_connections()
                pool.submit(one)
                time.sleep(1 / SCRAPES_A_SECOND)

    with (
        FaultServer(sound(chance)) as server,
        exporter_process("--nextmv.max-response-bytes=4MiB", endpoint=server.url) as exporter,
    ):
        scrape_for(seconds / 6)  # until all is set up that is set up once
        start = Size.of(exporter)
        print(f"start  {start}")
        scrape_for(seconds * 5 / 12)
        print(f"middle {Size.of(exporter)}")
        scrape_for(seconds * 5 / 12)
        server.behave = sound(chance)
        server.close_connections()
        time.sleep(TIMEOUT + 2)
        one()
        end = Size.of(exporter)
        log = exporter.log
    print(f"end    {end}")
    print(f"{found.total()} scrapes in {seconds:.0f} s, {found['up']} up, {found['down']} down")
    print(f"slowest {max(took):.2f} s, with a timeout of {TIMEOUT} s")
    failures = [
        what
        for what, failed in {
            "memory grew": end.mib > start.mib + MIB_GROWN,
            "threads grew": end.threads > start.threads + THREADS_GROWN,
            "descriptors grew": end.descriptors > start.descriptors + DESCRIPTORS_GROWN,
            "a scrape was late": max(took) > TIMEOUT + GRACE,
            "an error was unexpected": "Traceback" in log,
            "no scrape was up": not found["up"],
            "no scrape was down": not found["down"],
        }.items()
        if failed
    ]
    for failure in failures:
        print(f"FAILED: {failure} (seed {seed})")
    return not failures


if __name__ == "__main__":
    passed = soak(
        float(os.environ.get("SOAK_SECONDS", "180")),
        int(os.environ.get("SOAK_SEED", str(random.randrange(1_000_000)))),
    )
    sys.exit(0 if passed else 1)
