import logging
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, StandingAccount

HEADERS = {"Authorization": f"Bearer {DEMO_KEY}"}


def server(port: int = 0) -> DemoServer:
    return DemoServer(DemoAPI({DEMO_KEY: StandingAccount(3, at=time.time())}), port)


def queue_length(url: str) -> int:
    answer = requests.get(f"{url}/v1/account/queue", headers=HEADERS, timeout=10)
    return len(answer.json()["runs"])


def test_it_answers_as_soon_as_it_is_entered() -> None:
    with server() as running:
        assert running.url.startswith("http://127.0.0.1:")
        assert queue_length(running.url) == 3


def test_it_stops_at_once_though_a_client_keeps_its_connection() -> None:
    before = set(threading.enumerate())
    with requests.Session() as session:
        with server() as running:
            session.get(f"{running.url}/v1/account/queue", headers=HEADERS, timeout=10)
            port = int(running.url.rpartition(":")[2])
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 3
    assert set(threading.enumerate()) <= before
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_it_can_be_left_before_anyone_asked_anything() -> None:
    with server():
        pass


def test_several_run_beside_each_other() -> None:
    with server() as one, server() as other:
        assert one.url != other.url
        assert queue_length(one.url) == queue_length(other.url) == 3


def test_a_taken_port_is_an_error_on_entering() -> None:
    with server() as running:
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            server(port).__enter__()


def test_it_leaves_the_programs_logging_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    access = logging.getLogger("uvicorn.access")
    handlers = [logging.NullHandler()]
    monkeypatch.setattr(access, "handlers", handlers.copy())
    monkeypatch.setattr(access, "propagate", True)
    with server() as running:
        queue_length(running.url)
    assert access.handlers == handlers
    assert access.propagate


def test_alone_it_prints_its_url_and_key_on_one_line_and_serves() -> None:
    command = [sys.executable, "-m", "nextmv_exporter.demo", "--runs", "7", "--applications", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            url, key = program.stdout.readline().split()
            assert key == DEMO_KEY
            assert queue_length(url) == 7
        finally:
            program.terminate()
