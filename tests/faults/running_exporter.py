"""The exporter, in this process or as one of its own, as fault tests need it."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from support.fake_api import KEY
from support.metrics import value
from support.programs import free_port, running, until

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.settings import Settings, command
from nextmv_exporter.units import Address
from nextmv_exporter.web.app import TIMEOUT_HEADER, Exporter
from nextmv_exporter.web.server import Server, listen


@dataclass
class Scraped:
    """The answer to a scrape."""

    text: str
    seconds: float

    def value(self, name: str, **labels: str) -> float:
        return value(self.text, name, **labels)

    @property
    def up(self) -> bool:
        return self.value("nextmv_up") == 1

    def errors(self, reason: str) -> float:
        return self.value("nextmv_scrape_errors_total", reason=reason)

    @property
    def reasons(self) -> set[str]:
        """Those for which any scrape failed."""
        known = "auth rate_limited client_error server_error timeout connection tls redirect "
        known += "response_too_large invalid_response"
        return {reason for reason in known.split() if self.errors(reason)}


def scrape(address: str, timeout: str | float | None = None, path: str = "/metrics") -> Scraped:
    headers = {} if timeout is None else {TIMEOUT_HEADER: str(timeout)}
    with requests.Session() as session:
        session.trust_env = False
        got = session.get(f"http://{address}{path}", headers=headers, timeout=30)
    assert got.status_code == 200, got.text
    return Scraped(got.text, got.elapsed.total_seconds())


def settings_of(*flags: str) -> Settings:
    """The settings that these flags mean."""
    found: list[Settings] = []

    def run(settings: Settings) -> int:
        found.append(settings)
        return 0

    command(run, "0").main(list(flags), standalone_mode=False)
    return found[0]


@contextmanager
def exporter_here(endpoint: str, *flags: str) -> Iterator[str]:
    """Run the exporter in this process, so that its threads can be seen; gives its address."""
    settings = settings_of(*flags)
    accounts = Accounts(settings, {"default": Credentials(KEY, endpoint)})
    listener = listen(Address("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    server = Server(Exporter(settings, accounts), on_hangup=accounts.reload)
    thread = threading.Thread(target=server.run, args=([listener],), name="exporter")
    thread.start()
    try:
        until(lambda: server.started, seconds=10, what="the exporter's start")
        yield address
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def fetches() -> int:
    """Threads in this process that wait for the API."""
    return sum(thread.name.startswith("fetch ") for thread in threading.enumerate())


@dataclass
class Process:
    """A running exporter."""

    address: str
    pid: int
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def status(self, field: str) -> int:
        """A number of /proc/PID/status; memory is in KiB."""
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
    directory: Path,
    endpoint: str,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[Process]:
    """Run the exporter as a process of its own, under another command if one is given."""
    address = f"127.0.0.1:{free_port()}"
    log_file = directory / "exporter.log"
    given = {"NEXTMV_ENDPOINT": endpoint, "NEXTMV_API_KEY": KEY, **(environment or {})}
    command_line = [
        *under,
        sys.executable,
        "-m",
        "nextmv_exporter",
        "--web.listen-address",
        address,
    ]
    with running([*command_line, *flags], log_file, f"http://{address}/-/ready", given) as process:
        assert isinstance(process, subprocess.Popen)
        yield Process(address, process.pid, log_file)
