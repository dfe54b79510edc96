"""Scrapes answer under connections that are slow, idle or oversized, and nothing leaks."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest
import requests
from support.exporter import Process, exporter_process
from support.fake_api import RUN
from support.waiting import until

from faults.fault_server import FaultServer, answers, queue
from faults.running_exporter import exporter_here, scrape

SLOW = 200
IDLE = 500
SCRAPES_A_SECOND = 50
SECONDS = 4
WORKERS = 45
"""Threads that the web framework keeps for a while, at most; a leak would be one a scrape."""


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


@contextmanager
def dripping(address: str, count: int) -> Iterator[None]:
    """Connections that send a request a byte a second."""
    head = b"GET /metrics HTTP/1.1\r\nHost: exporter.example\r\nX: " + b"x" * 10_000
    ended = threading.Event()

    def drip(connections: list[socket.socket]) -> None:
        for byte in head:
            for connection in list(connections):
                try:
                    connection.send(bytes([byte]))
                except OSError:
                    connections.remove(connection)
            if ended.wait(1):
                return

    with ExitStack() as stack:
        connections = [stack.enter_context(connect(address)) for _ in range(count)]
        dripper = threading.Thread(target=drip, args=(connections,))
        dripper.start()
        try:
            yield
        finally:
            ended.set()
            dripper.join()


def scrape_steadily(address: str, seconds: float) -> list[tuple[bool, float]]:
    """Scrape at the rate asked for; whether each was up, and how long it took."""

    def one(number: int) -> tuple[bool, float]:
        time.sleep(max(0.0, began + number / SCRAPES_A_SECOND - time.monotonic()))
        sent = time.monotonic()
        with requests.Session() as session:
            got = session.get(f"http://{address}/metrics", timeout=30)
        return 'nextmv_up{account="default"} 1.0' in got.text, time.monotonic() - sent

    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        return list(pool.map(one, range(int(seconds * SCRAPES_A_SECOND))))


def calm(exporter: Process) -> tuple[int, int, float]:
    """Descriptors, threads and MiB."""
    return exporter.descriptors, exporter.threads, exporter.resident_mib


def test_scrapes_answer_under_load_and_nothing_leaks() -> None:
    runs = [{**RUN, "application_id": f"app-{n % 50}"} for n in range(500)]
    with (
        FaultServer(answers(queue(*runs))) as server,
        exporter_process(endpoint=server.url) as exporter,
    ):
        scrape_steadily(exporter.address, 0.5)  # what is set up once
        descriptors, threads, memory = calm(exporter)
        with ExitStack() as stack:
            stack.enter_context(dripping(exporter.address, SLOW))
            idle = [stack.enter_context(connect(exporter.address)) for _ in range(IDLE)]
            answered = scrape_steadily(exporter.address, SECONDS)
            assert len(idle) == IDLE
        until(
            lambda: exporter.descriptors <= descriptors + 5,
            seconds=15,
            what="the end of the connections",
        )
        after_descriptors, after_threads, after_memory = calm(exporter)
        log = exporter.log

    assert all(up for up, _ in answered)
    assert sorted(seconds for _, seconds in answered)[len(answered) // 2] < 5
    assert after_descriptors <= descriptors + 5
    assert after_threads <= threads + WORKERS
    assert after_memory < memory + 40
    assert "Traceback" not in log


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: x\r\n" * 20_000 + b"\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000,
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    ],
    ids=["line", "header", "headers", "bytes", "no host", "TLS", "NUL", "body"],
)
def test_an_oversized_or_odd_request_gets_a_4xx(head: bytes) -> None:
    with FaultServer(answers(queue())) as server, exporter_here(server.url) as address:
        with connect(address) as connection:
            with suppress(OSError):  # closed once it was too much
                connection.sendall(head + (b"" if head.startswith(b"P") else b"\r\n\r\n"))
            status = connection.recv(4096).split(b"\r\n")[0]
        assert scrape(address, 10).up

    assert status.startswith(b"HTTP/1.1 4")
