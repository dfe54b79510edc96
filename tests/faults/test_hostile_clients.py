"""Whatever bytes a client sends, the server goes on and its log stays short."""

import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.certificates import Authority
from support.exporter import Process, exporter_process
from support.fake_api import RUN
from support.harness import write_yaml
from support.waiting import until

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


def test_nothing_that_a_client_sends_is_logged_more_than_once_a_minute() -> None:
    hostile = [
        b"nothing of HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: %d\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /metrics?account=nobody%d HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n",
    ]
    with FaultServer(answers(queue(RUN))) as server:
        with exporter_process(endpoint=server.url) as process:
            for number in range(20):
                for sent in hostile:
                    answer_to(process, sent % -number if b"%d" in sent else sent)
            log = process.log
        lines = log.splitlines()[1:]  # without "Listening"
        messages = [re.search(r'msg=("[^"]*"|\S+)', line) for line in lines]
        assert len({message[1] for message in messages if message}) == len(lines) > 0


def test_handshakes_that_fail_are_logged_once_a_minute(tmp_path: Path) -> None:
    Authority(tmp_path).issue("server")
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    web_config = write_yaml(tmp_path / "web.yml", {"tls_server_config": tls})
    hostile = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 100,
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ]
    with exporter_process("--demo", "--web.config.file", str(web_config)) as process:
        for sent in hostile * 10:
            answer_to(process, sent)
        until(lambda: process.logged("TLS handshake failed") == 1, what="the one line")
    assert process.logged("TLS handshake failed") == 1
    assert "Traceback" not in process.log
