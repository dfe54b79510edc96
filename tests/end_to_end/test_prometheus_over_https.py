"""Real Prometheus scrapes over HTTPS, with a password and a client certificate."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml
from support.certificates import Authority
from support.exporter import Process, exporter_process
from support.harness import write_yaml
from support.programs import ask, prometheus, run
from support.waiting import until

CONFIG = Path(__file__).with_name("prometheus_over_https.yml")
PASSWORD = "S3cret, with: a colon"


@dataclass
class Stack:
    """Prometheus and an exporter in demo mode, and the folder with their files."""

    prometheus: str
    directory: Path
    authority: Authority
    exporter: Process

    def up(self, job: str) -> float | None:
        found = self.query(f'up{{job="{job}"}}')
        return float(found[0]["value"][1]) if found else None

    def query(self, query: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = ask(self.prometheus, "query", query=query)["result"]
        return result

    def last_error(self, job: str) -> str:
        targets = ask(self.prometheus, "targets")["activeTargets"]
        [error] = [each["lastError"] for each in targets if each["labels"]["job"] == job]
        return str(error)


def web_config(password: str) -> dict[str, Any]:
    return {
        "tls_server_config": {
            "cert_file": "server.pem",
            "key_file": "server.key",
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": "ca.pem",
            "min_version": "TLS13",
        },
        "http_server_config": {"headers": {"X-Content-Type-Options": "nosniff"}},
        "basic_auth_users": {
            "prometheus": bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode()
        },
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("https")
    authority = Authority(directory)
    authority.issue("server")
    authority.issue("prometheus")
    (directory / "password").write_text(PASSWORD)
    web = write_yaml(directory / "web.yml", web_config(PASSWORD))
    with exporter_process("--demo", "--web.config.file", str(web)) as exporter:
        targets = [{"targets": [f"127.0.0.1:{exporter.port}"]}]
        (directory / "exporter.json").write_text(json.dumps(targets))
        with prometheus(directory, yaml.safe_load(CONFIG.read_text())) as url:
            yield Stack(url, directory, authority, exporter)
    assert "Traceback" not in exporter.log


def test_prometheus_own_tool_takes_the_configurations(stack: Stack) -> None:
    run("promtool", "check", "config", stack.directory / "prometheus.yml")
    run("promtool", "check", "web-config", stack.directory / "web.yml")


@pytest.mark.parametrize("job", ["nextmv", "nextmv-account"])
def test_it_scrapes_with_password_and_certificate(stack: Stack, job: str) -> None:
    until(lambda: stack.up(job) == 1, seconds=30, what=f"{job} is up")
    assert stack.last_error(job) == ""
    found = stack.query(f'nextmv_up{{job="{job}",account="demo"}} == 1')
    assert len(found) == 1
    assert stack.query(f'sum(nextmv_account_queue_length{{job="{job}"}})')


@pytest.mark.parametrize("job", ["wrong-password", "no-client-certificate", "other-authority"])
def test_who_lacks_one_thing_gets_nothing(stack: Stack, job: str) -> None:
    until(lambda: stack.up(job) is not None, seconds=30, what=f"{job} was tried")
    assert stack.up(job) == 0
    assert not stack.query(f'nextmv_up{{job="{job}"}}')


def test_the_one_who_can_tell_says_what_is_lacking(stack: Stack) -> None:
    # One line a minute, for whoever came first.
    refused = r'msg="TLS handshake failed" err=(\w+_CERTIFICATE|CERTIFICATE_\w+)'
    until(lambda: re.search(refused, stack.exporter.log), seconds=30, what="the exporter says so")
    until(
        lambda: "401 Unauthorized" in stack.last_error("wrong-password"),
        seconds=30,
        what="Prometheus says so",
    )


def test_rotated_certificates_and_passwords_are_taken_up_without_a_gap(stack: Stack) -> None:
    until(lambda: stack.up("nextmv") == 1, seconds=30, what="it is up")
    began = time.monotonic()
    stack.authority.issue("server")
    with_both = web_config(PASSWORD)
    with_both["basic_auth_users"]["deputy"] = web_config("another")["basic_auth_users"][
        "prometheus"
    ]
    write_yaml(stack.directory / "web.yml", with_both)
    scraped = 'count_over_time(up{job="nextmv"}[1m])'
    before = float(stack.query(scraped)[0]["value"][1])
    until(
        lambda: float(stack.query(scraped)[0]["value"][1]) >= before + 3,
        seconds=30,
        what="it is scraped further",
    )
    since = int(time.monotonic() - began) + 1
    assert stack.query(f'min_over_time(up{{job="nextmv"}}[{since}s]) == 1')
    assert "Web configuration reloaded" in stack.exporter.log
