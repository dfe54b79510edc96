"""A real HTTP server in the place of Nextmv's API, which answers what a test tells it."""

import json
import math
import ssl
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "nxmvv1_aVeryOrdinary/Key+0:that~looks=real"
RUN: Mapping[str, Any] = {
    "id": "run-1",
    "user_email": "planner@northwind.example",
    "name": "Daily plan",
    "description": "",
    "created_at": "2026-11-23T10:00:00Z",
    "application_id": "routing",
    "application_instance_id": "production",
    "application_version_id": "v1",
    "execution_class": "6c9500mb870s",
    "status": "running",
    "status_v2": "queued",
}


@dataclass
class Answer:
    """What the API answers from now on."""

    status: int = 200
    body: bytes = b'{"runs": []}'
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    held_until: threading.Event | None = None
    """If given, the answer waits for it."""


@dataclass
class Request:
    """A request that the API got."""

    path: str
    headers: Mapping[str, str]


class TokenBucket:
    """Nextmv's documented limit: that many requests at once, and then so many a second."""

    def __init__(self, burst: int = 30, rate: float = 3.0, *, retry_after: bool = False) -> None:
        self.burst = burst
        self.rate = rate
        self.retry_after = retry_after
        self._tokens, self._filled = float(burst), time.monotonic()
        self._lock = threading.Lock()

    def refusal(self) -> Answer | None:
        """Take a token; without one, the answer is 429."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self.burst, self._tokens + (now - self._filled) * self.rate)
            self._filled = now
            if self._tokens >= 1:
                self._tokens -= 1
                return None
            wait = math.ceil((1 - self._tokens) / self.rate)
        headers = {"Retry-After": str(wait)} if self.retry_after else {}
        return Answer(429, b"", headers)


@dataclass
class AccountData:
    """What an account has, as the API's endpoints show it."""

    applications: dict[str, Any]
    """Each one's runs, newest first, or the status of its list."""
    queue: int = 404
    """Status of the queue's endpoint."""
    lists: int = 200
    """Status of the list of applications."""
    page_size: int = 50
    bucket: TokenBucket | None = None
    latency: float = 0.0

    def answer(self, url: str) -> Answer:
        """Answer a request."""
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        time.sleep(self.latency)
        if self.bucket and (refusal := self.bucket.refusal()):
            return refusal
        if path == "/v1/account/queue":
            lists = [runs for runs in self.applications.values() if not isinstance(runs, int)]
            status, content = self.queue, {"runs": [run for runs in lists for run in runs]}
            return Answer(status, json.dumps(content).encode())
        start = int(query.get("pagetoken", ["0"])[0])
        if path == "/v1/applications":
            status, key = self.lists, "items"
            listed: Sequence[Any] = [{"id": each, "name": "x"} for each in self.applications]
        else:
            runs = self.applications.get(unquote(path.split("/")[3]), 404)
            status, key = (runs, "runs") if isinstance(runs, int) else (200, "runs")
            listed = [] if isinstance(runs, int) else runs
        end = start + self.page_size
        page: dict[str, Any] = {key: listed[start:end]}
        if end < len(listed):
            page["next_page_token"] = str(end)
        return Answer(status, json.dumps(page).encode())


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up, as ours does on what it refuses, is nothing to print.
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


class FakeAPI:
    """Serves on a free port while its context lasts, over TLS if a context is given."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answer = Answer()
        self.account: AccountData | None = None
        """If given, the answers are made of it."""
        self.requests: list[Request] = []
        self.date: str | None = None
        """Value of the header `Date`, if it is not the time."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # which delays the body by 40 ms

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(timestamp) if api.date is None else api.date

            def do_GET(self) -> None:
                api.requests.append(Request(self.path, dict(self.headers)))
                answer = api.account.answer(self.path) if api.account else api.answer
                if answer.held_until:
                    answer.held_until.wait(30)
                self.send_response(answer.status, answer.reason)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        # A short poll, since each test waits for it when its server ends.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def answers(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Answer this from now on; `_` in a header's name stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = Answer(status, body, named)

    def paths(self) -> list[str]:
        """Paths of the requests so far, without queries."""
        return [urlsplit(request.path).path for request in self.requests]

    def serves(self, *runs: Any) -> None:
        """Answer with a queue of these runs from now on."""
        self.answers(200, json.dumps({"runs": runs}).encode())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
