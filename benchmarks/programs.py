"""The programs that are measured from outside, each in its own process."""

import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from benchmarks.bodies import FEW_APPLICATIONS
from nextmv_exporter.demo import DEMO_KEY

LISTENING = re.compile(r"address=(\S+)")
"""What the exporter logs once it listens."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class API:
    """The API in its own process.

    Args:
        url: its base URL.
    """

    url: str

    @property
    def queue_url(self) -> str:
        """URL of the queue."""
        return f"{self.url}/v1/account/queue"

    def requests(self) -> int:
        """Number of requests for the queue so far."""
        return int(requests.get(f"{self.url}/requests", timeout=10).text)


@dataclass(frozen=True)
class Program:
    """The exporter in its own process.

    Args:
        pid: the process.
        url: its base URL.
    """

    pid: int
    url: str

    @property
    def metrics_url(self) -> str:
        """URL of the metrics."""
        return f"{self.url}/metrics"

    def memory(self, field: str) -> int:
        """Read a size from the process's status.

        Args:
            field: such as `VmRSS`, or `VmHWM` for its peak.

        Returns:
            Bytes.
        """
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def cpu(self) -> float:
        """Seconds of CPU that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def api(runs: int, hold: float = 0.0, applications: int = FEW_APPLICATIONS) -> Iterator[API]:
    """Serve a queue while the context lasts.

    Args:
        runs: its length.
        hold: seconds to wait before each response.
        applications: how many applications have these runs.

    Yields:
        The API.
    """
    command = [
        *(sys.executable, "-m", "benchmarks.api"),
        *(f"--runs={runs}", f"--hold={hold}", f"--applications={applications}"),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        yield API(process.stdout.readline().strip())
        process.stdin.close()


@contextmanager
def exporter(of: API, python: str = sys.executable) -> Iterator[Program]:
    """Run the exporter while the context lasts.

    Args:
        of: the API to scrape.
        python: the interpreter to run it with.

    Yields:
        The exporter, listening.
    """
    # -P keeps the checkout off the path, so that an installed exporter is the one measured.
    command = [python, "-P", "-m", "nextmv_exporter", "--web.listen-address=127.0.0.1:0"]
    with listening(command, _environment(of)) as program:
        yield program


@contextmanager
def smallest_exporter(of: API) -> Iterator[Program]:
    """Run `benchmarks.smallest_exporter` while the context lasts.

    Args:
        of: the API to scrape.

    Yields:
        The exporter, listening.
    """
    command = [sys.executable, "-m", "benchmarks.smallest_exporter"]
    with listening(command, _environment(of)) as program:
        yield program


def _environment(of: API) -> Mapping[str, str]:
    return {
        "NEXTMV_API_KEY": DEMO_KEY,
        "NEXTMV_ENDPOINT": of.url,
        "HOME": os.devnull,
        "PATH": os.environ["PATH"],
    }


def scrape(program: Program, connection: http.client.HTTPConnection | None = None) -> float:
    """Scrape once, and check that the account was up.

    Args:
        program: the exporter.
        connection: kept alive; without it, a new one.

    Returns:
        Seconds.
    """
    connection = connection or connect(program)
    start = time.perf_counter()
    connection.request("GET", "/metrics")
    body = connection.getresponse().read()
    seconds = time.perf_counter() - start
    assert b'nextmv_up{account="default"} 1.0' in body, body.decode()[-2000:]
    return seconds


def connect(program: Program) -> http.client.HTTPConnection:
    """Open a connection to the exporter.

    Args:
        program: the exporter.

    Returns:
        The connection, which `scrape` takes.
    """
    return http.client.HTTPConnection(urlsplit(program.url).netloc, timeout=60)


@contextmanager
def listening(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Program]:
    """Run an exporter, and wait until it logs where it listens.

    Args:
        command: its command line.
        environment: its environment.

    Yields:
        The running program.
    """
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            found = LISTENING.search(process.stderr.readline())
            assert found, process.stderr.read()
            yield Program(process.pid, f"http://{found[1]}")
        finally:
            process.kill()  # its shutdown is not measured
