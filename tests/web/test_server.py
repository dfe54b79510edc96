"""Connections that are many, slow, silent or broken, and signals, on a real port."""

import http.client
import os
import random
import re
import resource
import select
import signal
import socket
import subprocess
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
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exporter import Process, Served, ask, exporter_here, exporter_process
from support.fake_api import KEY, RUN, FakeAPI
from support.metrics import value
from support.waiting import until

from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.nextmv.errors import ConfigurationError
from nextmv_exporter.web import server

PATIENCE = 60.0
HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE)


def is_closed(connection: socket.socket, seconds: float = PATIENCE) -> bool:
    """Whether the server closes a connection in time; what it sends before is dropped."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        readable, _, _ = select.select([connection], [], [], left)
        try:
            if readable and not connection.recv(65536):
                return True
        except OSError:
            return True
    return False


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


@needs_ipv6
def test_without_a_host_it_listens_on_ipv6_and_ipv4_and_else_there_alone() -> None:
    for host, found in (("", (True, True)), ("::1", (False, True)), ("127.0.0.1", (True, False))):
        with closing(server.listen(host, 0)) as listener:
            port = listener.getsockname()[1]
            assert (reaches("127.0.0.1", port), reaches("::1", port)) == found
    with closing(server.listen("localhost", 0)) as listener:
        assert reaches("127.0.0.1", listener.getsockname()[1])


def test_without_a_host_it_listens_also_where_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with closing(server.listen("", 0)) as listener:
        assert reaches("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "where", "reason"),
    [
        ("192.0.2.1", "192.0.2.1:9", "Cannot assign requested address"),
        ("2001:db8::1", r"\[2001:db8::1\]:9", "[^(]*"),
        ("no.invalid", "no.invalid:9", "Name or service not known|Temporary failure in name .*"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_with_the_systems_text(
    host: str, where: str, reason: str
) -> None:
    message = f"can't listen on {where}: ({reason}): choose another --web.listen-address"
    with pytest.raises(ConfigurationError, match=f"^{message}$"):
        server.listen(host, 9)


def test_it_listens_on_each_address_or_on_none() -> None:
    addresses = (f"--web.listen-address={host}:0" for host in ("127.0.0.1", "127.0.0.2"))
    with exporter_process("--demo", *addresses) as exporter:
        until(lambda: exporter.logged("Listening") == 2, seconds=PATIENCE)
        ports = dict(re.findall(r"address=(127\.0\.0\.[12]):(\d+)", exporter.log))
        assert all(reaches(host, int(port)) for host, port in ports.items())
        free = f"--web.listen-address=127.0.0.3:{ports['127.0.0.1']}"
        taken = f"--web.listen-address=127.0.0.1:{ports['127.0.0.1']}"
        ended = subprocess.run(
            [sys.executable, "-m", "nextmv_exporter", "--demo", free, taken],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert ended.returncode == 2
    assert f"can't listen on {taken.partition('=')[2]}: Address already in use" in ended.stderr
    assert ended.stderr.count("\n") == 1


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


@pytest.mark.parametrize("source", ["account-queue", "application-runs"])
def test_sigterm_ends_within_five_seconds_while_the_api_hangs(source: str) -> None:
    with FakeAPI() as api, exporter_process(f"--nextmv.source={source}", endpoint=api.url) as it:
        never = api.answer.held_until = threading.Event()
        threads = hanging(it, api)
        asked = time.monotonic()
        it.process.terminate()
        assert it.process.wait(PATIENCE) == 0
        assert time.monotonic() - asked < 8  # promised are 5; the rest is for slow machines
        never.set()
        for thread in threads:
            thread.join()
    assert_calm(it)


def test_a_second_signal_ends_at_once() -> None:
    with FakeAPI() as api, exporter_process(endpoint=api.url) as exporter:
        never = api.answer.held_until = threading.Event()
        hanging(exporter, api)
        exporter.process.terminate()
        until(lambda: exporter.get("/-/ready").status == 503, seconds=3, what="not ready any more")
        asked = time.monotonic()
        exporter.process.send_signal(signal.SIGINT)
        assert exporter.process.wait(PATIENCE) == 0
        assert time.monotonic() - asked < 2
        never.set()
    assert_calm(exporter)


def test_sighup_reloads_and_ends_nothing() -> None:
    with exporter_process("--demo") as exporter:
        for _ in range(3):
            exporter.hang_up()
        assert exporter.up() == {"demo": 1}
    assert_calm(exporter)


def assert_calm(exporter: Process) -> None:
    for sign in ("Traceback", "CancelledError", "level=error", "Exception"):
        assert sign not in exporter.log


def test_scrapers_beyond_the_limit_get_503_while_health_needs_no_thread(
    api: FakeAPI, served: Served
) -> None:
    release = api.answer.held_until = threading.Event()
    with ThreadPoolExecutor(300) as pool:
        before = len(api.requests)
        scrapes = [pool.submit(served.get, "/metrics") for _ in range(300)]
        until(lambda: sum(each.done() for each in scrapes) == 44, seconds=PATIENCE)
        rejected = served.get("/metrics")
        assert (rejected.status, rejected.body) == (503, "Too many scrapes are waiting\n")
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


def test_without_descriptors_connections_wait_and_the_processor_is_idle() -> None:
    with exporter_process("--demo") as exporter:
        limit, hard = resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE)
        assert limit == hard, "as many as the system allows"
        resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE, (exporter.descriptors, hard))
        with connect(exporter) as waiting:
            waiting.sendall(HEALTHY)
            until(lambda: exporter.logged("Too many open files"), seconds=PATIENCE)
            before = cpu_seconds(exporter)
            assert not is_closed(waiting, 3)
            assert cpu_seconds(exporter) - before < 1
            resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE, (limit, hard))
            assert waiting.recv(4096).startswith(b"HTTP/1.1 200")
    assert exporter.logged("Too many open files") == 1
    assert_calm(exporter)


def cpu_seconds(exporter: Process) -> float:
    user, system = Path(f"/proc/{exporter.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.system
def test_scrapes_are_answered_under_load_and_nothing_leaks(api: FakeAPI) -> None:
    api.serves(*({**RUN, "application_id": f"app-{n % 50}"} for n in range(500)))
    with exporter_process(endpoint=api.url) as exporter, ThreadPoolExecutor(100) as pool:
        list(pool.map(lambda _: exporter.up(), range(100)))
        descriptors, memory = exporter.descriptors, exporter.resident_mib
        for _ in range(5):
            assert all(up == {"default": 1} for up in pool.map(lambda _: exporter.up(), range(100)))
        until(lambda: exporter.descriptors <= descriptors + 5, seconds=PATIENCE)
        assert exporter.resident_mib < memory + 30
        assert exporter.threads < 256 + 20
    assert_calm(exporter)


def test_both_lengths_close_the_connection(served: Served) -> None:
    lengths = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with connect(served) as connection:
        assert is_answered(connection, HEALTHY[:-2] + lengths)
        assert is_closed(connection, 10)


def test_a_body_is_no_part_of_the_next_request(served: Served) -> None:
    with connect(served) as connection:
        for body in (
            b"Content-Length: 5\r\n\r\nhello",
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            assert is_answered(connection, HEALTHY[:-2] + body)


def test_a_response_does_not_wait_for_the_client_to_acknowledge_its_head(served: Served) -> None:
    with closing(served.connection()) as connection:
        times = []
        for _ in range(20):
            asked = time.monotonic()
            assert ask(connection, "/-/healthy").status == 200
            times.append(time.monotonic() - asked)
    assert min(times) < 0.03  # it would be 40 ms each


PATHS = [
    "/", "/metrics", "/metrics?account=x", "/metrics?name[]=up", "/sd", "/-/ready", "*", "//",
    "http://x/metrics", "http://[", "/%00", "/metrics?account=%ff%00", "/..%2f..", "/metrics?%",
]  # fmt: skip
HEADERS = [
    "Accept: application/openmetrics-text; version=x",
    "Accept-Encoding: gzip;q=x",
    "Authorization: Basic ???",
    "Connection: Upgrade",
    "Content-Length: -1",
    "Content-Length: 5",
    "Expect: 100-continue",
    "Host: \u00e9[:",
    "Transfer-Encoding: chunked",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "X-Prometheus-Scrape-Timeout-Seconds: 1e999",
]
PIECES = [b"", b"\r\n", b"\r", b"\n", b"\0", b"\xff", b":", b" ", b"0\r\n\r\n", b"9" * 20_000]

heads = st.builds(
    lambda method, path, headers: "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]
    ).encode(),
    st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "FOO"]),
    st.sampled_from(PATHS),
    st.lists(st.sampled_from(HEADERS), max_size=4),
)


def mutated(head: bytes, seed: int) -> bytes:
    """Overwrite, cut out, double or cut off a few places."""
    chance = random.Random(seed)
    for _ in range(chance.randint(0, 3)):
        start, end = sorted(chance.choices(range(len(head) + 1), k=2))
        middle = chance.choice([*PIECES, chance.randbytes(4), head[start:end] * 2])
        head = head[:start] + middle + chance.choice([head[end:], head[start:], b""])
    return head


def answer_to(exporter: Process, sent: bytes) -> bytes:
    """What comes back until the server closes or is silent."""
    received = b""
    with connect(exporter) as connection, suppress(TimeoutError, ConnectionError):
        connection.sendall(sent)
        connection.settimeout(0.05)
        while data := connection.recv(65536):
            received += data
    return received


@pytest.fixture(scope="module")
def attacked() -> Iterator[Process]:
    """An exporter that must be unharmed at the end, with a log in which nothing is repeated."""
    with exporter_process("--demo") as exporter:
        yield exporter
        assert exporter.up() == {"demo": 1}
        assert exporter.get("/").status == 200
        log = exporter.log
    lines = re.findall(r'level=warn msg=("[^"]*"|\S+)', log)
    assert len(set(lines)) == len(lines) > 0
    assert_calm(exporter)


@settings(max_examples=200)
@given(st.lists(heads, min_size=1, max_size=3), st.integers(0, 2**32))
def test_no_request_breaks_the_server(attacked: Process, pipeline: list[bytes], seed: int) -> None:
    sent = b"".join(pipeline[:-1]) + mutated(pipeline[-1], seed)
    assert b"HTTP/1.1 500" not in answer_to(attacked, sent)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nno request\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: x\r\n" * 200_000, b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"\0" * 1000, b"400"),
    ],
)
def test_what_is_no_http_gets_400(attacked: Process, sent: bytes, status: bytes) -> None:
    for _ in range(2):
        assert answer_to(attacked, sent).startswith((b"HTTP/1.1 " + status, b""))
