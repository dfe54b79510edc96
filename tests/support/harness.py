"""Real programs on real sockets: exporters, Prometheus, and APIs that behave as told."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp, Receive, Scope, Send

from nextmv_exporter.accounts import Accounts
from nextmv_exporter.demo import DemoServer
from nextmv_exporter.settings import Settings, command
from nextmv_exporter.web.app import TIMEOUT_HEADER, Exporter
from support import programs
from support.programs import ask

Found = TypeVar("Found")
Labels = frozenset[tuple[str, str]]


def eventually(look: Callable[[], Found], within: float = 30) -> Found:
    """Look again and again until there is something to see; the last look's error is told."""
    give_up = time.monotonic() + within
    while True:
        try:
            if found := look():
                return found
            failure = f"still {found!r}"
        except (OSError, AssertionError, LookupError) as error:
            failure = repr(error)
        assert time.monotonic() < give_up, f"not within {within} s: {failure}"
        time.sleep(0.05)


def get(url: str, **headers: str) -> tuple[int, str]:
    """The status and the text at a URL."""
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(text: str, name: str) -> dict[Labels, float]:
    """The samples of a series in an exposition, by their labels."""
    return {
        frozenset(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def by(label: str, found: Mapping[Labels, float]) -> dict[str, float]:
    """Sums of samples by one label."""
    sums: Counter[str] = Counter()
    for labels, value in found.items():
        sums[dict(labels)[label]] += value  # type: ignore[assignment]
    return dict(sums)


def write_profiles(file: Path, profiles: Mapping[str, Mapping[str, str]]) -> Path:
    """Write a Nextmv configuration file in one step, as an editor does."""
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(dict(profiles)), encoding="utf-8")
    return new.replace(file)


def profile(url: str, key: str) -> dict[str, str]:
    return {"apikey": key, "endpoint": url}


@dataclass
class Served:
    """An exporter that answers at a URL."""

    url: str

    def scrape(self, query: str = "", timeout: float | None = None) -> str:
        headers = {} if timeout is None else {TIMEOUT_HEADER: str(timeout)}
        status, text = get(f"{self.url}/metrics{query}", **headers)
        assert status == 200, text
        return text

    def up(self) -> dict[str, float]:
        return by("account", samples(self.scrape(), "nextmv_up"))

    def sources(self) -> set[str]:
        return {dict(labels)["source"] for labels in samples(self.scrape(), "nextmv_source_info")}


@dataclass
class Process(Served):
    """An exporter in a process of its own."""

    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def logged(self, text: str) -> int:
        return sum(text in line for line in self.log)

    def status(self, name: str) -> int:
        """A number that Linux tells of the process, such as `Threads` or `VmRSS`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
        assert found
        return int(found[1])


@contextmanager
def exporter_process(*arguments: str, host: str = "127.0.0.1") -> Iterator[Process]:
    """Run the exporter as users do, with the environment that the test has."""
    line = [
        sys.executable,
        "-m",
        "nextmv_exporter",
        "--web.listen-address",
        f"{host}:0",
        *arguments,
    ]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        running = Process("", process)

        # Appended line by line, so that tests see what was logged so far.
        def follow() -> None:
            assert process.stderr
            for entry in process.stderr:
                running.log.append(entry)

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()

        def address() -> str:
            assert process.poll() is None, "".join(running.log)
            found = re.search(r"Listening.*address=\"?([^\s\"]+)", "".join(running.log))
            return found[1] if found else ""

        try:
            scheme = "https" if "--web.config.file" in arguments else "http"
            running.url = f"{scheme}://{eventually(address)}"
            yield running
        finally:
            process.kill()
            process.wait()
            reader.join(5)


def settings(*arguments: str) -> Settings:
    """The settings that a command line means."""
    taken: list[Settings] = []

    def take(parsed: Settings) -> int:
        taken.append(parsed)
        return 0

    command(take, "test").main(list(arguments), standalone_mode=False)
    return taken[0]


@contextmanager
def exporter_here(*arguments: str) -> Iterator[Served]:
    """Serve an exporter from a thread of this process, for what a test must reach into."""
    parsed = settings(*arguments)
    with DemoServer(Exporter(parsed, Accounts(parsed)).app()) as server:
        yield Served(server.url)


class SteppedClock:
    """Stands for the module `time` where a test steps over hours."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


class Watched:
    """An ASGI application whose requests are noted, and answers replaced where a test says."""

    def __init__(self, app: ASGIApp) -> None:
        self.paths: list[str] = []
        self.answers: dict[str, ASGIApp] = {}
        self.delay = 0.0
        self.most_at_once = 0
        self._at_once = 0
        self._app = app

    def count(self, part: str) -> int:
        return sum(part in path for path in self.paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.paths.append(path)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.delay)
            await self.answers.get(path, self._app)(scope, receive, send)
        finally:
            self._at_once -= 1


@contextmanager
def dead() -> Iterator[str]:
    """The URL of a port that refuses connections, and is kept from being taken meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def dripping(every: float = 0.1) -> Iterator[str]:
    """The URL of a server that begins to answer at once and sends a byte at a time for ever."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not ended.wait(every):
                    connection.sendall(b" ")
            except OSError:
                pass  # the client has had enough

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


class Prometheus:
    """A running Prometheus server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> dict[Labels, float]:
        return {
            frozenset(each["metric"].items()): float(each["value"][1])
            for each in ask(self._url, "query", query=expression)["result"]
        }

    def by(self, label: str, expression: str) -> dict[str, float]:
        return {dict(labels)[label]: value for labels, value in self.query(expression).items()}

    def targets(self) -> dict[str, str]:
        """The URL that each instance is scraped at."""
        active = ask(self._url, "targets", state="active")["activeTargets"]
        return {each["labels"]["instance"]: each["scrapeUrl"] for each in active}

    def series(self, match: str) -> set[Labels]:
        found = ask(self._url, "series", **{"match[]": match})
        return {frozenset(each.items()) for each in found}


@contextmanager
def prometheus(folder: Path, *jobs: Mapping[str, Any]) -> Iterator[Prometheus]:
    """Run Prometheus with scrape configurations, a scrape a second."""
    timing = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    with programs.prometheus(folder, {"global": timing, "scrape_configs": list(jobs)}) as url:
        yield Prometheus(url)


def numbered(count: int) -> Sequence[str]:
    return [f"account-{number}" for number in range(count)]
