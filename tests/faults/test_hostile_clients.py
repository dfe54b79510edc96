"""Whatever bytes a client sends, the server stands and its log stays quiet."""

import random
import socket
from collections.abc import Iterator

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.exporter import Process, exporter_process
from support.fake_api import RUN

from faults.fault_server import FaultServer, answers, queue
from faults.running_exporter import scrape

METHODS = ["GET", "HEAD", "POST", "OPTIONS", "PUT", "FOO"]
PATHS = [
    "/", "/metrics", "/metrics?account=x", "/metrics?name[]=up", "/sd", "/-/ready", "*", "//",
    "http://x/metrics", "/%00", "/metrics?account=%ff%00", "/..%2f..", "/metrics?%",
]  # fmt: skip
HEADERS = [
    "Accept: *",
    "Accept: application/openmetrics-text; version=x",
    "Accept: application/openmetrics-text; version=9.9.9; escaping=values",
    "Accept: text/plain; version=1.0.0; escaping=dots",
    "Accept-Encoding: gzip;q=x",
    "Authorization: Basic ???",
    "Connection: Upgrade",
    "Content-Length: -1",
    "Content-Length: 5",
    "Expect: 100-continue",
    "Host: \u00e9[:",
    "Transfer-Encoding: chunked",
    "Upgrade: websocket",
    "X-Forwarded-For: 1.2.3.4",
    "X-Prometheus-Scrape-Timeout-Seconds: 1e999",
]
PIECES = [b"", b"\r\n", b"\r", b"\n", b"\0", b"\xff", b":", b" ", b"0\r\n\r\n", b"9" * 5000]

heads = st.builds(
    lambda method, path, headers: "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]
    ).encode(),
    st.sampled_from(METHODS),
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


@pytest.fixture(scope="module")
def exporter() -> Iterator[Process]:
    with (
        FaultServer(answers(queue(RUN))) as server,
        exporter_process(endpoint=server.url) as process,
    ):
        yield process
        assert_unharmed(process)


def answer_to(exporter: Process, sent: bytes) -> bytes:
    """What comes back until the server closes or is silent."""
    host, port = exporter.address.split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.05)
        try:
            while data := connection.recv(65536):
                received += data
        except (TimeoutError, ConnectionResetError):
            pass
    return received


def assert_unharmed(exporter: Process) -> None:
    assert scrape(exporter.address, 20).up
    assert requests.get(f"http://{exporter.address}/", timeout=20).status_code == 200
    assert "Traceback" not in exporter.log
    assert "level=error" not in exporter.log


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(heads, min_size=1, max_size=3), st.integers(0, 2**32))
def test_no_request_breaks_the_server(exporter: Process, pipeline: list[bytes], seed: int) -> None:
    sent = b"".join(pipeline[:-1]) + mutated(pipeline[-1], seed)

    assert b"HTTP/1.1 500" not in answer_to(exporter, sent)


@pytest.mark.parametrize(
    "sent",
    [
        b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nno request\r\n\r\n",
    ],
)
def test_what_is_no_http_ends_the_connection_without_a_traceback(
    exporter: Process, sent: bytes
) -> None:
    answer_to(exporter, sent)
    assert_unharmed(exporter)


@pytest.mark.parametrize("version", ["x", "", "1.x", "1.0.0.0.0", "-1"])
def test_a_version_that_is_none_gets_a_format_that_every_client_reads(
    exporter: Process, version: str
) -> None:
    accept = f"application/openmetrics-text; version={version}"
    got = requests.get(f"http://{exporter.address}/metrics", headers={"Accept": accept}, timeout=20)

    assert got.status_code == 200
    assert_unharmed(exporter)
