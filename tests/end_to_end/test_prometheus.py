"""A real Prometheus scrapes the exporter, which scrapes an account."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bcrypt
import pytest
from support.certificates import Authority
from support.exporter import exporter_process
from support.fake_api import KEY, RUN, FakeAPI
from support.programs import Labels, Prometheus, profile, run, scraping, write_yaml
from support.waiting import until

pytestmark = pytest.mark.system

ODD = ["eu/prod & more", "a=b?c#d", 'sa"id', "café 💡", "100%", "x,y", "*.+", "2024", "back\\slash"]
PASSWORD = "S3cret, with: a colon"


def test_prometheus_sees_the_queue_that_the_api_reports_at_each_moment(
    tmp_path: Path, api: FakeAPI
) -> None:
    with exporter_process(endpoint=api.url) as exporter:
        job = {"job_name": "nextmv", "static_configs": [{"targets": [exporter.address]}]}
        api.serves()
        with scraping(tmp_path, job) as prom:
            for length in (3, 1, 0, 2):
                api.serves(*({**RUN, "id": f"run-{n}"} for n in range(length)))
                seen: dict[Labels, float] = {frozenset(): length}
                until(lambda: prom.query("sum(nextmv_account_queue_runs) by ()") == seen)  # noqa: B023
                if length:
                    until(lambda: prom.query("sum(nextmv_account_queue_length)") == seen)  # noqa: B023
            until(lambda: prom.by("execution_class", "nextmv_execution_class_max_run_seconds"))
            found = prom.by("execution_class", "nextmv_execution_class_max_run_seconds")
            assert found == {RUN["execution_class"]: 870}
            created = prom.query("nextmv_account_queue_oldest_queued_run_created_timestamp_seconds")
            assert list(created.values()) == [datetime(2026, 11, 23, 10, tzinfo=UTC).timestamp()]
            api.answers(500)
            until(lambda: prom.by("account", "nextmv_up") == {"default": 0})
            until(lambda: prom.query("nextmv_account_queue_length") == {})
            assert prom.query("up == 0") == {}
            log = (tmp_path / "prometheus.log").read_text().lower().splitlines()
    assert not [line for line in log if "level=warn" in line or "level=error" in line]


def test_prometheus_discovers_the_accounts_and_follows_those_that_come_and_go(
    tmp_path: Path, api: FakeAPI
) -> None:
    def monitor(*names: str) -> Path:
        return write_yaml(tmp_path / "nextmv.yaml", {n: profile(api.url, KEY) for n in names})

    api.serves(RUN)
    file = monitor("a", *ODD)
    arguments = ("--nextmv.config-file", str(file), "--nextmv.profile", "*")
    with exporter_process(*arguments) as exporter:
        # An account of any name can be asked for alone, without the process's own metrics.
        for name in ODD:
            text = exporter.scrape(f"?account={quote(name, safe='')}")
            assert text.count("\nnextmv_up{") == 1
            assert "process_" not in text
        job = {
            "job_name": "nextmv-exporter",
            "http_sd_configs": [{"url": f"{exporter.url}/sd", "refresh_interval": "1s"}],
        }
        with scraping(tmp_path, job) as prom:

            def up(*names: str) -> bool:
                ones = dict.fromkeys(names, 1)
                return prom.by("instance", "up") == prom.by("account", "nextmv_up") == ones

            until(lambda: up("a", *ODD))
            assert prom.query("process_cpu_seconds_total") == {}
            monitor("a", "new")
            until(lambda: up("a", "new"))
            assert prom.targets().keys() == {"a", "new"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("server")
    made.issue("prometheus")
    return made


def web_config(*users: str) -> dict[str, Any]:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    return {
        "tls_server_config": {
            "cert_file": "server.pem",
            "key_file": "server.key",
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": "ca.pem",
        },
        "basic_auth_users": dict.fromkeys(users, hashed),
    }


@pytest.fixture
def secured(tmp_path: Path, authority: Authority) -> Iterator[Prometheus]:
    """Prometheus with a job that has all that is asked for, and one for each thing that lacks."""
    web = write_yaml(tmp_path / "web.yml", web_config("prometheus"))
    run("promtool", "check", "web-config", web)
    with exporter_process("--demo", "--web.config.file", str(web)) as exporter:
        password = {"username": "prometheus", "password": PASSWORD}
        pair = {"cert_file": "prometheus.pem", "key_file": "prometheus.key"}
        ca = {"ca_file": "ca.pem"}
        jobs = {
            "right": {"basic_auth": password, "tls_config": {**ca, **pair}},
            "password": {
                "basic_auth": {**password, "password": "a guess"},
                "tls_config": {**ca, **pair},
            },
            "certificate": {"basic_auth": password, "tls_config": ca},
            "authority": {"basic_auth": password, "tls_config": pair},
        }
        targets = [{"targets": [exporter.address]}]
        configs = [
            {"job_name": name, "scheme": "https", "static_configs": targets, **job}
            for name, job in jobs.items()
        ]
        with scraping(tmp_path, *configs) as prom:
            yield prom
    assert "Traceback" not in exporter.log
    assert "Web configuration reloaded" in exporter.log


def test_prometheus_scrapes_over_https_with_a_password_and_a_client_certificate(
    secured: Prometheus, authority: Authority, tmp_path: Path
) -> None:
    others = {"password": 0.0, "certificate": 0.0, "authority": 0.0}
    until(lambda: secured.by("job", "up") == {"right": 1, **others})
    # Rotated certificates and passwords are taken up without a gap.
    authority.issue("server")
    write_yaml(tmp_path / "web.yml", web_config("prometheus", "deputy"))
    scraped = 'count_over_time(up{job="right"}[10m])'
    before = max(secured.query(scraped).values())
    until(lambda: max(secured.query(scraped).values()) >= before + 3)
    assert list(secured.query('min_over_time(nextmv_up{job="right"}[10m])').values()) == [1]
    assert secured.by("job", "up") == {"right": 1, **others}
