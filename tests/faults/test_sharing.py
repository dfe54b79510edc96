"""Scrapes that come together share one request to the API."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.programs import until

from faults import server
from faults.program import Program, Scrape, program
from faults.server import FaultServer

MANY = 100


@pytest.fixture
def api() -> Iterator[FaultServer]:
    with FaultServer(server.serves(server.answer())) as running:
        yield running


@pytest.fixture
def running(tmp_path: Path, api: FaultServer) -> Iterator[Program]:
    with program(tmp_path, "--nextmv.timeout", "60s", NEXTMV_ENDPOINT=api.url) as exporter:
        yield exporter


def held(until_set: threading.Event, reply: bytes) -> server.Fault:
    def serve(peer: server.Peer) -> None:
        while True:
            peer.request()
            until_set.wait(60)
            peer.send(reply)

    return serve


def scrape_together(many: int, running: Program, release: threading.Event) -> list[Scrape]:
    """Scrape many times at once; the API answers when all of them have arrived."""
    sockets, threads = running.sockets(), running.threads()
    with ThreadPoolExecutor(many) as callers:
        scrapes = [callers.submit(running.scrape) for _ in range(many)]
        to_the_api = 2  # the connection, and the handle on it for closing it from outside
        until(lambda: running.sockets() >= sockets + many + to_the_api, seconds=30, what="arrival")
        time.sleep(1)  # until the last request is read, too
        assert running.threads() < threads + 5
        release.set()
        return [scrape.result() for scrape in scrapes]


def test_a_hundred_scrapes_at_once_cost_one_request(running: Program, api: FaultServer) -> None:
    release = threading.Event()
    run = {"status_v2": "queued", "application_id": "a", "execution_class": "c"}
    api.fault = held(release, server.answer(server.queue(run)))
    scrapes = scrape_together(MANY, running, release)

    assert len(api.requests) == 1
    assert all(scrape.up() == 1 and scrape.requests("200") == 1 for scrape in scrapes)


def test_a_scrape_after_the_shared_request_makes_its_own(
    running: Program, api: FaultServer
) -> None:
    assert running.scrape().up() == 1
    assert running.scrape().up() == 1

    assert len(api.requests) == 2


def test_a_failure_that_many_share_is_counted_and_logged_once(
    running: Program, api: FaultServer
) -> None:
    release = threading.Event()
    api.fault = held(release, server.answer(status="500 Oops"))
    scrapes = scrape_together(20, running, release)

    assert len(api.requests) == 1
    assert {scrape.errors("server_error") for scrape in scrapes} == {1}
    assert running.log.count("level=warning") == 1


def test_a_request_that_nobody_waits_for_any_more_makes_way_for_the_next(
    running: Program, api: FaultServer
) -> None:
    api.fault = server.never_answers
    assert running.scrape(1).errors("timeout") == 1
    api.fault = server.serves(server.answer())

    # Not after --nextmv.timeout, which is a minute here: the next scrape begins anew.
    assert running.scrape(30).up() == 1
    assert len(api.requests) == 2
