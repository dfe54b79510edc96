"""Real programs on free ports of this machine: Prometheus, Alertmanager, a simulated account."""

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import requests
import yaml

from support.waiting import until

ROOT = Path(__file__).parents[2]
Labels = frozenset[tuple[str, str]]


def run(*command: str | Path) -> None:
    """Run a program that is expected to be content."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def redirected(redirection: str, *command: str) -> list[str]:
    """Run a command in a shell that redirects its output; the status is that of the command."""
    return ["bash", "-c", f'set -o pipefail; "$@" {redirection}', "-", *command]


def free_port() -> int:
    """Return a port for a program to listen on that the system gives to no connection meanwhile.

    The ports that the system chooses by itself begin higher, at 32768 (Linux's
    `net.ipv4.ip_local_port_range`), so that another test can't be given it before the program
    listens.
    """
    while True:
        port = secrets.choice(range(10_000, 32_768))
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def running(
    command: list[str], log: Path, ready_url: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends, from when its URL answers."""

    def ready() -> bool:
        if process.poll() is not None:
            pytest.fail(log.read_text())
        try:
            return requests.get(ready_url, timeout=5).status_code in {200, 401}
        except requests.ConnectionError:
            return False

    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
        try:
            until(ready, seconds=30, what=f"{ready_url}: {command[0]}")
            yield process
        finally:
            process.terminate()
            process.wait(timeout=15)


@contextmanager
def simulated_account(directory: Path, *flags: str) -> Iterator[str]:
    """Serve a simulated Nextmv account; gives its endpoint."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(
        [sys.executable, "-m", "nextmv_exporter.demo", "--port", str(port), *flags],
        directory / "nextmv.log",
        f"{url}/v1/account/queue",
    ):
        yield url


@contextmanager
def prometheus(directory: Path, config: dict[str, Any]) -> Iterator[str]:
    """Run Prometheus; gives its URL."""
    address = f"127.0.0.1:{free_port()}"
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    with running(
        [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address={address}",
        ],
        directory / "prometheus.log",
        f"http://{address}/-/ready",
    ):
        yield f"http://{address}"


@contextmanager
def alertmanager(directory: Path, config: dict[str, Any]) -> Iterator[str]:
    """Run Alertmanager; gives its address."""
    address = f"127.0.0.1:{free_port()}"
    file = directory / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    with running(
        [
            "prometheus-alertmanager",
            f"--config.file={file}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ],
        directory / "alertmanager.log",
        f"http://{address}/-/ready",
    ):
        yield address


def prometheus_major() -> int:
    """Return the major version of the Prometheus on the PATH."""
    told = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"version (\d*)", told.stdout + told.stderr)
    assert version
    # A plain `go build` leaves the version empty.
    return int(version[1] or 3)


def prometheus_config(*exporters: str, **changes: Any) -> dict[str, Any]:
    """The local stack's configuration with these exporters, and an interval of a second."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "grafana" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = []
    config["alerting"] = {}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": list(exporters)}]
    return config | changes


def ask(prometheus_url: str, path: str, **parameters: Any) -> Any:
    """Ask Prometheus's API."""
    answer = requests.get(f"{prometheus_url}/api/v1/{path}", parameters, timeout=10).json()
    assert answer["status"] == "success", f"{answer['error']} in {parameters}"
    return answer["data"]


class Webhook:
    """Receives Alertmanager's notifications while its context lasts."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        received = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def write_yaml(file: Path, document: Mapping[str, Any]) -> Path:
    """Write a YAML file in one step, as those who manage configuration do."""
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(dict(document)), encoding="utf-8")
    return new.replace(file)


def profile(url: str, key: str) -> dict[str, str]:
    return {"apikey": key, "endpoint": url}


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
def scraping(folder: Path, *jobs: Mapping[str, Any]) -> Iterator[Prometheus]:
    """Run Prometheus with scrape configurations, a scrape a second."""
    timing = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    with prometheus(folder, {"global": timing, "scrape_configs": list(jobs)}) as url:
        yield Prometheus(url)
