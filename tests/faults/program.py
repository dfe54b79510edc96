"""The exporter as a process of its own, watched from outside as an operator would."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from support.fake_api import KEY
from support.metrics import value, values
from support.programs import until

from exporter.web.app import TIMEOUT_HEADER


@dataclass
class Scrape:
    """What a scrape gave, and how long it took."""

    text: str
    seconds: float

    def up(self, account: str = "default") -> float:
        return value(self.text, "nextmv_up", account=account)

    def errors(self, reason: str, account: str = "default") -> float:
        return value(self.text, "nextmv_scrape_errors_total", account=account, reason=reason)

    def requests(self, code: str, account: str = "default") -> float:
        return sum(values(self.text, "nextmv_api_requests_total", account=account, code=code))


@dataclass
class Program:
    """A running exporter."""

    address: str
    log_file: Path
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="surrogateescape")

    def scrape(self, timeout: object = None, **query: str | Sequence[str]) -> Scrape:
        """Scrape as Prometheus does, with its timeout in the header."""
        headers = {} if timeout is None else {TIMEOUT_HEADER: str(timeout)}
        start = time.monotonic()
        reply = requests.get(f"{self.url}/metrics", query, headers=headers, timeout=60)
        seconds = time.monotonic() - start
        assert reply.status_code == 200, reply.text
        return Scrape(reply.text, seconds)

    def scrape_errors(self, reason: str) -> float:
        """How many scrapes have failed for this reason, without another one."""
        query = {"name[]": "nextmv_scrape_errors_total"}
        return Scrape(requests.get(f"{self.url}/metrics", query, timeout=60).text, 0).errors(reason)

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def sockets(self) -> int:
        """How many sockets it has open."""
        count = 0
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                count += os.readlink(entry).startswith("socket:")
            except FileNotFoundError:
                continue
        return count

    def resident(self) -> int:
        """Bytes of memory in use."""
        return self._memory("VmRSS")

    def peak(self) -> int:
        """Most bytes of memory in use since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def terminate(self) -> int:
        """Ask it to end, and give its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [kibibytes] = re.findall(rf"{field}:\s+(\d+) kB", status)
        return int(kibibytes) * 1024


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of an exporter that has this home, and the tests' key."""
    return {**os.environ, "NEXTMV_API_KEY": KEY, "HOME": str(home), **variables}


@contextmanager
def program(
    directory: Path,
    *flags: str,
    prefix: Sequence[str] = (),
    without: Sequence[str] = (),
    **variables: str,
) -> Iterator[Program]:
    """Run the exporter on a free port until the block ends.

    Args:
        directory: its home, and where its log goes.
        flags: its flags.
        prefix: a command to run it under.
        without: variables taken out of its environment.
        variables: variables added to its environment.
    """
    log = directory / "exporter.log"
    command = [*prefix, sys.executable, "-m", "exporter"]
    command += ["--web.listen-address", "127.0.0.1:0", *flags]
    settings = environment(directory, **variables)
    for name in without:
        settings.pop(name, None)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=settings)
        try:
            address = until(lambda: _address(process, log), seconds=60, what=f"{log}: listening")
            yield Program(address, log, process)
        finally:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str | None:
    assert process.poll() is None, log.read_text()
    found = re.search(r"(?:address=|\"address\": \")(127\.0\.0\.1:\d+)", log.read_text())
    return found[1] if found else None


def configuration(home: Path, accounts: Mapping[str, str], api_key: str = KEY) -> None:
    """Write a Nextmv configuration with a profile for each account, by name and endpoint."""
    file = home / ".nextmv" / "config.yaml"
    file.parent.mkdir(exist_ok=True)
    lines = [f"{name}: {{apikey: '{api_key}', endpoint: '{url}'}}" for name, url in accounts.items()]
    file.write_text("\n".join(lines))
