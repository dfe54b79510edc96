"""What is measured: an API in this process, and exporters in processes of their own."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import msgspec

from nextmv_exporter.demo import DEMO_KEY, StandingAccount

MIB = 1024 * 1024
EXPORTER = ("-m", "nextmv_exporter")
SMALLEST = ("-m", "benchmarks.smallest_exporter")
HEADERS = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "gzip"}


@cache
def queue_body(runs: int, applications: int) -> bytes:
    """Return a response of `v1/account/queue` with so many runs of so many applications."""
    account = StandingAccount(runs, at=time.time(), applications=applications)
    return msgspec.json.encode({"runs": account.queue()})


class API:
    """Responds to each request with the same queue, and counts the requests.

    Args:
        body: The response.
        hold: Seconds to wait before each response.
    """

    def __init__(self, body: bytes, hold: float = 0) -> None:
        self.requests = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 65536  # one packet for head and body of a short response

            def do_GET(self) -> None:
                api.requests += 1
                time.sleep(hold)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"


class Program(NamedTuple):
    """An exporter in a process of its own, at a port of 127.0.0.1."""

    pid: int
    port: int

    def memory(self, field: str) -> int:
        """Return bytes of memory: `VmRSS`, or `VmHWM` for the peak."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"\n{field}:")[2].split()[0]) * 1024

    def cpu(self) -> float:
        """Return the seconds of CPU that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_of_a_scrape(self, scrapes: int) -> float:
        """Scrape so many times, and return the seconds of CPU of a scrape."""
        before = self.cpu()
        self.scrape(scrapes)
        return (self.cpu() - before) / scrapes

    def connect(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def scrape(self, times: int = 1) -> bytes:
        """Scrape as Prometheus does, so many times on one connection; return the last response."""
        with closing(self.connect()) as connection:
            for _ in range(times):
                body = scrape(connection, "/metrics")
        return body


def scrape(connection: http.client.HTTPConnection, path: str) -> bytes:
    """Return a response as it was sent: compressed."""
    connection.request("GET", path, headers=HEADERS)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    return body


@contextmanager
def running(command: Sequence[str], api: API, **environment: str) -> Iterator[Program]:
    """Run an exporter of an API, from when it accepts connections until the block ends.

    Args:
        command: Python's arguments.
        api: The API whose account is monitored.
        environment: Variables that name other accounts instead.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = environment or {"NEXTMV_API_KEY": DEMO_KEY, "NEXTMV_ENDPOINT": api.url}
    variables |= {"NEXTMV_EXPORTER_WEB_LISTEN_ADDRESS": f"127.0.0.1:{port}"}
    with tempfile.TemporaryDirectory() as home:
        variables |= {"HOME": home, "PATH": os.environ["PATH"]}
        process = subprocess.Popen(
            [sys.executable, *command], env=variables, stderr=subprocess.DEVNULL
        )
        try:
            while not _listens(port):
                assert process.poll() is None, f"{command} ended at once"
                time.sleep(0.002)
            yield Program(process.pid, port)
        finally:
            process.kill()  # its shutdown is not measured
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
