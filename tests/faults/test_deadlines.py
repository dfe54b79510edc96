"""A scrape answers within Prometheus's timeout, whatever the API does, and leaves nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.exporter import exporter_process
from support.fake_api import KEY
from support.waiting import until

from faults.fault_server import (
    Behaviour,
    FaultServer,
    answers,
    continues_for_ever,
    drips_an_errors_body,
    drips_the_body,
    drips_the_headers,
    never_answers,
    queue,
    stalls_in_the_body,
    stalls_in_the_handshake,
)
from faults.running_exporter import exporter_here, fetches, scrape
from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv.client import Client
from nextmv_exporter.scrape.sources import choose_source
from nextmv_exporter.scrape.target import MAX_FETCHES, ScrapeOptions, Target

IN_TIME = 5
"""Seconds for a scrape with a timeout of 2, on a machine that is busy with other tests: the
servers here hang for a minute, so that whatever is not abandoned takes far longer."""

SOON = 4
"""Seconds after which nothing is left of an abandoned request; 2 on an idle machine."""

SLOW = [
    never_answers,
    drips_the_headers,
    drips_the_body,
    drips_an_errors_body,
    stalls_in_the_body,
    continues_for_ever,
]


def assert_abandons(server: FaultServer, endpoint: str, reason: str = "timeout") -> None:
    """A scrape answers in time, and its thread and socket are gone soon after."""
    with exporter_here(endpoint) as address:
        answered = scrape(address, timeout=2)
        answered_at = time.monotonic()
        until(lambda: not fetches(), seconds=10, what="the end of the thread")
        until(lambda: not server.open_connections, seconds=10, what="the end of the connection")
        gone_after = time.monotonic() - answered_at

    assert answered.seconds < IN_TIME
    assert not answered.up
    assert answered.reasons == {reason}
    assert gone_after < SOON


@pytest.mark.parametrize("behave", SLOW)
def test_a_scrape_answers_in_time_and_leaves_nothing_behind(behave: Behaviour) -> None:
    reason = "server_error" if behave is drips_an_errors_body else "timeout"
    with FaultServer(behave) as server:
        assert_abandons(server, server.url, reason)
        assert server.accepted == 1


def test_a_stalled_tls_handshake_is_abandoned_too() -> None:
    with FaultServer(stalls_in_the_handshake) as server:
        assert_abandons(server, f"https://127.0.0.1:{server.port}")


def test_a_later_deadline_extends_the_attempt_to_connect() -> None:
    with full_listener() as port:
        options = ScrapeOptions()
        client = Client(KEY, f"http://127.0.0.1:{port}")
        target = Target("a", client, choose_source("account-queue", 1), options)
        start = time.monotonic()
        hasty, patient = Deadline(0.5), Deadline(3)
        fetch = target.start(hasty)
        assert target.start(patient) is fetch
        assert target.result(fetch, hasty).outcome.failure
        assert not fetch.outcome.done()
        assert target.result(fetch, patient).outcome.failure
        assert time.monotonic() - start > 2.5


@contextmanager
def full_listener() -> Iterator[int]:
    """A port where connections are neither accepted nor refused, as behind a silent firewall."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def test_a_listener_that_accepts_no_more_connections_is_abandoned_too() -> None:
    with full_listener() as port, exporter_here(f"http://127.0.0.1:{port}") as address:
        answered = scrape(address, timeout=2)
        until(lambda: not fetches(), seconds=SOON, what="the end of the thread")

    assert answered.seconds < IN_TIME
    assert answered.reasons == {"timeout"}


def test_a_resolver_that_does_not_answer_holds_a_bounded_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer_at_last = threading.Event()
    resolve = socket.getaddrinfo

    def dead(host: str, *arguments: Any, **named: Any) -> Any:
        if host != "api.unresolvable.example":
            return resolve(host, *arguments, **named)
        answer_at_last.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", dead)
    with exporter_here("http://api.unresolvable.example") as address:
        scrapes = [scrape(address, timeout=0.5) for _ in range(MAX_FETCHES + 3)]
        held = fetches()
        answer_at_last.set()
        until(lambda: not fetches(), seconds=10, what="the end of the threads")
        with FaultServer(answers(queue())):
            after = scrape(address, timeout=2)

    assert all(answered.seconds < IN_TIME for answered in scrapes)
    assert scrapes[-1].errors("timeout") == len(scrapes)
    assert held == MAX_FETCHES
    assert after.reasons == {"timeout", "connection"}, "it asks again once the resolver is back"


def test_the_timeout_flag_bounds_a_scrape_too() -> None:
    with (
        FaultServer(never_answers) as server,
        exporter_here(server.url, "--nextmv.timeout=500ms") as address,
    ):
        answered = scrape(address, timeout=60)

    assert answered.seconds < IN_TIME
    assert answered.reasons == {"timeout"}


@pytest.mark.parametrize("malformed", ["soon", "-1", "0", "nan", "inf", "1s", ""])
def test_a_malformed_timeout_does_not_fail_the_scrape(malformed: str) -> None:
    with FaultServer(answers(queue())) as server, exporter_here(server.url) as address:
        assert scrape(address, timeout=malformed).up


def test_a_malformed_timeout_is_warned_of() -> None:
    with (
        FaultServer(answers(queue())) as server,
        exporter_process(endpoint=server.url) as exporter,
    ):
        assert scrape(exporter.address, timeout="soon").up
    [warning] = [line for line in exporter.log.splitlines() if "malformed" in line.lower()]
    assert warning.endswith(
        ' level=warn msg="Ignoring malformed header"'
        " header=X-Prometheus-Scrape-Timeout-Seconds value=soon"
    )


def test_a_slow_account_costs_no_other_its_scrape(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    with FaultServer(never_answers) as slow, FaultServer(answers(queue())) as quick:
        config.write_text(
            f"slow: {{apikey: a, endpoint: '{slow.url}'}}\n"
            f"quick: {{apikey: b, endpoint: '{quick.url}'}}\n"
        )
        flags = ("--nextmv.profile=slow", "--nextmv.profile=quick")
        environment = {"NEXTMV_CONFIG_FILE": str(config), "NEXTMV_API_KEY": ""}
        environment["NEXTMV_ENDPOINT"] = ""
        with exporter_process(*flags, environment=environment, endpoint="") as exporter:
            both = scrape(exporter.address, timeout=2)

    assert both.seconds < IN_TIME
    assert both.value("nextmv_up", account="slow") == 0
    assert both.value("nextmv_up", account="quick") == 1


def test_an_address_that_drops_packets_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve = socket.getaddrinfo
    with (
        full_listener() as deaf,
        FaultServer(answers(queue())) as server,
        exporter_here("http://two-addresses.example", "--nextmv.timeout=6s") as address,
    ):
        # No name that resolves everywhere has two such addresses.
        two = resolve("127.0.0.1", deaf, type=socket.SOCK_STREAM)
        two += resolve("127.0.0.1", server.port, type=socket.SOCK_STREAM)

        def both(host: str, *arguments: Any, **named: Any) -> Any:
            return two if host == "two-addresses.example" else resolve(host, *arguments, **named)

        monkeypatch.setattr(socket, "getaddrinfo", both)
        answered = scrape(address)

    assert answered.up
    assert 2 < answered.seconds < 6
