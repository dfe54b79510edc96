"""Scrape an exporter under random faults, and fail if it grows: `make soak`.

SOAK_SECONDS says for how long; SOAK_SEED repeats the faults of an earlier run.
"""

import contextlib
import gzip
import json
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from faults import fault_server
from faults.fault_server import Behaviour, FaultServer, answer, answers
from faults.running_exporter import scrape
from support.exporter import Process, exporter_process
from support.fake_api import KEY, RUN
from support.malloc import IMAGE_MALLOC
from support.waiting import until

SECONDS = float(os.environ.get("SOAK_SECONDS", "180"))
SEED = os.environ.get("SOAK_SEED", str(random.randrange(1_000_000)))
TIMEOUT = 2
MOST_ADDED = {"MiB": 5, "threads": 12, "descriptors": 12}
"""How far the exporter may grow after the first tenth of the time."""

STATUSES = ("302 Found", "401 No", "404 Gone", "429 Slow", "500 Oh")
BROKEN_REQUESTS = (
    b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",
    b"GET /-/ready HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
)


def sound(chance: random.Random) -> Behaviour:
    length = chance.randrange(1000)
    runs = [{**RUN, "id": f"{n}", "application_id": f"app-{n % 500}"} for n in range(length)]
    return answers(fault_server.queue(*runs))


def wrong_body(chance: random.Random) -> Behaviour:
    unit = chance.choice((b"[]", b"{}", b"0", b'{"status_v2":"queued"}'))
    body = b'{"runs": [' + b",".join([unit] * chance.randrange(2_000_000)) + b"]}"
    body = chance.choice((body, body[:-2], b"[" * len(body), b"<html>Log in</html>"))
    packed = answer(gzip.compress(body, 1), Content_Encoding="gzip")
    return answers(chance.choice((answer(body), packed)))


def endless_pages(chance: random.Random) -> Behaviour:
    """Pages without end, where the queue endpoint is gone: for every list alike."""
    run = {**RUN, "id": "a"}
    pages = [{"runs": [run], "items": [run], "next_page_token": str(n)} for n in range(1000)]
    return answers(answer(b"", "410 Gone"), *(answer(json.dumps(page).encode()) for page in pages))


def fault(chance: random.Random) -> Behaviour:
    refusal = answers(answer(b"x" * 10_000, chance.choice(STATUSES), Location="https://x.example/"))
    slow = (fault_server.never_answers, fault_server.drips_the_body, fault_server.resets)
    return chance.choice((refusal, refusal, *slow))


KINDS = (sound, sound, wrong_body, endless_pages, fault, fault)


def send(exporter: Process, request: bytes) -> None:
    """Send the exporter what no Prometheus sends."""
    address = ("127.0.0.1", exporter.port)
    with contextlib.suppress(OSError), socket.create_connection(address, 5) as client:
        client.sendall(request)
        client.settimeout(1)
        client.recv(1000)


def soak(key_file: Path, server: FaultServer, chance: random.Random) -> Iterator[str]:
    """Scrape for so long; yield what is wrong."""
    flags = {"max-response-bytes": "4MiB", "api-key-file": key_file, "endpoint": server.url}
    command = [f"--nextmv.{name}={value}" for name, value in flags.items()]
    key_file.write_text(KEY)
    sizes: list[tuple[float, ...]] = []
    slowest = 0.0
    with exporter_process(*command, environment=IMAGE_MALLOC) as exporter:
        for tenth in range(10):
            end = time.monotonic() + SECONDS / 10
            while time.monotonic() < end:
                server.behave = chance.choice(KINDS)(chance)
                server.close_connections()
                key_file.write_text(f"{KEY}{chance.randrange(3)}")
                with ThreadPoolExecutor(4) as clients:
                    clients.submit(send, exporter, chance.choice(BROKEN_REQUESTS))
                    for scraped in clients.map(scrape, [exporter.address] * 3, [TIMEOUT] * 3):
                        slowest = max(slowest, scraped.seconds)
            sizes.append((exporter.resident_mib, exporter.threads, exporter.descriptors))
            print(f"{tenth + 1:2}/10", dict(zip(MOST_ADDED, sizes[-1], strict=True)), flush=True)
        server.behave = sound(chance)
        server.close_connections()
        until(lambda: scrape(exporter.address).up, seconds=120, what="recovery")
    for (name, most), first, last in zip(MOST_ADDED.items(), sizes[0], sizes[-1], strict=True):
        if last > first + most:
            yield f"{name} grew"
    if slowest > TIMEOUT + 1:
        yield f"a scrape took {slowest:.1f} s"
    if "Traceback" in exporter.log:
        yield "a traceback was logged"


if __name__ == "__main__":
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder, FaultServer(sound(chance)) as server:
        wrong = list(soak(Path(folder) / "key", server, chance))
    sys.exit("".join(f"FAILED: {each} (SOAK_SEED={SEED})\n" for each in wrong) or 0)
