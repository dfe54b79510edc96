"""`/sd` and `/metrics?account=`: one Prometheus target per account."""

import html
import http.client
import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from support.exporter import exporter_here, exporter_process
from support.harness import get, profile, prometheus, write_yaml
from support.metrics import by, samples
from support.waiting import until

from nextmv_exporter.demo import DEMO_KEY, DemoAPI, DemoServer, StandingAccount

ODD = ["eu/prod & more", "a=b?c#d", 'sa"id', "café 💡", "100%", "x,y", "*.+", "2024", "back\\slash"]
RUNS = 12


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with DemoServer(DemoAPI({DEMO_KEY: StandingAccount(RUNS, at=time.time())})) as server:
        yield server.url


def all_of(folder: Path, url: str, names: Sequence[str]) -> tuple[str, ...]:
    """Arguments that monitor an account of each of these names."""
    profiles = {name: profile(url, DEMO_KEY) for name in names}
    file = write_yaml(folder / "config.yaml", profiles)
    return "--nextmv.config-file", str(file), "--nextmv.profile", "*"


def discover(url: str, host: str | None = None) -> list[dict[str, Any]]:
    """What `/sd` answers a client that calls the exporter by the name `host`."""
    address = urlsplit(url)
    assert address.hostname
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.request("GET", "/sd", headers={"Host": host} if host else {})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    groups: list[dict[str, Any]] = json.loads(answer.read())
    connection.close()
    return groups


def test_sd_gives_a_target_for_each_account_at_the_host_that_was_asked(
    api: str, tmp_path: Path
) -> None:
    with exporter_here(*all_of(tmp_path, api, ["a", "b"])) as exporter:
        host = urlsplit(exporter.url).netloc
        assert discover(exporter.url) == [
            {
                "targets": [host],
                "labels": {
                    "__scheme__": "http",
                    "__metrics_path__": "/metrics",
                    "__param_account": name,
                    "instance": name,
                },
            }
            for name in "ab"
        ]


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("exporter.monitoring.svc:10057", "exporter.monitoring.svc:10057"),
        ("exporter.example", "exporter.example:80"),
        ("[2001:db8::1]:10057", "[2001:db8::1]:10057"),
        ("[::1]", "[::1]:80"),
        ("192.0.2.1:9", "192.0.2.1:9"),
    ],
)
def test_sd_honours_the_host_header(api: str, tmp_path: Path, host: str, target: str) -> None:
    with exporter_here(*all_of(tmp_path, api, ["a"])) as exporter:
        assert discover(exporter.url, host)[0]["targets"] == [target]


@pytest.mark.parametrize("host", ["a:b", "[::1", "user@host:1", "a b", "a:99999", "[zz]:1"])
def test_a_host_header_that_is_no_address_is_not_passed_on(
    api: str, tmp_path: Path, host: str
) -> None:
    with exporter_here(*all_of(tmp_path, api, ["a"])) as exporter:
        own = urlsplit(exporter.url).netloc
        assert discover(exporter.url, host)[0]["targets"] == [own]


@pytest.mark.parametrize(
    ("external", "found"),
    [
        ("https://exporter.example", "https://exporter.example:443/own"),
        ("http://exporter.example:8080/", "http://exporter.example:8080/own"),
        ("https://[2001:db8::1]/nextmv/", "https://[2001:db8::1]:443/nextmv/own"),
    ],
)
def test_the_external_url_goes_before_the_host_header(
    api: str, tmp_path: Path, external: str, found: str
) -> None:
    arguments = (*all_of(tmp_path, api, ["a"]), "--web.telemetry-path", "/own")
    with exporter_here(*arguments, "--web.external-url", external) as exporter:
        [group] = discover(exporter.url, "other.example:1")
    labels = group["labels"]
    assert f"{labels['__scheme__']}://{group['targets'][0]}{labels['__metrics_path__']}" == found


@pytest.mark.parametrize(
    "url", ["http://a:b", "http://a:99999", "http://::1", "http://[zz]", "ftp://a"]
)
def test_an_external_url_that_is_none_ends_the_program_at_once(url: str) -> None:
    from nextmv_exporter.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["--demo", "--once", "--web.external-url", url])
    assert ended.value.code == 2


def test_sd_and_scrapes_work_over_ipv6(api: str, tmp_path: Path) -> None:
    with exporter_process(
        *all_of(tmp_path, api, ["a"]), "--web.listen-address=[::1]:0"
    ) as exporter:
        [group] = discover(exporter.url)
        assert group["targets"] == [urlsplit(exporter.url).netloc]
        assert group["targets"][0].startswith("[::1]:")
        assert exporter.up() == {"a": 1}


@pytest.mark.parametrize("name", ODD)
def test_an_account_of_any_name_can_be_asked_for_alone(api: str, tmp_path: Path, name: str) -> None:
    with exporter_here(*all_of(tmp_path, api, [name, "other"])) as exporter:
        text = exporter.scrape(f"?account={quote(name, safe='')}")
    assert by("account", samples(text, "nextmv_account_queue_length")) == {name: RUNS}
    for series in ("nextmv_up", "nextmv_scrape_errors_total", "nextmv_api_requests_total"):
        assert set(by("account", samples(text, series))) == {name}
    assert "process_" not in text
    assert "build_info" not in text


@pytest.mark.parametrize("name", ODD)
def test_the_landing_page_links_to_an_account_of_any_name(
    api: str, tmp_path: Path, name: str
) -> None:
    with exporter_here(*all_of(tmp_path, api, [name])) as exporter:
        [link] = re.findall(r'href="\./metrics(\?account=[^"]*)"', get(exporter.url)[1])
        text = exporter.scrape(html.unescape(link))
    assert by("account", samples(text, "nextmv_up")) == {name: 1}


def test_several_accounts_may_be_asked_for_at_once(api: str, tmp_path: Path) -> None:
    with exporter_here(*all_of(tmp_path, api, ["a", "b", "c"])) as exporter:
        text = exporter.scrape("?account=a&account=c&account=a")
    assert by("account", samples(text, "nextmv_up")) == {"a": 1, "c": 1}


def test_an_unknown_account_is_not_found_and_the_known_ones_are_told(
    api: str, tmp_path: Path
) -> None:
    with exporter_here(*all_of(tmp_path, api, ["a", "b"])) as exporter:
        status, text = get(f"{exporter.url}/metrics?account=a&account=c")
        assert status == 404
        assert "'c'" in text
        assert "a, b" in text
        assert get(f"{exporter.url}/metrics?account=")[0] == 404


def test_prometheus_discovers_the_accounts_and_follows_those_that_come_and_go(
    api: str, tmp_path: Path
) -> None:
    arguments = all_of(tmp_path, api, ["a", *ODD])
    with exporter_process(*arguments) as exporter:
        job = {
            "job_name": "nextmv-exporter",
            "http_sd_configs": [{"url": f"{exporter.url}/sd", "refresh_interval": "1s"}],
        }
        with prometheus(tmp_path, job) as prom:

            def up(*names: str) -> bool:
                ones = dict.fromkeys(names, 1)
                return prom.by("instance", "up") == prom.by("account", "nextmv_up") == ones

            until(lambda: up("a", *ODD))
            lengths = prom.by("account", "sum by (account) (nextmv_account_queue_length)")
            assert lengths == dict.fromkeys(("a", *ODD), RUNS)
            # Each account is a target of its own, with nothing of the process's in it.
            assert prom.query("process_cpu_seconds_total") == {}
            assert {dict(labels)["instance"] for labels in prom.query("nextmv_up")} == {"a", *ODD}
            assert all(
                dict(labels)["instance"] == dict(labels)["account"]
                for labels in prom.query("nextmv_up")
            )
            all_of(tmp_path, api, ["a", "new"])
            until(lambda: up("a", "new"))
            assert prom.targets().keys() == {"a", "new"}


def test_prometheus_scrapes_over_the_scheme_that_it_asked_sd_with(api: str, tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n")
    arguments = (*all_of(tmp_path, api, ["a", "b"]), "--web.config.file", str(web))
    with exporter_process(*arguments) as exporter:
        tls = {"ca_file": str(certificate)}
        job = {
            "job_name": "nextmv-exporter",
            "http_sd_configs": [{"url": f"{exporter.url}/sd", "tls_config": tls}],
            "tls_config": tls,
        }
        with prometheus(tmp_path, job) as prom:
            until(lambda: prom.by("account", "nextmv_up") == {"a": 1, "b": 1})
            assert prom.targets()["a"] == f"{exporter.url}/metrics?account=a"
            assert exporter.url.startswith("https://")
