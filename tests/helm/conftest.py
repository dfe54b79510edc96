"""A Nextmv API that accepts some keys, and records which it received."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

RUN = {
    "id": "run-1",
    "application_id": "routing",
    "execution_class": "6c9500mb870s",
    "status_v2": "queued",
    "created_at": "2026-01-01T00:00:00Z",
}


class NextmvAPI:
    """The part of the API that the exporter needs to read a queue."""

    def __init__(self) -> None:
        self.keys = {"not-a-real-key"}
        self.received: list[str] = []
        self.delay = 0.0
        self.ended = threading.Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                api.received.append(key)
                if api.ended.wait(api.delay):
                    return
                body = json.dumps({"runs": [RUN]}).encode()
                self.send_response(200 if key in api.keys else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Keep the tests' output quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def nextmv_api() -> Iterator[NextmvAPI]:
    api = NextmvAPI()
    thread = threading.Thread(target=api.server.serve_forever)
    thread.start()
    yield api
    api.ended.set()
    api.server.shutdown()
    thread.join()
    api.server.server_close()
