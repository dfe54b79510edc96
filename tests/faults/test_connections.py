"""Connections that are slow, idle, unread or too many harm neither scrapes nor the log."""

import http.client
import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import support.exporter
from support.certificates import Authority
from support.exporter import Served, ask, exporter_process
from support.fake_api import KEY, RUN, Answer, FakeAPI
from support.harness import write_yaml
from support.waiting import until

from faults.fault_server import FaultServer, after, answers, queue
from faults.running_exporter import exporter_here, scrape
from nextmv_exporter.nextmv.credentials import Credentials


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def closed_within(connection: socket.socket, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        readable, _, _ = select.select([connection], [], [], left)
        try:
            if readable and not connection.recv(65536):
                return True
        except OSError:
            return True
    return False


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/ready"])
def test_a_client_that_sends_no_more_gets_its_response(path: str) -> None:
    """As of `printf … | nc -N`."""
    with FaultServer(after(0.3, queue(RUN))) as server, exporter_here(server.url) as address:
        with connect(address) as half:
            half.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 2)
            half.shutdown(socket.SHUT_WR)
            received = half.makefile("rb").read()
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
            assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
        with connect(address) as idle:
            idle.shutdown(socket.SHUT_WR)
            assert closed_within(idle, 5)


def test_connections_that_send_no_whole_request_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nextmv_exporter.web.protocol.REQUEST_TIMEOUT", 1.0)
    with FaultServer(answers(queue())) as server, exporter_here(server.url) as address:
        with connect(address) as silent:
            assert closed_within(silent, 8), "one that says nothing"
        with connect(address) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\n")
            assert closed_within(slow, 8), "one that stops in the middle of the head"
        with connect(address) as slow:
            slow.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
            dripper = threading.Thread(target=drip_body, args=(slow,))
            dripper.start()
            closed = closed_within(slow, 8)
            dripper.join()
            assert closed, "one that drips a body that nobody asked for"
        assert scrape(address, 10).up


def test_a_part_of_the_next_request_has_no_more_time_than_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nextmv_exporter.web.protocol.REQUEST_TIMEOUT", 1.0)
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    with FaultServer(answers(queue())) as server, exporter_here(server.url) as address:
        with connect(address) as half:
            half.sendall(request + request[:-2])
            assert closed_within(half, 8), "a request and a half in one piece"
        with connect(address) as half:
            half.sendall(request)
            assert half.recv(1 << 20).startswith(b"HTTP/1.1 200")
            half.sendall(request[:-2])
            assert closed_within(half, 8), "half a request after a whole one"
        with connect(address) as kept:
            for _ in range(3):
                kept.sendall(request[:-2])
                assert not closed_within(kept, 0.2), "half a request that is continued"
                kept.sendall(request[-2:])
                assert kept.recv(1 << 20).startswith(b"HTTP/1.1 200")
                assert not closed_within(kept, 1.5), "none after a whole one"
        with connect(address) as kept:
            kept.sendall(request + request[:-2])
            assert read_response(kept) == 200
            kept.sendall(request[-2:])
            assert read_response(kept) == 200
            assert not closed_within(kept, 1.5), "none after the second of two in pieces"


def test_a_tls_handshake_has_no_more_time_than_a_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("nextmv_exporter.web.protocol.REQUEST_TIMEOUT", 1.0)
    monkeypatch.setattr("nextmv_exporter.web.listener.REQUEST_TIMEOUT", 1.0)
    authority = Authority(tmp_path)
    with exporter_with_tls(authority) as served:
        with connect(served.address) as silent:
            assert closed_within(silent, 8), "one that says nothing"
        with connect(served.address) as slow:
            slow.sendall(b"\x16\x03\x01\x02\x00\x01")
            assert closed_within(slow, 8), "one that stops in its first message"
        with (
            connect(served.address) as plain,
            authority.client().wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
        ):
            encrypted.sendall(b"GET /metrics HTTP/1.1\r\n")
            assert closed_within(encrypted, 8), "one that stops in the middle of the head"
        assert served.get(tls=authority.client()).status == 200


@contextmanager
def exporter_with_tls(authority: Authority) -> Iterator[Served]:
    authority.issue("server")
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    web_config = write_yaml(authority.folder / "web.yml", {"tls_server_config": tls})
    accounts = {"default": Credentials("key", "http://127.0.0.1:1")}
    with support.exporter.exporter_here(accounts=accounts, web_config=web_config) as served:
        yield served


def limited(descriptors: int) -> list[str]:
    """Run Python with few file descriptors."""
    return ["bash", "-c", f'ulimit -n {descriptors}; exec "$@"', "-", sys.executable]


def test_beyond_the_limit_the_longest_idle_connection_is_closed_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nextmv_exporter.web.listener.MAX_CONNECTIONS", 4)
    with (
        FaultServer(answers(queue())) as server,
        exporter_here(server.url) as address,
        ExitStack() as stack,
    ):
        held = []
        for _ in range(5):
            held.append(stack.enter_context(connect(address)))
            assert is_healthy(held[-1])
        longest_idle, *others = held
        assert closed_within(longest_idle, 5)
        assert all(map(is_healthy, others))


def is_healthy(connection: socket.socket) -> bool:
    connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    response = b""
    while not response.endswith(b"Healthy\n") and (received := connection.recv(1 << 20)):
        response += received
    return response.startswith(b"HTTP/1.1 200")


def test_idle_connections_keep_no_one_out_at_the_limit_of_descriptors() -> None:
    with (
        FaultServer(answers(queue(RUN))) as server,
        exporter_process(endpoint=server.url, python=limited(100)) as exporter,
        ExitStack() as stack,
    ):
        open_before = stack.enter_context(closing(exporter.connection()))
        assert ask(open_before, "/metrics").status == 200
        for _ in range(5):
            for _ in range(60):
                stack.enter_context(connect(exporter.address))
            assert scrape(exporter.address, 20).up
        assert exporter.descriptors < 90
    assert exporter.logged("Too many connections, closing the longest idle") == 1
    assert exporter.logged("limit=51") == 1
    assert "Traceback" not in exporter.log
    assert "level=error" not in exporter.log


def test_silent_tls_handshakes_keep_no_one_out_at_the_limit_of_descriptors(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    web_config = write_yaml(tmp_path / "web.yml", {"tls_server_config": tls})
    with (
        exporter_process(
            "--demo", "--web.config.file", str(web_config), python=limited(100)
        ) as exporter,
        ExitStack() as stack,
    ):
        for _ in range(300):
            stack.enter_context(connect(exporter.address))
        assert 'nextmv_up{account="demo"} 1.0' in (
            exporter.get("/metrics", tls=authority.client()).body
        )
    assert exporter.logged("Too many connections, closing the longest idle") == 1
    assert "Traceback" not in exporter.log


def test_requests_in_progress_are_not_closed_for_new_connections() -> None:
    released = threading.Event()
    with (
        FakeAPI() as api,
        exporter_process(endpoint=api.url, python=limited(60)) as exporter,  # 21 connections
        ExitStack() as stack,
        ThreadPoolExecutor(21) as pool,
    ):
        api.answer = Answer(held_until=released)
        threads = exporter.threads
        # Of different series: equal scrapes would wait without a thread, which can be counted.
        paths = [f"/metrics?name[]=nextmv_up&name[]={n}" for n in range(21)]
        scrapes = [pool.submit(exporter.get, path) for path in paths]
        until(lambda: exporter.threads >= threads + 22, what="the scrapes and their fetch")
        for _ in range(30):
            stack.enter_context(connect(exporter.address))
        released.set()
        assert {each.result().status for each in scrapes} == {200}
        until(lambda: exporter.get().status == 200, what="a response again")
    assert "Traceback" not in exporter.log


def test_without_descriptors_connections_wait_and_the_log_says_so_once() -> None:
    with exporter_process("--demo") as exporter:
        limit, hard = resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE, (exporter.descriptors, hard))
        with connect(exporter.address) as waiting:
            waiting.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: exporter.logged("Can't accept connections"), what="the log says so")
            assert not closed_within(waiting, 2.5)
            resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE, (limit, hard))
            assert waiting.recv(4096).startswith(b"HTTP/1.1 200")
    assert exporter.logged('msg="Can\'t accept connections" err="Too many open files"') == 1
    assert "Traceback" not in exporter.log


def test_a_log_that_no_one_reads_does_not_stop_scrapes() -> None:
    with FaultServer(answers(queue(RUN))) as server:
        command = [sys.executable, "-m", "nextmv_exporter", "--log.level=debug"]
        with subprocess.Popen(
            [*command, "--web.listen-address=127.0.0.1:0"],
            stderr=subprocess.PIPE,
            env=os.environ | {"NEXTMV_ENDPOINT": server.url, "NEXTMV_API_KEY": KEY},
        ) as process:
            assert process.stderr
            listening = re.compile(rb"msg=Listening.* address=(\S+)")
            while not (found := listening.search(process.stderr.readline())):
                pass
            for _ in range(1500):  # each logs more than 100 bytes; the pipe holds 64 KiB
                assert scrape(found[1].decode(), 20).up
            process.terminate()
            assert process.wait(20) == 0
            written = process.stderr.read()
    assert len(written) < 1500 * 100, "it was never blocked"


def drip_body(connection: socket.socket) -> None:
    for _ in range(40):
        try:
            connection.send(b"x")
        except OSError:
            return
        time.sleep(0.2)


SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def slow_reader() -> Iterator[tuple[str, socket.socket]]:
    """The address of an exporter with long responses, and a client that buffers little of them."""
    runs = [{**RUN, "application_id": f"{n}" + "x" * 200} for n in range(2000)]
    with (
        FaultServer(answers(queue(*runs))) as server,
        exporter_here(server.url) as address,
        socket.socket() as slow,
    ):
        host, port = address.split(":")
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, int(port)))
        slow.settimeout(20)
        yield address, slow


def read_response(connection: socket.socket) -> int:
    """Read a whole response; gives its status."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def test_a_client_that_reads_again_in_time_keeps_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nextmv_exporter.web.protocol.WRITE_TIMEOUT", 2.0)
    with slow_reader() as (_, slow):
        slow.sendall(SCRAPE)
        time.sleep(1)
        assert read_response(slow) == 200
        time.sleep(2.5)
        slow.sendall(SCRAPE)
        assert read_response(slow) == 200


def test_a_client_that_stops_reading_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nextmv_exporter.web.protocol.WRITE_TIMEOUT", 1.0)
    with slow_reader() as (address, unread):
        unread.sendall(SCRAPE * 20)
        time.sleep(4)
        received = 0
        try:
            while data := unread.recv(1 << 20):
                received += len(data)
        except ConnectionResetError:
            pass
        whole = len(scrape(address, 10).text)

    assert received < 20 * whole
