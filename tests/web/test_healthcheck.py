"""The check of a running exporter, which a container engine runs with the exporter's own flags."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.certificates import Authority
from support.exporter import exporter_process
from support.harness import write_yaml
from support.programs import free_port, redirected

from nextmv_exporter.units import Address
from nextmv_exporter.web import healthcheck
from nextmv_exporter.web.healthcheck import check

HASH = "$2y$04$z9rhTt8Z9Wd5Tgn1Ha5v0OFV9Vn0mMhiVTTZVUK9nJbUsxUNO6y6i"


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody serves, which must not be asked."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")


MUTUAL = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}


def tls(**more: str) -> dict[str, dict[str, str]]:
    return {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key", **more}}


def test_an_exporter_that_serves_is_healthy() -> None:
    with exporter_process("--demo") as exporter:
        assert check([Address("127.0.0.1", exporter.port)], None) == 0


def test_nothing_that_listens_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert check([Address("127.0.0.1", port)], None) == 1
    assert capsys.readouterr().out == f"127.0.0.1:{port}: [Errno 111] Connection refused\n"


@pytest.mark.parametrize("host", ["", "0.0.0.0", "[::]", "[::1]"])
def test_an_address_of_all_interfaces_is_asked_on_loopback(host: str) -> None:
    with exporter_process("--demo", f"--web.listen-address={host}:0") as exporter:
        assert check([Address(host.strip("[]"), exporter.port)], None) == 0


def test_every_address_must_be_healthy() -> None:
    nobody = Address("127.0.0.1", free_port())
    with exporter_process("--demo") as exporter:
        somebody = Address("127.0.0.1", exporter.port)
        assert check([somebody, nobody], None) == 1
        assert check([nobody, somebody], None) == 1
        assert check([somebody, somebody], None) == 0


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_tls_and_passwords_are_those_of_the_web_configuration(
    authority: Authority, tmp_path: Path, version: str
) -> None:
    document = tls(max_version=version) | {"basic_auth_users": {"alice": HASH}}
    file = write_yaml(tmp_path / "web.yml", document)
    with exporter_process("--demo", f"--web.config.file={file}") as exporter:
        address = Address("127.0.0.1", exporter.port)
        assert check([address], file) == 0
        assert check([address], None) == 1, "it serves no plain HTTP"


def test_a_web_configuration_without_tls_means_plain_http(tmp_path: Path) -> None:
    file = write_yaml(tmp_path / "web.yml", {"basic_auth_users": {"alice": HASH}})
    with exporter_process("--demo", f"--web.config.file={file}") as exporter:
        assert check([Address("127.0.0.1", exporter.port)], file) == 0


@pytest.mark.parametrize("text", ["5", "text", "[a]", "a: [", "", "\0", "a: 2026-99-99"])
def test_a_web_configuration_that_is_invalid_makes_a_server_not_unhealthy(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "web.yml"
    file.write_text(text)
    with exporter_process("--demo") as exporter:
        assert check([Address("127.0.0.1", exporter.port)], file) == 0


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_a_server_that_demands_a_clients_certificate_is_healthy_if_it_says_so(
    authority: Authority, tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_yaml(tmp_path / "web.yml", tls(max_version=version, **MUTUAL))
    with exporter_process("--demo", f"--web.config.file={file}") as exporter:
        for _ in range(10):
            assert check([Address("127.0.0.1", exporter.port)], file) == 0
    said = "serves TLS; no more can be checked without a client certificate"
    assert f"127.0.0.1:{exporter.port}: {said}\n" in capsys.readouterr().out


BROKEN = (
    None,
    "",
    "- a list",
    "tls_server_config: [",
    "tls_server_config:",
    "tls_server_config: {cert_file: server.pem, key_file: server.key}",
)


@pytest.mark.parametrize("before", [tls(), tls(**MUTUAL), {}], ids=["TLS", "mutual TLS", "plain"])
def test_a_configuration_that_the_server_rejected_meanwhile_makes_it_not_unhealthy(
    authority: Authority, tmp_path: Path, before: dict[str, dict[str, str]]
) -> None:
    file = write_yaml(tmp_path / "web.yml", before)
    with exporter_process("--demo", f"--web.config.file={file}") as exporter:
        for content in BROKEN:
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_text(content)
            assert exporter.get("/-/healthy").status == 200 if not before else True
            assert check([Address("127.0.0.1", exporter.port)], file) == 0


@pytest.mark.parametrize(
    "config", [tls(), tls(min_version="TLS13"), {}, {"basic_auth_users": {"anna": HASH}}]
)
def test_the_server_logs_no_warning_of_a_check(
    authority: Authority, tmp_path: Path, config: dict[str, dict[str, str]]
) -> None:
    file = write_yaml(tmp_path / "web.yml", config)
    with exporter_process("--demo", f"--web.config.file={file}") as exporter:
        for _ in range(3):
            assert check([Address("127.0.0.1", exporter.port)], file) == 0
    assert exporter.logged("level=warn") == 0


@pytest.mark.parametrize("config", [tls(), tls(**MUTUAL), {}])
def test_a_peer_that_closes_connections_is_not_healthy_whatever_is_configured(
    authority: Authority, tmp_path: Path, config: dict[str, dict[str, str]]
) -> None:
    with peer(b"") as address:
        assert check([address], write_yaml(tmp_path / "web.yml", config)) == 1


@contextmanager
def peer(response: bytes) -> Iterator[Address]:
    """Something that listens in the exporter's place; it answers every connection with this."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(response)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield Address("127.0.0.1", listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2\r\n"),
        (b"", "Remote end closed connection without response"),
    ],
)
def test_another_response_is_not_healthy(
    response: bytes, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with peer(response) as address:
        assert check([address], None) == 1
    assert capsys.readouterr().out == f"127.0.0.1:{address.port}: {fault}\n"


@pytest.mark.parametrize("secure", [False, True])
def test_a_peer_that_says_nothing_is_not_healthy(
    secure: bool,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(healthcheck, "_TIMEOUT", 0.5)
    file = write_yaml(tmp_path / "web.yml", tls()) if secure else None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert check([Address("127.0.0.1", silent.getsockname()[1])], file) == 1
    assert "timed out" in capsys.readouterr().out


def test_a_peer_that_speaks_neither_tls_nor_http_is_not_healthy_where_tls_is_configured(
    authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_yaml(tmp_path / "web.yml", tls())
    with peer(b"SSH-2.0-OpenSSH_9.2\r\n") as address:
        assert check([address], file) == 1
    assert "WRONG_VERSION_NUMBER" in capsys.readouterr().out


@pytest.mark.parametrize("stdout", [">/dev/full", ">&-"])
def test_the_status_is_that_of_the_server_where_stdout_can_not_be_written(stdout: str) -> None:
    with exporter_process("--demo") as exporter:
        command = [sys.executable, "-m", "nextmv_exporter", "--web.healthcheck"]
        command.append(f"--web.listen-address=127.0.0.1:{exporter.port}")
        ended = subprocess.run(
            redirected(stdout, *command),
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=30,
        )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_it_loads_little_of_the_program() -> None:
    """It is run every few seconds, beside a program that may have a tenth of a processor."""
    code = (
        "import sys; from nextmv_exporter.cli import main\n"
        "try: main(['--web.healthcheck', '--web.listen-address=127.0.0.1:0'])\n"
        "except SystemExit: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "nextmv_exporter.web.healthcheck" in loaded
    assert not loaded & {"prometheus_client", "pydantic", "requests", "structlog", "uvicorn"}
