"""An exporter on real sockets: in this process, so that a test can see inside, or in its own."""

import http.client
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nextmv_exporter import __version__
from nextmv_exporter.accounts import Accounts
from nextmv_exporter.nextmv.credentials import Credentials
from nextmv_exporter.settings import Settings, command
from nextmv_exporter.web.app import Exporter
from nextmv_exporter.web.server import Server, listen
from nextmv_exporter.web.toolkit.reloading import ReloadingWebConfig
from support.programs import until

PATIENCE = 30.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: str


def ask(
    connection: http.client.HTTPConnection,
    path: str = "/-/ready",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request on a connection, which stays open where the server leaves it so."""
    connection.request(method, path, headers=dict(headers or {}))
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read().decode())


class Served:
    """An exporter that serves.

    Args:
        port: where, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def connection(self, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        if tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=15, context=tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)

    def get(
        self,
        path: str = "/-/ready",
        *,
        tls: ssl.SSLContext | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask on a connection of its own."""
        with closing(self.connection(tls)) as connection:
            return ask(connection, path, method=method, headers=headers)


@contextmanager
def serving(web_config: Path | None, credentials: Mapping[str, Credentials]) -> Iterator[Served]:
    """Serve accounts, protected by a web configuration if there is one, from a thread."""
    settings = _settings("--web.listen-address", "127.0.0.1:0")
    accounts = Accounts(settings, credentials)
    protection = ReloadingWebConfig(web_config) if web_config else None
    server = Server(Exporter(settings, accounts), accounts.reload, web_config=protection)
    with listen(settings.web_listen_address) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Served(port)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


@contextmanager
def running(
    log: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Run the program on a free port until the block ends; its log goes to a file."""
    program = [
        sys.executable,
        "-m",
        "nextmv_exporter",
        "--web.listen-address",
        "127.0.0.1:0",
        *flags,
    ]
    with log.open("w") as output:
        process = subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield Served(
            until(lambda: _port(process, log), seconds=PATIENCE, what="the program listens")
        )
    finally:
        process.terminate()
        process.wait(PATIENCE)


def write(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a web configuration in one piece, as those who manage configuration do."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(yaml.safe_dump(document))
    return fresh.replace(path)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Where the program listens, as its log says; 0 while it does not."""
    assert process.poll() is None, log.read_text()
    line = next((line for line in log.read_text().splitlines() if "msg=Listening" in line), None)
    return int(line.partition("address=127.0.0.1:")[2].split()[0]) if line else 0


def _settings(*flags: str) -> Settings:
    made: list[Settings] = []

    def keep(settings: Settings) -> int:
        made.append(settings)
        return 0

    command(keep, __version__).main(flags, standalone_mode=False)
    return made[0]
