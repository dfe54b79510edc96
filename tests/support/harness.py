"""Prometheus, profiles, and APIs that behave as told."""

import asyncio
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from starlette.types import ASGIApp, Receive, Scope, Send

from support import programs
from support.programs import ask

Found = TypeVar("Found")
Labels = frozenset[tuple[str, str]]


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


def write_yaml(file: Path, document: Mapping[str, Any]) -> Path:
    """Write a YAML file in one step, as those who manage configuration do."""
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(dict(document)), encoding="utf-8")
    return new.replace(file)


def profile(url: str, key: str) -> dict[str, str]:
    return {"apikey": key, "endpoint": url}


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
