"""Behind a name server that really does not answer, scrapes answer, and few threads hang."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.exporter import exporter_process
from support.waiting import until

from faults.running_exporter import scrape
from nextmv_exporter.scrape.target import MAX_FETCHES

TIMEOUT = 1.5


def isolated(resolv_conf: Path) -> list[str]:
    """Run a command with a resolver configuration of its own, unseen by all others."""
    script = f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    file = tmp_path / "resolv.conf"
    file.touch()
    allowed = subprocess.run([*isolated(file), "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip("needs root and mount namespaces")
    return file


def test_a_dead_name_server_costs_no_scrape_and_few_threads(resolv_conf: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        address = f"127.53.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"
        silent.bind((address, 53))
        resolv_conf.write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
        with exporter_process(
            python=(*isolated(resolv_conf), sys.executable), endpoint="https://api.nextmv.test"
        ) as exporter:
            hanging = [scrape(exporter.address, TIMEOUT) for _ in range(MAX_FETCHES)]
            threads = exporter.threads
            refused = [scrape(exporter.address, TIMEOUT) for _ in range(3)]
            queries = silent.recv(512)
            threads_at_last = exporter.threads

    assert b"nextmv" in queries
    assert all(each.seconds < TIMEOUT and not each.up for each in hanging + refused)
    assert refused[-1].reasons == {"timeout"}
    assert refused[-1].errors("timeout") == MAX_FETCHES + 3
    assert threads_at_last <= threads + 1  # a worker may not have been idle again yet


def test_a_name_server_that_answers_at_last_frees_the_threads(resolv_conf: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        address = f"127.54.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"
        server.bind((address, 53))
        server.settimeout(20)
        resolv_conf.write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
        with exporter_process(
            python=(*isolated(resolv_conf), sys.executable), endpoint="https://api.nextmv.test"
        ) as exporter:
            threads = exporter.threads
            for _ in range(MAX_FETCHES + 1):
                assert not scrape(exporter.address, TIMEOUT).up
            assert exporter.threads >= threads + MAX_FETCHES
            refusing = threading.Thread(target=refuse_all, args=(server,))
            refusing.start()
            until(
                lambda: scrape(exporter.address, TIMEOUT).errors("connection"),
                seconds=20,
                what="a thread for another request",
            )
            refusing.join()


def refuse_all(server: socket.socket) -> None:
    """Answer every query that has come with NXDOMAIN, until no more come."""
    try:
        while True:
            query, client = server.recvfrom(512)
            server.sendto(query[:2] + b"\x81\x83" + query[4:], client)
            server.settimeout(3)
    except TimeoutError:
        pass
