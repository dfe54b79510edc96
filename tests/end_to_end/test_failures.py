"""Each way in which the Nextmv API can fail, as Prometheus and the log see it."""

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from support.exporter import Process, exporter_process
from support.fake_api import KEY, RUN, FakeAPI
from support.metrics import parse, value, values
from support.programs import free_port
from support.waiting import until

from nextmv_exporter.nextmv.errors import Reason


@dataclass
class Running:
    """An exporter that watches a fake API, and its log."""

    exporter: Process
    api: FakeAPI

    def scrape(self) -> str:
        return self.exporter.scrape()

    def failures_logged(self) -> list[str]:
        return [line for line in self.exporter.log.splitlines() if "level=warn" in line]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """One for each test, since a failure that begins again within a minute is not logged."""
    with (
        FakeAPI() as api,
        exporter_process(endpoint=api.url, environment={"HOME": str(tmp_path)}) as exporter,
    ):
        yield Running(exporter, api)


ANSWERS = [
    pytest.param(401, b'{"error": "unknown key"}', {}, "auth", id="401"),
    pytest.param(403, b"", {}, "auth", id="403"),
    pytest.param(404, b"", {}, "client_error", id="404"),
    pytest.param(429, b"", {}, "rate_limited", id="429"),
    pytest.param(500, b"oops\nand more", {}, "server_error", id="500"),
    pytest.param(302, b"", {"Location": "https://login.example/"}, "redirect", id="redirect"),
    pytest.param(200, b"<html>Log in</html>", {}, "invalid_response", id="HTML"),
    pytest.param(200, b'{"runs": [{"id": "ru', {}, "invalid_response", id="truncated JSON"),
    pytest.param(200, b'{"runs": null}', {}, "invalid_response", id="null runs"),
    pytest.param(200, b"{}", {}, "invalid_response", id="absent runs"),
    pytest.param(200, b"[]", {}, "invalid_response", id="a list"),
    pytest.param(200, b'{"runs": {}}', {}, "invalid_response", id="runs an object"),
    pytest.param(200, b"", {}, "invalid_response", id="nothing"),
    pytest.param(
        200, b"not gzip", {"Content-Encoding": "gzip"}, "invalid_response", id="broken gzip"
    ),
]


def queue_series(text: str) -> list[str]:
    """Names of the series of the queue; what was counted before is exported all the same."""
    names = [name for name, _ in parse(text) if name.startswith("nextmv_account_queue")]
    return [name for name in names if not name.endswith("_total") and "start_wait" not in name]


@pytest.mark.parametrize(("status", "body", "headers", "reason"), ANSWERS)
def test_a_failed_fetch_shows_its_reason_and_no_queue(
    running: Running, status: int, body: bytes, headers: dict[str, str], reason: str
) -> None:
    running.api.serves(RUN)
    before, logged = running.scrape(), len(running.failures_logged())
    assert value(before, "nextmv_up") == 1
    running.api.answers(status, body, **{n.replace("-", "_"): v for n, v in headers.items()})

    after = running.scrape()

    assert value(after, "nextmv_up") == 0
    assert not queue_series(after)
    for each in Reason:
        rise = value(after, "nextmv_scrape_errors_total", reason=each) - value(
            before, "nextmv_scrape_errors_total", reason=each
        )
        assert rise == (each == reason)
    [line] = until(lambda: running.failures_logged()[logged:], what="the line of the failure")
    assert f"reason={reason}" in line
    assert "account=default" in line
    assert KEY not in running.exporter.log


def test_an_empty_queue_is_told_from_an_unreadable_one(running: Running) -> None:
    running.api.serves()

    text = running.scrape()

    assert value(text, "nextmv_up") == 1
    assert value(text, "nextmv_account_queue_runs", status_v2="queued") == 0
    assert value(text, "nextmv_account_queue_runs", status_v2="running") == 0


def test_a_failure_ends_with_the_next_good_answer(running: Running) -> None:
    running.api.answers(500)
    running.scrape()
    running.api.serves(RUN)

    assert value(running.scrape(), "nextmv_up") == 1


def one_scrape(endpoint: str) -> str:
    with exporter_process(endpoint=endpoint) as exporter:
        return exporter.scrape()


def test_a_refused_connection_is_a_connection_error(tmp_path: Path) -> None:
    text = one_scrape(f"http://127.0.0.1:{free_port()}")

    assert value(text, "nextmv_scrape_errors_total", reason="connection") == 1
    assert value(text, "nextmv_api_requests_total", code="error") == 1


def test_an_unresolvable_name_is_a_connection_error(tmp_path: Path) -> None:
    text = one_scrape("http://no-such-host.invalid")

    assert value(text, "nextmv_scrape_errors_total", reason="connection") == 1


def test_an_untrusted_certificate_is_a_tls_error(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with FakeAPI(context) as api:
        text = one_scrape(api.url)

        assert value(text, "nextmv_scrape_errors_total", reason="tls") == 1
        assert api.requests == []


def test_a_peer_that_speaks_no_http_gives_an_invalid_response(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        threading.Thread(target=greet, daemon=True).start()
        text = one_scrape(f"http://127.0.0.1:{server.getsockname()[1]}")

    assert value(text, "nextmv_scrape_errors_total", reason="invalid_response") == 1
    assert values(text, "nextmv_account_queue_runs") == []
