"""A process that takes hostile responses apart, and measures what that costs.

It reads a response's description in JSON from each line of standard input, does in a child of its
own all that a scrape does with one, in a thread of little stack, and prints the costs.
"""

import base64
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

from nextmv_exporter.nextmv.errors import InvalidResponseError
from nextmv_exporter.scrape.counters import AccountMetrics
from nextmv_exporter.scrape.exposition import expose
from nextmv_exporter.scrape.flow import compare
from nextmv_exporter.scrape.outcome import Outcome, Scrape
from nextmv_exporter.scrape.runs import parse_queue
from nextmv_exporter.scrape.summary import summarise, take_snapshot
from support.outcomes import ScrapedCollector

STACK = 256 * 1024
BOUNDS = (5.0, 60.0, 3600.0)


def resident(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def body_of(description: dict[str, Any]) -> bytearray:
    """A head, a unit again and again until the size is reached, each numbered, and a tail."""
    head, unit, tail = (base64.b64decode(description[part]) for part in ("head", "unit", "tail"))
    if b"#" not in unit:
        return bytearray(head + unit * ((description["size"] - 100_000) // len(unit)) + tail)
    body = bytearray(head)
    number = 0
    while len(body) + len(unit) + len(tail) + 50 < description["size"]:
        body += unit.replace(b"#", b"%d" % number)
        number += 1
    return body + tail


def scrape(body: bytearray, limit: int) -> str:
    """What a scrape does between the API's response and its own."""
    metrics = AccountMetrics(wait_buckets=BOUNDS, max_groups=2000)
    try:
        snapshot = take_snapshot(parse_queue(body), time.time(), max_bytes=limit)
        baseline, _ = compare(None, snapshot)
        _, change = compare(baseline, snapshot)
        metrics.add_flow(change)
        summary = summarise(snapshot, wait_buckets=BOUNDS, max_groups=2000)
    except InvalidResponseError as error:
        return str(error)
    outcome = Outcome("default", "account-queue", 0.1, 0.0, summary)
    expose([ScrapedCollector([Scrape(outcome, metrics.copy())])])
    return f"{sum(summary.length.values())} runs"


def measure(description: dict[str, Any]) -> dict[str, Any]:
    idle = resident("VmRSS")
    body = body_of(description)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    results: list[str] = []
    threading.stack_size(STACK)
    worker = threading.Thread(target=lambda: results.append(scrape(body, description["size"])))
    worker.start()
    # How much CPU time passes while this thread waits for its turn: none of it is others' work.
    blocked, before = 0.0, time.process_time()
    while worker.is_alive():
        time.sleep(0.001)
        now = time.process_time()
        blocked, before = max(blocked, now - before), now
    return {"peak": resident("VmHWM") - idle, "blocked": blocked, "result": results[0]}


def main() -> None:
    for line in sys.stdin:
        reading, writing = os.pipe()
        if child := os.fork():
            os.close(writing)
            with os.fdopen(reading) as pipe:
                printed = pipe.read()
            _, status = os.waitpid(child, 0)
            sys.stdout.write(f"{printed or json.dumps({'died': status})}\n")
            sys.stdout.flush()
            continue
        os.write(writing, json.dumps(measure(json.loads(line))).encode())
        os._exit(0)


if __name__ == "__main__":
    main()
