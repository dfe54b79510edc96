"""Scrape an exporter under random faults and attacks for a long time, and fail if it grows.

The API responds with queues, faults and hostile responses of random shapes, its queue endpoint goes
and comes back, clients guess passwords and send broken requests, and the key is rotated.

Run by `make soak`; SOAK_SECONDS says for how long, SOAK_RATE how often in a second, and
SOAK_SEED repeats the faults of an earlier run.
"""

import base64
import contextlib
import gzip
import json
import os
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from faults import fault_server
from faults.fault_server import Behaviour, Conversation, FaultServer, answer, answers, queue
from faults.running_exporter import scrape
from support.exporter import Process, exporter_process
from support.fake_api import KEY, RUN
from support.malloc import IMAGE_MALLOC

SCRAPES_A_SECOND = float(os.environ.get("SOAK_RATE", str(10 / 15)))
"""Ten times what a Prometheus asks that scrapes every 15 s, unless told otherwise."""

TIMEOUT = 2
GRACE = 1
"""Seconds by which a scrape may be late, since the machine has this program to run too."""

MIB_GROWN = 5
"""How far memory may grow after the first tenth of the time."""

THREADS_GROWN = 12
DESCRIPTORS_GROWN = 12
LIMIT = 4 * 1024 * 1024
USER, PASSWORD = "prometheus", "correct horse"


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


def filled(unit: bytes, chance: random.Random) -> bytes:
    """A list of runs full of one tiny value, close to the limit, at any alignment."""
    padding = b" " * chance.randrange(1000)
    number = (LIMIT - 2000) // (len(unit) + 1)
    return b'{"runs": [' + padding + b",".join([unit] * number) + b"]}"


def hostile_body(chance: random.Random) -> Behaviour:
    tiny = chance.choice(
        (b"[]", b"{}", b"{} ", b"0", b'""', b"null", b'{"id":"%d"}' % chance.randrange(9))
    )
    bodies: tuple[Callable[[], bytes], ...] = (
        lambda: chance.randbytes(1000),
        lambda: b"[" * 100_000,
        lambda: b'{"runs":[{"a":' * 50_000,
        lambda: json.dumps({"runs": [1.5, None, {"application_id": "\ud800" * 1000}]}).encode(),
        lambda: b'{"runs": [' + b" " * 6_000_000 + b"]}",
        lambda: b'{"x": [' + b"NaN," * 100_000 + b'0], "runs": []}',
        lambda: filled(tiny, chance),
    )
    body = chance.choice(bodies)()
    if chance.random() < 0.5:
        return answers(answer(gzip.compress(body, 1), Content_Encoding="gzip"))
    return answers(answer(body))


def hostile_http(chance: random.Random) -> Behaviour:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return answers(
        chance.choice(
            (
                chunked + b"-1\r\n" + b"x" * 100_000,
                chunked + b"-2\r\n\r\n",
                b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + queue(RUN),
                b"HTTP/1.1 102 Processing\r\n\r\n",
                queue(RUN) + queue(),
                answer(b"<html>Log in</html>", Content_Type="text/html"),
                b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
            )
        )
    )


def endless_pages(chance: random.Random) -> Behaviour:
    """The queue endpoint is gone, and the lists of runs or of applications have no end."""
    of_applications, size = chance.random() < 0.5, chance.choice((1, 100, 5000))

    def behave(conversation: Conversation) -> None:
        while head := conversation.hear():
            token = f"{chance.random()}"
            if b"/runs?" in head:
                runs = [{"id": f"{token}-{n}", "status_v2": "queued"} for n in range(size)]
                page: dict[str, Any] = {"runs": runs, "next_page_token": token}
            elif b"/applications" in head:
                items = [{"id": f"{token}-{n}"} for n in range(size if of_applications else 5)]
                page = {"items": items, "next_page_token": token if of_applications else ""}
            else:
                conversation.say(answer(b"gone", "410 Gone"))
                continue
            conversation.say(answer(json.dumps(page).encode()))

    return behave


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
    hostile_http,
    endless_pages,
    lambda chance: chance.choice(FAULTS),
)


def attack(exporter: Process, chance: random.Random) -> None:
    """Send the exporter something that no Prometheus sends."""
    host, port = exporter.address.split(":")
    guess = base64.b64encode(f"{chance.choice((USER, 'root'))}:{chance.random()}".encode()).decode()
    request = chance.choice(
        (
            f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {guess}\r\n\r\n",
            "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",
            "GET /sd HTTP/1.1\r\nHost: user@evil:1\r\n\r\n",
            "BREW /pot HTCPCP/1.0\r\n\r\n",
            "GET /-/ready HTTP/1.1\r\nHost: x\r\nX: " + "x" * 40_000 + "\r\n\r\n",
            "GET /-/ready HTTP/1.1\r\nHost: x\r\nAccept: text/plain;version=x\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01",
        )
    )
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as client:
        client.sendall(request.encode("latin-1"))
        client.settimeout(chance.choice((0.01, 1)))
        client.recv(1000)


def soak(seconds: float, seed: int) -> bool:
    """Scrape for so long; tells whether the exporter stayed as it was."""
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    took: list[float] = []

    def one() -> None:
        answered = scrape(exporter.address, TIMEOUT, auth=(USER, PASSWORD))
        found["up" if answered.up else "down"] += 1
        took.append(answered.seconds)

    def scrape_for(span: float) -> None:
        end = time.monotonic() + span
        with ThreadPoolExecutor(16) as pool:
            while time.monotonic() < end:
                if chance.random() < 0.5:
                    server.behave = chance.choice(KINDS)(chance)
                    server.close_connections()
                if chance.random() < 0.05:
                    key_file.write_text(f"{KEY}{chance.randrange(1000)}")
                if chance.random() < 0.5:
                    pool.submit(attack, exporter, random.Random(chance.random()))
                pool.submit(one)
                time.sleep(1 / SCRAPES_A_SECOND)

    with (
        tempfile.TemporaryDirectory() as folder,
        FaultServer(sound(chance)) as server,
        contextlib.ExitStack() as stack,
    ):
        key_file, web_config = Path(folder, "key"), Path(folder, "web.yml")
        key_file.write_text(KEY)
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()
        web_config.write_text(f"basic_auth_users:\n  {USER}: {hashed}\n")
        flags = (
            f"--nextmv.max-response-bytes={LIMIT}",
            f"--nextmv.api-key-file={key_file}",
            f"--nextmv.endpoint={server.url}",
            f"--web.config.file={web_config}",
        )
        exporter = stack.enter_context(exporter_process(*flags, environment=IMAGE_MALLOC))
        scrape_for(seconds / 10)  # until all is set up that is set up once
        start = Size.of(exporter)
        print(f"start  {start}", flush=True)
        for tenth in range(2, 11):
            scrape_for(seconds / 10)
            print(f"{tenth:2}/10  {Size.of(exporter)}", flush=True)
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
