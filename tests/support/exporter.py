"""The exporter on real sockets: as a process of its own, or in this one, to see inside."""

import http.client
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.settings import Settings, command
from nextmv_exporter.web.app import TIMEOUT_HEADER
from nextmv_exporter.web.server import running
from support.fake_api import KEY
from support.metrics import by, samples
from support.waiting import until

PATIENCE = 30.0
LISTEN = "--web.listen-address"
LISTEN_VARIABLE = "NEXTMV_EXPORTER_WEB_LISTEN_ADDRESS"


def settings_of(*flags: str) -> Settings:
    """Return the settings that a command line means."""
    parsed: list[Settings] = []

    def run(settings: Settings) -> int:
        parsed.append(settings)
        return 0

    command(run, "0").main(list(flags), standalone_mode=False)
    return parsed[0]


@dataclass(frozen=True)
class Response:
    """A response to a request."""

    status: int
    headers: http.client.HTTPMessage
    raw: bytes

    @property
    def body(self) -> str:
        return self.raw.decode()


def ask(
    connection: http.client.HTTPConnection,
    path: str = "/-/ready",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Send a request on a connection, which stays open where the server leaves it so."""
    connection.request(method, path, headers=dict(headers or {}))
    response = connection.getresponse()
    return Response(response.status, response.headers, response.read())


@dataclass
class Served:
    """An exporter that serves at a URL."""

    url: str

    @property
    def address(self) -> str:
        """Its `host:port`."""
        return urlsplit(self.url).netloc

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    def connection(self, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        """Make a connection; over TLS with a context that checks the certificate."""
        if tls:
            return http.client.HTTPSConnection(self.address, timeout=PATIENCE, context=tls)
        return http.client.HTTPConnection(self.address, timeout=PATIENCE)

    def get(
        self,
        path: str = "/-/ready",
        *,
        tls: ssl.SSLContext | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request on a connection of its own."""
        with closing(self.connection(tls)) as connection:
            return ask(connection, path, method=method, headers=headers)

    def scrape(self, query: str = "", timeout: float | None = None) -> str:
        """Return the metrics, asked for with Prometheus's timeout header if one is given."""
        headers = {} if timeout is None else {TIMEOUT_HEADER: str(timeout)}
        response = self.get(f"/metrics{query}", headers=headers)
        assert response.status == 200, response.body
        return response.body

    def up(self) -> dict[str, float]:
        """Scrape, and return each account's `nextmv_up`."""
        return by("account", samples(self.scrape(), "nextmv_up"))

    def sources(self) -> set[str]:
        """Scrape, and return the sources that are in use."""
        return {dict(labels)["source"] for labels in samples(self.scrape(), "nextmv_source_info")}


@dataclass
class Process(Served):
    """An exporter in a process of its own."""

    process: subprocess.Popen[bytes]
    log_file: Path
    _whole_log: str | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written to stdout and stderr so far."""
        return self.log_file.read_text() if self._whole_log is None else self._whole_log

    def logged(self, text: str) -> int:
        """Count the lines of the log that have a text."""
        return sum(text in line for line in self.log.splitlines())

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def status(self, field: str) -> int:
        """Return a number of /proc/PID/status, such as `Threads`; memory is in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, number = line.partition(":")
            if name == field:
                return int(number.split()[0])
        raise KeyError(field)

    @property
    def resident_mib(self) -> float:
        return self.status("VmRSS") / 1024

    @property
    def threads(self) -> int:
        return self.status("Threads")

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@contextmanager
def exporter_process(
    *flags: str,
    endpoint: str | None = None,
    environment: Mapping[str, str] | None = None,
    inherit: bool = True,
    python: Sequence[str | Path] = (sys.executable,),
) -> Iterator[Process]:
    """Run the exporter in a process of its own, from when it listens until the block ends.

    Args:
        flags: its command line; where no listen address is given, a free port of 127.0.0.1.
        endpoint: if given, the API's URL; the exporter then has `KEY` as its key.
        environment: variables to set.
        inherit: whether the process gets this one's environment too.
        python: the command that runs Python.

    Yields:
        The process. At the end it is terminated, and must end by itself.
    """
    given = dict(os.environ) if inherit else {}
    if endpoint is not None:
        given |= {"NEXTMV_ENDPOINT": endpoint, "NEXTMV_API_KEY": KEY}
    given |= environment or {}
    listening = any(flag.startswith(LISTEN) for flag in flags) or LISTEN_VARIABLE in given
    where = () if listening else (f"{LISTEN}=127.0.0.1:0",)
    with tempfile.TemporaryDirectory() as directory:
        log_file = Path(directory) / "exporter.log"
        with log_file.open("w") as output:
            process = subprocess.Popen(
                [*python, "-m", "nextmv_exporter", *where, *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=given,
            )
        running = Process("", process, log_file)
        try:
            address = until(
                lambda: _address(running), seconds=PATIENCE, what="the exporter's start"
            )
            running.url = f"{_scheme(flags)}://{address}"
            yield running
            process.terminate()
            process.wait(15)
        finally:
            process.kill()
            process.wait()
            running._whole_log = log_file.read_text()


def _address(running: Process) -> str:
    """Return the first address that the log says is listened on; empty while there is none."""
    if running.process.poll() is not None:
        pytest.fail(f"ended with {running.process.returncode}: {running.log}")
    listening = next((line for line in running.log.splitlines() if "Listening" in line), "")
    found = re.search(r'address"?[=:] ?"?([^\s",]+)', listening)
    return found[1] if found else ""


def _scheme(flags: Sequence[str]) -> str:
    file = settings_of(*flags).web_config_file
    document = yaml.safe_load(file.read_text()) if file else None
    return "https" if (document or {}).get("tls_server_config") else "http"


@contextmanager
def exporter_here(
    *flags: str,
    accounts: Mapping[str, Credentials] | None = None,
    web_config: Path | None = None,
) -> Iterator[Served]:
    """Serve an exporter on a free port from a thread of this process, until the block ends.

    Args:
        flags: its command line.
        accounts: the accounts to monitor, instead of those that the command line means.
        web_config: TLS, passwords and headers.
    """
    flags += (f"--web.config.file={web_config}",) if web_config else ()
    settings = settings_of(f"{LISTEN}=127.0.0.1:0", *flags)
    monitored = Accounts(settings, accounts) if accounts else Accounts(settings)
    with running(settings, monitored) as [url]:
        yield Served(url)
