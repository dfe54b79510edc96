"""Requests are sent again only where that helps, and not at all while the API asks for peace."""

import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from support.fake_api import KEY

from faults.fault_server import (
    EMPTY_QUEUE,
    Conversation,
    FaultServer,
    after,
    answer,
    answers,
    queue,
    resets,
)
from faults.running_exporter import exporter_here, scrape
from nextmv_exporter.deadline import Deadline
from nextmv_exporter.nextmv import Client
from nextmv_exporter.nextmv.connections import Exchange
from nextmv_exporter.nextmv.errors import ConnectionFailedError, NextmvError, Reason, StatusError
from nextmv_exporter.nextmv.failures import retry_after
from nextmv_exporter.scrape.target import MAX_BACKOFF

OVERLOADED = answer(b"busy", "503 Service Unavailable")


def closes_when_asked_again(conversation: Conversation) -> None:
    """As a server does whose keep-alive ends just when the next request arrives."""
    conversation.hear()
    conversation.say(queue())
    conversation.hear()


@pytest.fixture(params=["http", "https"])
def stale(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaultServer]:
    context = None
    if request.param == "https":
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with FaultServer(closes_when_asked_again, context) as server:
        yield server


@pytest.mark.parametrize(("pauses", "requests"), [(2.5, 2), (1.5, 1)])
def test_a_retry_needs_time_for_its_pause_and_as_much_again(
    pauses: float, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = 100.0
    monkeypatch.setattr("random.uniform", lambda _least, _most: pause)
    monkeypatch.setattr(Deadline, "sleep", lambda _self, _seconds: None)
    with FaultServer(answers(OVERLOADED)) as server:
        with pytest.raises(StatusError, match="503"):
            Client(KEY, server.url).get("v1/account/queue", deadline=Deadline(pauses * pause))
        assert len(server.requests) == requests


def test_a_stale_connection_is_replaced_at_once(stale: FaultServer) -> None:
    with exporter_here(stale.url) as address:
        answered = [scrape(address, 10) for _ in range(4)]

    assert all(each.up for each in answered)
    assert not answered[-1].reasons
    assert len(stale.requests) == 4 + 3, "each scrape but the first met a closed connection"


def test_a_retry_uses_no_other_stale_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    exchanges: list[Exchange] = []

    def exchange(*arguments: Any, **options: Any) -> Exchange:
        exchanges.append(Exchange(*arguments, **options))
        return exchanges[-1]

    monkeypatch.setattr("nextmv_exporter.nextmv.client.Exchange", exchange)
    both_in_flight = threading.Barrier(2)

    def behave(conversation: Conversation) -> None:
        conversation.hear()
        if len(server.requests) <= 2:
            both_in_flight.wait(10)
        conversation.say(queue())
        conversation.hear()

    with FaultServer(behave) as server:
        client = Client(KEY, server.url)
        threads = [threading.Thread(target=client.get, args=("v1",)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.get("v1") == EMPTY_QUEUE
        client.close()
    # Which of them a retry would get from the pool is a race.
    assert [each.fresh for each in exchanges] == [False, False, False, True]


def test_a_new_connection_that_is_closed_is_not_retried() -> None:
    def closes(conversation: Conversation) -> None:
        conversation.hear()

    with FaultServer(closes) as server, exporter_here(server.url) as address:
        answered = scrape(address, 10)
        assert len(server.requests) == 1

    assert answered.reasons == {"connection"}


def test_a_connection_reset_in_the_body_is_not_retried() -> None:
    with FaultServer(resets) as server, exporter_here(server.url) as address:
        answered = scrape(address, 10)
        assert len(server.requests) == 1

    assert answered.reasons == {"connection"}


def test_a_refused_connection_is_told_from_a_timeout() -> None:
    with FaultServer(resets) as gone:
        url = gone.url
    with exporter_here(url) as address:
        assert scrape(address, 10).reasons == {"connection"}


def test_a_host_that_does_not_exist_is_told_from_a_timeout() -> None:
    with exporter_here("http://api.nextmv.invalid") as address:
        assert scrape(address, 10).reasons <= {"connection", "timeout"}
    with pytest.raises(NextmvError) as caught:
        Client(KEY, "http://nowhere.invalid", timeout=10).get("v1")
    assert caught.value.reason in {Reason.CONNECTION, Reason.TIMEOUT}


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Busy", "504 Gateway Timeout"])
def test_a_gateways_error_is_retried_once(status: str) -> None:
    with (
        FaultServer(answers(answer(b"", status), queue())) as server,
        exporter_here(server.url) as address,
    ):
        start = time.monotonic()
        answered = scrape(address, 10)
        assert time.monotonic() - start >= 0.05, "after a pause"
        assert len(server.requests) == 2

    assert answered.up
    assert not answered.reasons


def test_a_gateways_error_is_not_retried_twice() -> None:
    with FaultServer(answers(OVERLOADED)) as server, exporter_here(server.url) as address:
        answered = scrape(address, 10)
        assert len(server.requests) == 2

    assert answered.reasons == {"server_error"}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("400 Bad Request", "client_error"),
        ("401 Unauthorized", "auth"),
        ("403 Forbidden", "auth"),
        ("408 Request Timeout", "client_error"),
        ("429 Too Many Requests", "rate_limited"),
        ("500 Internal Server Error", "server_error"),
        ("501 Not Implemented", "server_error"),
    ],
)
def test_other_errors_are_not_retried(status: str, reason: str) -> None:
    with (
        FaultServer(answers(answer(b"", status), queue())) as server,
        exporter_here(server.url) as address,
    ):
        answered = scrape(address, 10)
        assert len(server.requests) == 1

    assert answered.reasons == {reason}


def test_nothing_is_retried_without_time_for_it() -> None:
    with FaultServer(after(0.95, OVERLOADED)) as server:
        client = Client(KEY, server.url)
        with pytest.raises(StatusError):
            client.get("v1", deadline=Deadline(1.0))
        client.close()
        assert len(server.requests) == 1


def in_a_moment(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_a_retry_after_is_honoured_across_scrapes(status: str, kind: str) -> None:
    value = "2" if kind == "seconds" else in_a_moment(3)
    refusal = answer(b"", status, Retry_After=value)
    with (
        FaultServer(answers(refusal, queue())) as server,
        exporter_here(server.url) as address,
    ):
        refused = [scrape(address, 10) for _ in range(4)]
        requests_meanwhile = len(server.requests)
        deadline = time.monotonic() + 15
        while not (answered := scrape(address, 10)).up and time.monotonic() < deadline:
            time.sleep(0.2)

    assert not any(each.up for each in refused)
    assert len(refused[-1].reasons) == 1
    assert refused[-1].errors(*refused[-1].reasons) == 4
    assert requests_meanwhile == 1
    assert answered.up


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "302 Found"])
def test_a_retry_after_that_is_no_limit_of_requests_is_not_honoured(status: str) -> None:
    with (
        FaultServer(answers(answer(b"", status, Retry_After="300"), queue())) as server,
        exporter_here(server.url) as address,
    ):
        assert not scrape(address, 10).up
        assert scrape(address, 10).up  # as where the key was replaced


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the back-off believe that time has passed."""
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds, time=time.time)
    monkeypatch.setattr("nextmv_exporter.scrape.target.time", clock)


def test_a_retry_after_is_capped_at_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    for_ever = answer(b"", "429 Slow Down", Retry_After="9" * 40)
    with (
        FaultServer(answers(for_ever, queue())) as server,
        exporter_here(server.url) as address,
    ):
        assert not scrape(address, 10).up
        later(monkeypatch, MAX_BACKOFF - 60)
        assert not scrape(address, 10).up
        assert len(server.requests) == 1
        later(monkeypatch, MAX_BACKOFF)
        assert scrape(address, 10).up

    assert MAX_BACKOFF == 300


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": " 7 "}, 7),
        ({"Retry-After": "99999999999"}, 99999999999),
        (
            {
                "Retry-After": "Mon, 23 Nov 2026 10:02:00 GMT",
                "Date": "Mon, 23 Nov 2026 10:00:00 GMT",
            },
            120,
        ),
        ({"Retry-After": "Mon, 23 Nov 2020 10:02:00 GMT"}, 0),
        *(
            (
                {
                    "Retry-After": f"Mon, 23 Nov 2026 10:02:00{zone}",
                    "Date": f"Mon, 23 Nov 2026 10:00:00{zone_of_date}",
                },
                120,
            )
            for zone in ("", " -0000", " GMT")
            for zone_of_date in ("", " -0000", " GMT")
        ),
        ({"Retry-After": "Mon, 23 Nov 2026 10:02:00 +99999999999999"}, None),
        ({"Retry-After": "Mon, 99 Nov 2026 10:02:00 GMT"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": ""}, None),
        ({}, None),
    ],
)
def test_a_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_closed_port_is_a_failed_connection() -> None:
    with FaultServer(resets) as gone:
        url = gone.url
    with pytest.raises(ConnectionFailedError, match="refused"):
        Client(KEY, url).get("v1")
