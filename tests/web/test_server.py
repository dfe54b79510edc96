"""Connections that are many, slow, silent or broken, and signals, on a real port."""

import http.client
import os
import re
import resource
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import pytest
from support.exporter import Process, Served, exporter_here, exporter_process, settings_of
from support.fake_api import KEY, RUN, FakeAPI
from support.metrics import value
from support.waiting import until

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.web import server

PATIENCE = 60.0
HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE)


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection; what it sends before is dropped."""
    with suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def is_answered(connection: socket.socket, request: bytes = HEALTHY) -> bool:
    connection.sendall(request)
    response = b""
    while not response.endswith(b"Healthy\n") and (received := connection.recv(65536)):
        response += received
    return response.startswith(b"HTTP/1.1 200")


def reaches(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")
def test_without_a_host_it_listens_on_ipv6_and_ipv4_and_else_there_alone() -> None:
    for host, found in (("", (True, True)), ("::1", (False, True)), ("localhost", (True, False))):
        with closing(server.listen(host, 0)) as listener:
            port = listener.getsockname()[1]
            assert (reaches("127.0.0.1", port), reaches("::1", port)) == found


def test_an_address_that_cannot_be_used_is_refused_with_the_systems_text() -> None:
    for host, reason in (
        ("192.0.2.1", "Cannot assign requested address"),
        ("2001:db8::1", "[^(]*"),
        ("no.invalid", "Name or service not known|Temporary failure in name .*"),
    ):
        where = re.escape(f"[{host}]:9" if ":" in host else f"{host}:9")
        message = f"^can't listen on {where}: ({reason}): choose another --web.listen-address$"
        with pytest.raises(ConfigurationError, match=message):
            server.listen(host, 9)


def test_it_listens_on_each_address(api: FakeAPI) -> None:
    hosts = ("127.0.0.1", "127.0.0.2")
    flags = [f"--web.listen-address={host}:0" for host in hosts]
    accounts = Accounts(settings_of(), {"default": Credentials(KEY, api.url)})
    with server.running(settings_of(*flags), accounts) as urls:
        ports = [int(url.rpartition(":")[2]) for url in urls]
        assert all(map(reaches, hosts, ports))
        with pytest.raises(ConfigurationError, match=r"127\.0\.0\.2:.*: Address already in use: "):
            server.listen(hosts[1], ports[1])


def hanging(exporter: Process, api: FakeAPI, scrapes: int = 3) -> list[threading.Thread]:
    """Start scrapes that hang, since the API does."""

    def scrape() -> None:
        with suppress(OSError, http.client.HTTPException):
            exporter.get("/metrics")

    threads = [threading.Thread(target=scrape, daemon=True) for _ in range(scrapes)]
    for thread in threads:
        thread.start()
    until(lambda: api.requests, seconds=PATIENCE, what="a request in flight")
    return threads


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_a_signal_lets_the_scrape_in_progress_finish_and_ends_with_zero(number: int) -> None:
    with FakeAPI() as api, exporter_process(endpoint=api.url) as exporter:
        api.serves(RUN)
        release = api.answer.held_until = threading.Event()
        scraped: list[str] = []
        scrape = threading.Thread(target=lambda: scraped.append(exporter.scrape()))
        scrape.start()
        until(lambda: api.requests, seconds=PATIENCE, what="the request in flight")
        exporter.process.send_signal(number)
        until(lambda: exporter.get("/-/ready").status == 503, seconds=3, what="not ready any more")
        assert exporter.get("/-/ready").body == "Shutting down\n"
        assert exporter.get("/-/healthy").status == 200
        release.set()
        scrape.join()
        assert exporter.process.wait(PATIENCE) == 0
    assert value(scraped[0], "nextmv_up") == 1
    assert_calm(exporter)


@pytest.mark.parametrize(
    ("source", "signals", "seconds"),
    [("account-queue", 1, 5), ("application-runs", 1, 5), ("account-queue", 2, 0.5)],
)
def test_a_signal_ends_it_within_five_seconds_while_the_api_hangs_and_a_second_at_once(
    source: str, signals: int, seconds: float
) -> None:
    with FakeAPI() as api, exporter_process(f"--nextmv.source={source}", endpoint=api.url) as it:
        never = api.answer.held_until = threading.Event()
        threads = hanging(it, api)
        asked = time.monotonic()
        it.process.terminate()
        until(lambda: it.get("/-/ready").status == 503, seconds=3, what="not ready any more")
        if signals == 2:
            it.process.send_signal(signal.SIGINT)
        assert it.process.wait(PATIENCE) == 0
        assert time.monotonic() - asked < seconds + 3  # the rest is for slow machines
        never.set()
        for thread in threads:
            thread.join()
    assert_calm(it)


def test_sighup_reloads_and_ends_nothing() -> None:
    with exporter_process("--demo") as exporter:
        for _ in range(3):
            exporter.hang_up()
        assert exporter.up() == {"demo": 1}
    assert_calm(exporter)


def assert_calm(exporter: Process) -> None:
    for sign in ("Traceback", "CancelledError", "level=error", "Exception"):
        assert sign not in exporter.log


@pytest.mark.system
def test_scrapers_beyond_the_limit_get_503_while_health_needs_no_thread(
    api: FakeAPI, served: Served
) -> None:
    release = api.answer.held_until = threading.Event()
    with ThreadPoolExecutor(300) as pool:
        before = len(api.requests)
        scrapes = [pool.submit(served.get, "/metrics") for _ in range(300)]
        until(lambda: sum(each.done() for each in scrapes) == 44, seconds=PATIENCE)
        rejected = served.get("/metrics")
        assert (rejected.status, rejected.body) == (503, "Too many scrapes\n")
        assert rejected.headers["Retry-After"] == "1"
        assert served.get("/-/healthy").status == 200
        release.set()
        assert Counter(each.result().status for each in scrapes) == {200: 256, 503: 44}
    assert len(api.requests) - before <= 4, "they share requests"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of a second instead of minutes."""
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.5)
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 1.0)


@pytest.fixture
def impatient(api: FakeAPI, quick: None) -> Iterator[Served]:
    """An exporter with long responses that soon closes a connection."""
    api.serves(*({**RUN, "application_id": f"{n}" + "x" * 200} for n in range(2000)))
    accounts = {"default": Credentials(KEY, api.url)}
    with exporter_here("--nextmv.timeout=1s", accounts=accounts) as made:
        yield made


def test_connections_that_send_no_whole_request_are_closed(impatient: Served) -> None:
    part = b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    with ExitStack() as stack:
        connections = {
            sent: stack.enter_context(connect(impatient))
            for sent in (b"", part, part + b"\r\n", part + b"\r\nsome", HEALTHY, HEALTHY + part)
        }
        for sent, connection in connections.items():
            connection.sendall(sent)
        assert all(map(is_closed, connections.values()))
    assert impatient.up() == {"default": 1}


def test_a_connection_is_kept_while_requests_come(impatient: Served) -> None:
    with connect(impatient) as connection:
        for _ in range(5):
            assert is_answered(connection)
            time.sleep(0.7)


def test_a_client_that_stops_reading_is_disconnected(impatient: Served) -> None:
    with socket.socket() as one, socket.socket() as other:
        for slow, requests in ((one, 1), (other, 20)):
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", impatient.port))
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * requests)
        for port in (one.getsockname()[1], other.getsockname()[1]):
            until(partial(is_gone, impatient.port, port), seconds=PATIENCE, what="disconnected")
    assert impatient.up() == {"default": 1}


def is_gone(port: int, client: int) -> bool:
    """Whether a port of this machine has no open connection to that port of a client."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    ends = [f"0100007F:{port:04X}", f"0100007F:{client:04X}", "01"]
    return ends not in [row[1:4] for row in rows]


@pytest.mark.parametrize(
    ("descriptors", "seconds"),
    [(1024, 5), pytest.param(100, 60, marks=pytest.mark.system)],
)
def test_600_silent_connections_shut_no_scrape_out_and_are_closed(
    descriptors: int, seconds: float
) -> None:
    limited = ["bash", "-c", f'ulimit -n {descriptors}; exec "$@"', "-", sys.executable]
    with exporter_process("--demo", python=limited) as exporter, ExitStack() as stack:
        calm = exporter.descriptors
        for _ in range(600):
            stack.enter_context(connect(exporter))
        asked = time.monotonic()
        assert exporter.up() == {"demo": 1}
        assert time.monotonic() - asked < seconds
        until(lambda: exporter.descriptors <= calm + 3, seconds=PATIENCE, what="they are closed")
    assert_calm(exporter)


@pytest.mark.system
def test_without_descriptors_connections_wait_and_the_processor_is_idle() -> None:
    with exporter_process("--demo") as exporter:
        limit, hard = resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE)
        assert limit == hard, "as many as the system allows"
        resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE, (exporter.descriptors, hard))
        with connect(exporter) as waiting:
            waiting.sendall(HEALTHY)
            until(lambda: exporter.logged("Too many open files"), seconds=PATIENCE)
            before = cpu_seconds(exporter)
            time.sleep(3)
            assert cpu_seconds(exporter) - before < 1
            resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE, (limit, hard))
            assert waiting.recv(4096).startswith(b"HTTP/1.1 200")
    assert exporter.logged("Too many open files") == 1
    assert_calm(exporter)


def cpu_seconds(exporter: Process) -> float:
    user, system = Path(f"/proc/{exporter.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_body_is_no_part_of_the_next_request_and_two_lengths_close_the_connection(
    served: Served,
) -> None:
    head, length, chunks = HEALTHY[:-2], b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"
    with connect(served) as connection:
        assert is_answered(connection, head + length + b"\r\nhello")
        assert is_answered(connection, head + chunks + b"\r\n0\r\n\r\n")
        assert is_answered(connection, head + length + chunks + b"\r\n0\r\n\r\n")
        assert is_closed(connection)


BROKEN = (
    b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\0" * 1000,
)
ODD = (
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nno request\r\n\r\n",
    b"GET http://[/metrics HTTP/1.1\r\nHost: \xe9[:\r\n\r\n",
    b"FOO * HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /metrics?account=%ff%00 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
    b"GET /sd HTTP/1.0\r\nX-Prometheus-Scrape-Timeout-Seconds: 1e999\r\n\r\n",
)


def test_what_is_no_http_gets_400_and_is_logged_once_a_minute() -> None:
    with exporter_process("--demo") as exporter:
        for sent in (BROKEN + ODD) * 2:
            with connect(exporter) as connection:
                connection.sendall(sent)
                status = connection.recv(65536)[9:12]
            assert (status == b"400") is (sent in BROKEN), sent
            assert status != b"500", sent
        assert exporter.up() == {"demo": 1}
        log = exporter.log
    warnings = re.findall(r'level=warn msg=("[^"]*"|\S+)', log)
    assert len(set(warnings)) == len(warnings) > 0
    assert_calm(exporter)
