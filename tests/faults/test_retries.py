"""Requests are sent again only where that helps, and not at all while the API asks for peace."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme
from support.programs import until

from exporter.deadline import Deadline
from exporter.nextmv import errors
from exporter.nextmv.client import Client
from exporter.scrape.metrics import Instruments
from exporter.scrape.sources import AccountQueue
from exporter.scrape.target import ScrapeOptions, Target
from faults import server
from faults.program import Program, program
from faults.server import FaultServer

PATH = "v1/account/queue"


@pytest.fixture
def api() -> Iterator[FaultServer]:
    with FaultServer(server.serves(server.answer())) as running:
        yield running


def client(api: FaultServer) -> Client:
    return Client(api_key="key", url=api.url)


@pytest.mark.parametrize("end", [None, server.Peer.reset], ids=["closed", "reset"])
def test_a_kept_alive_connection_found_closed_is_replaced_at_once(
    api: FaultServer, end: server.Fault | None
) -> None:
    api.fault = server.closes_after(1, end)
    asking = client(api)
    asking.get(PATH)
    start = time.monotonic()

    assert asking.get(PATH) == server.EMPTY_QUEUE

    assert time.monotonic() - start < 5
    assert len(api.requests) == 3
    asking.close()


def test_so_is_one_over_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for end in (None, server.Peer.reset):
        with FaultServer(server.closes_after(1, end), tls=context) as api:
            asking = client(api)
            for _ in range(5):
                assert asking.get(PATH) == server.EMPTY_QUEUE
            asking.close()


def test_a_new_connection_that_is_closed_is_not_tried_again(api: FaultServer) -> None:
    api.fault = server.resets

    with pytest.raises(errors.ConnectionFailedError):
        client(api).get(PATH)

    assert len(api.requests) == 1


def test_an_answer_that_breaks_off_is_not_asked_for_again(api: FaultServer) -> None:
    api.fault = server.resets_in_body

    with pytest.raises(errors.ConnectionFailedError):
        client(api).get(PATH)

    assert len(api.requests) == 1


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Unavailable", "504 Timeout"])
def test_a_gateways_error_is_tried_once_more(api: FaultServer, status: str) -> None:
    api.fault = server.serves(server.answer(b"", status), server.answer())
    assert client(api).get(PATH) == server.EMPTY_QUEUE
    assert len(api.requests) == 2

    api.fault = server.serves(server.answer(b"", status))
    with pytest.raises(errors.StatusError):
        client(api).get(PATH)
    assert len(api.requests) == 4


@pytest.mark.parametrize(
    "status", ["400 Bad", "401 No", "403 No", "404 No", "408 Late", "429 Slow", "500 Oops"]
)
def test_no_other_error_is_tried_again(api: FaultServer, status: str) -> None:
    api.fault = server.serves(server.answer(b"", status))

    with pytest.raises(errors.StatusError):
        client(api).get(PATH)

    assert len(api.requests) == 1


def test_there_is_no_second_try_without_time_for_it(api: FaultServer) -> None:
    api.fault = server.slowly(0.95, server.answer(b"", "503 Unavailable"))

    with pytest.raises(errors.NextmvError):
        client(api).get(PATH, deadline=Deadline(1.0))

    assert len(api.requests) == 1


def in_a_while(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.fixture
def running(tmp_path: Path, api: FaultServer) -> Iterator[Program]:
    with program(tmp_path, NEXTMV_ENDPOINT=api.url) as exporter:
        yield exporter


@pytest.mark.parametrize("retry_after", ["3", in_a_while(4)], ids=["seconds", "date"])
def test_until_retry_after_has_passed_no_scrape_sends_a_request(
    running: Program, api: FaultServer, retry_after: str
) -> None:
    if not retry_after.isdigit():
        retry_after = in_a_while(4)
    limited = server.answer(b"", "429 Too Many Requests", Retry_After=retry_after)
    api.fault = server.serves(limited, server.answer())
    start = time.monotonic()
    assert running.scrape().errors("rate_limited") == 1
    for scrapes in range(2, 5):
        assert running.scrape().errors("rate_limited") == scrapes
    assert time.monotonic() - start < 2, "this machine is too slow for the test"
    assert len(api.requests) == 1

    while not (scrape := running.scrape()).up():
        time.sleep(0.1)
        assert time.monotonic() - start < 30

    assert time.monotonic() - start > 2
    assert len(api.requests) == 2
    assert scrape.requests("429") == 1


def test_a_503_with_retry_after_is_left_alone_too(running: Program, api: FaultServer) -> None:
    api.fault = server.serves(server.answer(b"", "503 Unavailable", Retry_After="100"))

    assert running.scrape().errors("server_error") == 1
    assert running.scrape().errors("server_error") == 2
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "retry_after",
    ["", "soon", "-5", "0", "Mon, 01 Jan 99999999999 00:00:00 GMT", "Mon, 99 Jan 2026 99:00:00",
     "Mon, 01 Jan 2001 00:00:00 GMT", "Mon, 01 Jan 2001 00:00:00 +999999999999"],
)  # fmt: skip
def test_a_retry_after_that_means_nothing_is_passed_over(
    running: Program, api: FaultServer, retry_after: str
) -> None:
    limited = server.answer(b"", "429 Too Many Requests", Retry_After=retry_after)
    api.fault = server.serves(limited, server.answer())

    assert running.scrape().errors("rate_limited") == 1
    assert running.scrape().up() == 1
    assert "Traceback" not in running.log


@pytest.mark.parametrize("retry_after", ["86400", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_an_endless_retry_after_counts_as_five_minutes(
    api: FaultServer, monkeypatch: pytest.MonkeyPatch, retry_after: str
) -> None:
    limited = server.answer(b"", "429 Too Many Requests", Retry_After=retry_after)
    api.fault = server.serves(limited, server.answer())
    target = Target(
        "default",
        AccountQueue(client(api)),
        ScrapeOptions(timeout=10, wait_buckets=(1,), max_groups=10, zero_retention=0),
        Instruments(),
    )

    def up_after(seconds: float) -> bool:
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + seconds, time=time.time)
        monkeypatch.setattr("exporter.scrape.target.time", later)  # nobody waits five minutes
        return asyncio.run(target.scrape(Deadline(30))).summary is not None

    assert not up_after(0)
    assert not up_after(290)
    assert up_after(301)
    assert len(api.requests) == 2


def test_a_date_is_read_by_the_apis_own_clock(running: Program, api: FaultServer) -> None:
    hour_ahead = in_a_while(3600)
    limited = server.answer(
        b"", "429 Too Many Requests", Date=hour_ahead, Retry_After=in_a_while(3600)
    )
    api.fault = server.serves(limited, server.answer())
    assert running.scrape().errors("rate_limited") == 1

    until(lambda: running.scrape().up(), seconds=30, what="the end of a back-off of no time")
