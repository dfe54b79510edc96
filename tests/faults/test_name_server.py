"""Behind a name server that really does not answer, scrapes answer, and few threads hang."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.exporter import exporter_process
from support.waiting import until

from faults.running_exporter import scrape
from nextmv_exporter.scrape.target import MAX_FETCHES

pytestmark = pytest.mark.system
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
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        address = f"127.53.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"
        server.bind((address, 53))
        resolv_conf.write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
        with exporter_process(
            python=(*isolated(resolv_conf), sys.executable), endpoint="https://api.nextmv.test"
        ) as exporter:
            hanging = [scrape(exporter.address, TIMEOUT) for _ in range(MAX_FETCHES)]
            threads = exporter.threads
            hanging += [scrape(exporter.address, TIMEOUT) for _ in range(3)]
            assert exporter.threads <= threads + 1
            threading.Thread(target=refuse_all, args=(server,), daemon=True).start()
            until(
                lambda: scrape(exporter.address, TIMEOUT).errors("connection"),
                seconds=60,
                what="a thread for another request",
            )
    assert all(each.seconds < TIMEOUT and not each.up for each in hanging)
    assert hanging[-1].reasons == {"timeout"}
    assert hanging[-1].errors("timeout") == MAX_FETCHES + 3


def refuse_all(server: socket.socket) -> None:
    """Answer every query with NXDOMAIN, until the socket is closed."""
    with suppress(OSError):
        while True:
            query, client = server.recvfrom(512)
            server.sendto(query[:2] + b"\x81\x83" + query[4:], client)
